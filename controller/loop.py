"""The loop: gather, judge, decide, record, write - for every rollout that is due.

One pass serves all due rollouts: the objects are read once, each metric template is queried once, the judge
takes one vectorised step. Then each rollout gets one pure decision, and the decision is carried out in the
order that makes a crash at any point harmless (docs/architecture.md): history, status, traffic.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controller.actions import action_of
from controller.conditions import with_conditions
from controller.decision import NOT_APPLIED, Case, Decision, World
from controller.evidence import Collector, Dossier, Owed, judgement_of
from controller.machine import decide
from controller.ports import (
    Applied,
    ConflictError,
    NotFoundError,
    Ref,
    Tick,
    UnavailableError,
)
from controller.replay import kept
from controller.scene import KINDS, MANAGER, Objects, Scene, read_scene
from controller.status import Run, Status, to_rfc3339
from istio.route import RouteError
from istio.weights import edit
from policies.parse import InvalidError, policy_from_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.ports import Clock, DataPlane, History, Object, Store
    from controller.record import Recorder
    from policies.model import RolloutPolicy

SOON = 0.1
"""Seconds until a rollout with unfinished business is looked at again."""
RETRY = 1.0
"""Seconds until the next try after the store or the history failed."""
BACKLOG = "backlog"
"""Due when rollbacks still have to be recorded; like "", it is no policy's key."""


@dataclass
class _Rollout:
    """One rollout in one pass."""

    obj: Object
    policy: RolloutPolicy
    status: Status
    scene: Scene
    dossier: Dossier | None = None
    error: str = ""

    @property
    def ref(self) -> Ref:
        return Ref("RolloutPolicy", self.policy.metadata.namespace, self.policy.metadata.name)

    @property
    def run(self) -> Run | None:
        return self.status.run


