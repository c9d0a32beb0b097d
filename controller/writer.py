"""Carries decisions out: first the status (the intent), then the word of it, then the traffic and the rest.

Every write is guarded by the version that was read: whoever was faster makes it a ConflictError, and the
decision is taken again. Weights are written only where they differ, one patch per VirtualService.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from controller.chores import CopyTemplate, Release, Scale, copied, held, released, scaled
from controller.conditions import looked_at, with_conditions
from controller.decision import Decision, Judgement, World
from controller.inventory import ref_of
from controller.latest import Latest
from controller.ports import ConflictError, NotFoundError, Ref, RefusedError
from controller.scene import MANAGER
from controller.status import Status
from controller.wording import only_rewords
from controller.workloads import read_workload
from istio.route import RouteError
from istio.weights import edit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.chores import Chore
    from controller.decision import Case
    from controller.ports import Object, Store
    from controller.record import Recorder
    from controller.rollout import Rollout


class Writer:
    """The only one of the controller that writes objects, apart from manual actions."""

    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store, self._recorder = store, recorder
        self._ours: Latest[Ref, str] = Latest()
        self._written: Latest[Ref, tuple[int, Mapping[str, int]]] = Latest()
        """Generation and weights of each VirtualService as it was written here last."""
        self._refused: Latest[str, str] = Latest()
        """What the store said to the last write for a rollout, if it refused it."""

    def is_ours(self, obj: Object) -> bool:
        """Tell whether this version of an object is the one that was written here last."""
        return self._ours.get(ref_of(obj), "") == str(obj["metadata"].get("resourceVersion"))

    def forget(self, obj: Object) -> None:
        """Forget an object that is gone."""
        self._ours.pop(ref_of(obj), None)
        self._written.pop(ref_of(obj), None)

    def was_overwritten(self, routes: Sequence[Object], wanted: Mapping[str, int]) -> bool:
        """Tell whether the wanted weights were written to one of the routes that was changed since."""
        written = ((obj, self._written.get(ref_of(obj))) for obj in routes)
        return any(
            known is not None and known[1] == wanted and obj["metadata"].get("generation", 0) > known[0]
            for obj, known in written
        )

    def wrote(self, routes: Sequence[Object]) -> bool:
        """Tell whether one of the routes is as it was written here."""
        written = ((obj, self._written.get(ref_of(obj))) for obj in routes)
        return any(known and obj["metadata"].get("generation", 0) == known[0] for obj, known in written)

    async def carry_out(self, rollout: Rollout, case: Case, decision: Decision) -> tuple[Object, Status]:
        """Write status, weights and chores; return the policy as it is stored then.

        ConflictError, NotFoundError and UnavailableError.
        """
        obj = await self._hold(rollout, decision)
        generation = int(obj["metadata"].get("generation", 0))
        status = self._status(rollout, case, decision, generation)
        if status != rollout.entry.status:
            version = obj["metadata"]["resourceVersion"]
            obj = await self._store.patch_status(rollout.ref, status.dump(), resource_version=version)
            self._note(obj, "status")
            if only_rewords(rollout.entry.status, status):
                rollout.entry.wording.written_at = case.now
        await self._recorder.decision(rollout.ref, decision)
        try:
            if decision.write is not None:
                await self._write(rollout, decision.write)
            for chore in decision.chores:
                await self._do(rollout, chore, obj)
        except RefusedError as error:
            self._refused[rollout.key] = str(error)
            raise
        return obj, status

    def refusal(self, key: str) -> str:
        """Return what the store said to the last write for a rollout, once, if it refused it."""
        return self._refused.pop(key, "")

    async def _hold(self, rollout: Rollout, decision: Decision) -> Object:
        """Return the policy, with our finalizer if it has any business that must not be left half done."""
        obj, run = rollout.entry.obj, decision.status.run
        busy = run is not None and (run.active or run.copies or not run.applied)
        if busy or decision.status.idle is not None:
            return await self._patch(rollout.ref, held(obj), "finalizer") or obj
        return obj

    async def _do(self, rollout: Rollout, chore: Chore, policy: Object) -> None:
        match chore:
            case Release():
                await self._patch(rollout.ref, released(policy), "finalizer")
            case Scale(workloads=names, down=down):
                for kind, name in names:
                    await self._scale(Ref(kind, rollout.ref.namespace, name), down=down)
            case CopyTemplate():
                await self._copy(rollout.ref.namespace, chore)

    async def release(self, ref: Ref, policy: Object) -> None:
        """Let a policy go that cannot be used, if it is being deleted."""
        if "deletionTimestamp" in policy["metadata"]:
            message = "the policy cannot be used: the traffic is left as it is"
            await self._recorder.warn(ref, "Released", message)
            await self._patch(ref, released(policy), "finalizer")

    async def _scale(self, ref: Ref, *, down: bool) -> None:
        try:
            await self._patch(ref, scaled(await self._store.get(ref), down=down), "replicas")
        except NotFoundError as error:
            self._recorder.failure("store", str(error), str(ref))

    async def _copy(self, namespace: str, chore: CopyTemplate) -> None:
        source, target = (Ref(each.kind, namespace, each.name) for each in (chore.source, chore.target))
        found = await self._store.get(source)
        if read_workload(found).revision != chore.revision:
            raise ConflictError(f"{source} changed meanwhile")
        await self._patch(target, copied(found, await self._store.get(target), chore), "template")

    async def _patch(self, ref: Ref, operations: Sequence[Mapping[str, Any]], what: str) -> Object | None:
        """Write a patch that says something; return what is stored then."""
        if not operations:
            return None
        stored = await self._store.patch(ref, operations, manager=MANAGER)
        self._note(stored, what)
        return stored

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

    def _status(self, rollout: Rollout, case: Case, decision: Decision, generation: int) -> Status:
        """Return the status with its conditions; the same one where it was found to stay so before.

        The same one, too, where only the verdict's word is new, and it is too early (`controller.wording`).
        """
        before, kept = decision.status, rollout.entry
        seen = looked_at(decision, case.world, case.judgement, generation)
        early = kept.wording.is_early(case.now)
        if before is kept.status and kept.unchanged_by == seen and (early or not kept.wording.owed):
            return before
        status = with_conditions(decision, case.world, case.judgement, now=case.now, generation=generation)
        kept.wording.owed = early and before is kept.status and only_rewords(before, status)
        if kept.wording.owed:
            status = before
        kept.unchanged_by = seen if status == kept.status else None
        return status

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
            target = Ref("VirtualService", policy.metadata.namespace, ref.name)
            if stored := await self._patch(target, operations, "weights"):
                self._written[target] = stored["metadata"].get("generation", 0), dict(weights)

    def _note(self, stored: Object, what: str) -> None:
        self._ours[ref_of(stored)] = stored["metadata"]["resourceVersion"]
        self._recorder.telemetry.writes.labels(what).inc()
