"""Rollouts of Deployments in the loop: rolled, scaled, crashed and deleted while a run goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from controller.ports import UnavailableError
from controller.replay import replay
from tests.support.policies import changed
from tests.support.rig import GOOD, ROUTE, ended, manifests
from tests.support.simulated import Service
from tests.support.workloads import Cluster, past_deadline, pod, rolled_out, service, workload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.ports import Object
    from controller.status import Run, Status
    from tests.support.rig import Rig

ROLLING = {"replicas": 4, "updatedReplicas": 1, "readyReplicas": 3}
NOTHING_READY = {"replicas": 3, "updatedReplicas": 3}
UNDECIDED = 1_000_000
"""So many samples that no verdict comes in between."""


def the_run(status: Status) -> Run:
    assert status.run is not None
    return status.run


async def under_way(rig: Rig) -> Cluster:
    """A run on its first step that nothing decides."""
    cluster = Cluster(rig)
    await cluster.start(GOOD, minSamples=UNDECIDED)
    run = the_run(await rig.run(12))
    assert (run.active, await rig.weights()) == (True, [80, 20])
    return cluster


async def test_a_good_deployment_is_promoted_and_judged_again_when_its_template_changes(rig: Rig) -> None:
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    assert ended(await rig.run(300, until=ended))
    assert await rig.weights() == [0, 100]
    await cluster.apply(workload("v1", image="model:2"))
    run = the_run(await rig.run(3))
    assert (run.number, run.candidate, run.active) == (2, "stable", True)
    assert await rig.weights() == [20, 80]


async def test_a_run_starts_only_when_the_new_revision_is_all_that_is_left(rig: Rig) -> None:
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    assert ended(await rig.run(300, until=ended))
    newer = workload("v1", image="model:2", generation=2)
    for status in ({**rolled_out(3), "observedGeneration": 1}, ROLLING, {**rolled_out(3), "replicas": 4}):
        await cluster.apply({**newer, "status": {"observedGeneration": 2, **status}})
        found = await rig.run(2)
        assert (the_run(found).number, await rig.weights()) == (1, [0, 100])
    await cluster.apply(newer)
    assert the_run(await rig.run(2)).number == 2


async def test_before_the_first_run_it_is_said_what_is_waited_for(rig: Rig) -> None:
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    await cluster.apply(workload(status=ROLLING))
    status = await rig.run(2)
    assert status.summary == "candidate: Deployment ranker-v2: rolling out: 1 of 3 updated"
    assert await rig.weights() == [100, 0]
    await cluster.apply(workload(status={**ROLLING, "conditions": past_deadline("it timed out")}))
    status = await rig.run(2)
    stalled = status.condition("Stalled")
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("True", "ProgressDeadlineExceeded")
    await cluster.apply(workload())
    assert the_run(await rig.run(2)).number == 1


async def test_scaling_up_and_down_neither_starts_nor_stops_nor_distorts_a_run(rig: Rig) -> None:
    cluster = await under_way(rig)
    before = the_run(await rig.status())
    for generation, (wanted, there, ready) in enumerate(
        [(9, 3, 3), (9, 9, 3), (9, 9, 9), (2, 9, 9), (2, 2, 2), (2, 2, 1)], start=2
    ):
        counts = {**rolled_out(there), "readyReplicas": ready}
        for version in ("v1", "v2"):
            obj = workload(version, replicas=wanted, generation=generation, status=counts)
            await cluster.apply(changed(obj, "status.observedGeneration", generation - (there != wanted)))
        await rig.run(2)
    run = the_run(await rig.run(5))
    assert run == before
    ends = await rig.ends()
    assert ends == list(range(ends[0], ends[-1] + 1, 5)), "an interval was left out"


async def test_scaling_after_the_run_starts_nothing(rig: Rig) -> None:
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    assert ended(await rig.run(300, until=ended))
    for replicas in (0, 5):
        await cluster.apply(workload("v1", replicas=replicas))
        status = await rig.run(3)
        assert (the_run(status).number, await rig.weights()) == (1, [0, 100])
        ready = status.condition("Ready")
        assert ready is not None
        assert ready.status == "True", "the version without traffic may rest"


@pytest.mark.parametrize("status", [ROLLING, NOTHING_READY, {}])
async def test_a_newer_revision_takes_the_traffic_away_at_once_and_runs_when_it_is_ready(
    rig: Rig, status: Mapping[str, int]
) -> None:
    """Also when nothing of it is ready, as with the strategy Recreate: that is no fault of its own."""
    cluster = await under_way(rig)
    await cluster.apply(workload(image="model:2", status=status))
    run = the_run(await rig.run(1))
    assert (run.outcome, run.reason, await rig.weights()) == ("Superseded", "NewRevision", [100, 0])
    assert the_run(await rig.run(5)).number == 1
    await cluster.apply(workload(image="model:2"))
    run = the_run(await rig.run(14))
    assert (run.number, run.step, run.active, await rig.weights()) == (2, 0, True, [80, 20])
    assert min(await rig.ends(2)) > max(await rig.ends(1)), "the evidence is fresh"


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (workload(status=NOTHING_READY), "Deployment ranker-v2 has no ready endpoint"),
        (workload(replicas=0, status={}), "Deployment ranker-v2 is scaled to zero"),
        (None, "no Deployment or StatefulSet has pods with the labels app=ranker, version=v2"),
    ],
)
async def test_a_candidate_that_loses_its_last_endpoint_is_rolled_back_at_once(
    rig: Rig, after: Object | None, message: str
) -> None:
    cluster = await under_way(rig)
    await (cluster.apply(after) if after else cluster.delete(workload()))
    run = the_run(await rig.run(1))
    assert (run.outcome, run.reason, await rig.weights()) == ("RolledBack", "CandidateGone", [100, 0])
    assert run.message == f"candidate cannot take traffic: {message}"
    await cluster.apply(workload())
    assert the_run(await rig.run(5)).number == 1, "it had its run"


async def test_before_the_first_release_a_candidate_without_pods_is_awaited(rig: Rig) -> None:
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    await cluster.apply(workload(replicas=0, status={}))
    status = await rig.run(3)
    told = {each.type: (each.status, each.reason) for each in status.conditions}
    assert (status.run, status.summary) == (None, "candidate: Deployment ranker-v2 is scaled to zero")
    assert (told["Ready"], told["Stalled"]) == (("True", "Idle"), ("False", "Idle"))
    await cluster.apply(workload())
    assert the_run(await rig.run(3)).active


async def test_a_candidate_that_is_lost_does_not_wait_for_prometheus(rig: Rig) -> None:
    cluster = await under_way(rig)

    async def no_answer(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    rig.mesh.read = no_answer  # type: ignore[method-assign]
    rig.clock.time += 10
    await cluster.apply(workload(status=NOTHING_READY))
    async with asyncio.timeout(60):
        await rig.loop.look()
    assert await rig.weights() == [100, 0]


@pytest.mark.parametrize("ready", [0, 2])
async def test_a_crash_loop_is_rolled_back_at_once_with_the_last_words(rig: Rig, ready: int) -> None:
    cluster = await under_way(rig)
    last = {"reason": "Error", "exitCode": 1, "message": "cannot load weights"}
    cluster.pods = [pod("a"), pod("b", waiting="CrashLoopBackOff", restarts=5, last=last)]
    await cluster.apply(workload(status={**rolled_out(3), "readyReplicas": ready}))
    run = the_run(await rig.run(1))
    assert (run.outcome, run.reason, await rig.weights()) == ("RolledBack", "CrashLoop", [100, 0])
    assert run.message == (
        "candidate: container server of pod b was restarted 5 times; it ended with Error, exit code 1: "
        "cannot load weights"
    )


async def test_a_scale_up_whose_pods_cannot_start_holds_the_run_and_goes_on_when_they_can(rig: Rig) -> None:
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    await rig.run(3)
    cluster.pods = [pod("new", waiting="ImagePullBackOff", message="too many requests")]
    await cluster.apply(workload(replicas=4, status={**rolled_out(4), "readyReplicas": 3}))
    status = await rig.run(60)
    run, stalled = the_run(status), status.condition("Stalled")
    assert (run.active, run.step) == (True, 0)
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("True", "CannotStart")
    cluster.pods = []
    await cluster.apply(workload(replicas=4))
    assert ended(await rig.run(300, until=ended))
    assert await rig.weights() == [0, 100]


async def test_a_candidate_that_cannot_start_at_all_is_rolled_back_with_that_reason(rig: Rig) -> None:
    cluster = await under_way(rig)
    cluster.pods = [pod(waiting="CreateContainerConfigError", message="secret not found")]
    await cluster.apply(workload(status=NOTHING_READY))
    run = the_run(await rig.run(1))
    assert (run.outcome, run.reason) == ("RolledBack", "CannotStart")


async def test_pods_are_listed_once_per_interval_and_only_while_one_is_not_ready(rig: Rig) -> None:
    cluster = await under_way(rig)
    assert cluster.lists == 0
    await cluster.apply(workload(status={**rolled_out(3), "readyReplicas": 2}))
    await rig.run(20)
    assert 4 <= cluster.lists <= 5
    await cluster.apply(workload())
    await rig.run(1)
    before = cluster.lists
    await rig.run(20)
    assert cluster.lists == before


async def test_pods_that_cannot_be_listed_change_nothing(rig: Rig) -> None:
    cluster = await under_way(rig)

    async def down(*_: Any) -> Sequence[Object]:
        raise UnavailableError("the API server is down")

    rig.store.pods = down  # type: ignore[method-assign]
    await cluster.apply(workload(status={**rolled_out(3), "readyReplicas": 2}))
    assert the_run(await rig.run(10)).active
    await cluster.apply(workload(status=NOTHING_READY))
    assert the_run(await rig.run(1)).reason == "CandidateGone"


async def test_pods_that_cannot_be_understood_hold_up_nobody(rig: Rig) -> None:
    cluster = await under_way(rig)
    cluster.pods = [{"metadata": {}, "status": {"containerStatuses": ["nonsense"]}}]
    await cluster.apply(workload(status={**rolled_out(3), "readyReplicas": 2}))
    ends = len(await rig.ends())
    assert the_run(await rig.run(10)).active
    assert len(await rig.ends()) > ends, "it is measured all the same"
    assert rig.telemetry.errors.labels("internal")._value.get() > 0


async def test_a_control_that_is_rolled_during_the_run_is_told_once(rig: Rig) -> None:
    cluster = await under_way(rig)
    await cluster.apply(workload("v1", image="hotfix:1", status=ROLLING))
    await rig.run(3)
    await cluster.apply(workload("v1", image="hotfix:1"))
    status = await rig.run(10)
    assert (the_run(status).active, the_run(status).number) == (True, 1)
    assert (await rig.reasons()).count("ControlChanged") == 1
    assert status.summary.endswith("against a control that changed")
    assert await rig.weights() == [80, 20]


async def test_a_control_without_endpoints_holds_the_run_as_there_is_nowhere_to_go_back_to(rig: Rig) -> None:
    cluster = await under_way(rig)
    await cluster.apply(workload("v1", status=NOTHING_READY))
    status = await rig.run(3)
    stalled = status.condition("Stalled")
    assert stalled is not None
    assert (stalled.reason, await rig.weights()) == ("ControlGone", [80, 20])
    await cluster.apply(workload("v1"))
    assert the_run(await rig.run(5)).active


async def test_a_change_of_a_deployment_wakes_only_the_rollouts_that_select_it(rig: Rig) -> None:
    cluster = Cluster(rig)
    await rig.open(Service("ranker", dict(GOOD)), Service("other", dict(GOOD)))
    for name in ("ranker", "other"):
        for version in ("v1", "v2"):
            await cluster.apply(workload(version, app=name))
        objects = manifests(name, minSamples=UNDECIDED)
        await rig.put(service(name), *(each for each in objects if each["kind"] != "ServiceEntry"))
    await rig.run(4)
    rig.clock.time += 1
    rig.loop._schedule._due = dict.fromkeys(rig.loop._schedule._due, 1e12)
    rig.loop._schedule._wake.clear()
    # scaling and status updates that leave a pod ready are nobody's business
    await cluster.apply(workload(status={**rolled_out(3), "availableReplicas": 1, "collisionCount": 0}))
    assert not rig.loop._schedule._wake.is_set()
    await cluster.apply(workload(status={**rolled_out(3), "readyReplicas": 1}))
    assert rig.loop._schedule._wake.is_set()
    await rig.loop.look()
    assert rig.loop._schedule._due["default/ranker"] < 1e12
    assert rig.loop._schedule._due["default/other"] == 1e12


async def test_a_service_that_selects_other_pods_is_noticed(rig: Rig) -> None:
    cluster = await under_way(rig)
    for version in ("v1", "v2"):
        await cluster.apply(workload(version, app="next", image="model:2"))
    await rig.put(service(selector={"app": "next"}))
    assert the_run(await rig.run(1)).number == 2
    assert (await rig.whole(1))["reason"] == "NewRevision"


async def test_a_restart_during_a_run_of_deployments_continues_it(rig: Rig) -> None:
    await under_way(rig)
    before = the_run(await rig.status())
    rig.crash()
    assert the_run(await rig.run(5)) == before


async def test_a_rollback_for_a_crash_replays_to_the_same_decision(rig: Rig) -> None:

    cluster = await under_way(rig)
    cluster.pods = [pod(waiting="CrashLoopBackOff", restarts=5)]
    await cluster.apply(workload(status={**rolled_out(3), "readyReplicas": 2}))
    await rig.run(1)
    whole = await rig.whole()
    record = whole["decisions"][-1]
    again = replay(whole["policy"], record)
    assert (again.action, again.reason, again.message) == ("RollBack", "CrashLoop", record["message"])
    assert (await rig.store.get(ROUTE))["spec"]["http"][0]["timeout"] == "2s"


async def test_while_the_next_revision_rolls_out_the_last_run_is_no_answer(rig: Rig) -> None:
    """Whoever waits for Ready after `kubectl set image` would take the last run's end for the new one's."""
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    assert ended(await rig.run(300, until=ended))
    written = []
    patch_status = rig.store.patch_status

    async def counted(ref: Any, status: Object, **guard: Any) -> Object:
        if ref.kind == "RolloutPolicy":
            written.append(status["summary"])
        return await patch_status(ref, status, **guard)

    rig.store.patch_status = counted  # type: ignore[method-assign]
    for updated in range(4):
        counts = {"replicas": 4, "updatedReplicas": updated, "readyReplicas": 3}
        await cluster.apply(workload("v1", image="model:2", replicas=4, status=counts))
        status = await rig.run(3)
    told = {each.type: (each.status, each.reason) for each in status.conditions}
    assert (told["Ready"], told["Reconciling"]) == (("False", "RollingOut"), ("True", "RollingOut"))
    assert (told["Stalled"][0], told["Healthy"][0]) == ("False", "True")
    assert written == ["stable is new; its run begins when all pods are ready"], "once, not for each pod"
    await cluster.apply(
        workload("v1", image="model:2", status={**ROLLING, "conditions": past_deadline("it timed out")})
    )
    status = await rig.run(3)
    stalled = status.condition("Stalled")
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("True", "ProgressDeadlineExceeded")
    assert "it timed out" in stalled.message
    assert "it timed out" in status.summary
    await cluster.apply(workload("v1", image="model:2"))
    assert the_run(await rig.run(3)).number == 2


async def test_a_candidate_that_starts_from_nothing_alarms_nobody(rig: Rig) -> None:
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    await cluster.apply(workload(replicas=0, status={}))
    await rig.run(3)
    for status in ({"replicas": 3}, NOTHING_READY):
        await cluster.apply(workload(status=status))
        found = await rig.run(3)
        stalled, reconciling = found.condition("Stalled"), found.condition("Reconciling")
        assert stalled is not None
        assert reconciling is not None
        assert (stalled.status, reconciling.reason) == ("False", "RollingOut")
    assert "NotReady" not in await rig.reasons()
    await cluster.apply(workload())
    assert the_run(await rig.run(3)).number == 1
