"""Follows the store: what changed makes rollouts due, and wakes the loop.

The loop reads the objects anew at each pass, so all that is told here is who is to be looked at. A pass puts
each rollout's next look where it plans it, also of one whose policy has changed while the pass was under way,
which the pass does not know: that is told again when it is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.actions import is_asked
from controller.inventory import ref_of
from controller.ports import ConflictError, UnavailableError
from controller.scene import KINDS
from controller.schedule import RETRY
from controller.workloads import WORKLOADS

if TYPE_CHECKING:
    from controller.inventory import Inventory
    from controller.journal import Journal
    from controller.ports import Clock, Object, Ref, Store
    from controller.record import Recorder
    from controller.schedule import Schedule
    from controller.writer import Writer


class Follower:
    """Makes rollouts due whenever something that may concern them changes."""

    def __init__(
        self, *, store: Store, inventory: Inventory, schedule: Schedule, writer: Writer, journal: Journal,
        recorder: Recorder, clock: Clock,
    ) -> None:  # fmt: skip
        self._store, self._inventory, self._schedule = store, inventory, schedule
        self._writer, self._journal = writer, journal
        self._recorder, self._clock = recorder, clock
        self._meanwhile: dict[Ref, Object] = {}
        """Policies and templates that changed since the pass began, as they were told last."""
        self._lost_track = False
        """Whether anything may have changed since then."""

    async def run(self) -> None:
        """Follow every change, until cancelled."""
        while True:
            try:
                since = await self._store.version()
                self._lost_track = True  # whatever changed before `since` is looked at now
                self._schedule.forget_all()
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
        """Make due what a change that is not our own may concern.

        Whom a change of another object concerns is found by the next pass; for most changes of workloads that
        is nobody, and then there is none.
        """
        if self._writer.is_ours(obj):
            return
        kind = obj["kind"]
        if kind in WORKLOADS and not self._inventory.matters(obj, gone=gone):
            return
        if kind == "RolloutPolicy" and is_asked(obj):
            self._journal.hurry()  # the look that is under way may wait for a history that hangs
        if kind in {"RolloutPolicy", "MetricTemplate"}:
            self._meanwhile[ref_of(obj)] = obj
            self._make_due(obj)
        self._schedule.wake()

    def _make_due(self, obj: Object) -> None:
        kind, namespace, name = ref_of(obj)
        if kind == "RolloutPolicy":
            self._schedule.forget(f"{namespace}/{name}")
        else:
            self._schedule.forget_all(but=lambda key: not key.startswith(f"{namespace}/"))

    def pass_begins(self) -> None:
        """Whatever has changed until now is seen by the pass that begins."""
        self._meanwhile, self._lost_track = {}, False

    def pass_ends(self) -> None:
        """Make due again what has changed since the pass began, our own writes aside."""
        if self._lost_track:
            self._schedule.forget_all()
        for obj in self._meanwhile.values():
            if not self._writer.is_ours(obj):  # it may have been told before its writer knew that it was done
                self._make_due(obj)
