"""Readings of Prometheus, made for all rollouts at once, as the intervals that the judge consumes.

All increases of a reading are computed as arrays, and added up by version (`controller.tally`); a rollout
then only picks its own, so the cost grows with the series and the rollouts, not with their product. The rules
of counting are those of `analysis.counters`; what is out of the ordinary goes through `controller.counting`.

An interval has no table for a metric (None: no data) when Prometheus has no sample at one of its ends, or
neither version has one at its end. Series that cannot be counted make it inconsistent, and the judge says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from analysis.counters import Readings, increases
from analysis.judge import Interval
from analysis.tables import Arm, MeanArm, MeanTable, Table
from controller.astray import astray
from controller.counting import counts_of, requests_of, resets_of
from controller.filing import ArmKey, filed, service_key
from controller.matrix import Matrix
from controller.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.counters import Count, Increases, MeanCount
    from controller.filing import Filing, Level
    from controller.ports import Reading
    from policies.model import MetricTemplate, TemplateSpec

NOBODY = ArmKey("", "", "")
"""Whose requests there are none of."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is observed for one rollout."""

    control: ArmKey
    candidate: ArmKey
    metrics: Mapping[str, str]
    """Metric -> the template that it is read by."""
    edges: Mapping[str, Sequence[float]]
    """Metric -> the bucket edges to judge, in the template's unit; for histograms."""
    share: str
    """The template that the split of the requests is read by."""
    intended: float
    """The candidate's share of the requests, 0 to 1."""
    versions: frozenset[str] = frozenset()
    """The variants' versions, if nothing but the version label tells their requests apart: any others of the
    service are a gap in what is known. Empty: not looked for."""


@dataclass(frozen=True, eq=False, slots=True)
class IndexedReading:
    """One template's reading: the increase of each series, and which series belong to whom."""

    spec: TemplateSpec
    read: Matrix
    growth: Increases
    """Interval t runs from instant t to instant t + 1."""
    filing: Filing
    columns: Mapping[int, int]
    """Instant -> its number."""
    _tallies: dict[Level, Tally] = field(default_factory=dict)

    def column(self, start: int, end: int) -> int | None:
        """Return the number of the interval from `start` to `end`; None if it is none of this reading's."""
        column = self.columns.get(start)
        return column if column is not None and self.columns.get(end) == column + 1 else None

    def rows(self, arm: ArmKey) -> list[int]:
        """Return the series of one version."""
        return self.filing.rows(arm)

    def tally(self, level: Level) -> Tally:
        """Return what the versions or processes of the reading counted, those of `level` told apart."""
        if level not in self._tallies:
            self._tallies[level] = Tally(self.filing, self.filing.cells(level), self.read, self.growth)
        return self._tallies[level]


def index_readings(
    templates: Mapping[str, MetricTemplate],
    readings: Mapping[str, Reading],
    known: dict[str, Filing] | None = None,
) -> dict[str, IndexedReading]:
    """Return each template's reading, ready to be asked for any number of rollouts.

    `known` keeps the filing of each template's series from one call to the next.
    """
    known = {} if known is None else known
    result = {}
    for name, reading in readings.items():
        series = reading.series
        read = series if isinstance(series, Matrix) else Matrix.of_series(series)
        filing = known[name] = filed(templates[name].spec, read.labels, known.get(name))
        growth = increases(Readings(read.values, read.present, filing.process, filing.whole))
        columns = {at: column for column, at in enumerate(read.instants)}
        result[name] = IndexedReading(filing.spec, read, growth, filing, columns)
    return result


@dataclass(frozen=True, slots=True)
class _Observed:
    """What one reading says of one rollout in one interval."""

    table: Table | MeanTable | None = None
    inconsistent: str = ""
    resets: int = 0
    """Processes that began to count from 0 again."""


