"""Numbers and times as people read them: the same digits in the terminal, in the report and on the dashboard.

Nothing here rounds what is stored or served as JSON; only what is shown.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MISSING = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def number(value: float | None, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits: 0.0123, 3.21, 12,345, 1.2×10⁷; a dash for None."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size != 0 and (size >= 1e6 or size < 1e-3):
        mantissa, exponent = f"{value:.{digits - 2}e}".split("e")
        power = f"10{str(int(exponent)).translate(_SUPERSCRIPT)}"
        return power if value == float(f"1e{exponent}") else f"{mantissa}×{power}"
    if size >= 10 ** (digits - 1) or value == int(value):
        return f"{value:,.0f}"
    decimals = digits - 1 - math.floor(math.log10(size))
    return f"{value:.{decimals}f}".rstrip("0").rstrip(".")


def percent(share: float | None) -> str:
    """Return a share as per cent: 0.0312 is `3.12%`."""
    return MISSING if share is None else f"{number(100 * share)}%"


def span(interval: tuple[float | None, float | None] | None) -> str:
    """Return an interval as `1.6 to 6.5`; an open end is 0 or ∞."""
    if interval is None:
        return MISSING
    low, high = interval
    return f"{number(low or 0.0)} to {'∞' if high is None else number(high)}"


def length(seconds: float | None) -> str:
    """Return a length of time in its two largest units: `2m5s`, `3h`, `0s`."""
    if seconds is None:
        return MISSING
    rest = max(0, round(seconds))
    parts: list[tuple[int, str]] = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count or (parts and len(parts) < 2):
            parts.append((count, unit))
    return "".join(f"{count}{unit}" for count, unit in parts[:2] if count) or "0s"


def unix(value: str | float | None) -> float | None:
    """Return unix seconds for an RFC 3339 text or a number; None when there is no such time."""
    if value is None or isinstance(value, int | float):
        return value
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        return None


def instant(value: str | float | None) -> str:
    """Return a time as `2026-11-22 09:30:05 UTC`."""
    seconds = unix(value)
    if seconds is None:
        return MISSING
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def weights(split: Mapping[str, int]) -> str:
    """Return a split as `stable 75, candidate 25`."""
    return ", ".join(f"{name} {weight}" for name, weight in split.items()) or MISSING
