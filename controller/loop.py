"""The loop: gather, judge, decide, record, write - for every rollout that is due.

One pass serves all due rollouts: what changed in the store is read once, each metric template is queried
once, the judge takes one vectorised step. Then each rollout gets one pure decision, and the decisions are
carried out in the order that makes a crash at any point harmless (docs/architecture.md): history, status,
traffic. Whatever goes wrong with one rollout is told and tried again, and the others go on. Rollouts that a
person waits for come first, and so does whatever need not wait for proxies.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from controller.actions import ignored, is_asked
from controller.carrying import Carrier
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
from controller.schedule import ITSELF, RETRY, Schedule
from controller.tracing import span
from controller.usage import in_use
from controller.watcher import Watcher
from controller.workloads import WORKLOADS
from controller.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from controller.evidence import Collector
    from controller.inventory import Entry
    from controller.lane import Due, Lane
    from controller.ports import Clock, DataPlane, History, Object, Store
    from controller.record import Recorder
    from controller.scene import Scene

PATIENCE = 1.0
"""Seconds to wait for the end of a pass when what it knows is asked for."""


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
        self._schedule = Schedule(clock, collector.settle)
        self._carrier = Carrier(
            journal=self._journal, writer=self._writer, watcher=self._watcher, collector=collector,
            recorder=recorder, schedule=self._schedule, clock=clock,
        )  # fmt: skip
        self._passing = asyncio.Lock()
        self._known: set[str] = set()
        self._troubled: dict[str, str] = {}
        """Objects that could not be read at the last pass, and why."""
        self._last_look = 0.0

    async def run(self) -> None:
        """Look whenever something is due, until cancelled."""
        watcher = asyncio.create_task(self._watch())
        try:
            self._schedule.wake()
            while True:
                await self._schedule.wait(self.lane.next_look(self._collector.settle))
                await self.look()
        finally:
            watcher.cancel()
            self._collector.keep(())  # nobody waits for the pasts that are being read
            await self.record()

    def verdict(self, key: str) -> Mapping[str, Any] | None:
        """Return a policy's last verdict with all numbers, for the API."""
        return self._carrier.verdict(key)

    @property
    def lane(self) -> Lane:
        """The runs that merely hold."""
        return self._carrier.lane

    async def record(self) -> None:
        """Record what was looked at so far, unless that would have to wait for long."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._passing.acquire()
        except TimeoutError:
            return
        try:
            await self._carrier.record_holds(everything=True)
        finally:
            self._passing.release()

    async def _watch(self) -> None:
        """Wake the loop on every change that is not our own."""
        while True:
            try:
                since = await self._store.version()
                self._schedule.forget_all()  # whatever changed before `since` is looked at now
                self._schedule.wake()
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
            self._schedule.forget(f"{namespace}/{name}")
            if is_asked(obj):
                self._journal.hurry()  # the look that is under way may wait for a history that hangs
        elif kind == "MetricTemplate":
            self._schedule.forget_all(but=lambda key: not key.startswith(f"{namespace}/"))
        self._schedule.wake()

    async def look(self) -> None:
        """Take one pass over every rollout that is due."""
        async with self._passing:
            await self._look(self._clock.now())

    async def _look(self, now: float) -> None:
        if now < self._last_look:  # the clock was set back: times that were planned mean nothing
            self._schedule.forget_all()
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
        self._schedule.forget(ITSELF)
        if again:
            self._schedule.put(ITSELF, now + RETRY)
        self._recorder.telemetry.looks.inc()

    def _put_off(self, until: float) -> bool:
        for key in self.lane.leave():
            self._schedule.put(key, until)
        self._schedule.put_off(until)
        return True

    async def _pass(self, now: float) -> None:
        await self._inventory.refresh()
        self._recorder.recovered("store")
        await self._tidy(now)
        await self._tell_unusable(now)
        due = [
            rollout
            for key, entry in self._inventory.policies.items()
            if key not in self.lane and self._schedule.is_due(key, now)
            if (rollout := await self._begun(entry, now))
        ]
        self._recorder.telemetry.rollouts_due.set(len(due) + self.lane.due(self._newest(now)).total)
        asked = [rollout for rollout in due if rollout.asked]
        await self._open(asked)  # they do not wait for metrics
        await self._decide(asked)
        others = [rollout for rollout in due if not rollout.asked]
        await self._open(others)
        await self._lookout.look_after(others, now)
        lost = [rollout for rollout in others if rollout.lost]
        await self._decide(lost)
        others = [rollout for rollout in others if not rollout.lost]
        others += await self._measure(others, now)
        await self._watcher.look_after(others, now)
        await self._decide(others)
        await self._carrier.record_holds()

    async def _begun(self, entry: Entry, now: float) -> Rollout | None:
        """Return a rollout as its look begins; tell why an action that was asked for will not happen."""
        try:
            rollout = self._rollout(entry, now)
            # no words: it is over, and told again when it comes back
            await self._recorder.warn_once(rollout.ref, "ActionIgnored", ignored(entry.obj, entry.status))
        except Exception as error:
            self._recorder.internal(entry.policy.key, error)
            self._schedule.put(entry.policy.key, self._schedule.soon(RETRY))
            return None
        return rollout

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

    async def _tidy(self, now: float) -> None:
        """Forget what is gone, tell of what cannot be read, and have what changed looked at."""
        policies = self._inventory.policies
        gone = self._known - policies.keys()
        if self.lane.is_orphaned(policies):
            await self._carrier.record_holds(everything=True)
        stirred = self._inventory.stirred()
        for key in stirred | gone:
            self._schedule.forget(key)
        if self._collector.adopt(self._inventory.templates):
            self.lane.leave()
        self.lane.leave(self.lane.changed(policies, stirred, self._newest(now)))
        for key in gone:
            self._carrier.forget(key)
        self._known = set(policies)
        problems = {str(ref): problem for ref, problem in self._inventory.problems.items()}
        for about in self._troubled.keys() - problems.keys():
            self._recorder.recovered("internal", about)
        for about, problem in problems.items() - self._troubled.items():
            self._recorder.failure("internal", problem, about)
        self._troubled = problems
        runs = [entry.status.run for entry in policies.values() if entry.status.run]
        self._collector.keep(run.id for run in runs if run.active)
        self._lookout.keep(run.id for run in runs if run.active)
        self._watcher.keep(run.id for run in runs if run.watched)

    def _newest(self, now: float) -> Callable[[int], int]:
        """Return what gives the end of the last closed interval by its length."""
        return partial(self._collector.newest, now)

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

    async def _measure(self, rollouts: Sequence[Rollout], now: float) -> list[Rollout]:
        """Bring the evidence up to date wherever the traffic is as it should be.

        Returns the rollouts that leave the lane for what their last interval showed.
        """
        owed = [
            Owed(rollout.entry.policy, rollout.run, rollout.scene.arms, rollout.dossier)
            for rollout in rollouts
            if rollout.run and rollout.dossier and rollout.measurable
        ]
        waiting = self.lane.due(self._newest(now))
        try:
            await self._collector.collect(owed, now, self.lane)
        except Exception as error:
            self._recorder.internal("metrics", error)
            for key in self.lane.leave():
                self._schedule.put(key, now + RETRY)
            for each in owed:
                each.dossier.error = f"the metrics cannot be read: {error!r}"
        for rollout in rollouts:
            while rollout.dossier and rollout.dossier.warnings:
                await self._recorder.warn(rollout.ref, *rollout.dossier.warnings.pop(0))
        self._tell(waiting)
        entries = [self._inventory.policies[key] for key in self.lane.departed()]
        left = [begun for entry in entries if (begun := await self._begun(entry, now))]
        await self._open(left)
        return left

    def _tell(self, looked_at: Due) -> None:
        """Tell whoever listens that there is something new of the runs in the lane."""
        if self._recorder.news.is_heard:
            for entry in looked_at.entries:
                self._recorder.news.tell("rollout", entry.obj)

    async def _decide(self, rollouts: Sequence[Rollout]) -> None:
        """Decide and carry out; whoever waits for the proxies comes last, when these have been asked."""
        for rollout in rollouts:
            self._take_decision(rollout, NOT_APPLIED)
        await self._carrier.carry_out([rollout for rollout in rollouts if not rollout.waits])
        waiting = [rollout for rollout in rollouts if rollout.waits]
        answers = await asyncio.gather(*(self._applied(rollout) for rollout in waiting))
        for rollout, applied in zip(waiting, answers, strict=True):
            self._take_decision(rollout, applied)
        await self._carrier.carry_out(waiting)

    def _take_decision(self, rollout: Rollout, applied: Applied) -> None:
        try:
            # not the time at which the pass began: what is confirmed now was not so then
            rollout.decide(self._clock.now(), applied)
        except Exception as error:
            self._recorder.internal(rollout.key, error)
            self._schedule.put(rollout.key, self._schedule.soon(RETRY))

    async def _applied(self, rollout: Rollout) -> Applied:
        try:
            found = [await self._dataplane.applied(obj) for _, obj in rollout.scene.virtual_services]
        except Exception as error:
            self._recorder.internal(rollout.key, error)
            return Applied(ok=False, detail=f"the proxies cannot be asked: {error!r}")
        waiting = [each for each in found if not each.ok]
        return max(waiting, key=lambda each: each.retry_after or 0.0, default=Applied(ok=bool(found)))
