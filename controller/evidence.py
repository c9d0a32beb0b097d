"""Evidence for the loop: which intervals each run is owed, one query per template for all, one judging step.

A run is owed every closed interval that lies wholly after its weights were confirmed and after its cursor.
All runs with the same interval are read together. Runs that are far behind (nobody looked for long) catch up
in bounded parts, beside those that are up to date.

One run's trouble stays its own: it is held with `error` set, and tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from controller.baseline import Baselines
from controller.dossier import Dossier, design_of, fingerprint, restored
from controller.intake import taken_in
from controller.judging import complain, judge_all
from controller.learning import Asker, is_owed_a_past, learn
from controller.observe import index_readings, intervals_for
from controller.plain import Plain
from controller.ports import UnavailableError
from controller.series import series_rows
from controller.targets import split_template, target_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from analysis.judge import Design, Interval
    from controller.calibration import Row
    from controller.filing import Filing
    from controller.group import Group
    from controller.lane import Lane
    from controller.observe import IndexedReading, Target
    from controller.ports import History, Metrics
    from controller.scene import Arm
    from controller.status import Run
    from controller.telemetry import Telemetry
    from policies.model import MetricTemplate, RolloutPolicy

log = logging.getLogger("penstock")

MAX_INTERVALS = 360
"""How far back intervals are read; a controller that was away longer goes on from there."""
AT_ONCE = 30
"""The most intervals read with one query."""


class UnjudgeableError(Exception):
    """A policy cannot be judged as it is; the text says why."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A run that may be owed intervals."""

    policy: RolloutPolicy
    run: Run
    arms: Mapping[str, Arm]
    dossier: Dossier

    @property
    def step(self) -> int:
        """The length of its intervals in seconds."""
        return int(self.policy.spec.decision.interval.seconds)


Batch = list[tuple[Owed, "Sequence[Interval]"]]


class _Waiting(NamedTuple):
    """Groups of the lane whose next interval is over."""

    lane: Lane
    groups: Sequence[Group]
    now: float

    def look(self, index: Mapping[str, IndexedReading]) -> list[tuple[Owed, int, int]]:
        """Have them take it in; return the runs, from where to where, for which it is not ordinary."""
        left = []
        for group in self.groups:
            start, end = group.end, group.next
            left += [(each, start, end) for each in self.lane.look(group, index, self.now)]
        return left