def intervals_for(
    target: Target, index: Mapping[str, IndexedReading], start: int, end: int, step: int
) -> list[Interval]:
    """Return a rollout's intervals of `step` seconds from `start` to `end` (unix time, multiples of it)."""
    ends = range(start + step, end + 1, step)
    asked = {name: (template, tuple(target.edges.get(name, ()))) for name, template in target.metrics.items()}
    split = target.share, ()
    found = {
        each: _observe(target, index.get(each[0]), each[1], ends)
        for each in dict.fromkeys([*asked.values(), split])
    }
    observed, requests = {name: found[each] for name, each in asked.items()}, found[split]
    return [
        Interval(
            end=instant,
            intended=target.intended,
            tables={name: per_interval[at].table for name, per_interval in observed.items()},
            requests=_totals(requests[at].table),
            inconsistent=tuple(
                f"{name}: {per_interval[at].inconsistent}"
                for name, per_interval in {**observed, "request share": requests}.items()
                if per_interval[at].inconsistent
            ),
            resets={name: each[at].resets for name, each in observed.items() if each[at].resets},
        )
        for at, instant in enumerate(ends)
    ]


def _totals(table: Table | MeanTable | None) -> tuple[int, int] | None:
    return (table.control.total, table.candidate.total) if table else None


class _Observation(NamedTuple):
    """What one arm did, by interval, at which instants it was heard of, and its rows if any was reset."""

    counts: Sequence[Count | MeanCount]
    heard: Sequence[bool]
    fell: Sequence[int]

    @classmethod
    def of(cls, reading: IndexedReading, arm: ArmKey, edges: Sequence[float]) -> _Observation:
        """Return what a reading says of an arm."""
        tally = reading.tally(arm.level)
        cell = tally.cell(arm)
        if cell is None:
            return cls(counts_of(reading, [], edges), (), ())
        counts = tally.counts(arm, edges) or counts_of(reading, reading.rows(arm), edges)
        return cls(counts, tally.heard(cell), reading.rows(arm) if tally.fell(cell) else ())


def _observe(
    target: Target, reading: IndexedReading | None, edges: Sequence[float], ends: range
) -> list[_Observed]:
    """Return what a reading says in each interval."""
    if reading is None:
        return [_Observed()] * len(ends)
    arms = [_Observation.of(reading, arm, edges) for arm in (target.control, target.candidate)]
    control, candidate = (arm.counts for arm in arms)
    heard = [arm.heard for arm in arms]
    lost = _astray(reading, target)
    fell = [row for arm in arms for row in arm.fell]
    resets = resets_of(reading, fell) if fell else {}
    result = []
    for instant in ends:
        column = reading.column(instant - ends.step, instant)
        if column is None:
            result.append(_Observed())
        elif column in lost:
            result.append(_Observed(inconsistent=lost[column]))
        elif not any(at and at[column + 1] for at in heard):
            result.append(_Observed())
        else:
            compared = _compared(instant, control[column], candidate[column])
            result.append(replace(compared, resets=resets[column]) if column in resets else compared)
    return result


def _compared(end: int, control: Count | MeanCount, candidate: Count | MeanCount) -> _Observed:
    counts = {"control": control, "candidate": candidate}
    problems = [f"{who}: {count.inconsistent}" for who, count in counts.items() if count.inconsistent]
    if problems:
        return _Observed(inconsistent="; ".join(problems))
    match control.arm, candidate.arm:
        case MeanArm() as before, MeanArm() as after:
            return _Observed(MeanTable(end, before, after))
        case Arm() as before, Arm() as after:
            return _Observed(Table(end, before, after))
    raise TypeError("one version has events and the other one a sum")


def _astray(reading: IndexedReading, target: Target) -> Mapping[int, str]:
    """Return, by interval, in words how many requests of the service carry no version, if too many do."""
    if not target.versions:
        return {}
    service = service_key(target.control.service, target.control.namespace)
    versions = reading.filing.services.get(service, {})
    if versions.keys() <= target.versions:
        return {}
    requests = {version: requests_of(reading, rows) for version, rows in versions.items()}
    return astray(requests, reading.spec.labels.version)
