"""What many runs count in an ordinary interval, picked from the readings as arrays, all runs in one step.

A row is ordinary exactly when `Plain.intake` takes the interval in and every metric has requests of both
versions; then its numbers are those of that interval. All other rows hold zeros, and take the ordinary path,
which says what is unusual about them.

Where a run's counts lie is looked up once for the series that a template has (`controller.filing`), and kept
until it has others. After that a look is fancy indexing, whatever the number of runs.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.herd import Counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from analysis.counters import Flags
    from analysis.hypergeometric import Ints
    from controller.filing import Filing, Level
    from controller.observe import IndexedReading
    from controller.plain import Asked, Plain, Where


class Picked(NamedTuple):
    """What runs counted in one interval."""

    counted: Counted
    ordinary: Flags
    """(runs,): where it is False, the counts are zeros."""


class Picker:
    """Where runs have their counts; their metrics have the same numbers of edges, position by position."""

    def __init__(self, plains: Sequence[Plain]) -> None:
        asked = [[*plain.metrics.values()] for plain in plains]
        edges = {tuple([len(edges) for _, edges in metrics]) for metrics in asked}
        if len(edges) > 1:
            raise ValueError("the runs' metrics have different numbers of edges")
        self._metrics = [
            _Column(plains, [metrics[position] for metrics in asked], max(1, lanes))
            for position, lanes in enumerate(next(iter(edges), ()))
        ]
        self._split = _Column(plains, [plain.split for plain in plains], 0)
        self.templates = frozenset().union(*(column.templates for column in (*self._metrics, self._split)))

    def pick(self, index: Mapping[str, IndexedReading], start: int, end: int) -> Picked:
        """Return what all runs counted from `start` to `end`."""
        metrics = [column.pick(index, start, end) for column in self._metrics]
        split = self._split.pick(index, start, end)
        ordinary = split.plain
        for each in metrics:
            ordinary = ordinary & each.plain & (each.counts[:, :, 0] > 0).all(axis=1)
        for each in (*metrics, split):
            each.counts[~ordinary] = 0
        counted = Counted([each.counts for each in metrics], split.counts[:, :, 0])
        return Picked(counted, ordinary)


class _Found(NamedTuple):
    """What runs counted of one thing that each asks for."""

    counts: Ints
    """(runs, 2, 1 + lanes): control and candidate; requests, then events per lane."""
    plain: Flags
    """(runs,): whether the counts are all there is to say."""


class _Column:
    """One thing that every run asks for, each of a template and at edges of its own."""

    def __init__(self, plains: Sequence[Plain], asked: Sequence[Asked], lanes: int) -> None:
        runs: dict[str, list[int]] = defaultdict(list)
        for run, (template, _) in enumerate(asked):
            runs[template].append(run)
        self._size, self._lanes = len(plains), lanes
        self._groups = {
            template: _Group([(run, plains[run], asked[run]) for run in own], lanes)
            for template, own in runs.items()
        }
        self.templates = self._groups.keys()

    def pick(self, index: Mapping[str, IndexedReading], start: int, end: int) -> _Found:
        """Return what was counted from `start` to `end`."""
        counts = np.zeros((self._size, 2, 1 + self._lanes), dtype=np.int64)
        plain, heard = np.zeros((2, self._size, 2), dtype=np.bool_)
        for template, group in self._groups.items():
            reading = index.get(template)
            column = reading.column(start, end) if reading else None
            if reading is None or column is None:
                continue
            for arms in group.arms(reading):
                sums, at = reading.tally(arms.level).sums, (arms.runs, arms.sides)
                counts[*at, 0] = sums.totals[arms.totals, column]
                counts[*at, 1:] = sums.events[arms.events, column]
                plain[at] = ~(sums.odd | sums.fell)[arms.cells]
                heard[at] = sums.heard[arms.cells, column + 1]
        return _Found(counts, np.logical_and(plain.all(axis=1), heard.any(axis=1)))


class _Arms(NamedTuple):
    """Where some arms of one level have their counts (`controller.tally.Place`), as arrays over the arms."""

    level: Level
    runs: Ints
    sides: Ints
    """0: the control, 1: the candidate."""
    cells: Ints
    totals: Ints
    events: Ints
    """(arms, lanes)."""

    @classmethod
    def of(cls, level: Level, found: Iterable[tuple[int, int, Where]], lanes: int) -> _Arms:
        """Return what was found of each arm: its run, its side, and where its counts are."""
        rows = [(run, side, at.cell, at.total, *at.events[:lanes]) for run, side, (_, at) in found]
        table = np.array(rows, dtype=np.int64)
        runs, sides, cells, totals = table.T[:4]
        return cls(level, runs, sides, cells, totals, events=table[:, 4:])


class _Group:
    """The runs that ask for one template."""

    def __init__(self, members: Sequence[tuple[int, Plain, Asked]], lanes: int) -> None:
        self._members, self._lanes = members, lanes
        self._filing: Filing | None = None
        self._arms: Sequence[_Arms] = ()

    def arms(self, reading: IndexedReading) -> Sequence[_Arms]:
        """Return where the runs have their counts in a reading: those of which it has both versions'."""
        if self._filing is not reading.filing:
            self._filing, self._arms = reading.filing, self._look_up(reading)
        return self._arms

    def _look_up(self, reading: IndexedReading) -> Sequence[_Arms]:
        found: dict[Level, list[tuple[int, int, Where]]] = defaultdict(list)
        for run, plain, asked in self._members:
            both = plain.places(reading, asked)
            if both is not None and all(len(where.place.events) >= self._lanes for where in both):
                for side, where in enumerate(both):
                    found[where.level].append((run, side, where))
        return [_Arms.of(level, arms, self._lanes) for level, arms in found.items()]
