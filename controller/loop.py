"""The loop: gather, judge, decide, record, write - for every rollout that is due.

One pass serves all due rollouts: what changed in the store is read once, each metric template is queried
once, the judge takes one vectorised step. Then each rollout gets one pure decision, and the decisions are
carried out in the order that makes a crash at any point harmless (docs/architecture.md): history, status,
traffic. Whatever goes wrong with one rollout is told and tried again, and the others go on. Rollouts that a
person waits for come first, and so does whatever need not wait for proxies.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from controller.actions import ignored
from controller.decision import NOT_APPLIED
from controller.evidence import Owed, UnjudgeableError
from controller.idle import due
from controller.inventory import Inventory, ref_of
from controller.journal import Journal
from controller.logs import begin_look
from controller.lookout import Lookout
from controller.ports import Applied, ConflictError, NotFoundError, UnavailableError
from controller.rollout import Rollout
from controller.scene import KINDS, MANAGER
from controller.tracing import span
from controller.usage import in_use
from controller.watcher import Watcher
from controller.workloads import WORKLOADS
from controller.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.decision import Decision, Judgement
    from controller.evidence import Collector
    from controller.inventory import Entry
    from controller.ports import Clock, DataPlane, History, Object, Store
    from controller.record import Recorder
    from controller.scene import Scene
    from controller.status import Status

SOON = 0.1
"""Seconds until a rollout with unfinished business is looked at again."""
RETRY = 1.0
"""Seconds until the next try after the store or the history failed; also the longest between two looks at
unfinished business."""
REREAD = 5.0
"""Seconds until the metrics are tried again after they could not be read."""
REST = 3600.0
"""Seconds between looks at a rollout that waits for nothing."""
ITSELF = ""
"""Due when the loop has business that is no rollout's; no policy has this key."""


