"""The ordinary interval of a run, picked from the tallies where the last one was found.

Most looks take in one interval of versions that are all there, count plainly and have not restarted. Where
their counts lie among those of a reading stays the same as long as its series do, and by what evidence is
divided as long as the calibration does; so both are looked up once. Whatever is not ordinary gives None, and
`controller.observe` and `controller.intake` say what it is. Where there is an interval, both agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from analysis.judge import Interval
from analysis.tables import Table
from controller.filing import service_key
from controller.intake import Intake, measured, settling_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.calibration import Calibration
    from controller.filing import ArmKey, Filing, Level
    from controller.observe import IndexedReading, Target
    from controller.status import Run
    from controller.tally import Place
    from policies.model import RolloutPolicy

Asked = tuple[str, tuple[float, ...]]
"""A template, and the edges that are judged of it."""


class _Where(NamedTuple):
    """Where one reading has the counts of one version."""

    level: Level
    place: Place


class _Places(NamedTuple):
    """The same of control and candidate, and the filing that says so; None: not ordinary."""

    filing: Filing
    both: tuple[_Where, _Where] | None


@dataclass(slots=True)
class Plain:
    """What is ordinary of one run, kept while policy, run and target stay the same."""

    policy: RolloutPolicy
    run: Run
    target: Target
    _places: dict[Asked, _Places] = field(default_factory=dict)
    _divisor: tuple[Calibration, Mapping[str, tuple[float, ...]] | None] | None = None
    _delayed: bool = field(init=False)
    _asked: Mapping[str, Asked] = field(init=False)
    """By metric."""
    _split: Asked = field(init=False)
    _wanted: Sequence[Asked] = field(init=False)
    """All that is asked for, each once."""

    def __post_init__(self) -> None:
        target = self.target
        self._delayed = any(settling_seconds(self.policy).values())
        self._asked = {name: (key, tuple(target.edges.get(name, ()))) for name, key in target.metrics.items()}
        self._split = target.share, ()
        self._wanted = [*dict.fromkeys([*self._asked.values(), self._split])]

    def intake(
        self, index: Mapping[str, IndexedReading], start: int, end: int, calibration: Calibration | None
    ) -> Intake | None:
        """Return what the judge gets of the interval from `start` to `end`, if that is ordinary."""
        dispersion = self._dispersion(calibration)
        if dispersion is None or self._delayed:
            return None
        found = {asked: self._table(index, asked, start, end) for asked in self._wanted}
        known = {asked: table for asked, table in found.items() if table is not None}
        if len(known) < len(found):
            return None
        split = known[self._split]
        interval = Interval(
            end=end,
            intended=self.target.intended,
            tables={name: known[asked] for name, asked in self._asked.items()},
            requests=(split.control.total, split.candidate.total),
            dispersion=dispersion,
        )
        return Intake([interval], [{}], calibration)

    def _table(self, index: Mapping[str, IndexedReading], asked: Asked, start: int, end: int) -> Table | None:
        reading = index.get(asked[0])
        column = reading.columns.get(start) if reading else None
        if reading is None or column is None or reading.columns.get(end) != column + 1:
            return None
        known = self._places.get(asked)
        if known is None or known.filing is not reading.filing:
            known = self._places[asked] = _Places(reading.filing, _found(self.target, reading, asked[1]))
        if known.both is None:
            return None
        return _read(reading, known.both, column, end)

    def _dispersion(self, calibration: Calibration | None) -> Mapping[str, tuple[float, ...]] | None:
        """Return by what evidence is divided; None while the control's intervals may still change that."""
        if calibration is None:
            return {}
        if self._divisor is None or self._divisor[0] is not calibration:
            settled = not calibration.open
            found = measured(self.policy, calibration, self.run.candidate_weight) if settled else None
            self._divisor = calibration, found
        return self._divisor[1]


def _found(target: Target, reading: IndexedReading, edges: Sequence[float]) -> tuple[_Where, _Where] | None:
    """Return where a reading has both versions' counts; None if either, or the service, is not ordinary."""
    service = service_key(target.control.service, target.control.namespace)
    others = reading.filing.services.get(service, {}).keys() - target.versions
    if target.versions and others:
        return None
    control, candidate = (_where(reading, arm, edges) for arm in (target.control, target.candidate))
    return None if control is None or candidate is None else (control, candidate)


def _where(reading: IndexedReading, arm: ArmKey, edges: Sequence[float]) -> _Where | None:
    place = reading.tally(arm.level).place(arm, edges)
    return None if place is None else _Where(arm.level, place)


def _read(reading: IndexedReading, both: tuple[_Where, _Where], column: int, end: int) -> Table | None:
    """Return what both versions counted; None if they were not there, restarted, or do not count plainly."""
    arms, heard = [], False
    for level, place in both:
        tally = reading.tally(level)
        counted = tally.arm(place, column)
        if counted is None or tally.fell(place.cell):
            return None
        arms.append(counted)
        heard = heard or tally.heard(place.cell)[column + 1]
    return Table(end, *arms) if heard else None
