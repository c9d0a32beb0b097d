"""The version without traffic: when it is scaled to zero, when it comes back, and when it is left alone."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from controller.chores import REPLICAS, Scale, scaled
from controller.decision import Action, Judgement
from controller.inventory import ref_of
from controller.machine import decide
from controller.ports import RefusedError
from controller.standing import Side, Standing
from controller.status import Idle, Roles, Status
from policies.model import RolloutPolicy
from tests.support.crashes import Fuse, killed_at_each_write
from tests.support.rig import BAD, POLICY, ROUTE, Rig, ended
from tests.support.situations import NOW, open_run, policy, world
from tests.support.workloads import Cluster, rolled_out, service, workload

if TYPE_CHECKING:
    from pathlib import Path

    from controller.decision import Decision, World
    from controller.ports import Object, Ref

AWAKE = Standing("Deployment", "ranker-v2", "b")
ASLEEP = replace(AWAKE, rolled_out=False, asleep=True, noted=True)
BACK = {"stable": 100, "candidate": 0}
DOWN, UP = (Scale((AWAKE.key,), down=True),), (Scale((AWAKE.key,), down=False),)


def scaling(after: str | None = "10m") -> RolloutPolicy:
    raw = policy().model_dump(by_alias=True, exclude_none=True)
    promotion = {"scaleDownAfter": after} if after else {}
    return RolloutPolicy.model_validate({**raw, "spec": {**raw["spec"], "promotion": promotion}})


def over(phase: str | None = None, **changes: Any) -> Status:
    """A run that was rolled back half an hour ago."""
    fields = {
        "outcome": "RolledBack",
        "reason": "Harmful",
        "weights": BACK,
        "ended_at": NOW - 1800,
        **changes,
    }
    idle = phase and Idle(variant="candidate", revision="b", workloads=("Deployment/ranker-v2",), phase=phase)
    status = open_run(**fields)
    return status.model_copy(
        update={"settled": {"stable": "a", "candidate": "b"}, "weights": BACK, "idle": idle or None}
    )


def here(candidate: Standing = AWAKE, **changes: Any) -> World:
    revisions = {"stable": "a", "candidate": candidate.revision}
    missing = {"candidate": "scaled to zero"} if candidate.asleep else {}
    found = {"stable": Side((), (replace(AWAKE, name="ranker-v1", revision="a"),)),
             "candidate": Side((), (candidate,))}  # fmt: skip
    return replace(world(live=BACK, revisions=revisions, missing=missing, sides=found), **changes)


def take(status: Status, place: World, after: str | None = "10m") -> Decision:
    return decide(scaling(after), status, place, Judgement(), NOW)


def test_a_version_without_traffic_is_scaled_down_when_its_time_has_come() -> None:
    decision = take(over(), here())
    assert (decision.action, decision.chores, decision.write) == ("ScaleDown", DOWN, None)
    assert decision.status.idle is not None
    assert decision.status.idle.phase == "Down"
    assert take(over(), here(), "31m").action == "Hold"
    assert take(over(), here(), None).action == "Hold"


NEVER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "live traffic by hand": ({}, {"live": {"stable": 90, "candidate": 10}}),
    "an unreadable route": ({}, {"live": None, "route_error": "gone"}),
    "weights that are not confirmed": ({"applied": False}, {}),
    "a run that never ended": ({"ended_at": None}, {}),
    "an open run": ({"outcome": None}, {}),
    "another user of its workloads": ({}, {"in_use": "Service ranker-v2 selects it too"}),
    "a new revision": (
        {},
        {"revisions": {"stable": "a", "candidate": "z"}, "rolling": {"candidate": "soon"}},
    ),
    "no workloads": ({}, {"sides": {}}),
}


@pytest.mark.parametrize(("run", "changes"), NEVER.values(), ids=NEVER)
def test_nothing_is_scaled_down_with(run: dict[str, Any], changes: dict[str, Any]) -> None:
    assert take(over(**run), here(**changes)).chores == ()


def test_what_else_uses_it_is_told() -> None:
    decision = take(over(), here(in_use="Service ranker-v2 selects it too"))
    assert (decision.reason, decision.warning) == ("StillInUse", True)
    assert decision.message == "candidate is not scaled down: Service ranker-v2 selects it too"


NOTED = replace(AWAKE, noted=True)
PHASES: dict[str, tuple[str, Standing, dict[str, Any], tuple[str, tuple[Any, ...], str | None]]] = {
    "the write was lost": ("Down", AWAKE, {}, ("ScaleDown", DOWN, "Down")),
    "it is down": ("Down", ASLEEP, {}, ("Rest", (), "Asleep")),
    "scaled up at once": ("Down", NOTED, {}, ("LeaveAlone", (), "LeftAlone")),
    "not allowed": ("Down", AWAKE, {"refused": "no"}, ("LeaveAlone", (), "LeftAlone")),
    "asleep": ("Asleep", ASLEEP, {}, ("Hold", (), "Asleep")),
    "scaled up by others": ("Asleep", NOTED, {}, ("LeaveAlone", (), "LeftAlone")),
    "the note goes": ("LeftAlone", NOTED, {}, ("LeaveAlone", UP, "LeftAlone")),
    "left alone": ("LeftAlone", AWAKE, {}, ("Hold", (), "LeftAlone")),
    "a new revision": ("Asleep", replace(ASLEEP, revision="z"), {}, ("ScaleUp", UP, "Waking")),
    "retry": ("Asleep", ASLEEP, {"action": Action("n", "retry")}, ("ScaleUp", UP, "Waking")),
    "abort": ("Asleep", ASLEEP, {"action": Action("n", "abort")}, ("Refuse", (), "Asleep")),
    "traffic": ("Asleep", ASLEEP, {"live": {"stable": 90, "candidate": 10}}, ("ScaleUp", UP, "Waking")),
    "waking": ("Waking", ASLEEP, {}, ("ScaleUp", UP, "Waking")),
    "waking, refused": ("Waking", ASLEEP, {"refused": "no"}, ("Hold", (), "Waking")),
    "awake": ("Waking", AWAKE, {}, ("Awake", (), None)),
}


@pytest.mark.parametrize(("phase", "found", "changes", "expected"), PHASES.values(), ids=PHASES)
def test_each_phase_goes_where_the_table_says(
    phase: str, found: Standing, changes: dict[str, Any], expected: tuple[str, tuple[Any, ...], str | None]
) -> None:
    decision = take(over(phase), here(found, **changes))
    idle = decision.status.idle
    assert (decision.action, decision.chores, idle and idle.phase) == expected


def test_without_the_field_it_comes_back() -> None:
    assert take(over("Asleep"), here(ASLEEP), None).action == "ScaleUp"


def test_a_version_asleep_is_nothing_wrong() -> None:
    decision = take(over("Asleep", outcome="Promoted", reason="Safe"), here(ASLEEP))
    assert (decision.reason, decision.warning) == ("Promoted", False)


def test_a_retry_waits_until_the_version_is_there_and_then_starts() -> None:
    retry = {"action": Action("n", "retry")}
    waking = take(over("Waking"), here(AWAKE, missing={"candidate": "no ready endpoint"}, **retry))
    assert (waking.action, waking.reason) == ("Hold", "ScalingUp")
    assert not waking.status.has_answered("n")
    awake = take(waking.status, here(AWAKE, **retry))
    assert awake.action == "Awake"
    assert take(awake.status, here(AWAKE, **retry)).action == "Start"


def test_a_variant_that_was_renamed_while_asleep_comes_back() -> None:
    place = here(ASLEEP, live={"stable": 100, "next": 0}, missing={"next": "scaled to zero"})
    found = {"stable": place.sides["stable"], "next": place.sides["candidate"]}
    place = replace(place, sides=found, revisions={"stable": "a", "next": "b"})
    raw = scaling().model_dump(by_alias=True, exclude_none=True)
    raw["spec"]["variants"] = [{"name": "stable", "subset": "v1"}, {"name": "next", "subset": "v2"}]
    decision = decide(RolloutPolicy.model_validate(raw), over("Asleep"), place, Judgement(), NOW)
    assert decision.status.roles == Roles(control="stable", candidate="next")
    assert decision.chores == UP


@pytest.mark.parametrize("replicas", [1, 7])
def test_scaling_down_notes_the_replicas_and_scaling_up_takes_them_from_there(replicas: int) -> None:
    obj = workload(replicas=replicas)
    obj["metadata"]["resourceVersion"] = "5"
    guard, zero, note = scaled(obj, down=True)
    assert guard == {"op": "test", "path": "/metadata/resourceVersion", "value": "5"}
    assert (zero["value"], note["value"]) == (0, {REPLICAS: str(replicas)})
    obj["spec"]["replicas"], obj["metadata"]["annotations"] = 0, {REPLICAS: str(replicas), "mine": "x"}
    assert scaled(obj, down=True) == []
    [_, back, gone] = scaled(obj, down=False)
    assert back["value"] == replicas
    assert gone == {"op": "remove", "path": "/metadata/annotations/penstock.dev~1replicas"}
    obj["spec"]["replicas"] = 2
    assert scaled(obj, down=False) == [guard, gone]
    assert scaled(workload(), down=False) == []


# in the loop


class Scaler:
    """Plays the Deployment controller for one workload."""

    def __init__(self, rig: Rig, version: str = "v2") -> None:
        self._rig, self._ref = rig, ref_of(workload(version))

    async def get(self) -> Object:
        return await self._rig.store.get(self._ref)

    async def replicas(self) -> int:
        return int((await self.get())["spec"]["replicas"])

    async def note(self) -> str | None:
        return ((await self.get())["metadata"].get("annotations") or {}).get(REPLICAS)

    async def follow(self) -> None:
        obj = deepcopy(await self.get())
        generation = obj["metadata"]["generation"]
        status = {"observedGeneration": generation, **rolled_out(obj["spec"]["replicas"])}
        version = obj["metadata"]["resourceVersion"]
        self._rig.loop.changed(
            await self._rig.store.patch_status(self._ref, status, resource_version=version)
        )


async def start(rig: Rig, after: str = "20s") -> tuple[Cluster, Scaler]:
    """A candidate that has been rolled back."""
    cluster = Cluster(rig)
    await cluster.start(BAD)
    stored = await rig.store.get(POLICY)
    await rig.put({**stored, "spec": {**stored["spec"], "promotion": {"scaleDownAfter": after}}})
    await cluster.apply(workload("v2", image="model:2"))
    await rig.run(2)
    await rig.act("abort")
    assert ended(await rig.run(5, until=ended))
    return cluster, Scaler(rig)


def phase(status: Status) -> str | None:
    return status.idle and status.idle.phase


async def test_the_loser_rests_and_is_back_before_its_next_run(rig: Rig) -> None:
    cluster, scaler = await start(rig)
    await rig.run(10)
    assert await scaler.replicas() == 3, "too early"
    await rig.run(15)
    assert (await scaler.replicas(), await scaler.note()) == (0, "3")
    await scaler.follow()
    status = await rig.run(5)
    assert phase(status) == "Asleep"
    new = workload("v2", image="model:3", replicas=0)
    new["metadata"]["annotations"] = {REPLICAS: "3"}
    await cluster.apply(new)
    status = await rig.run(5)
    assert (phase(status), await scaler.replicas(), await scaler.note()) == ("Waking", 3, None)
    assert status.run is not None
    assert status.run.number == 1, "it started before its pods were there"
    assert await rig.weights() == [100, 0]
    await scaler.follow()
    status = await rig.run(5)
    assert status.run is not None
    assert (status.run.number, status.idle) == (2, None)


async def test_what_others_scale_up_is_left_alone_and_told_once(rig: Rig) -> None:
    _, scaler = await start(rig)
    await rig.run(25)
    await scaler.follow()
    await rig.run(3)
    ref = ref_of(workload("v2"))
    rig.loop.changed(
        await rig.store.patch(
            ref, [{"op": "replace", "path": "/spec/replicas", "value": 2}], manager="autoscaler"
        )
    )
    await scaler.follow()
    status = await rig.run(60)
    assert (phase(status), await scaler.replicas(), await scaler.note()) == ("LeftAlone", 2, None)
    assert (await rig.reasons()).count("ScaledUpByOthers") == 1


async def test_retry_brings_it_back_and_then_runs(rig: Rig) -> None:
    _, scaler = await start(rig)
    await rig.run(25)
    await scaler.follow()
    await rig.run(3)
    await rig.act("retry")
    await rig.run(3)
    assert await scaler.replicas() == 3
    await scaler.follow()
    status = await rig.run(5)
    assert status.run is not None
    assert status.run.number == 2


async def test_a_deleted_policy_leaves_nothing_scaled_down(rig: Rig) -> None:
    _, scaler = await start(rig)
    await rig.run(25)
    assert await scaler.replicas() == 0
    await rig.delete()
    await rig.looks(6)
    assert (await scaler.replicas(), await scaler.note()) == (3, None)
    assert await rig.store.list("RolloutPolicy") == []


async def test_what_cannot_be_understood_keeps_a_version_awake_and_holds_up_nobody(rig: Rig) -> None:
    _, scaler = await start(rig)
    await rig.put(header_route("v2") | {"spec": {"http": ["nonsense"]}})
    status = await rig.run(40)
    assert await scaler.replicas() == 3
    [told] = [each for each in await rig.store.events(POLICY) if each["reason"] == "StillInUse"]
    assert "whether anybody uses it cannot be told" in told["message"]
    assert ended(status)


def preview(**spec: Any) -> Object:
    return service("preview", selector={"app": "ranker", "version": "v2"}, **spec)


def header_route(subset: str | None) -> Object:
    to = {"host": "ranker", **({"subset": subset} if subset else {})}
    return {
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "beta", "namespace": "default"},
        "spec": {"hosts": ["beta"], "http": [{"route": [{"destination": to}]}]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (preview(), "Service preview selects it too"),
        (header_route("v2"), "VirtualService beta sends traffic to ranker v2"),
        (header_route(None), "VirtualService beta sends traffic to ranker"),
        (header_route("v1"), ""),
        (service("other"), ""),
    ],
    ids=[
        "a Service",
        "a route to the subset",
        "a route without a subset",
        "a route elsewhere",
        "another app",
    ],
)
async def test_workloads_that_get_traffic_another_way_stay(rig: Rig, other: Object, words: str) -> None:
    _, scaler = await start(rig)
    await rig.put(other)
    await rig.run(40)
    assert await scaler.replicas() == (3 if words else 0)
    told = [each for each in await rig.store.events(POLICY) if each["reason"] == "StillInUse"]
    assert ("; ".join(each["message"] for each in told)) == (
        f"candidate is not scaled down: {words}" if words else ""
    )


async def test_a_refusal_is_told_and_not_repeated(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    _, scaler = await start(rig)
    patch, tries = rig.store.patch, 0

    async def guarded(ref: Ref, *args: Any, **kwargs: Any) -> Object:
        nonlocal tries
        if ref.kind == "Deployment":
            tries += 1
            raise RefusedError("not allowed to patch deployments")
        return await patch(ref, *args, **kwargs)

    monkeypatch.setattr(rig.store, "patch", guarded)
    status = await rig.run(60)
    assert (phase(status), tries, await scaler.replicas()) == ("LeftAlone", 1, 3)
    assert "ScaleDownRefused" in await rig.reasons()


@pytest.mark.parametrize("late", [False, True])
async def test_a_kill_at_any_write_loses_no_replicas(tmp_path: Path, *, late: bool) -> None:
    """Down, asleep, up again by `retry`: killed at each write in turn."""
    assert len(await killed_at_each_write(tmp_path, _sleep_and_waking, late=late)) > 5


async def _sleep_and_waking(rig: Rig, fuse: Fuse) -> None:
    _, scaler = await start(rig)
    fuse.light()
    asked = False
    for _ in range(45):
        await fuse.survive(rig.run(1))
        await scaler.follow()
        status = await rig.status()
        if status.run and status.run.number == 2:
            break
        if phase(status) == "Asleep" and not asked:
            assert await scaler.replicas() == 0
            await rig.act("retry")
            asked = True
    assert asked, "it never rested"
    assert (await scaler.replicas(), await scaler.note()) == (3, None)
    run = (await rig.status()).run
    assert run is not None
    assert run.number == 2


async def test_no_weight_goes_to_what_is_scaled_to_zero(rig: Rig) -> None:
    """A person sends traffic there by hand: it is scaled up again."""
    _, scaler = await start(rig)
    await rig.run(25)
    await scaler.follow()
    await rig.run(3)
    await rig.patch(ROUTE, "/spec/http/0/route/0/weight", 50)
    await rig.patch(ROUTE, "/spec/http/0/route/1/weight", 50)
    await rig.run(3)
    assert await scaler.replicas() == 3
