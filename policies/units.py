"""Quantities as users write them: durations, percentages and factors, parsed exactly and printed back.

A spec holds no floats (Kubernetes API conventions), so each quantity is a string with its unit and is kept
as an integer or a `Decimal`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic_core import core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue


class _Quantity:
    """A value written as one string: subclasses parse it, print it and name the pattern for the schema."""

    pattern: ClassVar[str]
    allowed: ClassVar[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def validate(value: Any) -> Self:
            if isinstance(value, cls):
                return value
            if not isinstance(value, str):
                raise ValueError(f"must be {cls.allowed}")  # noqa: TRY004 - pydantic collects ValueError
            return cls.parse(value)

        return core_schema.no_info_plain_validator_function(
            validate, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": cls.pattern}


_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


@dataclass(frozen=True, slots=True, order=True)
class Duration(_Quantity):
    """A length of time in whole milliseconds, written as in Go: `90s`, `1h30m`, `500ms`."""

    milliseconds: int
    pattern: ClassVar[str] = r"^(0|(\d+h)?(\d+m)?(\d+s)?(\d+ms)?)$"
    allowed: ClassVar[str] = "a duration such as 90s, 5m or 1h30m"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `text`; raise ValueError when it is not a duration."""
        match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", text)
        if text == "0":
            return cls(0)
        if not text or match is None:
            raise ValueError(f"must be {cls.allowed}")
        return cls(sum(int(n) * unit for n, unit in zip(match.groups(), _UNITS.values(), strict=True) if n))

    @property
    def seconds(self) -> float:
        """The same length in seconds."""
        return self.milliseconds / 1000

    def __str__(self) -> str:
        if self.milliseconds == 0:
            return "0s"
        rest, text = self.milliseconds, ""
        for name, unit in _UNITS.items():
            count, rest = divmod(rest, unit)
            text += f"{count}{name}" if count else ""
        return text


@dataclass(frozen=True, slots=True, order=True)
class Percent(_Quantity):
    """A share written in per cent: `25%`, `0.5%`."""

    value: Decimal
    pattern: ClassVar[str] = r"^\d+(\.\d+)?%$"
    allowed: ClassVar[str] = "a percentage such as 25% or 0.5%"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `text`; raise ValueError when it is not a percentage."""
        if not re.fullmatch(r"\d+(\.\d+)?%", text):
            raise ValueError(f"must be {cls.allowed}")
        return cls(Decimal(text[:-1]))

    @property
    def fraction(self) -> float:
        """The share as a number: 25 % is 0.25."""
        return float(self.value / 100)

    def __str__(self) -> str:
        return f"{self.value.normalize():f}%"


@dataclass(frozen=True, slots=True, order=True)
class Factor(_Quantity):
    """A plain factor written as a string, since a spec holds no floats: `"1.5"`."""

    value: Decimal
    pattern: ClassVar[str] = r"^\d+(\.\d+)?$"
    allowed: ClassVar[str] = 'a decimal number in quotes, such as "1.5"'

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `text`; raise ValueError when it is not a decimal number."""
        if not re.fullmatch(r"\d+(\.\d+)?", text):
            raise ValueError(f"must be {cls.allowed}")
        return cls(Decimal(text))

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        return f"{self.value.normalize():f}"
