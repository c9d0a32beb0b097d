"""Looks at the pods of candidates that are not all ready, whether they crash or cannot start.

Pods are listed only for a candidate that lacks a pod, in its run or before it, for each at most once per
interval, and nobody waits long for the answers: what was found before holds until there is a newer one.
Rollbacks stand behind these lists: all of a pass together have the time of one, who waited longest is first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.abreast import abreast
from controller.crashes import Container, coming, failing, restarts
from controller.ports import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from controller.ports import Object, Store
    from controller.record import Recorder
    from controller.rollout import Rollout
    from controller.workloads import Selection

AT_ONCE = 8
"""Lists of pods that are asked for at the same time."""
PATIENCE = 2.0
"""Seconds to wait for all lists of pods of one pass."""


@dataclass
class _Known:
    """What is known of the pods of one candidate."""

    subject: str
    """The run, or the revision that waits for one."""
    since: float | None
    """When the run began; what was wrong before does not count."""
    before: dict[Container, int] = field(default_factory=dict)
    """Restarts that were before the run, by container of the pods that are there."""
    asked_at: float = 0.0
    failing: Mapping[str, str] = field(default_factory=dict)

    def learn(self, pods: Sequence[Object]) -> None:
        """Take in the pods as they are now."""
        if self.since is None:
            self.failing = failing(coming(pods), {})
            return
        first = restarts(pods, self.since)
        self.before = {each: self.before.get(each, count) for each, count in first.items()}
        self.failing = failing(pods, self.before)


class Lookout:
    """Knows what is wrong with the pods of candidates."""

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store, self._recorder = store, recorder
        self._known: dict[str, _Known] = {}
        """By policy key."""

    async def look_after(self, rollouts: Sequence[Rollout], now: float) -> None:
        """Tell rollouts what is wrong with their candidates' pods."""
        until = asyncio.get_running_loop().time() + PATIENCE

        async def look(rollout: Rollout) -> None:
            await self._look(rollout, now, until)

        wanting = [each for each in rollouts if each.unready or each.coming]
        await abreast(look, sorted(wanting, key=self._asked_at), limit=AT_ONCE)

    def _asked_at(self, rollout: Rollout) -> float:
        known = self._known.get(rollout.key)
        return known.asked_at if known else 0.0

    def remind(self, rollouts: Sequence[Rollout]) -> None:
        """Tell rollouts for which nobody can wait what was found last of the pods of their new candidates."""
        for rollout in rollouts:
            known = self._known.get(rollout.key)
            if known and rollout.coming and known.subject == rollout.coming.revision:
                rollout.failing = known.failing

    def keep(self, policies: Collection[str]) -> None:
        """Forget all policies but these."""
        self._known = {key: each for key, each in self._known.items() if key in policies}

    async def _look(self, rollout: Rollout, now: float, until: float) -> None:
        selection = rollout.unready or rollout.coming
        if selection is None:
            return
        run = rollout.run if rollout.unready else None
        subject, since = (run.id, run.started_at) if run else (selection.revision, None)
        known = self._known.get(rollout.key)
        if known is None or known.subject != subject:
            known = self._known[rollout.key] = _Known(subject, since)
        is_recent = 0 <= now - known.asked_at < rollout.entry.policy.spec.decision.interval.seconds
        if not is_recent and asyncio.get_running_loop().time() < until:
            known.asked_at = now
            await self._ask(rollout, selection, known, until)
        rollout.failing = known.failing

    async def _ask(self, rollout: Rollout, selection: Selection, known: _Known, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                pods = await self._store.pods(rollout.ref.namespace, selection.labels)
            known.learn(pods)
        except (UnavailableError, TimeoutError) as error:
            why = str(error) or f"no answer within {PATIENCE:.0f} s"
            self._recorder.failure("store", f"the pods cannot be listed: {why}", rollout.key)
        except Exception as error:
            self._recorder.internal(rollout.key, error)
        else:
            self._recorder.recovered("store", rollout.key)