class Loop:
    """Drives all rollouts of one store."""

    def __init__(
        self, *, store: Store, history: History, dataplane: DataPlane, collector: Collector,
        recorder: Recorder, clock: Clock,
    ) -> None:  # fmt: skip
        self._store, self._history, self._dataplane = store, history, dataplane
        self._collector, self._recorder, self._clock = collector, recorder, clock
        self._due: dict[str, float] = {}
        self._unrecorded: list[Tick] = []
        self._ours: dict[Ref, str] = {}
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

    async def _watch(self) -> None:
        """Wake the loop on every change that is not our own."""
        while True:
            try:
                async for event in self._store.watch(KINDS):
                    self.changed(event.object)
            except UnavailableError as error:
                self._recorder.failure("store", str(error))
                await self._clock.sleep(RETRY)

    def changed(self, obj: Object) -> None:
        """Make due what a change may concern: the rollout itself, or every rollout of the namespace."""
        meta = obj["metadata"]
        ref = Ref(obj["kind"], meta.get("namespace", "default"), meta["name"])
        if self._ours.get(ref) == meta.get("resourceVersion"):
            return
        prefix = f"{ref.namespace}/{ref.name if ref.kind == 'RolloutPolicy' else ''}"
        self._due = {key: due for key, due in self._due.items() if not key.startswith(prefix)}
        self._wake.set()

    async def _wait(self) -> None:
        pause = max(0.0, min(self._due.values(), default=3600.0) - self._clock.now())
        if not self._wake.is_set() and pause:
            sleeper = asyncio.ensure_future(self._clock.sleep(pause))
            waker = asyncio.ensure_future(self._wake.wait())
            _, pending = await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
        self._wake.clear()

    async def look(self) -> None:
        """Take one pass over every rollout that is due; failures of one rollout do not touch the others."""
        now = self._clock.now()
        with self._recorder.telemetry.look_seconds.time():
            try:
                rollouts = await self._gather(now)
                await self._judge(rollouts, now)
            except UnavailableError as error:
                self._recorder.failure("store", str(error))
                self._due[""] = now + RETRY
                return
            self._due.pop("", None)
            self._recorder.recovered("store")
            for rollout in rollouts:
                await self._guarded(rollout, now)
            if self._due.get(BACKLOG, math.inf) <= now:
                await self._catch_up(now)
        self._recorder.telemetry.looks.inc()

    async def _gather(self, now: float) -> list[_Rollout]:
        objects = [obj for kind in KINDS for obj in await self._store.list(kind)]
        self._collector.adopt(obj for obj in objects if obj["kind"] == "MetricTemplate")
        index = Objects.of(objects)
        rollouts, keys = [], set()
        for obj in (obj for obj in objects if obj["kind"] == "RolloutPolicy"):
            try:
                policy, status = policy_from_object(obj), Status.of(obj)
            except InvalidError as error:
                self._recorder.failure("internal", f"{obj['metadata']['name']}: {error}")
                continue
            keys.add(policy.key)
            if self._due.get(policy.key, 0.0) <= now:
                rollouts.append(_Rollout(obj, policy, status, read_scene(policy, index, status.weights)))
        self._forget(keys)
        return rollouts

    def _forget(self, keys: set[str]) -> None:
        self._due = {key: due for key, due in self._due.items() if key in keys or "/" not in key}
        self.verdicts = {key: value for key, value in self.verdicts.items() if key in keys}

    async def _judge(self, rollouts: list[_Rollout], now: float) -> None:
        """Bring the evidence of every open run up to date."""
        owed = []
        for rollout in rollouts:
            run, arms = rollout.run, rollout.scene.arms
            if run is None or not run.active:
                continue
            try:
                rollout.dossier = await self._collector.dossier(rollout.policy, run)
            except UnavailableError as error:
                rollout.error = f"the history cannot be read: {error}"
                continue
            if run.applied and {run.control, run.candidate} <= arms.keys():
                owed.append(Owed(rollout.policy, run, arms, rollout.dossier))
        await self._collector.collect(owed, now)

    async def _guarded(self, rollout: _Rollout, now: float) -> None:
        key = rollout.policy.key
        try:
            wait = await self._advance(rollout, now)
        except (ConflictError, NotFoundError) as error:
            # somebody was faster: read again, decide again
            self._recorder.telemetry.errors.labels("conflict").inc()
            self._recorder.failure("conflict", f"{key}: {error}")
            wait = SOON
        except UnavailableError as error:
            self._recorder.failure("store", f"{key}: {error}")
            wait = RETRY
        self._due[key] = now + wait

    async def _advance(self, rollout: _Rollout, now: float) -> float:
        """Decide on one rollout and carry it out; return the seconds until it wants to be looked at again."""
        judgement = judgement_of(rollout.dossier)
        world = await self._world(rollout)
        case = Case(rollout.policy, rollout.status, world, judgement, now)
        decision = decide(*case.inputs)
        recorded = await self._record(rollout, decision, case)
        if not recorded and decision.action not in {"RollBack", "Settle", "Confirm"}:
            # nothing is decided without a record, but a rollback never waits for bookkeeping
            return RETRY
        await self._enact(rollout, decision, case)
        return self._next(rollout.policy, decision, now)

    async def _world(self, rollout: _Rollout) -> World:
        scene, run = rollout.scene, rollout.run
        applied = NOT_APPLIED
        if run is not None and not run.applied:
            applied = await self._applied(scene)
        error = rollout.error or (rollout.dossier.error if rollout.dossier else "")
        return World(
            revisions=scene.revisions, missing=scene.missing, live=scene.live, route_error=scene.route_error,
            changed_by=scene.changed_by, applied=applied, metrics_error=error, action=action_of(rollout.obj),
        )  # fmt: skip

    async def _applied(self, scene: Scene) -> Applied:
        for _, obj in scene.virtual_services:
            applied = await self._dataplane.applied(obj)
            if not applied.ok:
                return applied
        return Applied(ok=bool(scene.virtual_services))

    async def _record(self, rollout: _Rollout, decision: Decision, case: Case) -> bool:
        """Write what was seen and decided to the history; False when it cannot be written now."""
        run, dossier = decision.status.run, rollout.dossier
        news = decision.notable and decision.action not in {"Confirm", "Refuse"}
        if run is None or not (news or (dossier and dossier.intervals)):
            return True
        tick = Tick(
            run=run.id, policy=rollout.policy.key, at=case.now, cursor=dossier.cursor if dossier else 0,
            weights=(rollout.run or run).weights if decision.action != "Start" else run.weights,
            intervals=dossier.intervals if dossier else [], evidence=dossier.stored() if dossier else {},
            verdict=case.judgement.numbers, decision=kept(decision, case) if news else None,
            run_facts=_run_facts(rollout.policy, run),
        )  # fmt: skip
        try:
            await self._write_history(tick)
        except UnavailableError as error:
            self._recorder.failure("history", str(error))
            if decision.action == "RollBack":
                self._unrecorded = [*self._unrecorded[-99:], tick]
                self._due[BACKLOG] = case.now + RETRY
            # memory is ahead of the history: forget, and read again what is really stored
            self._collector.dossiers.pop(run.id, None)
            return False
        self._recorder.recovered("history")
        if dossier:
            dossier.intervals = []
        return True

    async def _write_history(self, *ticks: Tick) -> None:
        """Write what is owed, then `ticks`."""
        while self._unrecorded:
            await self._history.record(self._unrecorded[0])
            self._unrecorded.pop(0)
        for tick in ticks:
            await self._history.record(tick)

    async def _catch_up(self, now: float) -> None:
        """Record the rollbacks that did not wait for the history; their runs have no later look to do it."""
        self._due.pop(BACKLOG)
        try:
            await self._write_history()
        except UnavailableError as error:
            self._recorder.failure("history", str(error))
            self._due[BACKLOG] = now + RETRY
        else:
            self._recorder.recovered("history")

    async def _enact(self, rollout: _Rollout, decision: Decision, case: Case) -> None:
        """Carry a decision out: first the status (the intent), then the traffic, then the word of it."""
        generation = int(rollout.obj["metadata"].get("generation", 0))
        status = with_conditions(decision, case.world, case.judgement, now=case.now, generation=generation)
        body = status.dump()
        if body != rollout.obj.get("status"):
            version = rollout.obj["metadata"]["resourceVersion"]
            stored = await self._store.patch_status(rollout.ref, body, resource_version=version)
            self._ours[rollout.ref] = stored["metadata"]["resourceVersion"]
            self._recorder.telemetry.writes.labels("status").inc()
            rollout.obj = stored
        await self._recorder.decision(rollout.ref, decision)
        if decision.write is not None:
            await self._write(rollout, decision.write)
        self._recorder.telemetry.show(rollout.policy.key, status.weights, status.verdict)
        if case.judgement.numbers:
            self.verdicts[rollout.policy.key] = case.judgement.numbers
        self._recorder.news.tell("rollout", rollout.obj)

    async def _write(self, rollout: _Rollout, weights: Mapping[str, int]) -> None:
        """Write the weights, one guarded patch per VirtualService, and only where they differ."""
        if not rollout.scene.virtual_services:
            self._recorder.failure("store", f"{rollout.policy.key}: {rollout.scene.route_error}")
            return
        keys = {variant.name: rollout.policy.destination(variant) for variant in rollout.policy.spec.variants}
        by_key = {keys[name]: weight for name, weight in weights.items()}
        for ref, obj in rollout.scene.virtual_services:
            try:
                operations = edit(obj, by_key, ref.routes)
            except RouteError as error:
                self._recorder.failure("store", f"{rollout.policy.key}: {error}")
                continue
            if operations:
                target = Ref("VirtualService", rollout.policy.metadata.namespace, ref.name)
                stored = await self._store.patch(target, operations, manager=MANAGER)
                self._ours[target] = stored["metadata"]["resourceVersion"]
                self._recorder.telemetry.writes.labels("weights").inc()

    def _next(self, policy: RolloutPolicy, decision: Decision, now: float) -> float:
        """Return how long this rollout can be left alone."""
        run = decision.status.run
        if decision.notable or (run is not None and not run.applied):
            return SOON
        if run is None or not run.active:
            return 3600.0
        step = policy.spec.decision.interval.seconds
        settle = self._collector.settle
        return ((now - settle) // step + 1) * step + settle - now


def _run_facts(policy: RolloutPolicy, run: Run) -> dict[str, Any]:
    """Return the run as a whole, as it is kept."""
    return {
        "number": run.number, "control": run.control, "candidate": run.candidate, "revisions": run.revisions,
        "startedAt": to_rfc3339(run.started_at),
        "endedAt": to_rfc3339(run.decided_at) if run.decided_at else None,
        "outcome": run.outcome, "reason": run.reason, "message": run.message, "blame": run.blame,
        "policy": policy.model_dump(mode="json", by_alias=True, exclude_none=True),
    }  # fmt: skip
