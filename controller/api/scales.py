"""Axes of a plot: where a value lies between 0 and 1, and which values get a tick. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from controller import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

Tick = tuple[float, str]
_ROUND_TIMES = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)


class Scale(Protocol):
    """A direction of a plot."""

    def at(self, value: float) -> float:
        """Return the place of a value, 0 to 1; values outside lie on the border."""

    def ticks(self) -> list[Tick]:
        """Return the values with a tick, and their labels."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Equal steps are equal lengths."""

    low: float
    high: float
    suffix: str = ""

    def at(self, value: float) -> float:
        """Return the place of a value, 0 to 1."""
        return _clamped((value - self.low) / (self.high - self.low))

    def ticks(self) -> list[Tick]:
        """Return about five round values."""
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [(n * step, f"{numbers.number(n * step)}{self.suffix}") for n in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Log:
    """Equal factors are equal lengths; `low` is above 0."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Return the place of a value, 0 to 1; 0 and less lie on the lower border."""
        if value <= self.low:
            return 0.0
        return _clamped(math.log(value / self.low) / math.log(self.high / self.low))

    def ticks(self) -> list[Tick]:
        """Return 1, 2 and 5 times the powers of ten while they are few, else powers of ten only."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        few = self.high / self.low <= 200
        digits, every = ((1, 2, 5), 1) if few else ((1,), max(1, round(len(decades) / 6)))
        values = (digit * 10.0**decade for decade in decades if decade % every == 0 for digit in digits)
        return [(v, numbers.number(v)) for v in values if self.low * 0.999 <= v <= self.high * 1.001]


@dataclass(frozen=True, slots=True)
class Names:
    """A place of length 1 for each name, which stands in its middle."""

    names: tuple[str, ...]

    def at(self, value: float) -> float:
        """Return the place of a value, 0 to 1; the first name has 0 to 1, the second 1 to 2."""
        return _clamped(value / len(self.names))

    def ticks(self) -> list[Tick]:
        """Return the names."""
        return [(place + 0.5, name) for place, name in enumerate(self.names)]


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds since the start, with ticks at whole seconds, minutes or hours."""

    high: float

    def at(self, value: float) -> float:
        """Return the place of a time, 0 to 1."""
        return _clamped(value / self.high)

    def ticks(self) -> list[Tick]:
        """Return about six round times."""
        days = 86_400 * math.ceil(self.high / (6 * 86_400))
        step = next((size for size in _ROUND_TIMES if self.high / size <= 6), days)
        return [(n * step, numbers.length(n * step)) for n in range(int(self.high / step) + 1)]


def log_scale(values: Iterable[float | None], *, include: Iterable[float], least: float, most: float) -> Log:
    """Return a logarithmic scale over the values, kept within `least` to `most`, always showing `include`."""
    found = [value for value in values if value is not None and value > 0]
    wanted = list(include)
    low = min([*(max(value, least) for value in found), *wanted])
    high = max([*(min(value, most) for value in found), *wanted])
    return Log(low / 1.25, high * 1.25)


def _round_step(rough: float) -> float:
    size = 10.0 ** math.floor(math.log10(rough))
    return next(size * digit for digit in (1, 2, 5, 10) if size * digit >= rough * 0.999)


def _clamped(place: float) -> float:
    return min(1.0, max(0.0, place))
