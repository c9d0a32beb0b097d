"""Readings of Prometheus, made for all rollouts at once, as the intervals that the judge consumes.

One pass over the series of a reading computes every increase and files it by service; a rollout then only
picks its own rows, so the cost grows with the series and the rollouts, not with their product. The rules of
counting are those of `analysis.counters`.

An interval has no table for a metric (None: no data) when Prometheus has no sample at one of its ends, or
neither version has one at its end. Series that cannot be counted make it inconsistent, and the judge says so.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from analysis.counters import Count, Counter, Increases, increases
from analysis.judge import Interval
from analysis.tables import Arm, MeanArm, MeanTable, Table
from controller.astray import astray
from controller.counting import NO_EDGE, counts_of, requests_of, resets_of
from istio.names import full_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from analysis.counters import MeanCount
    from controller.ports import Reading
    from policies.model import MetricTemplate, Outcome, TemplateSpec


@dataclass(frozen=True, slots=True)
class ArmKey:
    """Whose requests: the service (short or full name) and its version label; None means every version."""

    namespace: str
    service: str
    version: str | None


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


@dataclass(frozen=True, slots=True)
class IndexedReading:
    """One template's reading: the increase of each series, and which series belong to whom."""

    spec: TemplateSpec
    columns: Mapping[int, int]
    """Instant -> its number; interval t of `growth` runs from instant t to instant t + 1."""
    counters: Sequence[Counter]
    growth: Increases
    events: Sequence[bool]
    """Per series: its requests are events."""
    edges: Sequence[float]
    """Per series: the upper edge of the bucket it counts."""
    native: Sequence[str]
    """Per series: words on the native histogram that it comes from, if it does."""
    services: Mapping[str, Mapping[str, Sequence[int]]]
    """Service as NAME.NAMESPACE.svc... -> version -> numbers of its series."""

    def rows(self, arm: ArmKey) -> list[int]:
        """Return the series of one version."""
        versions = self.services.get(_service(arm.service, arm.namespace), {})
        if arm.version is not None:
            return list(versions.get(arm.version, ()))
        return [row for rows in versions.values() for row in rows]

    def by_series(self, arm: ArmKey) -> IndexedReading:
        """Return the reading with an arm's series filed as if each process were a version of its own."""
        rows: dict[str, list[int]] = defaultdict(list)
        for row in self.rows(arm):
            rows[self.counters[row].instance].append(row)
        return replace(self, services={_service(arm.service, arm.namespace): rows})


def index_readings(
    templates: Mapping[str, MetricTemplate], readings: Mapping[str, Reading]
) -> dict[str, IndexedReading]:
    """Return each template's reading, ready to be asked for any number of rollouts."""
    return {name: _indexed(templates[name].spec, reading) for name, reading in readings.items()}


def _indexed(spec: TemplateSpec, reading: Reading) -> IndexedReading:
    labels = spec.labels
    is_event = _event_reader(spec.outcome)
    services: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    counters, events, edges, native = [], [], [], []
    for row, series in enumerate(reading.series):
        named = series.labels.get
        service = _service(named(labels.service, ""), named(labels.namespace, ""))
        services[service][named(labels.version, "")].append(row)
        name = named("__name__", "")
        counters.append(Counter(named(labels.instance, ""), series.points, whole=not _is_sum(spec, name)))
        events.append(is_event(series.labels))
        edges.append(_edge(named("le", "")))
        native.append(series.native)
    instants = sorted({at for counter in counters for at, _ in counter.points})
    columns = {at: column for column, at in enumerate(instants)}
    growth = increases(counters, instants)
    return IndexedReading(spec, columns, counters, growth, events, edges, native, services)


@lru_cache(maxsize=65_536)
def _service(host: str, namespace: str) -> str:
    return full_name(host, namespace).lower()


