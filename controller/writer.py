"""Carries decisions out: first the status (the intent), then the word of it, then the traffic.

Every write is guarded by the version that was read: whoever was faster makes it a ConflictError, and the
decision is taken again. Weights are written only where they differ, one patch per VirtualService.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from controller.conditions import with_conditions
from controller.decision import Decision, Judgement, World
from controller.inventory import ref_of
from controller.ports import Ref
from controller.scene import MANAGER
from controller.status import Status
from istio.route import RouteError
from istio.weights import edit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.decision import Case
    from controller.ports import Object, Store
    from controller.record import Recorder
    from controller.rollout import Rollout


class Writer:
    """The only one of the controller that writes objects, apart from manual actions."""

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store, self._recorder = store, recorder
        self._ours: dict[Ref, str] = {}

    def is_ours(self, obj: Object) -> bool:
        """Tell whether this version of an object is the one that was written here last."""
        return self._ours.get(ref_of(obj), "") == str(obj["metadata"].get("resourceVersion"))

    def forget(self, obj: Object) -> None:
        """Forget an object that is gone."""
        self._ours.pop(ref_of(obj), None)

    async def carry_out(self, rollout: Rollout, case: Case, decision: Decision) -> tuple[Object, Status]:
        """Write status and weights; return the policy as it is stored then.

        ConflictError, NotFoundError and UnavailableError.
        """
        obj = rollout.entry.obj
        generation = int(obj["metadata"].get("generation", 0))
        status = with_conditions(decision, case.world, case.judgement, now=case.now, generation=generation)
        if status != rollout.entry.status:
            version = obj["metadata"]["resourceVersion"]
            obj = await self._store.patch_status(rollout.ref, status.dump(), resource_version=version)
            self._note(obj, "status")
        await self._recorder.decision(rollout.ref, decision)
        if decision.write is not None:
            await self._write(rollout, decision.write)
        return obj, status

    async def refuse(self, ref: Ref, obj: Object, problem: str, now: float) -> None:
        """Say on a policy that it cannot be used, and why; nothing is written when it says so already."""
        try:
            status = Status.of(obj)
        except ValidationError:
            return  # what else it says is not to be lost
        message = f"the policy is invalid: {problem}"
        decision = Decision("Hold", "PolicyInvalid", message, status, notable=False, warning=True)
        generation = int(obj["metadata"].get("generation", 0))
        told = with_conditions(decision, World(), Judgement(), now=now, generation=generation)
        if told != status:
            version = obj["metadata"]["resourceVersion"]
            self._note(await self._store.patch_status(ref, told.dump(), resource_version=version), "status")
            await self._recorder.decision(ref, decision)

    async def _write(self, rollout: Rollout, weights: Mapping[str, int]) -> None:
        policy = rollout.entry.policy
        keys = {variant.name: policy.destination(variant) for variant in policy.spec.variants}
        by_key = {keys[name]: weight for name, weight in weights.items()}
        if rollout.scene.route_error:
            self._recorder.failure("store", rollout.scene.route_error, rollout.key)
        for ref, obj in rollout.scene.virtual_services:
            try:
                operations = edit(obj, by_key, ref.routes)
            except RouteError as error:
                self._recorder.failure("store", str(error), rollout.key)
                continue
            if operations:
                target = Ref("VirtualService", policy.metadata.namespace, ref.name)
                self._note(await self._store.patch(target, operations, manager=MANAGER), "weights")

    def _note(self, stored: Object, what: str) -> None:
        self._ours[ref_of(stored)] = stored["metadata"]["resourceVersion"]
        self._recorder.telemetry.writes.labels(what).inc()
