"""The control's past: what Prometheus still has of it, series by series, as the arrays that a replay needs.

Read by the policy's own templates, part by part, so that no answer grows with the past, and only the
control's series (`restricted`), so that none grows with the mesh. A series is all that one process counted
(the template's label `instance`). The rules of counting are those of the loop (`controller.observe`); what
cannot be read or counted is left out, and said.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from controller.filing import ArmKey
from controller.observe import index_readings
from controller.scene import Objects, read_scene
from controller.series import Source, series_of
from istio.names import CLUSTER_DOMAIN, full_name, short_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from analysis.design import Design, MetricDesign
    from analysis.hypergeometric import Ints
    from controller.observe import IndexedReading
    from controller.ports import Metrics, Object, Reading
    from controller.series import Counted
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


class Part(NamedTuple):
    """What one part has: metric -> series -> what it counted, and what is missing."""

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
    known = [metric for metric in question.design.metrics if metric.name in index]
    series = {
        metric.name: series_of(Source.of(metric.name, metric.edges, index[metric.name], ends), question.arm)
        for metric in known
    }
    counted = (each for processes in series.values() for each in processes.values())
    missing += [f"{problem} (left out)" for each in counted for problem in each.problems]
    return Part(len(ends), series, missing)


def past_of(question: Question, parts: Sequence[Part]) -> Past:
    """Return the past of all parts."""
    names = tuple(sorted({name for part in parts for counted in part.series.values() for name in counted}))
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
        for name, found in part.series.get(metric.name, {}).items():
            counts[span, column[name]] = found.counts
            known[span] |= found.known
        first += part.intervals
    return MetricPast(counts[..., 0], counts[..., 1:], known)
