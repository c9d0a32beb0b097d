"""The control's past: what Prometheus still has of it, series by series, as the arrays that a replay needs.

Read by the policy's own templates, part by part, so that no answer grows with the past, and only the
control's series (`restricted`), so that none grows with the mesh. A series is all that one process counted
(the template's label `instance`). The rules of counting are those of the loop (`controller.observe`); what
cannot be read or counted is left out, and said.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from analysis.tables import Table
from controller.filing import ArmKey
from controller.observe import NOBODY, Target, index_readings, intervals_for
from controller.scene import Objects, read_scene
from istio.names import CLUSTER_DOMAIN, full_name, short_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from analysis.design import Design, MetricDesign
    from analysis.hypergeometric import Ints
    from controller.observe import IndexedReading
    from controller.ports import Metrics, Object, Reading
    from policies.model import Labels, MetricTemplate, RolloutPolicy

PART = 180
"""Intervals read with one query."""


class MetricPast(NamedTuple):
    """One metric: requests (intervals, series), and events among them (intervals, series, lanes).

    `known`, (intervals,), tells whether anything is known of an interval.
    """

    totals: Ints
    events: Ints
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Past:
    """What happened from `start` (unix seconds) on, in intervals of `step` seconds; `missing` in words."""

    arm: ArmKey
    start: int
    step: int
    series: tuple[str, ...]
    metrics: Mapping[str, MetricPast]
    missing: tuple[str, ...] = ()

    @property
    def intervals(self) -> int:
        """How many intervals there are."""
        return next(iter(self.metrics.values())).known.size


@dataclass(frozen=True)
class Question:
    """What is read: the control, in intervals of `step` seconds from `start` to `end`, multiples of it.

    `read_by` names the template of each metric of the design.
    """

    design: Design
    read_by: Mapping[str, MetricTemplate]
    arm: ArmKey
    start: int
    end: int
    step: int

    @property
    def parts(self) -> list[tuple[int, int]]:
        """Start and end of what is read with one query; both ends are read, so neighbours share one."""
        length = PART * self.step
        return [(at, min(at + length, self.end)) for at in range(self.start, self.end, length)]


def control_arm(policy: RolloutPolicy, objects: Sequence[Object]) -> ArmKey:
    """Return how the metrics name the control: by the objects, as the loop does, or by the policy alone."""
    namespace, control = policy.metadata.namespace, policy.spec.variants[0]
    own = [obj for obj in objects if (obj["metadata"].get("namespace") or "default") == namespace]
    arm = read_scene(policy, Objects(namespace, own), {}).arms.get(control.name)
    if arm:
        return ArmKey(arm.namespace, arm.service, arm.version)
    service = short_name(full_name(control.host or policy.spec.service.host, namespace))
    return ArmKey(namespace, service, control.version or control.subset)


async def read_past(
    metrics: Metrics, question: Question, *, done: Callable[[], None] = lambda: None,
    aside: Executor | None = None,
) -> Past:  # fmt: skip
    """Return the control's past; `done` is called after every part. UnavailableError, ValueError.

    What there is to compute is done in a thread of `aside` (asyncio's own without it), so that others go on.
    """
    loop, parts = asyncio.get_running_loop(), []
    for start, end in question.parts:
        readings = await _readings(metrics, question, start, end)
        parts.append(await loop.run_in_executor(aside, part_of, question, readings, start, end))
        done()
    return await loop.run_in_executor(aside, past_of, question, parts)


class Counted(NamedTuple):
    """One metric of one series: `counts` (intervals, 1 + lanes), requests first, where they are `known`.

    `problems`: why others cannot be counted, in words.
    """

    counts: Ints
    known: NDArray[np.bool_]
    problems: Sequence[str]


class Part(NamedTuple):
    """What one part has: series -> metric -> what it counted, and what is missing."""

    intervals: int
    series: Mapping[str, Mapping[str, Counted]]
    missing: Sequence[str]


def restricted(query: str, labels: Labels, arm: ArmKey) -> str:
    """Return the query for the series of one version only, by vector matching: its text stays as it is.

    The service label may hold the short or a full name, as `istio.names` knows them. A host outside the mesh
    is found by its name alone, since its namespace label says nothing about it.
    """
    full, short = full_name(arm.service, arm.namespace), short_name(full_name(arm.service, arm.namespace))
    in_mesh = short != full
    names = dict.fromkeys([short, full.removesuffix(f".{CLUSTER_DOMAIN}"), full] if in_mesh else [full])
    fixed = {labels.namespace: arm.namespace} if in_mesh else {}
    if arm.version is not None:
        fixed[labels.version] = arm.version
    wanted = " or ".join(_labelled({**fixed, labels.service: name}) for name in names)
    return f"(\n{query}\n) and on ({', '.join([*fixed, labels.service])}) ({wanted})"


def _labelled(values: Mapping[str, str]) -> str:
    """Return PromQL for one sample with these labels; in a replacement, `$` begins a reference."""
    vector = "vector(1)"
    for label, value in values.items():
        text = json.dumps(value.replace("$", "$$"), ensure_ascii=False)
        vector = f'label_replace({vector}, "{label}", {text}, "", "")'
    return vector


async def _readings(metrics: Metrics, question: Question, start: int, end: int) -> dict[str, Reading]:
    """Return the answer for each metric; templates of the same query are read once."""
    answers: dict[str, Reading] = {}
    readings: dict[str, Reading] = {}
    for name, template in question.read_by.items():
        query = restricted(template.spec.query, template.spec.labels, question.arm)
        if query not in answers:
            answers[query] = await metrics.read(query, start=start, end=end, step=question.step)
        readings[name] = answers[query]
    return readings


def part_of(question: Question, readings: Mapping[str, Reading], start: int, end: int) -> Part:
    """Return what the answers for one part say."""
    missing: list[str] = []
    index: dict[str, IndexedReading] = {}
    for name, reading in readings.items():
        if reading.warnings:  # a partial answer would look like restarts
            missing.append(
                f"{name}: parts are left out, since Prometheus says: {'; '.join(reading.warnings)}"
            )
        else:
            index[name] = index_readings({name: question.read_by[name]}, {name: reading})[name]
    ends = range(start + question.step, end + 1, question.step)
    sources = [
        _Source.of(metric, index[metric.name], ends)
        for metric in question.design.metrics
        if metric.name in index
    ]
    rows = ((reading, row) for reading in index.values() for row in reading.rows(question.arm))
    processes = sorted({reading.filing.instances[row] for reading, row in rows})
    arms = {process: replace(question.arm, process=process) for process in processes}
    series = {
        process: {source.metric.name: _counted(source, arm) for source in sources}
        for process, arm in arms.items()
    }
    counted = (each for metrics in series.values() for each in metrics.values())
    missing += [f"{problem} (left out)" for each in counted for problem in each.problems]
    return Part(len(ends), series, missing)


class _Source(NamedTuple):
    """What a metric is counted from: `columns` are the intervals of the reading that end at `ends`, or -1."""

    metric: MetricDesign
    reading: IndexedReading
    ends: range
    columns: Ints

    @classmethod
    def of(cls, metric: MetricDesign, reading: IndexedReading, ends: range) -> Self:
        """Return where a reading has each interval."""
        at = reading.columns
        found = [(at.get(end - ends.step, -1), at.get(end)) for end in ends]
        columns = [first if last == first + 1 else -1 for first, last in found]
        return cls(metric, reading, ends, np.array(columns, dtype=np.int64))


def _counted(source: _Source, arm: ArmKey) -> Counted:
    """Return what one series counted; what is out of the ordinary is said by `controller.observe`."""
    metric, tally = source.metric, source.reading.tally(arm.level)
    counts = np.zeros((len(source.ends), 1 + metric.layout.lanes), dtype=np.int64)
    if tally.cell(arm) is None:
        return Counted(counts, np.zeros(len(counts), dtype=np.bool_), ())
    place = tally.place(arm, metric.edges)
    if place is None or tally.sums.odd[place.cell]:
        return _observed(source, arm)
    sums = tally.sums
    known = (source.columns >= 0) & sums.heard[place.cell][source.columns + 1]
    columns = source.columns[known]
    counts[known, 0] = sums.totals[place.total, columns]
    counts[known, 1:] = sums.events[place.events, :][:, columns].T
    return Counted(counts, known, ())


def _observed(source: _Source, arm: ArmKey) -> Counted:
    """Return what one series counted, interval by interval; what cannot be counted is left out."""
    metric, ends = source.metric, source.ends
    start, index = ends.start - ends.step, {metric.name: source.reading}
    intervals = intervals_for(_target(arm, metric), index, start, ends[-1], ends.step)
    problems = [problem for interval in intervals for problem in interval.inconsistent]
    tables = [interval.tables[metric.name] for interval in intervals]
    nothing = (0,) * (1 + metric.layout.lanes)
    counts = [
        (table.control.total, *table.control.events) if isinstance(table, Table) else nothing
        for table in tables
    ]
    known = [isinstance(table, Table) for table in tables]
    return Counted(np.array(counts, dtype=np.int64), np.array(known, dtype=np.bool_), problems)


def _target(control: ArmKey, metric: MetricDesign) -> Target:
    """Return one metric of the control as a target without a candidate."""
    return Target(control, NOBODY, {metric.name: metric.name}, {metric.name: metric.edges}, "", 0.0)


def past_of(question: Question, parts: Sequence[Part]) -> Past:
    """Return the past of all parts."""
    names = tuple(sorted({name for part in parts for name in part.series}))
    past = {metric.name: _joined(parts, metric, names) for metric in question.design.metrics}
    missing = [words for part in parts for words in part.missing]
    missing += [
        f"{name}: nothing is known of {int((~found.known).sum())} of {found.known.size} intervals"
        for name, found in past.items()
        if not found.known.all()
    ]
    return Past(question.arm, question.start, question.step, names, past, tuple(dict.fromkeys(missing)))


def _joined(parts: Sequence[Part], metric: MetricDesign, names: Sequence[str]) -> MetricPast:
    """Return one metric over all parts and series."""
    intervals = sum(part.intervals for part in parts)
    counts = np.zeros((intervals, len(names), 1 + metric.layout.lanes), dtype=np.int64)
    known = np.zeros(intervals, dtype=np.bool_)
    column = {name: number for number, name in enumerate(names)}
    first = 0
    for part in parts:
        span = slice(first, first + part.intervals)
        for name, found in part.series.items():
            if metric.name in found:
                counts[span, column[name]] = found[metric.name].counts
                known[span] |= found[metric.name].known
        first += part.intervals
    return MetricPast(counts[..., 0], counts[..., 1:], known)
