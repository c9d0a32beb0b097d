"""What a pass ends in: decisions are recorded, carried out and shown; whoever merely holds enters the lane.

In this order, which makes a crash at any point harmless: history, status, traffic (docs/architecture.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from controller.abreast import abreast
from controller.evidence import Owed
from controller.held import held
from controller.lane import Lane
from controller.ports import ConflictError, NotFoundError, UnavailableError
from controller.schedule import RETRY, SOON

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.decision import Judgement
    from controller.evidence import Collector
    from controller.held import Held
    from controller.journal import Journal
    from controller.ports import Clock, Object
    from controller.record import Recorder
    from controller.rollout import Rollout
    from controller.schedule import Schedule
    from controller.status import Status
    from controller.watcher import Watcher
    from controller.writer import Writer

AT_ONCE = 8
"""How many decisions are carried out at once. One writes four or five times, and each write waits for a disk
of the API server, which serves eight in little more time than one; a term that ends leaves no more than these
half done."""


class Carrier:
    """Carries out what was decided; whatever goes wrong with one rollout is told and tried again."""

    def __init__(
        self, *, journal: Journal, writer: Writer, watcher: Watcher, collector: Collector,
        recorder: Recorder, schedule: Schedule, clock: Clock,
    ) -> None:  # fmt: skip
        self._journal, self._writer, self._watcher = journal, writer, watcher
        self._collector, self._recorder = collector, recorder
        self._schedule, self._clock = schedule, clock
        self.lane = Lane()
        self._verdicts: dict[str, Mapping[str, Any]] = {}
        """The last verdict of an ordinary look, with all numbers, by policy key."""

    def verdict(self, key: str) -> Mapping[str, Any] | None:
        """Return a policy's last verdict with all numbers."""
        return self.lane.verdict(key) if key in self.lane else self._verdicts.get(key)

    def forget(self, key: str) -> None:
        """Forget a rollout that is gone."""
        self._verdicts.pop(key, None)
        self._recorder.forget(key)

    async def carry_out(self, rollouts: Sequence[Rollout]) -> None:
        """Record and carry out the decisions of rollouts, and plan when each is looked at again.

        What never waits, a rollback above all, comes first: it does not stand behind the starts of others.
        """
        decided = [rollout for rollout in rollouts if rollout.decision]
        urgent = [rollout for rollout in decided if rollout.is_undelayed]
        for group in (urgent, [rollout for rollout in decided if not rollout.is_undelayed]):
            await self._journal.record(group)
            await abreast(self._carry_out, group, limit=AT_ONCE)
        entered = self.lane.enter([each for rollout in decided if (each := self._held(rollout))])
        for key in entered:
            self._schedule.forget(key)

    async def _carry_out(self, rollout: Rollout) -> None:
        if rollout.watch and not rollout.recorded:
            self._watcher.drop(rollout.watch.run)
        at = await self._enact(rollout) if rollout.may_go_on else self._schedule.soon(RETRY)
        self._schedule.put(rollout.key, at)

    async def _enact(self, rollout: Rollout) -> float:
        """Carry a decision out; return when the rollout wants to be looked at again."""
        case, decision = rollout.case, rollout.decision
        if case is None or decision is None:
            return self._schedule.soon(RETRY)
        try:
            stored, status = await self._writer.carry_out(rollout, case, decision)
            rollout.carried_out = True
            self._publish(rollout.key, stored, status, case.judgement, new_run=decision.action == "Start")
            return self._schedule.next_look(rollout, decision, case.now)
        except (ConflictError, NotFoundError) as error:
            # somebody was faster: read again, decide again
            self._recorder.failure("conflict", str(error), rollout.key)
            return self._schedule.soon(SOON)
        except UnavailableError as error:
            self._recorder.failure("store", str(error), rollout.key)
            return self._schedule.soon(RETRY)
        except Exception as error:
            self._recorder.internal(rollout.key, error)
            return self._schedule.soon(RETRY)

    def _held(self, rollout: Rollout) -> Held | None:
        """Return a rollout as it enters the lane, if nothing but time and evidence is waited for."""
        run, dossier = rollout.run, rollout.dossier
        if not (rollout.carried_out and rollout.measurable) or run is None or dossier is None:
            return None
        owed = Owed(rollout.entry.policy, run, rollout.scene.arms, dossier)
        try:
            window = self._collector.window(owed, self._clock.now())
            return held(rollout, owed, self._collector.plain(owed), window)
        except Exception as error:
            self._recorder.internal(rollout.key, error)
            return None

    async def record_holds(self, *, everything: bool = False) -> None:
        """Record what was looked at in the lane, if it is time to; what cannot be recorded is read again."""
        ticks = self.lane.record(self._clock.now(), everything=everything)
        failed = {tick.policy for tick in ticks}
        try:
            failed = await self._journal.record_holds(ticks)
        finally:
            for key in self.lane.leave(failed):
                self._schedule.put(key, self._schedule.soon(RETRY))

    def _publish(
        self, key: str, stored: Object, status: Status, judgement: Judgement, *, new_run: bool
    ) -> None:
        if new_run:
            self._verdicts.pop(key, None)
        elif judgement.known:
            self._verdicts[key] = judgement.numbers
        watch = status.run.watch if status.run else None
        surges = len(watch.surges) if watch else 0
        since = status.run.step_started_at if status.run and status.run.active else None
        # the status may owe the word of an open run's verdict (`controller.wording`)
        verdict = judgement.kind if status.run and status.run.active else status.verdict
        self._recorder.telemetry.show(key, status.weights, verdict, surges, since)
        self._recorder.news.tell("rollout", stored)
