"""Durations as Istio's manifests write them (Go: `1h30m`, `250ms`) for Envoy (protobuf JSON: `1.5s`)."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)")
_WHOLE = re.compile(rf"0|(?:{_PART.pattern})+")
_SECONDS = {
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("1e-3"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ns": Decimal("1e-9"),
}


def is_duration(value: Any) -> bool:
    """Tell whether `value` is a duration that Go parses and that is not negative."""
    return isinstance(value, str) and _WHOLE.fullmatch(value) is not None


def seconds(text: str) -> Decimal:
    """Return the exact length in seconds of a text for which `is_duration` holds."""
    return sum((Decimal(count) * _SECONDS[unit] for count, unit in _PART.findall(text)), Decimal(0))


def proto(text: str) -> str:
    """Return the same duration in protobuf's JSON form: seconds with an `s`."""
    length = seconds(text)
    return f"{length.normalize():f}s" if length else "0s"
