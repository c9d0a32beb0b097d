"""What each process of a version counted by itself, in every interval of a reading, as arrays. Pure.

It comes to the same as `controller.observe` for a version that is this process alone. Ordinary processes are
picked from the tally; what is out of the ordinary is asked there, and said in words.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from analysis.tables import Table
from controller.observe import NOBODY, Target, intervals_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from analysis.hypergeometric import Ints
    from controller.filing import ArmKey
    from controller.observe import IndexedReading


class Source(NamedTuple):
    """What a metric is counted from: `columns` are the intervals of the reading that end at `ends`, or -1."""

    metric: str
    edges: Sequence[float]
    reading: IndexedReading
    ends: range
    columns: Ints

    @classmethod
    def of(cls, metric: str, edges: Sequence[float], reading: IndexedReading, ends: range) -> Self:
        """Return where a reading has each interval."""
        at = reading.columns
        found = [(at.get(end - ends.step, -1), at.get(end)) for end in ends]
        columns = [first if last == first + 1 else -1 for first, last in found]
        return cls(metric, edges, reading, ends, np.array(columns, dtype=np.int64))

    @property
    def lanes(self) -> int:
        """How many kinds of events are counted."""
        return max(1, len(self.edges))


class Counted(NamedTuple):
    """What one process counted: `counts` (intervals, 1 + lanes), requests first, where they are `known`.

    `problems`: why others cannot be counted, in words.
    """

    counts: Ints
    known: NDArray[np.bool_]
    problems: Sequence[str]


def series_of(source: Source, version: ArmKey) -> dict[str, Counted]:
    """Return what the processes of a version counted, by name."""
    instances = source.reading.filing.instances
    names = sorted({instances[row] for row in source.reading.rows(version)})
    return {name: _counted(source, replace(version, process=name)) for name in names}


def _counted(source: Source, arm: ArmKey) -> Counted:
    """Return what one process counted."""
    tally = source.reading.tally(arm.level)
    place, sums = tally.place(arm, source.edges), tally.sums
    if place is None or sums.odd[place.cell]:
        return _observed(source, arm)
    known = (source.columns >= 0) & sums.heard[place.cell][source.columns + 1]
    columns = source.columns[known]
    counts = np.zeros((len(source.ends), 1 + source.lanes), dtype=np.int64)
    counts[known, 0] = sums.totals[place.total, columns]
    counts[known, 1:] = sums.events[place.events, :][:, columns].T
    return Counted(counts, known, ())


def _observed(source: Source, arm: ArmKey) -> Counted:
    """Return what one process counted, interval by interval; what cannot be counted is left out."""
    name, ends, index = source.metric, source.ends, {source.metric: source.reading}
    alone = Target(arm, NOBODY, {name: name}, {name: source.edges}, "", 0.0)
    intervals = intervals_for(alone, index, ends.start - ends.step, ends[-1], ends.step)
    problems = [problem for interval in intervals for problem in interval.inconsistent]
    tables = [interval.tables[name] for interval in intervals]
    nothing = (0,) * (1 + source.lanes)
    counts = [
        (table.control.total, *table.control.events) if isinstance(table, Table) else nothing
        for table in tables
    ]
    known = [isinstance(table, Table) for table in tables]
    return Counted(np.array(counts, dtype=np.int64), np.array(known, dtype=np.bool_), problems)


def series_rows(
    target: Target, metrics: Sequence[str], index: Mapping[str, IndexedReading], ends: range
) -> list[dict[str, dict[str, tuple[int, ...]]]]:
    """Return, per interval and metric, what each process of the control counted: requests, then events."""
    rows: list[dict[str, dict[str, tuple[int, ...]]]] = [{} for _ in ends]
    for metric in metrics:
        source = Source.of(metric, target.edges.get(metric, ()), index[target.metrics[metric]], ends)
        for name, counted in series_of(source, target.control).items():
            for row, known, counts in zip(rows, counted.known, counted.counts.tolist(), strict=True):
                if known:
                    row.setdefault(metric, {})[name] = tuple(counts)
    return rows
