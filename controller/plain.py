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
"""A template, and the edges that are judged of it (none of a proportion)."""


class Where(NamedTuple):
    """Where one reading has the counts of one version."""

    level: Level
    place: Place


Both = tuple[Where, Where]
"""The same of control and candidate."""


@dataclass(slots=True)
class Plain:
    """What is ordinary of one run, kept while policy, run and target stay the same."""

    policy: RolloutPolicy
    run: Run
    target: Target
    delayed: bool = field(init=False)
    """Whether some time is left out after a change of weights; then nothing is ordinary."""
    metrics: Mapping[str, Asked] = field(init=False)
    """What is asked for by each metric, in the order of the design."""
    split: Asked = field(init=False)
    """What is asked for by the split of the requests."""
    _wanted: Sequence[Asked] = field(init=False)
    """All that is asked for, each once."""
    _places: dict[Asked, tuple[Filing, Both | None]] = field(default_factory=dict)
    _divisor: tuple[Calibration, Mapping[str, tuple[float, ...]] | None] | None = None

    def __post_init__(self) -> None:
        target = self.target
        self.delayed = any(settling_seconds(self.policy).values())
        edges = {name: tuple(target.edges.get(name, ())) for name in target.metrics}
        self.metrics = {name: (key, edges[name]) for name, key in target.metrics.items()}
        self.split = target.share, ()
        self._wanted = [*dict.fromkeys([*self.metrics.values(), self.split])]

    def intake(
        self, index: Mapping[str, IndexedReading], start: int, end: int, calibration: Calibration | None
    ) -> Intake | None:
        """Return what the judge gets of the interval from `start` to `end`, if that is ordinary."""
        dispersion = self.divisor(calibration)
        if dispersion is None or self.delayed:
            return None
        found = {asked: self._table(index, asked, start, end) for asked in self._wanted}
        known = {asked: table for asked, table in found.items() if table is not None}
        if len(known) < len(found):
            return None
        split = known[self.split]
        interval = Interval(
            end=end,
            intended=self.target.intended,
            tables={name: known[asked] for name, asked in self.metrics.items()},
            requests=(split.control.total, split.candidate.total),
            dispersion=dispersion,
        )
        return Intake([interval], [{}], calibration)

    def divisor(self, calibration: Calibration | None) -> Mapping[str, tuple[float, ...]] | None:
        """Return by what evidence is divided; None while the control's intervals may still change that."""
        if calibration is None:
            return {}
        if self._divisor is None or self._divisor[0] is not calibration:
            settled = not calibration.open
            found = measured(self.policy, calibration, self.run.candidate_weight) if settled else None
            self._divisor = calibration, found
        return self._divisor[1]

    def places(self, reading: IndexedReading, asked: Asked) -> Both | None:
        """Return where a reading has both versions' counts; None if one or the service is not ordinary."""
        known = self._places.get(asked)
        if known is None or known[0] is not reading.filing:
            known = self._places[asked] = reading.filing, _found(self.target, reading, asked[1])
        return known[1]

    def _table(self, index: Mapping[str, IndexedReading], asked: Asked, start: int, end: int) -> Table | None:
        reading = index.get(asked[0])
        column = reading.column(start, end) if reading else None
        if reading is None or column is None:
            return None
        both = self.places(reading, asked)
        return None if both is None else _read(reading, both, column, end)


def _found(target: Target, reading: IndexedReading, edges: Sequence[float]) -> Both | None:
    service = service_key(target.control.service, target.control.namespace)
    others = reading.filing.services.get(service, {}).keys() - target.versions
    if target.versions and others:
        return None
    control, candidate = (_where(reading, arm, edges) for arm in (target.control, target.candidate))
    return None if control is None or candidate is None else (control, candidate)


def _where(reading: IndexedReading, arm: ArmKey, edges: Sequence[float]) -> Where | None:
    place = reading.tally(arm.level).place(arm, edges)
    return None if place is None else Where(arm.level, place)


def _read(reading: IndexedReading, both: Both, column: int, end: int) -> Table | None:
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
