"""Evidence for the loop: which intervals each run is owed, one query per template for all, one judging step.

A run is owed every closed interval that lies wholly after its weights were confirmed and after its cursor.
All runs with the same interval are read together, from the oldest cursor to the newest closed end.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.judge import Design, Evidence, Interval, MetricDesign, RunVerdict, advance, fresh, verdict
from controller.decision import Judgement
from controller.observe import ArmKey, Target, index_readings, intervals_for
from controller.ports import UnavailableError
from policies.parse import template_from_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.ports import History, Metrics, Object, Reading
    from controller.scene import Arm
    from controller.status import Run
    from controller.telemetry import Telemetry
    from policies.model import MetricTemplate, RolloutPolicy

MAX_INTERVALS = 360
"""The most intervals read at once; a controller that was away longer goes on from there."""
SHARE_TEMPLATE = "istio-request-share"


@dataclass
class Dossier:
    """What is known of one run: its design, its evidence and how far it goes."""

    run: str
    design: Design
    fingerprint: str
    evidence: Evidence
    cursor: int
    verdict: RunVerdict | None = None
    intervals: list[dict[str, Any]] = field(default_factory=list)
    """Tables consumed in this pass, for the history."""
    error: str = ""

    def stored(self) -> dict[str, Any]:
        """Return the evidence as it goes to the history."""
        return {"design": self.fingerprint, "state": self.evidence.to_dict()}


@dataclass(frozen=True, slots=True)
class Owed:
    """A run that is owed intervals."""

    policy: RolloutPolicy
    run: Run
    arms: Mapping[str, Arm]
    dossier: Dossier


def design_of(policy: RolloutPolicy, templates: Mapping[str, MetricTemplate]) -> Design:
    """Return what the judge must know of a policy, fixed before the run. KeyError for an unknown template."""
    spec, metrics = policy.spec, []
    for metric in spec.metrics:
        template = templates[metric.template].spec
        if template.kind == "share":
            continue  # the split is always tested, and at an alpha of its own
        metrics.append(
            MetricDesign(
                name=metric.name or metric.template,
                kind="histogram" if template.kind == "histogram" else "proportion",
                edges=tuple(float(edge) for edge in metric.edges or template.edges),
                margin=metric.margin.fraction if metric.margin else None,
                tolerance=metric.tolerance.fraction,
                dispersion=float(metric.dispersion),
                unit=template.unit,
            )
        )
    decision = spec.decision
    return Design(
        metrics=tuple(metrics),
        false_rollback=decision.false_rollback.fraction,
        false_promote=decision.false_promote.fraction,
        planned_looks=max(1, int(decision.deadline.seconds / decision.interval.seconds)),
        min_samples=decision.min_samples,
    )


def _fingerprint(design: Design) -> str:
    return hashlib.sha256(repr(design).encode()).hexdigest()[:16]


class Collector:
    """Keeps a dossier per open run and feeds it with what Prometheus has."""

    def __init__(
        self, metrics: Metrics, history: History, templates: Mapping[str, MetricTemplate],
        telemetry: Telemetry, settle: float = 1.0,
    ) -> None:  # fmt: skip
        """Put the parts together; `settle`: seconds from an interval's end until its scrapes are stored."""
        self._metrics, self._history, self._telemetry = metrics, history, telemetry
        self._catalog = dict(templates)
        self.templates = dict(templates)
        self.settle = settle
        self.dossiers: dict[str, Dossier] = {}

    def adopt(self, objects: Iterable[Object]) -> None:
        """Take the users' own templates beside the catalog's; each is known in its own namespace."""
        own = (template_from_object(obj) for obj in objects)
        named = {f"{each.metadata.namespace}/{each.metadata.name}": each for each in own}
        self.templates = {**self._catalog, **named}

    def _templates_of(self, policy: RolloutPolicy) -> dict[str, str]:
        """Return the key in `templates` of each template that a policy names."""
        space, names = policy.metadata.namespace, {metric.template for metric in policy.spec.metrics}
        return {name: name if name in self._catalog else f"{space}/{name}" for name in names}

    async def dossier(self, policy: RolloutPolicy, run: Run) -> Dossier:
        """Return a run's dossier: from memory, from the history, or a new one. UnavailableError."""
        keys = self._templates_of(policy)
        design = design_of(policy, {name: self.templates[key] for name, key in keys.items()})
        fingerprint = _fingerprint(design)
        known = self.dossiers.get(run.id)
        if known is None or known.fingerprint != fingerprint:
            stored = await self._history.evidence(run.id)
            known = Dossier(run.id, design, fingerprint, fresh(design), 0)
            if stored and stored[1].get("design") == fingerprint:
                known.cursor, known.evidence = stored[0], Evidence.from_dict(design, stored[1]["state"])
                known.verdict = verdict(design, known.evidence)
            elif stored:
                # an edited policy: old evidence answers another question, so it is dropped, cursor kept
                known.cursor = stored[0]
            self.dossiers[run.id] = known
        return known

    def window(self, policy: RolloutPolicy, run: Run, dossier: Dossier, now: float) -> tuple[int, int]:
        """Return start and end (unix seconds) of the intervals that a run is owed; none if end <= start."""
        step = int(policy.spec.decision.interval.seconds)
        newest = int((now - self.settle) // step * step)
        confirmed = run.step_started_at if run.step_started_at is not None else now
        start = max(dossier.cursor, -int(-confirmed // step) * step, newest - MAX_INTERVALS * step)
        return start, newest

    async def collect(self, owed: Sequence[Owed], now: float) -> None:
        """Read, tabulate and judge everything that is owed; dossiers are advanced in place.

        A template that cannot be read leaves the runs that need it where they were, with `error` set.
        """
        groups: dict[int, list[Owed]] = defaultdict(list)
        for each in owed:
            each.dossier.intervals, each.dossier.error = [], ""
            groups[int(each.policy.spec.decision.interval.seconds)].append(each)
        batch: list[tuple[Owed, Sequence[Interval]]] = []
        for step, members in groups.items():
            batch += await self._read_group(step, members, now)
        self._judge(batch)

    async def _read_group(
        self, step: int, members: Sequence[Owed], now: float
    ) -> list[tuple[Owed, Sequence[Interval]]]:
        windows = {each.run.id: self.window(each.policy, each.run, each.dossier, now) for each in members}
        due = [each for each in members if windows[each.run.id][1] > windows[each.run.id][0]]
        if not due:
            return []
        start = min(windows[each.run.id][0] for each in due)
        end = max(windows[each.run.id][1] for each in due)
        names = {key for each in due for key in self._templates_of(each.policy).values()} | {SHARE_TEMPLATE}
        readings, failed = await self._read_all(sorted(names), start, end, step)
        index = index_readings({name: self.templates[name] for name in readings}, readings)
        batch: list[tuple[Owed, Sequence[Interval]]] = []
        for each in due:
            broken = [key for key in self._templates_of(each.policy).values() if key in failed]
            if broken:
                each.dossier.error = failed[broken[0]]
                continue
            batch.append((each, intervals_for(self._target(each), index, *windows[each.run.id], step)))
        return batch

    async def _read_all(
        self, names: Sequence[str], start: int, end: int, step: int
    ) -> tuple[dict[str, Reading], dict[str, str]]:
        """Read all templates at once, so that a slow Prometheus costs one timeout and not one for each."""
        readings: dict[str, Reading] = {}
        failed: dict[str, str] = {}

        async def read(name: str) -> None:
            self._telemetry.queries.labels(name).inc()
            try:
                query = self.templates[name].spec.query
                readings[name] = await self._metrics.read(query, start=start, end=end, step=step)
            except UnavailableError as error:
                failed[name] = str(error)

        await asyncio.gather(*map(read, names))
        return readings, failed

    def _target(self, each: Owed) -> Target:
        control, candidate = each.arms[each.run.control], each.arms[each.run.candidate]
        keys = self._templates_of(each.policy)
        judged = {metric.name: metric.edges for metric in each.dossier.design.metrics}
        read_by = {m.name or m.template: keys[m.template] for m in each.policy.spec.metrics}
        return Target(
            control=ArmKey(control.namespace, control.service, control.version),
            candidate=ArmKey(candidate.namespace, candidate.service, candidate.version),
            metrics={name: read_by[name] for name in judged},
            edges=judged,
            intended=each.run.candidate_weight / 100,
        )

    def _judge(self, batch: Sequence[tuple[Owed, Sequence[Interval]]]) -> None:
        """Advance all runs in one vectorised step."""
        states = advance(
            [(each.dossier.design, each.dossier.evidence, intervals) for each, intervals in batch]
        )
        for (each, intervals), state in zip(batch, states, strict=True):
            dossier = each.dossier
            dossier.evidence = state
            dossier.cursor = max([dossier.cursor, *(interval.end for interval in intervals)])
            dossier.verdict = verdict(dossier.design, state)
            dossier.intervals = [row for interval in intervals for row in tabulate(interval)]

    def forget(self, keep: set[str]) -> None:
        """Drop the dossiers of runs that are over."""
        self.dossiers = {run: dossier for run, dossier in self.dossiers.items() if run in keep}


def tabulate(interval: Interval) -> list[dict[str, Any]]:
    """Return an interval's tables as rows for the history."""
    rows = [
        {
            "metric": name,
            "end": interval.end,
            "control": {"total": table.control.total, "events": list(table.control.events)},
            "candidate": {"total": table.candidate.total, "events": list(table.candidate.events)},
        }
        for name, table in interval.tables.items()
        if table is not None
    ]
    if interval.requests is not None:
        control, candidate = interval.requests
        rows.append(
            {
                "metric": SHARE_TEMPLATE, "end": interval.end, "intended": interval.intended,
                "control": {"total": control, "events": []}, "candidate": {"total": candidate, "events": []},
            }
        )  # fmt: skip
    return rows


def judgement_of(dossier: Dossier | None) -> Judgement:
    """Return what a decision needs of a verdict."""
    if dossier is None or dossier.verdict is None:
        return Judgement()
    found = dossier.verdict
    ends = [metric.last_data for metric in found.metrics]
    counts = [arm.total for metric in found.metrics for arm in (metric.control, metric.candidate)]
    return Judgement(
        kind=found.kind,
        sentence=found.sentence,
        blame=found.blame,
        enough=min(counts) >= dossier.design.min_samples,
        data_end=min((end for end in ends if end is not None), default=None) if None not in ends else None,
        numbers=json.loads(json.dumps(found.as_dict())),
    )
