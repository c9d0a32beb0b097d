"""A policy that is deleted: its traffic, its finalizer, its record, and that a deletion never hangs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from controller.chores import FINALIZER, Release, Scale, held, released
from controller.decision import Action, Judgement
from controller.machine import decide
from controller.ports import NotFoundError, Ref, RefusedError, UnavailableError
from controller.standing import Side, Standing
from controller.status import Copying, Idle, Status
from policies.model import RolloutPolicy
from tests.support.crashes import Fuse, killed_at_each_write
from tests.support.rig import GOOD, POLICY, ROUTE, Rig, ended, manifests
from tests.support.situations import NOW, UNDECIDED, open_run, policy, world

if TYPE_CHECKING:
    from pathlib import Path

    from controller.decision import Decision, World
    from controller.ports import Object

BACK = {"stable": 100, "candidate": 0}
SLOW = {"minSamples": 1_000_000}
DELETED: dict[str, Any] = {"deleting": True, "held": True}


def keeping(on_deletion: str) -> RolloutPolicy:
    raw = policy().model_dump(by_alias=True, exclude_none=True)
    return RolloutPolicy.model_validate({**raw, "spec": {**raw["spec"], "onDeletion": on_deletion}})


def deleted(status: Status, here: World, on_deletion: str = "rollback") -> Decision:
    return decide(keeping(on_deletion), status, replace(here, **DELETED), UNDECIDED, NOW)


def test_an_open_run_is_rolled_back_by_one_write_and_then_the_policy_goes() -> None:
    first = deleted(open_run(), world())
    assert (first.action, first.reason, first.write) == ("Delete", "Deleted", BACK)
    run = first.status.run
    assert run is not None
    assert (run.outcome, run.reason) == ("Superseded", "Deleted")
    unwritten = deleted(first.status, world())
    assert (unwritten.action, unwritten.write) == ("Settle", BACK), "the write was lost"
    last = deleted(first.status, world(live=BACK))
    assert (last.action, last.chores) == ("Release", (Release(),))


HINDRANCES: dict[str, dict[str, Any]] = {
    "the route is gone": {"live": None, "route_error": "VirtualService ranker does not exist"},
    "the control is gone": {"missing": {"stable": "no ready endpoint"}},
    "an older policy has the route": {"taken": "ml/older"},
}


@pytest.mark.parametrize("hindrance", HINDRANCES.values(), ids=HINDRANCES)
def test_where_the_traffic_cannot_go_to_the_control_it_stays_and_the_policy_goes(
    hindrance: dict[str, Any],
) -> None:
    first = deleted(open_run(), world(**hindrance))
    assert (first.action, first.write, first.warning) == ("Delete", None, True)
    assert "the traffic is left as it is" in first.message
    assert deleted(first.status, world(**hindrance)).action == "Release"


def test_a_write_that_is_refused_does_not_keep_the_policy() -> None:
    first = deleted(open_run(), world())
    last = deleted(first.status, world(refused="not allowed"))
    assert (last.action, last.warning) == ("Release", True)
    assert "not allowed" in last.message


def test_keep_leaves_the_traffic_and_ends_the_run() -> None:
    first = deleted(open_run(), world(), "keep")
    assert (first.action, first.reason, first.write) == ("Delete", "Deleted", None)
    assert "stable 95%, candidate 5%" in first.message
    assert deleted(first.status, world(), "keep").action == "Release"


@pytest.mark.parametrize(("on_deletion", "write"), [("rollback", BACK), ("keep", None)])
def test_a_copy_under_way_ends_as_an_open_run_does(on_deletion: str, write: object) -> None:
    status = open_run(
        outcome="Promoted", weights={"stable": 0, "candidate": 100},
        copying=Copying(phase="RollingOut", since=NOW, revision="c"),
    )  # fmt: skip
    first = deleted(status, world(live={"stable": 0, "candidate": 100}), on_deletion)
    assert (first.action, first.write) == ("Delete", write)
    assert first.status.run is not None
    assert not first.status.run.copies


def test_a_version_scaled_to_zero_is_scaled_up_before_the_policy_goes() -> None:
    asleep = Standing("Deployment", "ranker-v2", "b", rolled_out=False, asleep=True, noted=True)
    idle = Idle(variant="candidate", revision="b", workloads=("Deployment/ranker-v2",), phase="Asleep")
    status = open_run(outcome="RolledBack", weights=BACK).model_copy(update={"idle": idle})
    here = world(live=BACK, sides={"candidate": Side((), (asleep,))})
    first = deleted(status, here)
    assert first.action == "ScaleUp"
    assert first.chores == (Scale((asleep.key,), down=False),)
    lost = deleted(first.status, here)
    assert lost.chores == first.chores, "the write was lost"
    awake = replace(asleep, asleep=False, noted=False)
    assert deleted(first.status, replace(here, sides={"candidate": Side((), (awake,))})).action == "Release"


def test_an_action_on_a_deleted_policy_changes_nothing() -> None:
    here = world(action=Action("n", "promote-full"))
    assert deleted(open_run(), here).action == "Delete"


def test_a_policy_that_others_keep_is_left_alone() -> None:
    here = replace(world(), deleting=True, held=False)
    decision = decide(keeping("rollback"), open_run(), here, Judgement(), NOW)
    assert (decision.action, decision.write, decision.chores) == ("Hold", None, ())


def test_other_finalizers_stay() -> None:
    obj: Object = {"metadata": {"resourceVersion": "3", "finalizers": ["other/one"]}}
    [_, operation] = held(obj)
    assert operation["value"] == ["other/one", FINALIZER]
    obj["metadata"]["finalizers"] = operation["value"]
    assert held(obj) == []
    assert released(obj)[1]["value"] == ["other/one"]


# in the loop


async def start(rig: Rig, on_deletion: str = "rollback") -> None:
    await rig.start(GOOD, **SLOW)
    wanted = manifests(**SLOW)[0]
    wanted["spec"]["onDeletion"] = on_deletion
    await rig.put(wanted)
    await rig.run(8)
    assert await rig.weights() == [80, 20]


async def is_gone(rig: Rig) -> bool:
    try:
        await rig.store.get(POLICY)
    except NotFoundError:
        return True
    return False


async def test_no_weight_is_written_before_the_finalizer_is_there(rig: Rig) -> None:
    await rig.start(GOOD, **SLOW)
    patch, seen = rig.store.patch, []

    async def watched(ref: Ref, *args: Any, **kwargs: Any) -> Object:
        finalizers = (await rig.store.get(POLICY))["metadata"].get("finalizers")
        seen.append((ref.kind, finalizers))
        return await patch(ref, *args, **kwargs)

    rig.store.patch = watched  # type: ignore[method-assign, assignment]
    await rig.run(8)
    assert seen == [("RolloutPolicy", None), ("VirtualService", [FINALIZER])]


@pytest.mark.parametrize(("on_deletion", "weights"), [("rollback", [100, 0]), ("keep", [80, 20])])
async def test_deletion_does_with_the_traffic_what_the_policy_says(
    rig: Rig, on_deletion: str, weights: list[int]
) -> None:
    await start(rig, on_deletion)
    await rig.delete()
    assert not await is_gone(rig)
    await rig.looks(4)
    assert await is_gone(rig)
    assert await rig.weights() == weights
    whole = await rig.whole()
    assert (whole["outcome"], whole["reason"]) == ("Superseded", "Deleted")


async def test_deletion_after_a_run_leaves_the_traffic_where_it_ended(rig: Rig) -> None:
    await rig.start(GOOD)
    await rig.run(300, until=ended)
    await rig.delete()
    await rig.looks(4)
    assert await is_gone(rig)
    assert await rig.weights() == [0, 100]


@pytest.mark.parametrize("what", ["gone", "unreadable", "refused", "invalid policy", "no history"])
async def test_a_deletion_never_hangs(rig: Rig, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await start(rig)
    patch = rig.store.patch

    async def guarded(ref: Ref, *args: Any, **kwargs: Any) -> Object:
        if ref.kind == "VirtualService":
            raise RefusedError("not allowed to patch virtualservices")
        return await patch(ref, *args, **kwargs)

    async def down(*_: Any) -> None:
        raise UnavailableError("no disk")

    if what == "gone":
        await rig.store.delete(ROUTE, manager="folder")
    elif what == "unreadable":
        await rig.patch(ROUTE, "/spec/http/0/route/1/destination/subset", "v9")
    elif what == "refused":
        monkeypatch.setattr(rig.store, "patch", guarded)
    elif what == "invalid policy":
        await rig.patch(POLICY, "/spec/strategy", {"lottery": {}})
        version = (await rig.store.get(POLICY))["metadata"]["resourceVersion"]
        await rig.store.patch_status(POLICY, {}, resource_version=version)
        rig.crash()
    else:
        monkeypatch.setattr(rig.history, "record", down)
    await rig.delete()
    for _ in range(6):
        await rig.looks(3)
        rig.clock.time += 1
    assert await is_gone(rig)


async def test_a_manifest_that_is_back_before_the_policy_went_takes_the_deletion_back(rig: Rig) -> None:
    await start(rig)
    await rig.delete()
    await rig.put(manifests(**SLOW)[0])
    status = await rig.run(3)
    assert "deletionTimestamp" not in (await rig.store.get(POLICY))["metadata"]
    assert status.run is not None
    assert status.run.active


@pytest.mark.parametrize("late", [False, True])
async def test_a_kill_at_any_write_of_a_deletion_ends_the_same(tmp_path: Path, *, late: bool) -> None:
    assert len(await killed_at_each_write(tmp_path, _deletion, late=late)) > 3


async def _deletion(rig: Rig, fuse: Fuse) -> None:
    await start(rig)
    await rig.delete()
    fuse.light()
    for _ in range(8):
        await fuse.survive(rig.looks(3))
    assert await is_gone(rig)
    assert await rig.weights() == [100, 0]
    assert [each[1] for each in await rig.decisions()].count("Deleted") == 1
