"""How a rollout's look begins: with what the objects say of it, and with what is known of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.actions import ignored
from controller.evidence import UnjudgeableError
from controller.idle import due
from controller.ports import UnavailableError
from controller.rollout import Rollout
from controller.scene import MANAGER
from controller.schedule import RETRY
from controller.usage import in_use

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.evidence import Collector
    from controller.inventory import Entry, Inventory
    from controller.record import Recorder
    from controller.scene import Scene
    from controller.schedule import Schedule
    from controller.writer import Writer


class Opening:
    """Begins looks; whatever is wrong with one rollout is told and tried again."""

    def __init__(
        self, *, inventory: Inventory, collector: Collector, writer: Writer, schedule: Schedule,
        recorder: Recorder,
    ) -> None:  # fmt: skip
        self._inventory, self._collector, self._writer = inventory, collector, writer
        self._schedule, self._recorder = schedule, recorder

    async def begin(self, entry: Entry, now: float) -> Rollout | None:
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

    async def know(self, rollouts: Sequence[Rollout]) -> None:
        """Get what is known of every open run, from memory or the history, which does one thing at a time."""
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
