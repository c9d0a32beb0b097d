"""What the passes of the loop leave in the history, before anything else happens.

Nothing is decided without a record; but a rollback never waits for bookkeeping, and neither does finishing a
write that was decided before. What could not be recorded of a rollback is kept and recorded first later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.ports import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.evidence import Collector
    from controller.ports import History, Tick
    from controller.record import Recorder
    from controller.rollout import Rollout

KEPT = 100
"""The most records of rollbacks that are kept while the history is down."""


class Journal:
    """Records passes. Evidence in memory never stays ahead of the history: it is forgotten and read again."""

    def __init__(self, history: History, collector: Collector, recorder: Recorder) -> None:
        self._history, self._collector, self._recorder = history, collector, recorder
        self._unrecorded: list[Tick] = []

    async def record(self, rollouts: Sequence[Rollout]) -> None:
        """Record what was seen and decided; afterwards each rollout says whether it `may_go_on`.

        All that merely hold are one transaction, each other decision is one of its own, rollbacks first.
        """
        news = [rollout for rollout in rollouts if rollout.tick and rollout.tick.decision is not None]
        holds = [rollout for rollout in rollouts if rollout.tick and rollout.tick.decision is None]
        urgent = [rollout for rollout in news if rollout.is_undelayed]
        if urgent:
            self.hurry()
        calm = [rollout for rollout in news if not rollout.is_undelayed]
        for group in [[each] for each in urgent] + ([holds] if holds else []) + [[each] for each in calm]:
            await self._write(group)

    def hurry(self) -> None:
        """Wait no longer than shortly for a history that does not answer: a rollback waits behind it."""
        self._history.hurry()

    async def record_holds(self, ticks: Sequence[Tick]) -> set[str]:
        """Record looks that merely held; return the policies whose looks could not be recorded."""
        if not ticks:
            return set()
        left, failed = [*ticks], set[str]()
        try:
            await self._write_deferred()
            await self._history.record(*ticks)
            self._recorder.recovered("history")
            left.clear()
        except UnavailableError as error:
            self._recorder.failure("history", str(error))
        except Exception as error:
            if len(ticks) == 1:
                self._recorder.internal(ticks[0].policy, error)
            while len(ticks) > 1 and left:  # one of them cannot be written: find it, and the others are
                failed |= await self.record_holds(left[:1])
                left.pop(0)
        finally:  # also when this is cancelled
            for tick in left:
                self._collector.drop(tick.run)
        return failed | {tick.policy for tick in left}

    async def catch_up(self) -> bool:
        """Record what is still owed; False when it cannot be recorded now."""
        try:
            await self._write_deferred()
        except UnavailableError as error:
            self._recorder.failure("history", str(error))
        return not self._unrecorded

    async def _write(self, rollouts: list[Rollout]) -> None:
        try:
            await self._write_deferred()
            await self._history.record(*(rollout.tick for rollout in rollouts if rollout.tick))
        except UnavailableError as error:
            self._recorder.failure("history", str(error))
            for rollout in rollouts:
                self._forget(rollout)
        except Exception as error:
            if len(rollouts) > 1:  # one of them cannot be written: find it, and the others go on
                for rollout in rollouts:
                    await self._write([rollout])
            else:
                self._recorder.internal(rollouts[0].key, error)
                self._forget(rollouts[0])
        else:
            self._recorder.recovered("history")
            for rollout in rollouts:
                if rollout.dossier:
                    rollout.dossier.recorded()

    async def _write_deferred(self) -> None:
        while self._unrecorded:
            try:
                await self._history.record(self._unrecorded[0])
            except UnavailableError:
                raise
            except Exception as error:  # it will never be writable
                self._recorder.internal(self._unrecorded[0].policy, error)
            self._unrecorded.pop(0)
            self._recorder.recovered("history")

    def _forget(self, rollout: Rollout) -> None:
        rollout.recorded = False
        if rollout.tick is None:
            return
        self._collector.drop(rollout.tick.run)
        if rollout.decision and rollout.decision.action in {"RollBack", "Delete"}:
            self._unrecorded = [*self._unrecorded[1 - KEPT :], rollout.tick]
