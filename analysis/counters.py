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

The sum of a mean is a counter too, of a value that need not be whole but must not be negative: else a sum
that falls could not be told from a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.tables import Arm, MeanArm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Flags: TypeAlias = NDArray[np.bool_]

_NOISE = 1e-9
"""Relative float noise that a sum of whole counters may carry."""
_EXACT = 2.0**53
"""Above this, floats skip whole numbers."""


class Readings(NamedTuple):
    """What n series were read as at m instants, rising: `values`, where they were there, `present`.

    `process` numbers, per series, the process that counts (it restarts as a whole); `whole` tells whether the
    series counts; else it sums up values.
    """

    values: NDArray[np.float64]
    present: Flags
    process: NDArray[np.int64]
    whole: Flags


@dataclass(frozen=True, slots=True)
class Increases:
    """Increases of n series over m intervals: `values[i, t]`, and whether it is unknown, `broken[i, t]`.

    A broken increase is 0 in `values`. Those of series that are not `whole` are in `sums` instead. `fell`
    tells where a series was lower than before, so that it counts from 0.
    """

    values: NDArray[np.int64]
    broken: Flags
    sums: NDArray[np.float64]
    fell: Flags


@dataclass(frozen=True, slots=True)
class Count:
    """What one arm did in one interval; `inconsistent` says in words why it cannot be counted (arm is 0)."""

    arm: Arm
    inconsistent: str = ""


@dataclass(frozen=True, slots=True)
class MeanCount:
    """The same of a mean."""

    arm: MeanArm
    inconsistent: str = ""


def increases(read: Readings) -> Increases:
    """Return the increase of every series between neighbouring instants.

    Give all series of a reading at once: whether a process is new depends on all of its series.
    """
    values, good = _counted(read)
    alive = _alive(read)
    steps = max(0, read.values.shape[1] - 1)
    own = np.zeros((len(values), steps))
    broken, fell = np.zeros(own.shape, dtype=np.bool_), np.zeros(own.shape, dtype=np.bool_)
    seen, known = np.zeros(len(values)), np.zeros(len(values), dtype=np.bool_)
    for step in range(steps):
        here, going_on = read.present[:, step], alive[:, step]
        seen = np.where(here, values[:, step], seen)
        known = np.where(here, good[:, step], known & going_on)
        now, there = values[:, step + 1], going_on & read.present[:, step + 1]
        right = there & good[:, step + 1] & (known | ~here)
        broken[:, step] = there & ~right
        fell[:, step] = right & known & (now < seen)
        own[:, step] = np.where(right, now - np.where(known & ~fell[:, step], seen, 0.0), 0.0)
    whole = read.whole[:, None]
    return Increases(np.where(whole, own, 0.0).astype(np.int64), broken, np.where(whole, 0.0, own), fell)


def _counted(read: Readings) -> tuple[NDArray[np.float64], Flags]:
    """Return what was read as counts or sums, 0 where it is none, and where it is one.

    A count is a whole number, a sum is finite, and neither is negative.
    """
    values, whole = read.values, read.whole[:, None]
    with np.errstate(invalid="ignore"):
        nearest = np.rint(values)
        counts = (values <= _EXACT) & (np.abs(values - nearest) <= _NOISE * np.maximum(1.0, values))
        good = read.present & (values >= 0) & np.where(whole, counts, values < np.inf)
    return np.where(good, np.where(whole, nearest, values), 0.0), good


def _alive(read: Readings) -> Flags:
    """Tell, per series, at which instants its process had any series."""
    if read.present.all():
        return read.present
    alive = np.zeros((int(read.process.max(initial=-1)) + 1, read.present.shape[1]), dtype=np.bool_)
    np.logical_or.at(alive, read.process, read.present)
    return alive[read.process]


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


def mean(
    growth: Increases, instances: Sequence[str], series: Sequence[int], sums: Sequence[int]
) -> list[MeanCount]:
    """Return one arm's observations per interval, and what they add up to.

    `instances` names the process of every row of `growth`; `series` are its rows that count observations,
    `sums` those that sum them up. Both come from the same processes, and restart together.
    """
    steps = growth.values.shape[1]
    counting, summing = ({instances[row] for row in rows} for rows in (series, sums))
    if counting != summing:
        alone = min(counting ^ summing)
        return [MeanCount(MeanArm(0, 0.0), f"{alone} has a sum without its count, or a count alone")] * steps
    totals = growth.values[list(series)].sum(axis=0).tolist()
    values = growth.sums[list(sums)].sum(axis=0).tolist()
    broken = _any_broken(growth, [*series, *sums])
    torn = [_torn(growth, instances, series, sums, step) for step in range(steps)]
    return [
        _mean_count(total, value, bad, apart)
        for total, value, bad, apart in zip(totals, values, broken, torn, strict=True)
    ]


def _torn(
    growth: Increases, instances: Sequence[str], series: Sequence[int], sums: Sequence[int], step: int
) -> bool:
    """Tell whether a process' count and sum restarted one without the other; sums of 0 do not show it."""
    counting = {instances[row] for row in series if growth.fell[row, step]}
    summing = {instances[row] for row in sums if growth.fell[row, step]}
    silent = {instances[row] for row in sums if growth.sums[row, step] == 0}
    return not summing <= counting <= summing | silent


def _mean_count(total: int, value: float, broken: bool, torn: bool) -> MeanCount:
    if broken:
        return MeanCount(MeanArm(0, 0.0), "a count or a sum is negative, not finite or not a number")
    if torn:
        words = "a sum and its count did not restart together: values must not be negative"
        return MeanCount(MeanArm(0, 0.0), words)
    return MeanCount(MeanArm(total, value))


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
