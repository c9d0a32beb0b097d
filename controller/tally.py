"""What every version in a reading counted, for all of them in one step; the unusual is left to `counting`.

Numbers add up within cells (`controller.filing.Cells`) as arrays over all series of the reading, so that a
rollout only picks its own: one arm at a time here, many at once in `controller.picking`. A cell is ordinary
if its series are plain counters or classic buckets that can be counted in all intervals; of others there is
no tally, and `controller.counting.counts_of` says what they are and why. Where there is a tally, both agree.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.counters import Count
from analysis.tables import Arm
from controller.filing import service_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.counters import Flags, Increases
    from analysis.hypergeometric import Ints
    from controller.filing import ArmKey, Cells, Filing
    from controller.matrix import Matrix


class Place(NamedTuple):
    """Where a tally has what an arm counted; the same as long as the filing is."""

    cell: int
    total: int
    """The row of `Sums.totals` with its requests."""
    events: tuple[int, ...]
    """The rows of `Sums.events`: of a histogram one for each edge."""


class Sums(NamedTuple):
    """What was counted in every interval, row by row (`Place`), and what is known of each cell."""

    totals: Ints
    events: Ints
    heard: Flags
    """(cells, instants): whether any of its series was there."""
    fell: Flags
    """(cells,): whether any of its series began to count from 0 again."""
    odd: Flags
    """(cells,): whether it is not ordinary, so that its numbers say nothing."""


class _Lists(NamedTuple):
    """The same as lists, which are faster where one arm is asked for after the other."""

    totals: list[list[int]]
    events: list[list[int]]
    heard: list[list[bool]]
    fell: list[bool]
    odd: list[bool]


class Tally:
    """What the cells of a reading counted in every interval."""

    def __init__(self, filing: Filing, cells: Cells, read: Matrix, growth: Increases) -> None:
        self._cells, self._is_histogram = cells, filing.spec.kind == "histogram"
        self._intervals = growth.values.shape[1]
        odd = _ever(growth.broken | _unusual(filing, read)[:, None], cells)
        if self._is_histogram:
            totals = _sums(growth.values, cells.buckets, cells.bucket_starts)
            events = totals[cells.last] - totals
            odd[_falling(totals, cells)] = True
        else:
            totals, events = (
                _sums(values, cells.order, cells.starts)
                for values in (growth.values, growth.values * filing.events[:, None])
            )
        self.sums = Sums(totals, events, _any(read.present, cells), _ever(growth.fell, cells), odd)

    @cached_property
    def _lists(self) -> _Lists:
        return _Lists(*(array.tolist() for array in self.sums))

    def cell(self, arm: ArmKey) -> int | None:
        """Return the number of an arm's cell; None for an arm without series."""
        return self._cells.number.get((service_key(arm.service, arm.namespace), arm.version, arm.process))

    def place(self, arm: ArmKey, edges: Sequence[float]) -> Place | None:
        """Return where an arm's counts are; None for an arm without series, or without one of the buckets."""
        cell = self.cell(arm)
        if cell is None:
            return None
        if not self._is_histogram:
            return Place(cell, cell, (cell,))
        places = self._cells.places[cell]
        if math.inf not in places or not places.keys() >= {*edges}:
            return None
        return Place(cell, places[math.inf], tuple([places[edge] for edge in edges]))

    def arm(self, place: Place, column: int) -> Arm | None:
        """Return what was counted in one interval; None if `counting` has to say it."""
        lists = self._lists
        if lists.odd[place.cell]:
            return None
        events = tuple([lists.events[row][column] for row in place.events])
        return Arm(lists.totals[place.total][column], events)

    def counts(self, arm: ArmKey, edges: Sequence[float]) -> Sequence[Count] | None:
        """Return what an arm counted in every interval, as `counting.counts_of` does; None if it has to."""
        place = self.place(arm, edges)
        if place is None:
            return None
        found = [self.arm(place, column) for column in range(self._intervals)]
        return [Count(each) for each in found if each is not None] or None

    def heard(self, cell: int) -> Sequence[bool]:
        """Return at which instants any series of a cell was there."""
        return self._lists.heard[cell]

    def fell(self, cell: int) -> bool:
        """Tell whether any series of a cell began to count from 0 again."""
        return self._lists.fell[cell]


def _unusual(filing: Filing, read: Matrix) -> Flags:
    """Tell which series are more than plain counters or classic buckets."""
    if filing.spec.kind == "mean":
        return np.ones(len(read), dtype=np.bool_)
    if not read.has_native:
        return np.zeros(len(read), dtype=np.bool_)
    return np.array([words != "" for words in read.native], dtype=np.bool_)


def _any(flags: Flags, cells: Cells) -> Flags:
    """Return, per cell and column, whether any of its series has the flag."""
    if not cells.starts.size:
        return np.zeros((0, flags.shape[1]), dtype=np.bool_)
    return np.asarray(np.logical_or.reduceat(flags[cells.order], cells.starts, axis=0))


def _ever(flags: Flags, cells: Cells) -> Flags:
    """Return, per cell, whether any of its series has the flag in any column."""
    return np.asarray(_any(flags, cells).any(axis=1))


def _sums(values: Ints, rows: Ints, starts: Ints) -> Ints:
    """Return the sums over the series of each group."""
    if not starts.size:
        return np.zeros((0, values.shape[1]), dtype=np.int64)
    return np.asarray(np.add.reduceat(values[rows], starts, axis=0))


def _falling(below: Ints, cells: Cells) -> Ints:
    """Return the cells with a bucket that counted less than the one before it, in any interval."""
    falls = (np.diff(below, axis=0) < 0).any(axis=1) & (np.diff(cells.owner) == 0)
    return np.asarray(cells.owner[1:][falls])