class Loop:
    """Drives all rollouts of one store."""

    def __init__(
        self, *, store: Store, history: History, dataplane: DataPlane, collector: Collector,
        recorder: Recorder, clock: Clock,
    ) -> None:  # fmt: skip
        self._store, self._dataplane = store, dataplane
        self._collector, self._recorder, self._clock = collector, recorder, clock
        self._inventory = Inventory(store, history)
        self._journal = Journal(history, collector, recorder)
        self._writer = Writer(store, recorder)
        self._watcher = Watcher(collector, history, recorder)
        self._lookout = Lookout(store, recorder)
        self._due: dict[str, float] = {}
        self._known: set[str] = set()
        self._last_look = 0.0
        self._wake = asyncio.Event()
        self.verdicts: dict[str, Mapping[str, Any]] = {}
        """The last verdict with all numbers, by policy key, for the API."""

    async def run(self) -> None:
        """Look whenever something is due, until cancelled."""
        watcher = asyncio.create_task(self._watch())
        try:
            self._wake.set()
            while True:
                await self._wait()
                await self.look()
        finally:
            watcher.cancel()
            self._collector.keep(())  # nobody waits for the pasts that are being read

    async def _watch(self) -> None:
        """Wake the loop on every change that is not our own."""
        while True:
            try:
                since = await self._store.version()
                self._due.clear()  # whatever changed before `since` is looked at now
                self._wake.set()
                async for event in self._store.watch(KINDS, since):
                    self.changed(event.object, gone=event.type == "DELETED")
                    if event.type == "DELETED":
                        self._writer.forget(event.object)
            except ConflictError:
                continue  # too many changes at once: all rollouts are looked at
            except UnavailableError as error:
                self._recorder.failure("store", str(error), "watch")
            except Exception as error:
                self._recorder.internal("watch", error)
            await self._clock.sleep(RETRY)

    def changed(self, obj: Object, *, gone: bool = False) -> None:
        """Make due what a change of a policy or template may concern.

        Whom a change of another object concerns is found by the next pass; for most changes of workloads that
        is nobody, and then there is none.
        """
        if self._writer.is_ours(obj):
            return
        kind, namespace, name = ref_of(obj)
        if kind in WORKLOADS:
            if not self._inventory.matters(obj, gone=gone):
                return
        elif kind == "RolloutPolicy":
            self._due.pop(f"{namespace}/{name}", None)
        elif kind == "MetricTemplate":
            self._due = {key: due for key, due in self._due.items() if not key.startswith(f"{namespace}/")}
        self._wake.set()

    async def _wait(self) -> None:
        await asyncio.sleep(0)  # whatever is due, the rest of the process gets its turn
        now = self._clock.now()
        pause = max(0.0, min(self._due.values(), default=now + REST) - now)
        if not self._wake.is_set() and pause:
            sleeper = asyncio.ensure_future(self._clock.sleep(pause))
            waker = asyncio.ensure_future(self._wake.wait())
            _, pending = await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
        self._wake.clear()

    async def look(self) -> None:
        """Take one pass over every rollout that is due."""
        now = self._clock.now()
        if now < self._last_look:
            self._due.clear()  # the clock was set back: times that were planned mean nothing
        self._last_look = now
        with self._recorder.telemetry.look_seconds.time(), span("look", look=begin_look()):
            try:
                await self._pass(now)
                # a rollback that did not wait for the history may have no later look to record it
                again = not await self._journal.catch_up()
            except UnavailableError as error:
                self._recorder.failure("store", str(error))
                again = self._put_off(now + RETRY)
            except Exception as error:
                self._recorder.internal("loop", error)
                again = self._put_off(now + RETRY)
        self._due.pop(ITSELF, None)
        if again:
            self._due[ITSELF] = now + RETRY
        self._recorder.telemetry.looks.inc()

    def _put_off(self, until: float) -> bool:
        """Let nothing be due before: a pass that failed as a whole has left what was due as it was."""
        self._due = {key: max(at, until) for key, at in self._due.items()}
        return True

    async def _pass(self, now: float) -> None:
        await self._inventory.refresh()
        self._recorder.recovered("store")
        for key in self._inventory.stirred():
            self._due.pop(key, None)
        self._tidy()
        await self._tell_unusable(now)
        self._collector.adopt(self._inventory.templates)
        due = [
            self._rollout(entry, now)
            for key, entry in self._inventory.policies.items()
            if self._due.get(key, 0.0) <= now
        ]
        self._recorder.telemetry.rollouts_due.set(len(due))
        await self._tell_ignored(due)
        asked = [rollout for rollout in due if rollout.asked]
        await self._open(asked)  # they do not wait for metrics
        await self._decide(asked)
        others = [rollout for rollout in due if not rollout.asked]
        await self._open(others)
        await self._lookout.look_after(others, now)
        lost = [rollout for rollout in others if rollout.lost]
        await self._decide(lost)
        others = [rollout for rollout in others if not rollout.lost]
        await self._measure(others, now)
        await self._watcher.look_after(others, now)
        await self._decide(others)

    def _rollout(self, entry: Entry, now: float) -> Rollout:
        scene = entry.scene(self._inventory.objects(entry.policy.metadata.namespace))
        routes = [obj for _, obj in scene.virtual_services]
        rollout = Rollout(
            entry,
            scene,
            refused=self._writer.refusal(entry.policy.key),
            overwritten=self._writer.was_overwritten(routes, entry.status.weights),
            late=scene.changed_by == MANAGER and not self._writer.wrote(routes),
        )
        at = due(entry.policy, entry.status)
        if at is not None and at <= now:
            rollout.in_use = self._in_use(entry, scene)
        return rollout

    def _in_use(self, entry: Entry, scene: Scene) -> str:
        try:
            return in_use(entry, scene, self._inventory)
        except Exception as error:
            self._recorder.internal(entry.policy.key, error)
            return f"whether anybody uses it cannot be told: {error!r}"

    def _tidy(self) -> None:
        """Forget what is gone, and tell of what cannot be read."""
        policies = self._inventory.policies
        for key in self._known - policies.keys():
            self._due.pop(key, None)
            self.verdicts.pop(key, None)
            self._recorder.forget(key)
        self._known = set(policies)
        for ref, problem in self._inventory.problems.items():
            self._recorder.failure("internal", problem, str(ref))
        runs = [entry.status.run for entry in policies.values() if entry.status.run]
        self._collector.keep(run.id for run in runs if run.active)
        self._lookout.keep(run.id for run in runs if run.active)
        self._watcher.keep(run.id for run in runs if run.watched)

    async def _tell_unusable(self, now: float) -> None:
        """Say on policies that cannot be used at all that it is so, and why."""
        for ref in self._inventory.unusable:
            obj, problem = self._inventory.stored(ref), self._inventory.problems[ref]
            try:
                await self._writer.refuse(ref, obj, problem, now)
                await self._writer.release(ref, obj)
            except (ConflictError, NotFoundError):
                continue  # it has changed already, and will be read again
            except Exception as error:
                self._recorder.internal(str(ref), error)

    async def _tell_ignored(self, rollouts: Sequence[Rollout]) -> None:
        """Say why an action that was asked for will not happen."""
        for rollout in rollouts:
            why = ignored(rollout.entry.obj, rollout.entry.status)
            if why:
                await self._recorder.warn_once(rollout.ref, "ActionIgnored", why)

    async def _open(self, rollouts: Sequence[Rollout]) -> None:
        """Get what is known of every open run."""
        for rollout in rollouts:
            run = rollout.run
            if run is None or not run.active:
                continue
            try:
                rollout.dossier = await self._collector.dossier(rollout.entry.policy, run)
            except UnavailableError as error:
                rollout.error = f"the history cannot be read: {error}"
            except UnjudgeableError as error:
                rollout.error = str(error)
            except Exception as error:
                self._recorder.internal(rollout.key, error)
                rollout.error = f"the evidence cannot be read: {error!r}"
            if rollout.dossier and rollout.dossier.news:
                await self._recorder.warn(rollout.ref, "EvidenceDropped", rollout.dossier.news)
                rollout.dossier.news = ""

    async def _measure(self, rollouts: Sequence[Rollout], now: float) -> None:
        """Bring the evidence up to date wherever the traffic is as it should be."""
        owed = [
            Owed(rollout.entry.policy, rollout.run, rollout.scene.arms, rollout.dossier)
            for rollout in rollouts
            if rollout.run and rollout.dossier and rollout.measurable
        ]
        try:
            await self._collector.collect(owed, now)
        except Exception as error:
            self._recorder.internal("metrics", error)
            for each in owed:
                each.dossier.error = f"the metrics cannot be read: {error!r}"
        for rollout in rollouts:
            while rollout.dossier and rollout.dossier.warnings:
                await self._recorder.warn(rollout.ref, *rollout.dossier.warnings.pop(0))

    async def _decide(self, rollouts: Sequence[Rollout]) -> None:
        """Decide and carry out; whoever waits for the proxies comes last, when these have been asked."""
        for rollout in rollouts:
            self._take_decision(rollout, NOT_APPLIED)
        await self._carry_out([rollout for rollout in rollouts if not rollout.waits])
        waiting = [rollout for rollout in rollouts if rollout.waits]
        answers = await asyncio.gather(*(self._applied(rollout) for rollout in waiting))
        for rollout, applied in zip(waiting, answers, strict=True):
            self._take_decision(rollout, applied)
        await self._carry_out(waiting)

    def _take_decision(self, rollout: Rollout, applied: Applied) -> None:
        try:
            # not the time at which the pass began: what is confirmed now was not so then
            rollout.decide(self._clock.now(), applied)
        except Exception as error:
            self._recorder.internal(rollout.key, error)
            self._due[rollout.key] = self._clock.now() + RETRY

    async def _applied(self, rollout: Rollout) -> Applied:
        try:
            for _, obj in rollout.scene.virtual_services:
                applied = await self._dataplane.applied(obj)
                if not applied.ok:
                    return applied
        except Exception as error:
            self._recorder.internal(rollout.key, error)
            return Applied(ok=False, detail=f"the proxies cannot be asked: {error!r}")
        return Applied(ok=bool(rollout.scene.virtual_services))

    async def _carry_out(self, rollouts: Sequence[Rollout]) -> None:
        decided = [rollout for rollout in rollouts if rollout.decision]
        await self._journal.record(decided)
        for rollout in decided:
            if rollout.watch and not rollout.recorded:
                self._watcher.drop(rollout.watch.run)
            at = await self._enact(rollout) if rollout.may_go_on else self._in(RETRY)
            self._due[rollout.key] = at

    async def _enact(self, rollout: Rollout) -> float:
        """Carry a decision out; return when the rollout wants to be looked at again."""
        case, decision = rollout.case, rollout.decision
        if case is None or decision is None:
            return self._in(RETRY)
        try:
            stored, status = await self._writer.carry_out(rollout, case, decision)
        except (ConflictError, NotFoundError) as error:
            # somebody was faster: read again, decide again
            self._recorder.failure("conflict", str(error), rollout.key)
            return self._in(SOON)
        except UnavailableError as error:
            self._recorder.failure("store", str(error), rollout.key)
            return self._in(RETRY)
        except Exception as error:
            self._recorder.internal(rollout.key, error)
            return self._in(RETRY)
        self._publish(rollout.key, stored, status, case.judgement, new_run=decision.action == "Start")
        return self._next_look(rollout, decision, case.now)

    def _in(self, seconds: float) -> float:
        return self._clock.now() + seconds

    def _publish(
        self, key: str, stored: Object, status: Status, judgement: Judgement, *, new_run: bool
    ) -> None:
        if new_run:
            self.verdicts.pop(key, None)
        elif judgement.known:
            self.verdicts[key] = judgement.numbers
        watch = status.run.watch if status.run else None
        surges = len(watch.surges) if watch else 0
        since = status.run.step_started_at if status.run and status.run.active else None
        self._recorder.telemetry.show(key, status.weights, status.verdict, surges, since)
        self._recorder.news.tell("rollout", stored)

    def _next_look(self, rollout: Rollout, decision: Decision, now: float) -> float:
        """Return when a rollout should be looked at again, having been decided on at `now`.

        The end of an interval is one moment for all rollouts, however long each took: one pass serves all.
        """
        run, dossier = decision.status.run, rollout.dossier
        if run is not None and not run.applied:
            waited = now - run.weights_changed_at
            return self._in(min(max(SOON, waited / 10), RETRY))
        if (
            decision.notable
            or decision.chores
            or any(known.behind for known in (dossier, rollout.watch) if known)
        ):
            return self._in(SOON)
        if run is None or not (run.active or run.watched or run.copies):
            at = due(rollout.entry.policy, decision.status) or 0.0
            return min(at, now + REST) if at > now else now + REST
        step, settle = rollout.entry.policy.spec.decision.interval.seconds, self._collector.settle
        next_end = ((now - settle) // step + 1) * step + settle
        return min(next_end, self._in(REREAD)) if dossier and dossier.error else next_end
