"""Durations as Go's `time.ParseDuration` reads them, which both the API server's CEL and istiod use."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000 * MILLISECOND

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # micro sign
    "μs": 1_000,  # Greek mu
    "ms": MILLISECOND,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3_600 * SECOND,
}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_LIMIT: Final = 2**63


def nanoseconds(text: str) -> int:
    """Return the length in whole nanoseconds; ValueError when Go would not read `text`."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in {"-", "+"} else text
    if rest == "0":
        return 0
    total, end = 0, 0
    while part := _PART.match(rest, end):
        total += int(Fraction(part[1].rstrip(".")) * _UNITS[part[2]])
        end = part.end()
    if not rest or end != len(rest) or total >= _LIMIT:
        raise ValueError(f"{text!r} is not a duration")
    return sign * total