def _is_sum(spec: TemplateSpec, name: str) -> bool:
    """Tell by its name whether a series of a mean sums values up; else it counts them."""
    return spec.kind == "mean" and name.endswith("_sum")


def _edge(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return NO_EDGE


def _event_reader(outcome: Outcome | None) -> Callable[[Mapping[str, str]], bool]:
    """Return how a series is told to count events.

    A gRPC request without a gRPC status (it failed before there was one) is read by its HTTP status.
    """
    if outcome is None:
        return lambda _: False
    http_event = re.compile(outcome.http_event)
    grpc_event = re.compile(outcome.grpc_event or r"[^\s\S]")

    def is_event(labels: Mapping[str, str]) -> bool:
        status = labels.get(outcome.grpc_label, "") if outcome.grpc_label else ""
        if status and outcome.protocol_label and labels.get(outcome.protocol_label) == "grpc":
            return grpc_event.fullmatch(status) is not None
        return http_event.fullmatch(labels.get(outcome.http_label, "")) is not None

    return is_event


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
    observed = {
        name: _observe(target, index.get(template), target.edges.get(name, ()), ends)
        for name, template in target.metrics.items()
    }
    requests = _observe(target, index.get(target.share), (), ends)
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


def series_intervals(
    target: Target, index: Mapping[str, IndexedReading], start: int, end: int, step: int
) -> dict[str, list[Interval]]:
    """Return the control's intervals series by series: each is a control without a candidate."""
    readings = {name: index[template].by_series(target.control) for name, template in target.metrics.items()}
    names = {each for reading in readings.values() for own in reading.services.values() for each in own}
    alone = replace(
        target,
        metrics={name: name for name in readings},
        candidate=ArmKey("", "", ""),
        share="",
        versions=frozenset(),
    )
    return {
        name: intervals_for(
            replace(alone, control=replace(target.control, version=name)), readings, start, end, step
        )
        for name in sorted(names)
    }


def series_rows(
    target: Target, index: Mapping[str, IndexedReading], start: int, end: int, step: int
) -> list[dict[str, dict[str, tuple[int, ...]]]]:
    """Return, per interval and metric, what each series of the control counted: requests, then events."""
    rows: list[dict[str, dict[str, tuple[int, ...]]]] = [{} for _ in range(start, end, step)]
    for name, intervals in series_intervals(target, index, start, end, step).items():
        for row, interval in zip(rows, intervals, strict=True):
            for metric, table in interval.tables.items():
                if isinstance(table, Table):
                    counted = (table.control.total, *table.control.events)
                    row.setdefault(metric, {})[name] = counted
    return rows


def _totals(table: Table | MeanTable | None) -> tuple[int, int] | None:
    return (table.control.total, table.candidate.total) if table else None


def _observe(
    target: Target, reading: IndexedReading | None, edges: Sequence[float], ends: range
) -> list[_Observed]:
    """Return what a reading says in each interval."""
    if reading is None:
        return [_Observed()] * len(ends)
    control, candidate = reading.rows(target.control), reading.rows(target.candidate)
    heard = {at for row in (*control, *candidate) for at, _ in reading.counters[row].points}
    arms = counts_of(reading, control, edges), counts_of(reading, candidate, edges)
    lost, resets = _astray(reading, target), resets_of(reading, [*control, *candidate])
    result = []
    for instant in ends:
        column = reading.columns.get(instant - ends.step)
        if column is None or reading.columns.get(instant) != column + 1:
            result.append(_Observed())
        elif column in lost:
            result.append(_Observed(inconsistent=lost[column]))
        elif instant not in heard:
            result.append(_Observed())
        else:
            compared = _compared(instant, arms[0][column], arms[1][column])
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
    versions = reading.services.get(_service(target.control.service, target.control.namespace), {})
    if not target.versions or versions.keys() <= target.versions:
        return {}
    requests = {version: requests_of(reading, rows) for version, rows in versions.items()}
    return astray(requests, reading.spec.labels.version)