class Collector:
    """Keeps a dossier per open run and feeds it with what Prometheus has."""

    def __init__(
        self, metrics: Metrics, history: History, templates: Mapping[str, MetricTemplate],
        telemetry: Telemetry, settle: float = 1.0,
    ) -> None:  # fmt: skip
        """Put the parts together; `settle`: seconds from an interval's end until its scrapes are stored."""
        self._metrics, self._history, self._telemetry = metrics, history, telemetry
        self._catalog = dict(templates)
        self._own: Mapping[str, MetricTemplate] = {}
        self.templates = dict(templates)
        self.settle = settle
        self._dossiers: dict[str, tuple[RolloutPolicy, Mapping[str, MetricTemplate], Dossier]] = {}
        self._baselines = Baselines(metrics, telemetry)
        self._plains: dict[str, tuple[tuple[object, ...], Plain]] = {}
        self._filings: dict[str, Filing] = {}
        """The series of each template, as they were at the last look."""

    def adopt(self, own: Mapping[str, MetricTemplate]) -> bool:
        """Take the users' own templates, by `namespace/name`, beside the catalog's; tell if they changed."""
        if own is self._own:
            return False
        self._own, self.templates = own, {**self._catalog, **own}
        self._filings = {name: self._filings[name] for name in self._filings if name in self.templates}
        names = {template.metadata.name for template in self.templates.values()}  # a past is counted by it
        self._telemetry.keep_templates(names.union(self.templates))
        return True

    def key(self, policy: RolloutPolicy, template: str) -> str:
        """Return the key in `templates` of a template that a policy names."""
        return template if template in self._catalog else f"{policy.metadata.namespace}/{template}"

    def _keys(self, policy: RolloutPolicy) -> list[str]:
        return [self.key(policy, metric.template) for metric in policy.spec.metrics]

    def _wanted(self, policy: RolloutPolicy) -> list[str]:
        """Return the templates that a policy's intervals are read by."""
        keys = self._keys(policy)
        return [*keys, split_template(keys, self.templates)]

    async def dossier(self, policy: RolloutPolicy, run: Run) -> Dossier:
        """Return a run's dossier: from memory, from the history, or a new one.

        UnavailableError when the history cannot be read, UnjudgeableError.
        """
        known = self._dossiers.get(run.id)
        if known and known[0] is policy and known[1] is self.templates:
            return known[2]
        design = self._design(policy)
        if known and known[2].question == fingerprint(design):
            dossier = known[2]
            dossier.design = replace(dossier.design, min_samples=design.min_samples)
        else:
            dossier = restored(run.id, design, await self._history.evidence(run.id))
            if dossier.calibration and dossier.calibration.open:
                rows = await self._history.intervals(run.id)
                dossier.calibration = dossier.calibration.remembering(rows)
            if dossier.engine and not dossier.engine.complete:
                dossier.engine.refill(dossier.design, await self._history.intervals(run.id))
            if known:
                dossier.succeed(known[2])
        self._dossiers[run.id] = policy, self.templates, dossier
        return dossier

    def _design(self, policy: RolloutPolicy) -> Design:
        keys = {metric.template: self.key(policy, metric.template) for metric in policy.spec.metrics}
        missing = ", ".join(name for name, key in keys.items() if key not in self.templates)
        if missing:
            where = f"in namespace {policy.metadata.namespace}"
            raise UnjudgeableError(f"there is no usable MetricTemplate {missing} {where}")
        try:
            return design_of(policy, {name: self.templates[key] for name, key in keys.items()})
        except ValueError as error:
            raise UnjudgeableError(f"the policy cannot be judged: {error}") from error

    def drop(self, run: str) -> None:
        """Forget what is in memory of a run: the next time it comes from the history."""
        self._dossiers.pop(run, None)

    def keep(self, runs: Iterable[str]) -> None:
        """Forget all runs but these."""
        self._dossiers = {run: self._dossiers[run] for run in runs if run in self._dossiers}
        self._plains = {run: self._plains[run] for run in self._dossiers if run in self._plains}
        self._baselines.keep(self._dossiers)

    def window(self, each: Owed, now: float) -> tuple[int, int]:
        """Return start and end (unix seconds) of the intervals that a run is owed; none if end <= start."""
        step, run = each.step, each.run
        newest = self.newest(now, step)
        if run.step_started_at is None:
            return newest, newest
        # a value read at an instant is up to a scrape old, and an interval has at least two scrapes
        earliest = max(each.dossier.cursor, run.step_started_at + step / 2, newest - MAX_INTERVALS * step)
        return int(-(-earliest // step) * step), newest

    def newest(self, now: float, step: int) -> int:
        """Return the end of the last interval of `step` seconds that is over and scraped."""
        return int((now - self.settle) // step * step)

    async def collect(self, owed: Sequence[Owed], now: float, lane: Lane) -> None:
        """Read, tabulate and judge everything that is owed; dossiers are advanced in place, and the lane.

        A template that cannot be read leaves the runs that need it where they were, with `error` set.
        """
        late: dict[int, list[tuple[Owed, int, int]]] = defaultdict(list)
        current: dict[int, list[tuple[Owed, int, int]]] = defaultdict(list)
        for each in owed:
            each.dossier.intervals, each.dossier.error, each.dossier.behind = (), "", False
            self._learn(each, now)
            start, end = self.window(each, now)
            if end > start and not each.dossier.evidence.looks and self._baselines.waits(each.run.id, now):
                each.dossier.behind = True  # its intervals are read as soon as the past is known
            elif end > start:
                (late if end - start > AT_ONCE * each.step else current)[each.step].append((each, start, end))
        batch: Batch = []
        waiting = lane.due(partial(self.newest, now))
        for step in dict.fromkeys([*current, *waiting]):
            batch += await self._read(step, current[step], _Waiting(lane, waiting.get(step, []), now))
        for step, members in late.items():
            batch += await self._read(step, _part(step, members))
        judge_all(batch)

    def _learn(self, each: Owed, now: float) -> None:
        """Give a run what is known of its control's past by now, if it wants that."""
        if not is_owed_a_past(each.policy, each.dossier):
            return
        target = self.plain(each).target
        templates = {name: self.templates[key] for name, key in target.metrics.items()}
        try:
            asker = Asker(each.policy, each.run, each.dossier, templates, target.control)
            learn(self._baselines, asker, now)
        except Exception as error:  # whatever it is, it is this run's
            complain(each, error)

    async def _read(
        self, step: int, members: Sequence[tuple[Owed, int, int]], waiting: _Waiting | None = None
    ) -> Batch:
        """Return the intervals of runs with intervals of `step` seconds: (run, start, end).

        The runs that are `waiting` in the lane take in theirs; those for which it is not ordinary are among
        the others then.
        """
        groups = waiting.groups if waiting else ()
        windows = [(start, end) for _, start, end in members] + [(each.end, each.next) for each in groups]
        start, end = min(start for start, _ in windows), max(end for _, end in windows)
        names = {key for each, *_ in members for key in self._wanted(each.policy)}
        names = names.union(*(group.picker.templates for group in groups))
        index, failed = await self.read_all(sorted(names), start, end, step)
        left = waiting.look(index) if waiting else []
        batch: Batch = []
        for each, first, last in [*members, *left]:
            broken = [failed[key] for key in self._keys(each.policy) if key in failed] if failed else []
            if broken:
                each.dossier.error = broken[0]
                continue
            try:
                batch.append((each, self._taken_in(each, index, first, last)))
            except Exception as error:  # whatever it is, it is this run's
                complain(each, error)
        return batch

    def _taken_in(
        self, each: Owed, index: Mapping[str, IndexedReading], first: int, last: int
    ) -> Sequence[Interval]:
        """Return a run's intervals as they are judged, and lay by what goes with them."""
        plain, known = self.plain(each), each.dossier.calibration
        if last - first == each.step and (intake := plain.intake(index, first, last, known)):
            each.dossier.read, each.dossier.intake = intake.intervals, intake
            return intake.intervals
        target = plain.target
        intervals = intervals_for(target, index, first, last, each.step)
        series: list[dict[str, Row]] = [{} for _ in intervals]
        if known and known.open:
            series = series_rows(target, known.open, index, range(first + each.step, last + 1, each.step))
        each.dossier.read = intervals
        each.dossier.intake = taken_in(each.policy, each.run, known, intervals, series)
        return each.dossier.intake.intervals

    async def read_all(
        self, names: Sequence[str], start: int, end: int, step: int
    ) -> tuple[dict[str, IndexedReading], dict[str, str]]:
        """Read all templates at once, so that a slow Prometheus costs one timeout and not one for each."""
        index: dict[str, IndexedReading] = {}
        failed: dict[str, str] = {}

        async def read(name: str) -> None:
            self._telemetry.queries.labels(name).inc()
            try:
                query = self.templates[name].spec.query
                reading = await self._metrics.read(query, start=start, end=end, step=step)
                if reading.warnings:
                    words = "; ".join(reading.warnings)
                    raise UnavailableError(f"Prometheus says that its answer may be partial: {words}")
                index.update(index_readings({name: self.templates[name]}, {name: reading}, self._filings))
            except UnavailableError as error:
                failed[name] = str(error)
            except Exception as error:
                log.exception("the answer to template %s cannot be read", name)
                failed[name] = f"the answer to template {name} cannot be read: {error!r}"

        await asyncio.gather(*map(read, names))
        if failed:
            self._telemetry.errors.labels("prometheus").inc()
        return index, failed

    def plain(self, each: Owed) -> Plain:
        """Return what is ordinary of a run; the same until something that it follows from is another."""
        basis = each.policy, each.run, each.arms, each.dossier.design, self.templates
        kept = self._plains.get(each.run.id)
        if kept is None or any(a is not b for a, b in zip(kept[0], basis, strict=True)):
            plain = Plain(each.policy, each.run, self._target(each))
            kept = self._plains[each.run.id] = basis, plain
        return kept[1]

    def _target(self, each: Owed) -> Target:
        policy, dossier = each.policy, each.dossier
        read_by = {m.name or m.template: self.key(policy, m.template) for m in policy.spec.metrics}
        share = split_template(read_by.values(), self.templates)
        return target_of(dossier.design, each.run, each.arms, read_by, share)


def _part(step: int, members: Sequence[tuple[Owed, int, int]]) -> list[tuple[Owed, int, int]]:
    """Return what is read now for runs that are far behind: the oldest intervals, of those that need them."""
    until = min(start for _, start, _ in members) + AT_ONCE * step
    for each, *_ in members:
        each.dossier.behind = True
    return [(each, start, until) for each, start, _ in members if start < until]
