"""The evidence of many runs, kept as arrays from look to look.

`analysis.judge.advance` and `analysis.glance.glances` make arrays of each run's evidence at every look, and
cut them into objects again. A run that merely holds needs no objects: as a member of a herd it takes in an
interval with all others, and what a look needs is read from the arrays.

Guarantee: evidence and glances are, bit for bit, those that `advance` and `glances` give of each run alone,
whoever joins and leaves meanwhile. An interval that cannot be taken in changes nothing. A run whose split was
ever wrong is no member: it is told as Invalid, and has to leave then (`analysis.mending` is for the judge).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from analysis.evidence import Kept
from analysis.glance import Glance, SeenMetric, see
from analysis.guardrail import Pace, advance_kept, dispersion_of
from analysis.mending import known
from analysis.runs import Fixed, Rules, Runs, advance_runs, kinds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from analysis.design import Design, Layout
    from analysis.evidence import Evidence
    from analysis.hypergeometric import Floats, Ints
    from analysis.verdict import Kind

T = TypeVar("T", Kept, Runs, SeenMetric)


class Member(NamedTuple):
    """A run that joins: what is fixed while it is a member, and what is known of it."""

    design: Design
    evidence: Evidence
    intended: float
    """The candidate's share of the traffic."""
    dispersion: Mapping[str, tuple[float, ...]]
    """As in `analysis.design.Interval`."""


class Counted(NamedTuple):
    """What one interval showed of every member, as it was counted: events may be the good outcome."""

    metrics: Sequence[Ints]
    """Per metric (runs, 2, 1 + lanes): of control and candidate; requests, then the events of each lane."""
    requests: Ints
    """(runs, 2): those whose split is tested."""

    def without(self, rows: Sequence[int]) -> Counted:
        """Return the same without some runs."""
        return Counted([np.delete(each, rows, axis=0) for each in self.metrics], _less(rows, self.requests))


class Seen(NamedTuple):
    """What a look needs of every member after the interval that ended at `end`."""

    end: int
    kinds: list[Kind]
    fewest: Ints
    """The fewest requests that a version had, of all metrics."""
    log_e: Floats
    peak: Floats
    metrics: tuple[SeenMetric, ...]

    def glances(self, rows: Sequence[int]) -> list[Glance]:
        """Return what `analysis.glance.glances` gives of some runs."""
        own = zip(*(_rows(metric, rows).cut() for metric in self.metrics), strict=True)
        return [Glance(self.kinds[row], metrics) for row, metrics in zip(rows, own, strict=True)]

    def without(self, rows: Sequence[int]) -> Seen:
        """Return the same without some runs."""
        less = partial(_less, rows)
        gone = {*rows}
        kinds = [kind for row, kind in enumerate(self.kinds) if row not in gone]
        metrics = tuple(SeenMetric(*map(less, metric)) for metric in self.metrics)
        return Seen(self.end, kinds, less(self.fewest), less(self.log_e), less(self.peak), metrics)


class Herd:
    """Runs whose metrics have the same layouts, one per position."""

    def __init__(self, layouts: Sequence[Layout]) -> None:
        """Start without members. Raises ValueError for a mean, which is judged otherwise."""
        if any(layout.mean is not None for layout in layouts):
            raise ValueError("a herd has proportions and histograms, no means")
        self._layouts = tuple(layouts)
        self._members: list[Fixed] = []
        self._rules: Rules | None = None
        self._kept = [Kept.none(layout) for layout in layouts]
        self._runs = Runs.of([])

    def __len__(self) -> int:
        return len(self._members)

    def add(self, members: Sequence[Member]) -> None:
        """Append runs, in order. Raises ValueError, and adds none, if one does not belong here."""
        fixed = [self._fixed(member) for member in members]
        if not fixed:
            return
        for position, kept in enumerate(self._kept):
            more = Kept.of([member.evidence.metrics[position] for member in members])
            self._kept[position] = _joined(kept, more)
        self._runs = _joined(self._runs, Runs.of([member.evidence for member in members]))
        self._members += fixed
        self._rules = None

    def remove(self, rows: Sequence[int]) -> None:
        """Take runs out; the rest keep their order."""
        if not rows:
            return
        rest = np.delete(np.arange(len(self)), rows)
        self._kept = [_rows(kept, rest) for kept in self._kept]
        self._runs = _rows(self._runs, rest)
        self._members = [self._members[row] for row in rest.tolist()]
        self._rules = None

    def evidence(self, rows: Sequence[int]) -> list[Evidence]:
        """Return the evidence of some runs."""
        layouts = zip(self._kept, self._layouts, strict=True)
        metrics = zip(*(_rows(kept, rows).cut(layout) for kept, layout in layouts), strict=True)
        return _rows(self._runs, rows).cut([*metrics])

    def advance(self, end: int, counted: Counted) -> Seen:
        """Take in the interval that ended at `end` (unix seconds), and return what a look needs.

        Raises ValueError when it is not newer than what a member took in last, or the counts do not fit.
        """
        self._check(end, counted)
        rules = self._rules = self._rules or Rules.of(self._layouts, self._members)
        looks = zip((self._runs.looks + 1).tolist(), rules.planned, strict=True)
        pace = Pace.of([*looks])
        kept = [
            advance_kept(terms, pace, old, counts, end)
            for terms, old, counts in zip(rules.metrics, self._kept, counted.metrics, strict=True)
        ]
        runs = advance_runs(self._runs, rules, counted.requests, end, np.stack([each.log_e for each in kept]))
        metrics = tuple(map(see, self._layouts, kept))
        seen = Seen(
            end=end,
            kinds=kinds(rules, runs, kept, metrics),
            fewest=np.minimum.reduce([metric.fewest for metric in metrics]),
            log_e=runs.log_e,
            peak=runs.peak,
            metrics=metrics,
        )
        self._kept, self._runs = kept, runs
        return seen

    def _fixed(self, member: Member) -> Fixed:
        design, evidence = member.design, member.evidence
        layouts = [tuple(metric.layout for metric in each.metrics) for each in (design, evidence)]
        if layouts != [self._layouts] * 2:
            raise ValueError("a run has other layouts than the herd")
        if evidence.inconsistent:
            raise ValueError(f"a run is inconsistent: {'; '.join(evidence.inconsistent)}")
        if known(design, evidence) is not None:
            raise ValueError("the split of a run was wrong")
        dispersion = [dispersion_of(metric, member.dispersion) for metric in design.metrics]
        return Fixed(design, member.intended, dispersion)

    def _check(self, end: int, counted: Counted) -> None:
        if (self._runs.end >= end).any():
            raise ValueError(f"the interval that ended at {end} is not newer than the evidence")
        wanted = [(len(self), 2, 1 + layout.lanes) for layout in self._layouts]
        if [each.shape for each in counted.metrics] != wanted or counted.requests.shape != (len(self), 2):
            raise ValueError("the counts are not those of the members and their metrics")
        if any((each < 0).any() or (each > each[:, :, :1]).any() for each in counted.metrics):
            raise ValueError("counts of events lie between 0 and the requests")


def _rows(table: T, rows: Sequence[int] | Ints) -> T:
    """Return some rows of all arrays of a table, as copies."""
    columns: list[Any] = [column[rows] for column in table]
    return type(table)(*columns)


def _joined(table: T, more: T) -> T:
    """Return the rows of both tables."""
    pairs: Any = zip(table, more, strict=True)
    return type(table)(*map(np.concatenate, pairs))


def _less(rows: Sequence[int], column: NDArray[Any]) -> NDArray[Any]:
    """Return a column without some rows."""
    return np.delete(column, rows, axis=0)
