"""Promotion by copy: its phases as a table, and in the loop with Deployments, failures and kills."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from controller.chores import COPIED, CopyTemplate, copied
from controller.decision import Action, Case, Judgement
from controller.machine import decide
from controller.ports import Ref, RefusedError
from controller.replay import kept, replay
from controller.standing import Side, Standing
from controller.status import Copying, Roles, Run, Status
from controller.workloads import Name, read_workload
from policies.model import RolloutPolicy
from tests.support.crashes import Fuse, killed_at_each_write
from tests.support.rig import GOOD, POLICY, Rig
from tests.support.situations import CONFIRMED, NOW, open_run, policy, world
from tests.support.workloads import Cluster, past_deadline, workload

if TYPE_CHECKING:
    from pathlib import Path

    from controller.decision import Decision, World
    from controller.ports import Object

OLD = Standing("Deployment", "ranker-v1", "a")
NEW = Standing("Deployment", "ranker-v2", "b")
COPY = replace(OLD, revision="c", copied="ml.ranker.1/1")
COPYING = replace(COPY, rolled_out=False, rolling="1 of 3 updated")
STUCK = replace(COPYING, stuck="timed out")
CONTROL, TARGET = Ref("Deployment", "default", "ranker-v1"), Name("Deployment", "ranker-v1")
BACK = {"stable": 100, "candidate": 0}
FORTH = {"stable": 0, "candidate": 100}


def copying_policy(mode: str = "copy") -> RolloutPolicy:
    spec = policy().spec.model_dump(by_alias=True, exclude_none=True)
    raw = policy().model_dump(by_alias=True, exclude_none=True)
    return RolloutPolicy.model_validate({**raw, "spec": {**spec, "promotion": {"mode": mode}}})


def sides(control: Standing, candidate: Standing = NEW) -> dict[str, Side]:
    return {
        "stable": Side(("app", "version"), (control,)),
        "candidate": Side(("app", "version"), (candidate,)),
    }


def promoted(phase: str, **changes: Any) -> Status:
    copy = Copying(phase=phase, since=NOW - 60, revision="" if phase == "Writing" else "c", message="broken")
    run = open_run().run
    assert run is not None
    run = run.model_copy(
        update={"outcome": "Promoted", "weights": FORTH, "decided_at": NOW - 70, "copying": copy, **changes}
    )
    settled = {"stable": "a", "candidate": "b"}
    return Status(
        roles=Roles(control="stable", candidate="candidate"), weights=run.weights, run=run, settled=settled
    )


def after(control: Standing, **changes: Any) -> World:
    revisions = {"stable": control.revision, "candidate": "b"}
    return replace(world(live=FORTH, revisions=revisions, sides=sides(control)), **changes)


def take(status: Status, here: World, now: float = NOW, mode: str = "copy") -> Decision:
    return decide(copying_policy(mode), status, here, Judgement(), now)


def phase(decision: Decision) -> str:
    run = decision.status.run
    return run.copying.phase if run and run.copying else ""


def test_a_promotion_by_copy_sends_the_traffic_to_the_candidate_and_keeps_the_roles() -> None:
    case = decide(
        copying_policy(),
        open_run(),
        world(sides=sides(OLD), action=Action("n", "promote-full")),
        Judgement(),
        NOW,
    )
    assert (case.action, phase(case), case.write) == ("Promote", "Writing", FORTH)
    assert case.status.roles == Roles(control="stable", candidate="candidate")
    assert case.status.condition("Ready") is None


@pytest.mark.parametrize(
    "found", [{}, {"stable": Side((), (OLD, NEW)), "candidate": Side((), (NEW,))}, sides(NEW)]
)
def test_with_nothing_to_copy_it_is_a_swap_and_says_so(found: dict[str, Side]) -> None:
    here = world(sides=found, action=Action("n", "promote-full"))
    decision = decide(copying_policy(), open_run(), here, Judgement(), NOW)
    assert phase(decision) == "Skipped"
    assert decision.status.roles == Roles(control="candidate", candidate="stable")
    run = decision.status.run
    assert run is not None
    assert run.copying is not None
    assert run.copying.message


MISSING = {"missing": {"stable": "no ready endpoint"}}
CASES: dict[str, tuple[str, Standing, dict[str, Any], tuple[str, str, object]]] = {
    "write": ("Writing", OLD, {}, ("Copy", "Writing", None)),
    "written": ("Writing", COPYING, {}, ("RollOut", "RollingOut", None)),
    "refused": ("Writing", OLD, {"refused": "forbidden"}, ("FailCopy", "Failed", None)),
    "no workload left": ("Writing", OLD, {"sides": {}}, ("FailCopy", "Failed", None)),
    "rolling out": ("RollingOut", COPYING, MISSING, ("Hold", "RollingOut", None)),
    "rolled out, not serving": ("RollingOut", COPY, MISSING, ("Hold", "RollingOut", None)),
    "rolled out": ("RollingOut", COPY, {}, ("Return", "Returning", BACK)),
    "stuck": ("RollingOut", STUCK, {}, ("FailCopy", "Failed", None)),
    "changed by somebody": ("RollingOut", replace(COPY, revision="x"), {}, ("FailCopy", "Failed", None)),
    "workload gone": ("RollingOut", COPY, {"sides": {}}, ("FailCopy", "Failed", None)),
    "still failed": ("Failed", STUCK, {}, ("Hold", "Failed", None)),
    "ready after all": ("Failed", COPY, {}, ("Return", "Returning", BACK)),
    "candidate gone, control intact": (
        "Writing", OLD, {"missing": {"candidate": "gone"}}, ("RollBack", "GivenUp", BACK),
    ),
    "candidate gone, control with the copy": (
        "RollingOut", COPYING, {"missing": {"candidate": "gone"}}, ("Return", "Returning", BACK),
    ),
    "both gone": (
        "RollingOut", COPYING, {"missing": {"candidate": "x", "stable": "x"}}, ("Hold", "RollingOut", None),
    ),
    "new candidate before the copy": (
        "Writing", OLD, {"revisions": {"stable": "a", "candidate": "z"}}, ("Supersede", "GivenUp", BACK),
    ),
    "new candidate, copy written": (
        "RollingOut", COPY, {"revisions": {"stable": "c", "candidate": "z"}}, ("Return", "Returning", BACK),
    ),
    "new candidate after a failure": (
        "Failed", STUCK, {"revisions": {"stable": "c", "candidate": "z"}}, ("Supersede", "GivenUp", BACK),
    ),
    "new candidate, nothing serves": (
        "Writing", OLD, {"revisions": {"candidate": "z"}, **MISSING}, ("FailCopy", "Failed", None),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "control", "changes", "expected"), CASES.values(), ids=CASES)
def test_each_phase_goes_where_the_table_says(
    name: str, control: Standing, changes: dict[str, Any], expected: tuple[str, str, object]
) -> None:
    decision = take(promoted(name), after(control, **changes))
    assert (decision.action, phase(decision), decision.write) == expected
    settled = decision.status.settled
    assert settled["stable"] in {"a", "c"}


def test_a_copy_that_takes_longer_than_the_deadline_has_failed() -> None:
    late = take(promoted("RollingOut"), after(COPYING), now=NOW + 3600)
    assert (late.reason, phase(late), late.warning) == ("CopyFailed", "Failed", True)


ACTIONS: dict[str, tuple[str, str, Standing, tuple[str, str, object]]] = {
    "abort before the copy": ("abort", "Writing", OLD, ("RollBack", "GivenUp", BACK)),
    "abort after a refused copy": ("abort", "Failed", OLD, ("RollBack", "GivenUp", BACK)),
    "abort with the copy written": ("abort", "Writing", COPYING, ("GiveUpCopy", "GivenUp", None)),
    "abort while rolling out": ("abort", "RollingOut", COPYING, ("GiveUpCopy", "GivenUp", None)),
    "abort after a failure": ("abort", "Failed", STUCK, ("GiveUpCopy", "GivenUp", None)),
    "abort while returning": ("abort", "Returning", COPY, ("Refuse", "Returning", None)),
    "retry after a failure": ("retry", "Failed", STUCK, ("RetryCopy", "Writing", None)),
    "retry without one": ("retry", "RollingOut", COPYING, ("Refuse", "RollingOut", None)),
    "pause": ("pause", "RollingOut", COPYING, ("Refuse", "RollingOut", None)),
}


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize(("verb", "name", "control", "expected"), ACTIONS.values(), ids=ACTIONS)
def test_actions_are_answered_at_once_even_while_the_proxies_are_silent(
    verb: str, name: str, control: Standing, expected: tuple[str, str, object], *, applied: bool
) -> None:
    here = after(control, action=Action("n", verb), applied=replace(CONFIRMED, ok=False))
    decision = take(promoted(name, applied=applied), here)
    assert (decision.action, phase(decision), decision.write) == expected
    assert decision.status.has_answered("n")


def test_a_copy_that_was_given_up_is_a_swap_and_starts_no_run() -> None:
    given_up = take(promoted("RollingOut"), after(COPYING), mode="swap")
    assert given_up.status.roles == Roles(control="candidate", candidate="stable")
    ready = take(given_up.status, after(COPY), mode="swap")
    assert ready.action == "Hold"


def test_after_the_return_the_run_is_over_and_both_versions_are_settled() -> None:
    going = promoted("Returning", weights=BACK, applied=False)
    confirmed = take(going, after(COPY, live=BACK))
    assert confirmed.action == "Confirm"
    done = take(confirmed.status, after(COPY, live=BACK))
    assert phase(done) == "Done"
    run = done.status.run
    assert run is not None
    assert (run.ended_at, run.outcome) == (NOW, "Promoted")
    assert done.status.settled == {"stable": "c", "candidate": "b"}
    assert take(done.status, after(COPY, live=BACK)).action == "Hold"


def test_a_copy_whose_variants_were_renamed_is_given_up() -> None:
    raw = copying_policy().model_dump(by_alias=True, exclude_none=True)
    raw["spec"]["variants"] = [{"name": "old", "subset": "v1"}, {"name": "new", "subset": "v2"}]
    here = world(live={"old": 0, "new": 100}, revisions={"old": "a", "new": "b"})
    decision = decide(RolloutPolicy.model_validate(raw), promoted("Failed"), here, Judgement(), NOW)
    assert (decision.reason, phase(decision), decision.write) == ("VariantsChanged", "GivenUp", None)


def test_a_decision_about_a_copy_is_replayed_from_the_history_to_the_same() -> None:
    case = Case(copying_policy(), promoted("RollingOut"), after(COPY), Judgement(), NOW)
    decision = decide(*case.inputs)
    record = json.loads(json.dumps(kept(decision, case)))
    document = copying_policy().model_dump(mode="json", by_alias=True, exclude_none=True)
    assert replay(document, record) == decision


def chore(keep: tuple[str, ...] = ("app", "version")) -> CopyTemplate:
    return CopyTemplate(Name("Deployment", "ranker-v2"), "b", TARGET, keep, "run/1")


def test_a_copied_template_keeps_the_labels_that_tell_the_versions_apart_and_nothing_else() -> None:
    source, target = workload("v2", image="model:2"), workload("v1")
    for obj in (source, target):
        obj["metadata"]["resourceVersion"] = "7"
        obj["spec"]["selector"] = {"matchLabels": {"app": "ranker"}}
    source["spec"]["template"]["metadata"]["labels"] |= {"tier": "gold", "slot": "b", "new": "yes"}
    source["spec"]["template"]["metadata"]["annotations"] = {"note": "x"}
    target["spec"]["template"]["metadata"]["labels"] |= {"tier": "iron", "slot": "a", "gone": "soon"}
    target["spec"]["selector"] = {"matchExpressions": [{"key": "slot", "operator": "Exists"}]}
    guard, template, note = copied(source, target, chore())
    assert guard == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    labels = {"app": "ranker", "version": "v1", "tier": "gold", "slot": "a", "new": "yes"}
    assert template["value"]["metadata"] == {"labels": labels, "annotations": {"note": "x"}}
    assert template["value"]["spec"] == source["spec"]["template"]["spec"]
    assert note["value"] == {COPIED: "run/1"}
    target["metadata"]["annotations"] = {COPIED: "run/1"}
    assert copied(source, target, chore()) == []


# in the loop


async def start(rig: Rig, **decision: Any) -> Cluster:
    cluster = Cluster(rig)
    await cluster.start(GOOD, **decision)
    stored = await rig.store.get(POLICY)
    wanted = {**stored, "spec": {**stored["spec"], "promotion": {"mode": "copy"}}}
    await rig.put(wanted)
    await cluster.apply(workload("v2", image="model:2"))
    return cluster


def in_phase(name: str) -> Any:
    return lambda status: bool(status.run and status.run.copying and status.run.copying.phase == name)


async def roll(rig: Rig, cluster: Cluster, **status: Any) -> None:
    """Play the Deployment controller for the control."""
    obj = deepcopy(await rig.store.get(CONTROL))
    obj["status"] = {
        **workload("v1")["status"],
        "observedGeneration": obj["metadata"]["generation"],
        **status,
    }
    version = obj["metadata"]["resourceVersion"]
    rig.loop.changed(await rig.store.patch_status(CONTROL, obj["status"], resource_version=version))


def run_of(status: Status) -> Run:
    assert status.run is not None
    return status.run


async def image(rig: Rig) -> str:
    return str((await rig.store.get(CONTROL))["spec"]["template"]["spec"]["containers"][0]["image"])


async def test_the_control_takes_the_template_then_the_traffic_and_no_run_follows(rig: Rig) -> None:
    cluster = await start(rig)
    status = await rig.run(300, until=in_phase("RollingOut"))
    assert await rig.weights() == [0, 100]
    assert await image(rig) == "model:2"
    await rig.run(3)
    assert await rig.weights() == [0, 100], "the traffic came before the pods"
    reconciling = (await rig.status()).condition("Reconciling")
    assert reconciling is not None
    assert (reconciling.status, reconciling.reason) == ("True", "CopyRollingOut")
    await roll(rig, cluster)
    status = await rig.run(10, until=in_phase("Done"))
    assert await rig.weights() == [100, 0]
    assert status.roles == Roles(control="stable", candidate="candidate")
    assert run_of(status).outcome == "Promoted"
    status = await rig.run(30)
    assert run_of(status).number == 1
    done = status.condition("Copied")
    assert done is not None
    assert done.status == "True"
    assert status.condition("Ready").status == "True"  # type: ignore[union-attr]
    await cluster.apply(workload("v2", image="model:3"))
    status = await rig.run(5)
    assert (run_of(status).number, run_of(status).control) == (2, "stable")


async def test_a_copy_that_gets_stuck_leaves_the_traffic_and_goes_on_when_it_can(rig: Rig) -> None:
    cluster = await start(rig)
    await rig.run(300, until=in_phase("RollingOut"))
    await roll(rig, cluster, updatedReplicas=1, readyReplicas=2, conditions=past_deadline())
    status = await rig.run(30, until=in_phase("Failed"))
    assert await rig.weights() == [0, 100]
    assert "CopyFailed" in await rig.reasons()
    stalled = status.condition("Stalled")
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("True", "CopyFailed")
    assert "timed out progressing" in stalled.message
    await roll(rig, cluster)
    await rig.run(10, until=in_phase("Done"))
    assert await rig.weights() == [100, 0]


async def test_a_copy_that_is_refused_is_told_and_tried_again_by_a_person(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await start(rig)
    patch, allowed = rig.store.patch, False

    async def guarded(ref: Ref, *args: Any, **kwargs: Any) -> Object:
        if ref.kind == "Deployment" and not allowed:
            raise RefusedError("not allowed to patch deployments")
        return await patch(ref, *args, **kwargs)

    monkeypatch.setattr(rig.store, "patch", guarded)
    status = await rig.run(300, until=in_phase("Failed"))
    assert "not allowed to patch deployments" in run_of(status).copying.message  # type: ignore[union-attr]
    status = await rig.run(30)
    assert in_phase("Failed")(status)
    allowed = True
    await rig.act("retry")
    await rig.run(10, until=in_phase("RollingOut"))
    await roll(rig, cluster)
    await rig.run(10, until=in_phase("Done"))
    assert await rig.weights() == [100, 0]


async def test_abort_before_the_control_changed_is_a_rollback(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(rig)
    patch = rig.store.patch

    async def guarded(ref: Ref, *args: Any, **kwargs: Any) -> Object:
        if ref.kind == "Deployment":
            raise RefusedError("no")
        return await patch(ref, *args, **kwargs)

    monkeypatch.setattr(rig.store, "patch", guarded)
    await rig.run(300, until=in_phase("Failed"))
    await rig.act("abort")
    status = await rig.run(5)
    assert await rig.weights() == [100, 0]
    assert (run_of(status).outcome, run_of(status).reason) == ("RolledBack", "Aborted")


@pytest.mark.parametrize("late", [False, True])
async def test_a_kill_at_any_write_copies_once_and_ends_the_same(tmp_path: Path, *, late: bool) -> None:
    *killed, whole = await killed_at_each_write(tmp_path, _copy, late=late)
    assert (whole["weights"], whole["phase"]) == ([100, 0], "Done")
    assert len(killed) > 5
    for kill_at, told in enumerate(killed, start=1):
        assert told == whole, f"killed at write {kill_at}"


async def _copy(rig: Rig, fuse: Fuse) -> dict[str, Any]:
    cluster = await start(rig)
    await rig.run(300, until=in_phase("Writing"))
    fuse.light()
    for _ in range(40):
        await fuse.survive(rig.run(1))
        if await image(rig) == "model:2":
            await roll(rig, cluster)
    status = await rig.status()
    target = await rig.store.get(CONTROL)
    return {
        "weights": await rig.weights(), "phase": run_of(status).copying.phase,  # type: ignore[union-attr]
        "run": run_of(status).number, "settled": status.settled, "roles": status.roles,
        "generation": target["metadata"]["generation"], "revision": read_workload(target).revision,
    }  # fmt: skip
