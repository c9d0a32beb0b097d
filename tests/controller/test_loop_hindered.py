"""A new candidate whose pods crash or cannot start before its run: said at once, and nothing else happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.rig import GOOD, ended
from tests.support.workloads import Cluster, past_deadline, pod, rolled_out, workload

if TYPE_CHECKING:
    from controller.status import Status
    from tests.support.rig import Rig

COMING = {"replicas": 3, "updatedReplicas": 1, "readyReplicas": 2}
ALL_BUT_ONE = {**rolled_out(3), "readyReplicas": 2}
CRASHING = pod(waiting="CrashLoopBackOff", restarts=4, last={"reason": "Error", "exitCode": 3})
UNPULLED = pod(waiting="ImagePullBackOff", message="not found: model:2")


def told(status: Status) -> tuple[dict[str, str], str]:
    """Return how the conditions stand that scripts wait for, and why it is stalled."""
    found = {each.type: each for each in status.conditions}
    states = {name: found[name].status for name in ("Ready", "Reconciling", "Stalled")}
    return states, f"{found['Stalled'].reason}: {found['Stalled'].message}"


STALLED = {"Ready": "False", "Reconciling": "False", "Stalled": "True"}
PROGRESSING = {"Ready": "False", "Reconciling": "True", "Stalled": "False"}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
@pytest.mark.parametrize("counts", [COMING, ALL_BUT_ONE, {"replicas": 3, "updatedReplicas": 3}])
@pytest.mark.parametrize(
    ("broken", "reason", "words", "summary"),
    [
        (CRASHING, "CrashLoop", "it ended with Error, exit code 3", "crash again and again"),
        (UNPULLED, "CannotStart", "ImagePullBackOff: not found: model:2", "cannot start"),
    ],
)
async def test_it_is_stalled_at_once_and_runs_when_it_is_repaired(
    rig: Rig, kind: str, counts: dict[str, int], broken: Any, reason: str, words: str, summary: str
) -> None:
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    await cluster.delete(workload())
    await cluster.apply(workload(kind=kind, status=counts))
    cluster.pods = [broken]
    status = await rig.run(2)
    states, why = told(status)
    assert states == STALLED
    assert why.startswith(f"{reason}: container server of pod ranker-v2-x")
    assert words in why
    assert status.summary == f"candidate is new, but its pods {summary}"
    assert status.run is None
    assert await rig.weights() == [100, 0]
    await rig.run(20)
    assert (await rig.reasons()).count(reason) == 1
    cluster.pods = []
    await cluster.apply(workload(kind=kind))
    run = (await rig.run(2)).run
    assert run is not None
    assert run.active


async def test_pods_that_come_to_crash_are_noticed_though_their_workload_says_nothing_new(rig: Rig) -> None:
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    assert ended(await rig.run(300, until=ended))
    await cluster.apply(workload("v1", image="model:2", status=COMING))
    assert told(await rig.run(8))[0] == PROGRESSING
    assert (await rig.status()).summary == "stable is new; its run begins when all pods are ready"
    cluster.pods = [CRASHING]
    states, why = told(await rig.run(6))
    assert (states, why.partition(":")[0]) == (STALLED, "CrashLoop")
    cluster.pods = [pod(restarts=4)]
    assert told(await rig.run(6))[0] == STALLED, "it is between two crashes"
    cluster.pods = []
    assert told(await rig.run(6))[0] == PROGRESSING
    assert await rig.weights() == [0, 100]


async def test_pods_of_the_revision_before_say_nothing_of_the_new_one(rig: Rig) -> None:
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    cluster.pods = [CRASHING]
    await cluster.apply(workload(status={"replicas": 3, "updatedReplicas": 0, "readyReplicas": 2}))
    assert told(await rig.run(8))[0] == PROGRESSING
    assert cluster.lists == 0


async def test_pods_are_listed_once_per_interval_while_they_are_awaited_and_not_after(rig: Rig) -> None:
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    await cluster.apply(workload(status=COMING))
    await rig.run(30)
    assert 5 <= cluster.lists <= 8
    await cluster.apply(workload(replicas=0, status={}))
    await rig.run(5)
    before = cluster.lists
    await rig.run(30)
    assert cluster.lists == before


@pytest.mark.parametrize("verb", ["pause", "retry"])
@pytest.mark.parametrize(
    ("counts", "states"),
    [
        (ALL_BUT_ONE, STALLED),
        ({**ALL_BUT_ONE, "conditions": past_deadline()}, STALLED),
        (COMING, PROGRESSING),
    ],
)
async def test_an_action_that_is_refused_leaves_what_scripts_wait_for_as_it_is(
    rig: Rig, counts: dict[str, Any], states: dict[str, str], verb: str
) -> None:
    """A script that waits for Ready must not take the look that refuses for the end of the rollout."""
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    await cluster.delete(workload())
    cluster.pods = [CRASHING] if counts is ALL_BUT_ONE else []
    await cluster.apply(workload(status=counts))
    assert told(await rig.run(2))[0] == states
    await rig.act(verb)
    await rig.looks(1)
    status = await rig.status()
    assert status.last_action is not None
    assert status.last_action.result.startswith("ActionRefused")
    assert told(status)[0] == states
    await rig.run(2)
    assert told(await rig.status())[0] == states


@pytest.mark.parametrize(
    ("counts", "broken", "words"),
    [
        (ALL_BUT_ONE, [CRASHING], "container server of pod ranker-v2-x was restarted 4 times"),
        ({**ALL_BUT_ONE, "conditions": past_deadline()}, [], "has timed out progressing"),
    ],
)
async def test_a_retry_begins_no_run_with_pods_that_crash_and_is_told_why(
    rig: Rig, counts: dict[str, Any], broken: list[Any], words: str
) -> None:
    cluster = Cluster(rig)
    await cluster.start(GOOD)
    await cluster.delete(workload())
    cluster.pods = broken
    await cluster.apply(workload(status=counts))
    await rig.run(2)
    await rig.act("retry")
    status = await rig.run(2)
    assert status.run is None
    assert status.last_action is not None
    assert words in status.last_action.result
