"""Cumulative counters, read at aligned instants, as exact increases per interval and as the counts of an arm.

Nothing is extrapolated (as PromQL's `increase` would): an increase is the difference of two values that were
read. An interval runs from one instant to the next. The rules, per series and interval:

- lower than before: the process restarted and counted from 0 (whoever counted it before is lost).
- absent before, while its instance had other series: born in this interval, so it counts from 0. The first
  error creates its series; without this rule it would never be counted. A series that was seen earlier and
  only missed an instant goes on from where it was.
- absent before, and so was its instance: a new process, or one found again. Its first value is where counting
  starts, not an increase.
- absent now: nothing. A process that vanishes takes the rest of its counts with it.
- a value that is no count (negative, NaN, infinite, not whole): every interval it touches is inconsistent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from analysis.tables import Arm

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

_NOISE = 1e-9
"""Relative float noise that a sum of whole counters may carry."""
_EXACT = 2.0**53
"""Above this, floats skip whole numbers."""


@dataclass(frozen=True, slots=True)
class Counter:
    """One series: the process that counts (it restarts as a whole) and what was read, as (instant, value)."""

    instance: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Increases:
    """Increases of n series over m intervals: `values[i, t]`, and whether it is unknown, `broken[i, t]`.

    A broken increase is 0 in `values`.
    """

    values: NDArray[np.int64]
    broken: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Count:
    """What one arm did in one interval; `inconsistent` says in words why it cannot be counted (arm is 0)."""

    arm: Arm
    inconsistent: str = ""


def increases(counters: Sequence[Counter], instants: Sequence[int]) -> Increases:
    """Return the increase of every counter between neighbouring instants (rising, in unix seconds).

    Give all series of a reading at once: whether an instance is new depends on all of its series. Points at
    other instants are ignored.
    """
    alive = _alive(counters, set(instants))
    values = np.zeros((len(counters), max(0, len(instants) - 1)), dtype=np.int64)
    broken = np.zeros(values.shape, dtype=np.bool_)
    for row, counter in enumerate(counters):
        points = dict(counter.points)
        seen: int | None = None
        for step, (before, now) in enumerate(pairwise(instants)):
            if before not in alive[counter.instance]:
                seen = None
                continue
            seen = _whole(points[before]) if before in points else seen
            if now not in points:
                continue
            value = _whole(points[now])
            if value is None or (seen is None and before in points):
                broken[row, step] = True
            else:
                values[row, step] = value if seen is None or value < seen else value - seen
    return Increases(values, broken)


def _alive(counters: Iterable[Counter], instants: set[int]) -> dict[str, set[int]]:
    """Return, per instance, the instants at which it had any series."""
    alive: dict[str, set[int]] = {}
    for counter in counters:
        alive.setdefault(counter.instance, set()).update(at for at, _ in counter.points if at in instants)
    return alive


def _whole(value: float) -> int | None:
    """Return a count as a whole number, or None if it is none."""
    if not 0 <= value <= _EXACT:
        return None
    nearest = round(value)
    return nearest if abs(value - nearest) <= _NOISE * max(1.0, value) else None


def proportion(growth: Increases, series: Sequence[int], events: Sequence[int]) -> list[Count]:
    """Return one arm's counts per interval.

    `series` are the rows of `growth` with its requests, `events` those among them whose requests are events.
    """
    totals = growth.values[list(series)].sum(axis=0).tolist()
    hits = growth.values[list(events)].sum(axis=0).tolist()
    counts = zip(totals, hits, _any_broken(growth, series), strict=True)
    return [_count(total, (k,), bad) for total, k, bad in counts]


def histogram(
    growth: Increases, buckets: Mapping[float, Sequence[int]], edges: Sequence[float]
) -> list[Count]:
    """Return one arm's requests per interval, and how many of them were above each edge.

    `buckets` gives the rows of `growth` per cumulative bucket, by upper edge (`le`, the last one infinite).
    The requests above an edge are those of the infinite bucket less those of the edge's own. An edge without
    a bucket, or buckets that do not rise, make an interval inconsistent; an arm without any series did
    nothing.
    """
    steps = growth.values.shape[1]
    if not any(buckets.values()):
        return [_count(0, (0,) * len(edges))] * steps
    missing = [edge for edge in (*edges, float("inf")) if not buckets.get(edge)]
    if missing:
        words = f"no bucket le={missing[0]:g}".replace("inf", "+Inf")
        return [Count(Arm(0, (0,) * len(edges)), words)] * steps
    order = sorted(edge for edge in buckets if buckets[edge])
    rows = [row for edge in order for row in buckets[edge]]
    firsts = np.cumsum([0, *(len(buckets[edge]) for edge in order[:-1])])
    below = np.add.reduceat(growth.values[rows], firsts, axis=0)
    broken = _any_broken(growth, rows)
    falling = [any(column) for column in (np.diff(below, axis=0) < 0).T.tolist()]
    above = (below[-1] - below[[order.index(edge) for edge in edges]]).T.tolist()
    totals = below[-1].tolist()
    return [
        _count(total, tuple(events), bad, falls)
        for total, events, bad, falls in zip(totals, above, broken, falling, strict=True)
    ]


def _any_broken(growth: Increases, rows: Sequence[int]) -> list[bool]:
    """Return, per interval, whether any of the rows is broken."""
    return [any(column) for column in growth.broken[list(rows)].T.tolist()]


def _count(total: int, events: tuple[int, ...], broken: bool = False, falling: bool = False) -> Count:
    """Return a count, or why there is none."""
    if broken:
        return Count(Arm(0, (0,) * len(events)), "a counter is negative, not whole or not a number")
    if falling:
        return Count(Arm(0, (0,) * len(events)), "buckets are not cumulative")
    return Count(Arm(total, events))
