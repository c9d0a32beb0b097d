"""Native (exponential) Prometheus histograms as the cumulative buckets that a classic one would have.

Every schema from 0 up has the powers of two among its boundaries, so the counts below those are exact however
fine the buckets are, and stay so when Prometheus merges buckets to save space. Each becomes a series with the
label `le`, from 2^-10 to 2^12 and +Inf. The zero bucket lies below every edge beyond its width.

What is not known exactly is NaN, never a guess: an edge within a bucket (schemas below 0 lack some powers of
two), and every count of a histogram that is not exponential or has negative values.

Source: Prometheus' HTTP API, "Native histograms": {count, sum, buckets: [[rule, left, right, count]]}.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from controller.ports import Series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EDGES = tuple(2.0**power for power in range(-10, 13))
"""The edges that a native histogram is read at."""
EXPONENTIAL = "a native histogram, whose edges are the powers of two from 1/1024 to 4096"
NEGATIVE = "a native histogram with values below 0"
CUSTOM = "a native histogram with custom buckets, of which only exponential ones are read"

_LABELS = (*map(repr, EDGES), "+Inf")
_OPEN_LEFT, _CLOSED = 0, 3
"""Boundary rules: (left, right], and [left, right]."""
_SCHEMAS = range(-4, 9)
_NOISE = 1e-9


def classic_series(labels: Mapping[str, str], samples: Sequence[Any]) -> list[Series]:
    """Return the series that a classic histogram would have, one per edge and +Inf.

    `labels` and `samples`, [unix time, histogram] each, are `metric` and `histograms` of one series of the
    answer to a range query. KeyError, TypeError or ValueError for JSON that is not Prometheus'.
    """
    times = [round(at) for at, _ in samples]
    read = [_read(histogram) for _, histogram in samples]
    words = next((trouble for _, trouble in read if trouble), EXPONENTIAL)
    columns = zip(*(counts for counts, _ in read), strict=True)
    return [
        Series({**labels, "le": le}, tuple(zip(times, column, strict=True)), native=words)
        for le, column in zip(_LABELS, columns, strict=True)
    ]


def _read(histogram: Mapping[str, Any]) -> tuple[list[float], str]:
    """Return the counts at or below each edge, the last of all values; and in words why they are unknown."""
    buckets = sorted(
        (float(right), float(left), int(rule), float(count))
        for rule, left, right, count in histogram.get("buckets") or ()  # an empty histogram has none
    )
    filled = [bucket for bucket in buckets if bucket[3]]
    trouble = next(filter(None, (_trouble(rule, left, right) for right, left, rule, _ in filled)), "")
    if trouble:
        return [math.nan] * len(_LABELS), trouble
    rights, lefts = [bucket[0] for bucket in filled], [bucket[1] for bucket in filled]
    below = list(accumulate((count for *_, count in filled), initial=0.0))
    counts = []
    for edge in EDGES:
        position = bisect_right(rights, edge)
        within = position < len(lefts) and lefts[position] < edge
        counts.append(math.nan if within else below[position])
    return [*counts, float(histogram["count"])], ""


@lru_cache(maxsize=4096)
def _trouble(rule: int, left: float, right: float) -> str:
    """Return in words why a bucket cannot be read; empty when it can."""
    if rule == _CLOSED and left in {-right, 0.0}:
        return ""  # the zero bucket
    if right <= 0:
        return NEGATIVE
    return "" if rule == _OPEN_LEFT and _is_exponential(left, right) else CUSTOM


def _is_exponential(left: float, right: float) -> bool:
    """Tell whether the boundaries are 2^((i - 1) 2^-schema) and 2^(i 2^-schema) for an existing schema."""
    if not 0 < left < right < math.inf:
        return False
    width = math.log2(right) - math.log2(left)
    schema = -round(math.log2(width))
    place = math.log2(right) * 2.0**schema
    fits = abs(width * 2.0**schema - 1) <= _NOISE and abs(place - round(place)) <= _NOISE
    return schema in _SCHEMAS and fits
