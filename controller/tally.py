"""What every version in a reading counted, for all of them in one step; the unusual is left to `counting`.

Numbers add up within cells (`controller.filing.Cells`) as arrays over all series of the reading, so that a
rollout only picks its own. A cell is ordinary if its series are plain counters or classic buckets that can be
counted in all intervals; of others there is no tally, and `controller.counting.counts_of` says what they are
and why. Where there is a tally, both agree.
"""

from __future__ import annotations

import math
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
    """Where a tally has what an arm counted; the same as long as the filing is.

    `buckets` are those of a histogram, edge by edge, and then the one of all requests.
    """

    cell: int
    buckets: tuple[int, ...]


class Tally:
    """What the cells of a reading counted in every interval."""

    def __init__(self, filing: Filing, cells: Cells, read: Matrix, growth: Increases) -> None:
        self._cells, self._is_histogram = cells, filing.spec.kind == "histogram"
        self._intervals = growth.values.shape[1]
        self._heard: list[list[bool]] = _any(read.present, cells).tolist()
        self._fell: list[bool] = np.logical_or.reduce(_any(growth.fell, cells), axis=1).tolist()
        unusual = growth.broken | _unusual(filing, read)[:, None]
        odd: Flags = np.logical_or.reduce(_any(unusual, cells), axis=1)
        if self._is_histogram:
            below = _sums(growth.values, cells.buckets, cells.bucket_starts)
            odd = odd | _falls(below, cells)
            self._below: list[list[int]] = below.tolist()
        else:
            self._totals: list[list[int]] = _sums(growth.values, cells.order, cells.starts).tolist()
            events = growth.values * filing.events[:, None]
            self._events: list[list[int]] = _sums(events, cells.order, cells.starts).tolist()
        self._odd: list[bool] = odd.tolist()

    def cell(self, arm: ArmKey) -> int | None:
        """Return the number of an arm's cell; None for an arm without series."""
        return self._cells.number.get((service_key(arm.service, arm.namespace), arm.version, arm.process))

    def place(self, arm: ArmKey, edges: Sequence[float]) -> Place | None:
        """Return where an arm's counts are; None for an arm without series, or without one of the buckets."""
        cell = self.cell(arm)
        if cell is None:
            return None
        places = self._cells.places[cell]
        buckets = [places.get(edge) for edge in (*edges, math.inf)] if self._is_histogram else []
        known = tuple([bucket for bucket in buckets if bucket is not None])
        return Place(cell, known) if len(known) == len(buckets) else None

    def arm(self, place: Place, column: int) -> Arm | None:
        """Return what was counted in one interval; None if `counting` has to say it."""
        if self._odd[place.cell]:
            return None
        if not self._is_histogram:
            return Arm(self._totals[place.cell][column], (self._events[place.cell][column],))
        *below, total = [self._below[bucket][column] for bucket in place.buckets]
        return Arm(total, tuple([total - each for each in below]))

    def counts(self, arm: ArmKey, edges: Sequence[float]) -> Sequence[Count] | None:
        """Return what an arm counted in every interval, as `counting.counts_of` does; None if it has to."""
        place = self.place(arm, edges)
        if place is None:
            return None
        found = [self.arm(place, column) for column in range(self._intervals)]
        return [Count(each) for each in found if each is not None] or None

    def heard(self, cell: int) -> Sequence[bool]:
        """Return at which instants any series of a cell was there."""
        return self._heard[cell]

    def fell(self, cell: int) -> bool:
        """Tell whether any series of a cell began to count from 0 again."""
        return self._fell[cell]


def _unusual(filing: Filing, read: Matrix) -> Flags:
    """Tell which series are more than plain counters or classic buckets."""
    if filing.spec.kind == "mean":
        return np.ones(len(read), dtype=np.bool_)
    return np.array([words != "" for words in read.native], dtype=np.bool_)


def _any(flags: Flags, cells: Cells) -> Flags:
    """Return, per cell and column, whether any of its series has the flag."""
    if not cells.starts.size:
        return np.zeros((0, flags.shape[1]), dtype=np.bool_)
    return np.asarray(np.logical_or.reduceat(flags[cells.order], cells.starts, axis=0))


def _sums(values: Ints, rows: Ints, starts: Ints) -> Ints:
    """Return the sums over the series of each group."""
    if not starts.size:
        return np.zeros((0, values.shape[1]), dtype=np.int64)
    return np.asarray(np.add.reduceat(values[rows], starts, axis=0))


def _falls(below: Ints, cells: Cells) -> Flags:
    """Tell, per cell, whether any of its buckets counted less than the one before it, in any interval."""
    falling = np.zeros(len(below), dtype=np.bool_)
    falling[1:] = (np.diff(below, axis=0) < 0).any(axis=1)
    falling[cells.first_bucket[cells.first_bucket < len(below)]] = False
    owner = np.searchsorted(cells.first_bucket, np.arange(len(below)), side="right") - 1
    result = np.zeros(len(cells.first_bucket), dtype=np.bool_)
    result[owner[falling]] = True
    return result
