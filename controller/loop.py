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

from controller.abreast import abreast
from controller.carrying import AT_ONCE, Carrier
from controller.decision import NOT_APPLIED
from controller.evidence import Owed
from controller.following import Follower
from controller.inventory import Inventory
from controller.journal import Journal
from controller.logs import begin_look
from controller.lookout import Lookout
from controller.opening import Opening
from controller.ports import Applied, UnavailableError
from controller.schedule import ITSELF, RETRY, Schedule
from controller.tracing import span
from controller.unusable import Unusable
from controller.watcher import Watcher
from controller.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from controller.evidence import Collector
    from controller.lane import Due, Lane
    from controller.ports import Clock, DataPlane, History, Object, Store
    from controller.record import Recorder
    from controller.rollout import Rollout

PATIENCE = 1.0
"""Seconds to wait for the end of a pass when what it knows is asked for."""


class Loop:
    """Drives all rollouts of one store."""

    def __init__(
        self, *, store: Store, history: History, dataplane: DataPlane, collector: Collector,
        recorder: Recorder, clock: Clock,
    ) -> None:  # fmt: skip
        self._dataplane, self._collector, self._recorder, self._clock = dataplane, collector, recorder, clock
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
        self._follower = Follower(
            store=store, inventory=self._inventory, schedule=self._schedule, writer=self._writer,
            journal=self._journal, recorder=recorder, clock=clock,
        )  # fmt: skip
        self._opening = Opening(
            inventory=self._inventory, collector=collector, writer=self._writer, schedule=self._schedule,
            recorder=recorder,
        )  # fmt: skip
        self._unusable = Unusable(self._inventory, self._writer, recorder)
        self._passing = asyncio.Lock()
        self._known: set[str] = set()
        self._last_look = 0.0

    async def run(self) -> None:
        """Look whenever something is due, until cancelled."""
        following = asyncio.create_task(self._follower.run())
        try:
            self._schedule.wake()
            while True:
                await self._schedule.wait(self.lane.next_look(self._collector.settle))
                await self.look()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
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

    def changed(self, obj: Object, *, gone: bool = False) -> None:
        """Make due what a change of an object may concern."""
        self._follower.changed(obj, gone=gone)

    async def look(self) -> None:
        """Take one pass over every rollout that is due."""
        async with self._passing:
            self._follower.pass_begins()
            await self._look(self._clock.now())
            self._follower.pass_ends()

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
        await self._unusable.tell(now)
        due = [
            rollout
            for key, entry in self._inventory.policies.items()
            if key not in self.lane and self._schedule.is_due(key, now)
            if (rollout := await self._opening.begin(entry, now))
        ]
        self._recorder.telemetry.rollouts_due.set(len(due) + self.lane.due(self._newest(now)).total)
        asked = [rollout for rollout in due if rollout.asked]
        await self._opening.know(asked)  # they do not wait for metrics, nor for pods
        self._lookout.remind(asked)
        await self._decide(asked)
        others = [rollout for rollout in due if not rollout.asked]
        await self._opening.know(others)
        await self._lookout.look_after(others, now)
        lost = [rollout for rollout in others if rollout.lost]
        await self._decide(lost)
        others = [rollout for rollout in others if not rollout.lost]
        others += await self._measure(others, now)
        await self._watcher.look_after(others, now)
        await self._decide(others)
        await self._carrier.record_holds()

    async def _tidy(self, now: float) -> None:
        """Forget what is gone, and have what changed looked at."""
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
        runs = [entry.status.run for entry in policies.values() if entry.status.run]
        self._collector.keep(run.id for run in runs if run.active)
        self._lookout.keep(policies)
        self._watcher.keep(run.id for run in runs if run.watched)

    def _newest(self, now: float) -> Callable[[int], int]:
        """Return what gives the end of the last closed interval by its length."""
        return partial(self._collector.newest, now)

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
        left = [begun for entry in entries if (begun := await self._opening.begin(entry, now))]
        await self._opening.know(left)
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
        await abreast(self._decide_when_asked, waiting, limit=AT_ONCE)
        await self._carrier.carry_out(waiting)

    async def _decide_when_asked(self, rollout: Rollout) -> None:
        """Ask the proxies about a rollout, and decide again by what they say."""
        self._take_decision(rollout, await self._applied(rollout))

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
