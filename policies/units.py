"""Quantities as users write them: durations, percentages and factors, parsed exactly and printed back.

A spec holds no floats (Kubernetes API conventions), so each quantity is a string with its unit and is kept
as an integer or a `Decimal`. The number of digits is bounded, so that every value is exact, prints back to an
equal one, and fits what CEL in the API server can compute.
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

QUANTITY_LENGTH = 32
"""The longest text of a quantity; bounds what rules on it cost the API server."""


class Quantity:
    """A value written as one string: subclasses parse it, print it and name the pattern for the schema."""

    pattern: ClassVar[str]
    allowed: ClassVar[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `text`; raise ValueError, which says what is allowed."""
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: Any, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def _validated(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError(f"must be {cls.allowed}")  # pydantic collects ValueError only
        return cls.parse(value)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "minLength": 1, "maxLength": QUANTITY_LENGTH, "pattern": cls.pattern}


_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_LONGEST = 999_999 * _UNITS["h"]


@dataclass(frozen=True, slots=True, order=True)
class Duration(Quantity):
    """A length of time in whole milliseconds, written as in Go: `90s`, `1h30m`, `500ms`."""

    milliseconds: int
    pattern: ClassVar[str] = r"^(0|([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?([0-9]{1,6}ms)?)$"
    allowed: ClassVar[str] = "a duration such as 90s, 5m or 1h30m"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `text`; raise ValueError when it is not a duration."""
        if not text or not re.fullmatch(cls.pattern, text):
            raise ValueError(f"must be {cls.allowed}")
        milliseconds = sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"([0-9]+)(ms|[hms])", text))
        if milliseconds > _LONGEST:
            raise ValueError(f"must be {cls.allowed}, at most 999999h")
        return cls(milliseconds)

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
class Percent(Quantity):
    """A share written in per cent: `25%`, `0.5%`."""

    value: Decimal
    pattern: ClassVar[str] = r"^[0-9]{1,9}(\.[0-9]{1,9})?%$"
    allowed: ClassVar[str] = "a percentage such as 25% or 0.5%"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `text`; raise ValueError when it is not a percentage."""
        if not re.fullmatch(cls.pattern, text):
            raise ValueError(f"must be {cls.allowed}")
        return cls(Decimal(text[:-1]))

    @property
    def fraction(self) -> float:
        """The share as a number: 25 % is 0.25."""
        return float(self.value / 100)

    def __str__(self) -> str:
        return f"{self.value.normalize():f}%"


@dataclass(frozen=True, slots=True, order=True)
class Factor(Quantity):
    """A plain factor written as a string, since a spec holds no floats: `"1.5"`."""

    value: Decimal
    pattern: ClassVar[str] = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"
    allowed: ClassVar[str] = 'a decimal number in quotes, such as "1.5"'

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `text`; raise ValueError when it is not a decimal number."""
        if not re.fullmatch(cls.pattern, text):
            raise ValueError(f"must be {cls.allowed}")
        return cls(Decimal(text))

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        return f"{self.value.normalize():f}"


@dataclass(frozen=True, slots=True, order=True)
class Dispersion(Quantity):
    """How clustered events are: measured (`auto`), or a factor from 1 on."""

    value: Decimal | None
    pattern: ClassVar[str] = r"^(auto|[0-9]{1,9}(\.[0-9]{1,9})?)$"
    allowed: ClassVar[str] = 'auto, or a decimal number in quotes, such as "1.5"'

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `text`; raise ValueError when it is neither."""
        if not re.fullmatch(cls.pattern, text):
            raise ValueError(f"must be {cls.allowed}")
        return cls(None if text == "auto" else Decimal(text))

    @property
    def measured(self) -> bool:
        """Whether it is to be measured."""
        return self.value is None

    def __str__(self) -> str:
        return "auto" if self.value is None else f"{self.value.normalize():f}"
