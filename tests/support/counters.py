"""Counters made one by one, and the rules of counting in their plainest form, to compare with."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis import counters as counted
from analysis.counters import Increases, Readings

if TYPE_CHECKING:
    from collections.abc import Sequence


class Counter(NamedTuple):
    """One series: the process that counts, and what was read, as (instant, value)."""

    instance: str
    points: tuple[tuple[int, float], ...]
    whole: bool = True


def increases(counters: Sequence[Counter], instants: Sequence[int]) -> Increases:
    """Return the increases that are counted between neighbouring instants."""
    processes = list(dict.fromkeys(each.instance for each in counters))
    values = np.zeros((len(counters), len(instants)))
    present = np.zeros(values.shape, dtype=np.bool_)
    for row, each in enumerate(counters):
        for at, value in each.points:
            if at in instants:
                values[row, instants.index(at)], present[row, instants.index(at)] = value, True
    process = np.array([processes.index(each.instance) for each in counters], dtype=np.int64)
    return counted.increases(Readings(values, present, process, np.array([c.whole for c in counters], bool)))


def one_by_one(counters: Sequence[Counter], instants: Sequence[int]) -> Increases:
    """Return the same, series by series and instant by instant, as the rules are written."""
    values = np.zeros((len(counters), max(0, len(instants) - 1)), dtype=np.int64)
    sums = np.zeros(values.shape)
    broken, fell = (np.zeros(values.shape, dtype=np.bool_) for _ in range(2))
    for row, counter in enumerate(counters):
        points = dict(counter.points)
        alive = {at for other in counters if other.instance == counter.instance for at, _ in other.points}
        read, own = (_whole, values[row]) if counter.whole else (_finite, sums[row])
        seen: float | None = None
        for step, (before, now) in enumerate(pairwise(instants)):
            if before not in alive:
                seen = None
                continue
            seen = read(points[before]) if before in points else seen
            if now not in points:
                continue
            value = read(points[now])
            if value is None or (seen is None and before in points):
                broken[row, step] = True
            else:
                fell[row, step] = seen is not None and value < seen
                own[step] = value if seen is None or fell[row, step] else value - seen
    return Increases(values, broken, sums, fell)


def _whole(value: float) -> int | None:
    if not 0 <= value <= 2.0**53:
        return None
    nearest = round(value)
    return nearest if abs(value - nearest) <= 1e-9 * max(1.0, value) else None


def _finite(value: float) -> float | None:
    return value if 0 <= value < float("inf") else None
