"""Runs of the lane that are looked at as one: with intervals of one length and metrics of the same layouts.

Their evidence stays in arrays (`analysis.herd`), and what a look showed stays with them until it is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.herd import Herd, Member
from controller.judgement import brief
from controller.picking import Picker
from controller.ports import Look
from controller.rollout import tick_of_hold
from controller.tabulated import row_of, split_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from analysis.design import Layout
    from analysis.herd import Counted, Seen
    from controller.held import Held
    from controller.observe import IndexedReading
    from controller.ports import Tick

RECORD_LOOKS = 6
RECORD_SECONDS = 60.0
"""After so many looks, or so long, they are recorded."""


class _Taken(NamedTuple):
    """A look that is not recorded yet: of the runs that were first in the group then, and still are."""

    at: float
    seen: Seen
    counted: Counted

    def has(self, row: int) -> bool:
        """Tell whether a run was looked at; who entered later stands behind all others."""
        return row < len(self.seen.kinds)

    def without(self, rows: Sequence[int]) -> _Taken:
        """Return the look without runs that leave."""
        mine = [row for row in rows if self.has(row)]
        return _Taken(self.at, self.seen.without(mine), self.counted.without(mine))

    def looks(self, runs: Mapping[int, Held]) -> list[Look]:
        """Return what the looks of some runs, by row, leave in the history."""
        rows, seen = [*runs], self.seen
        own = [metric.log_e[rows].tolist() for metric in seen.metrics]
        briefs = (
            brief(held.owed.dossier.design, *told)
            for held, *told in zip(
                runs.values(), seen.glances(rows), seen.log_e[rows].tolist(), zip(*own, strict=True),
                strict=True,
            )
        )  # fmt: skip
        return [
            Look(self.at, seen.end, tables, told)
            for tables, told in zip(self._tables(runs), briefs, strict=True)
        ]

    def _tables(self, runs: Mapping[int, Held]) -> Iterator[list[dict[str, Any]]]:
        """Yield the counts of each run as rows for the history."""
        rows, end = [*runs], self.seen.end
        counted = zip(*(counts[rows].tolist() for counts in self.counted.metrics), strict=True)
        requests = self.counted.requests[rows].tolist()
        for held, metrics, split in zip(runs.values(), counted, requests, strict=True):
            tables = [
                row_of(metric.name, end, *({"total": n, "events": k} for n, *k in arms))
                for metric, arms in zip(held.owed.dossier.design.metrics, metrics, strict=True)
            ]
            yield [*tables, split_row(end, held.plain.target.intended, split, held.dispersion)]


class Group:
    """Runs with intervals of the same length and metrics of the same layouts."""

    def __init__(self, step: int, layouts: Sequence[Layout], end: int) -> None:
        """Begin without runs; `end` is that of the last interval that each run to come has taken in."""
        self.step, self.end = step, end
        self.held: list[Held] = []
        self._herd = Herd(layouts)
        self._taken: list[_Taken] = []
        self._picker: Picker | None = None
        self._rows: dict[str, int] = {}
        """Where each run stands in `held`; none between a change of the members and the next question."""

    @property
    def next(self) -> int:
        """The end of the next interval."""
        return self.end + self.step

    def waits_for(self, newest: int) -> int:
        """Return how many intervals the group has not looked at; `newest` is the end of the last one."""
        return (newest - self.end) // self.step

    def enter(self, held: Sequence[Held]) -> None:
        """Take in runs whose evidence goes up to the end of the group's last interval."""
        self._herd.add(
            [
                Member(each.owed.dossier.design, each.owed.dossier.evidence, each.plain.target.intended,
                       each.dispersion)
                for each in held
            ]
        )  # fmt: skip
        self.held += held
        self._picker, self._rows = None, {}

    @property
    def picker(self) -> Picker:
        """What picks the counts of the runs that are here now."""
        if self._picker is None:
            self._picker = Picker([each.plain for each in self.held])
        return self._picker

    def look(self, index: Mapping[str, IndexedReading], now: float) -> list[Held]:
        """Take in the next interval; return the runs that left before it, since it is not ordinary for them.

        Those for which it turns something stay; `turned` tells them.
        """
        picked = self.picker.pick(index, self.end, self.next)
        odd = np.flatnonzero(~picked.ordinary).tolist()
        left = self.leave(odd)
        counted = picked.counted.without(odd) if odd else picked.counted
        self.end = self.next
        if self.held:
            self._taken.append(_Taken(now, self._herd.advance(self.end, counted), counted))
        return left

    def turned(self, now: float) -> list[int]:
        """Return the runs for which the last look may bring another decision."""
        if not self.held:
            return []
        seen = self._taken[-1].seen
        found = enumerate(zip(self.held, seen.kinds, seen.fewest.tolist(), seen.peak.tolist(), strict=True))
        return [row for row, (held, kind, fewest, peak) in found if held.turns(kind, fewest, peak, now)]

    def leave(self, rows: Sequence[int], *, looked: bool = False) -> list[Held]:
        """Let runs go, their dossiers as after ordinary looks; `looked`: the last look is this pass's own."""
        if not rows:
            return []
        self.bring_up_to_date(rows)
        for row, looks in self._looks(rows).items():
            dossier = self.held[row].owed.dossier
            if looked and looks:
                dossier.intervals = looks.pop().intervals
            dossier.earlier = looks
        gone = set(rows)
        left = [self.held[row] for row in rows]
        self.held = [each for row, each in enumerate(self.held) if row not in gone]
        self._taken = [taken.without(rows) for taken in self._taken]
        self._herd.remove(rows)
        self._picker, self._rows = None, {}
        return left

    def verdict(self, key: str) -> Mapping[str, Any]:
        """Return the verdict of a run's last look, with all numbers; KeyError."""
        if not self._rows:
            self._rows = {each.key: row for row, each in enumerate(self.held)}
        row = self._rows[key]
        self.bring_up_to_date([row])
        return self.held[row].owed.dossier.judgement.numbers

    def bring_up_to_date(self, rows: Sequence[int]) -> None:
        """Let the dossiers of some runs know what the lane knows."""
        last = self._taken[-1] if self._taken else None
        rows = [row for row in rows if last and last.has(row)]
        if last and rows:
            known = zip(rows, self._herd.evidence(rows), last.seen.glances(rows), strict=True)
            for row, evidence, glance in known:
                self.held[row].owed.dossier.follow(evidence, glance)

    def _looks(self, rows: Sequence[int]) -> dict[int, list[Look]]:
        """Return what is not recorded yet of some runs, by row."""
        found: dict[int, list[Look]] = {row: [] for row in rows}
        for taken in self._taken:
            there = {row: self.held[row] for row in rows if taken.has(row)}
            for row, look in zip(there, taken.looks(there), strict=True):
                found[row].append(look)
        return found

    def must_be_recorded(self, now: float) -> bool:
        """Tell whether there is enough to record."""
        taken = self._taken
        return bool(taken) and (len(taken) >= RECORD_LOOKS or now - taken[0].at >= RECORD_SECONDS)

    def record(self) -> list[Tick]:
        """Return what is to be recorded; it counts as recorded from now on."""
        rows = range(len(self.held))
        self.bring_up_to_date(rows)
        ticks = [
            tick_of_hold(self.held[row].entry, self.held[row].owed.run, self.held[row].owed.dossier, looks)
            for row, looks in self._looks(rows).items()
            if looks
        ]
        self._taken = []
        return ticks
