"""What a field may hold: the part of OpenAPI that Istio's CRDs use, as values that check values.

A `Message` is a table from field names to types; so it knows every field there is, and unknown ones are
found with no further code. Null is as if the field were not there, except for unknown fields and in lists,
as for the API server. `istio.lint.fields` has the tables.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

from istio.lint.codes import problem
from istio.lint.duration import MILLISECOND, nanoseconds
from policies.documents import child

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from policies.findings import Finding


class Type(Protocol):
    """Anything that can check a value."""

    def check(self, value: Any, path: str) -> Iterator[Finding]:
        """Yield what is wrong with `value`, found at `path`."""


def _wrong_type(path: str, value: Any, allowed: str) -> Finding:
    names = {
        "NoneType": "null",
        "dict": "an object",
        "list": "a list",
        "str": "a string",
        "bool": "a boolean",
    }
    found = names.get(type(value).__name__, f"the number {value}")
    return problem("PSx02", path, f"must be {allowed}", found=found)


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def check(self, value: Any, path: str) -> Iterator[Finding]:
        """Check that `value` is a boolean."""
        if not isinstance(value, bool):
            yield _wrong_type(path, value, "true or false")


@dataclass(frozen=True, slots=True)
class Text:
    """A string: one of `among`, or any of at most `longest` characters."""

    among: tuple[str, ...] = ()
    longest: int | None = None

    def check(self, value: Any, path: str) -> Iterator[Finding]:
        """Check that `value` is such a string."""
        if not isinstance(value, str):
            yield _wrong_type(path, value, "a string")
        elif self.among and value not in self.among:
            yield problem("PSx04", path, "unsupported value", found=value, allowed=", ".join(self.among))
        elif self.longest is not None and len(value) > self.longest:
            yield problem(
                "PSx04", path, "too long", found=f"{len(value)} characters", allowed=f"{self.longest}"
            )


@dataclass(frozen=True, slots=True)
class Base64:
    """Bytes, written in base64."""

    def check(self, value: Any, path: str) -> Iterator[Finding]:
        """Check that `value` can be decoded."""
        if not isinstance(value, str):
            yield _wrong_type(path, value, "a string")
            return
        try:
            base64.b64decode(value, validate=True)
        except ValueError:
            yield problem("PSx04", path, "must be base64")


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `low` to `high`; `whole` ones may be written as `5` or `5.0`."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = True

    def check(self, value: Any, path: str) -> Iterator[Finding]:
        """Check that `value` is such a number."""
        if not _is_number(value) or (self.whole and value != int(value)):
            yield _wrong_type(path, value, "an integer" if self.whole else "a number")
        elif not self.low <= value <= self.high:
            yield problem(
                "PSx04", path, "out of range", found=value, allowed=f"{self.low:g} to {self.high:g}"
            )


@dataclass(frozen=True, slots=True)
class Span:
    """A duration of at least `least` nanoseconds (None: any) and, if `exact`, of whole milliseconds."""

    least: int | None = MILLISECOND
    exact: bool = True
    zero: bool = False

    def check(self, value: Any, path: str) -> Iterator[Finding]:
        """Check that `value` is such a duration; with `zero`, what rounds down to 0 ms means `disabled`."""
        if not isinstance(value, str):
            yield _wrong_type(path, value, "a duration in quotes, such as 5s")
            return
        try:
            length = nanoseconds(value)
        except ValueError:
            yield problem("PSx06", path, "not a duration", found=value, allowed="such as 5s, 1m30s or 500ms")
            return
        if self.zero and abs(length) < MILLISECOND:
            return
        if self.least is not None and length < self.least:
            yield problem("PSx06", path, "duration must be at least 1ms; leave the field out", found=value)
        elif self.exact and length % MILLISECOND:
            yield problem("PSx06", path, "only durations to ms precision are supported", found=value)


@dataclass(frozen=True, slots=True)
class Items:
    """A list of `of`, from `least` to `most` long."""

    of: Type
    least: int = 0
    most: int | None = None

    def check(self, value: Any, path: str) -> Iterator[Finding]:
        """Check the list and each item."""
        if not isinstance(value, list):
            yield _wrong_type(path, value, "a list")
            return
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            allowed = f"{self.least} to {self.most}"
            yield problem("PSx04", path, "wrong number of items", found=len(value), allowed=allowed)
        for index, item in enumerate(value):
            yield from self.of.check(item, child(path, index))


@dataclass(frozen=True, slots=True)
class Table:
    """A map from any key to `of`, with at most `most` entries."""

    of: Type
    most: int | None = None

    def check(self, value: Any, path: str) -> Iterator[Finding]:
        """Check the map and each value."""
        if not isinstance(value, dict):
            yield _wrong_type(path, value, "an object")
            return
        if self.most is not None and len(value) > self.most:
            yield problem("PSx04", path, "too many entries", found=len(value), allowed=f"{self.most}")
        for key, item in value.items():
            # a number that is null counts as 0, which none of Istio's maps admits
            if item is not None or isinstance(self.of, Number):
                yield from self.of.check(item, child(path, str(key)))


@dataclass(frozen=True, slots=True)
class Message:
    """An object with known fields; of each group in `one_of`, at most one may be set."""

    fields: Mapping[str, Type]
    required: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = field(default=())

    def check(self, value: Any, path: str) -> Iterator[Finding]:
        """Check the object and all of its fields."""
        if not isinstance(value, dict):
            yield _wrong_type(path, value, "an object")
            return
        for name in self.required:
            if value.get(name) is None:
                yield problem("PSx03", child(path, name), f"{name} is required")
        for group in self.one_of:
            chosen = [name for name in group if value.get(name) is not None]
            if len(chosen) > 1:
                allowed = "one of " + ", ".join(group)
                yield problem(
                    "PSx05", path, "only one may be set", found=" and ".join(chosen), allowed=allowed
                )
        for name, item in value.items():
            if name not in self.fields:
                yield self._unknown(str(name), path)
            elif item is not None:
                yield from self.fields[name].check(item, child(path, name))

    def _unknown(self, name: str, path: str) -> Finding:
        close = get_close_matches(name.lower().replace("_", ""), map(str.lower, self.fields), n=1)
        hint = next((known for known in self.fields if known.lower() in close), None)
        question = f"; did you mean {hint}?" if hint else ""
        return problem("PSx01", child(path, name), f"unknown field {name}{question}")
