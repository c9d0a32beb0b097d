"""What subsets select on a real API server: real controllers roll, scale and give up; pods crash as told.

At the level of the store, the inventory and the scene: what the loop makes of it is tests/controller's part.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from controller.cluster.kube import Kube
from controller.cluster.store import ClusterStore
from controller.crashes import failing, restarts
from controller.inventory import Inventory
from controller.memory_history import MemoryHistory
from controller.ports import UnavailableError
from tests.support.clusters import apply, deployment
from tests.support.rig import manifests
from tests.support.watched import PATIENCE
from tests.support.workloads import service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cluster.running import Cluster
    from controller.ports import Object
    from controller.scene import Scene

pytestmark = [pytest.mark.real, pytest.mark.cluster]

CANDIDATE = "deployment/ranker-v2"


class Stage:
    """One policy over Deployments or StatefulSets ranker-v1 and ranker-v2, as the loop would see it."""

    def __init__(self, cluster: Cluster, namespace: str, store: ClusterStore) -> None:
        self.cluster, self.namespace, self.store = cluster, namespace, store
        self.inventory = Inventory(store, MemoryHistory())
        self.seen: list[tuple[str, str]] = []
        """Each other (revision, missing) of the candidate that was seen, in order."""

    async def kubectl(self, *args: str) -> str:
        return await asyncio.to_thread(self.cluster.kubectl, "-n", self.namespace, *args)

    async def put(self, *objects: Object) -> None:
        await asyncio.to_thread(apply, self.cluster, *objects, namespace=self.namespace)

    async def scene(self) -> Scene:
        await self.inventory.refresh()
        entry = self.inventory.policies[f"{self.namespace}/ranker"]
        scene = entry.scene(self.inventory.objects(self.namespace))
        now = scene.revisions.get("candidate", ""), scene.missing.get("candidate", "")
        if now not in self.seen[-1:]:
            self.seen.append(now)
        return scene

    async def until(self, condition: Callable[[Scene], object]) -> Scene:
        """Look at every change until something holds."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(UnavailableError, KeyError):
                    scene = await self.scene()
                    if condition(scene):
                        return scene
                await asyncio.sleep(0.01)

    async def ready(self) -> Scene:
        """Wait until all pods of both versions are there, and their last change was seen."""
        return await self.until(lambda scene: not scene.missing and not scene.rolling and _full(scene))


def _full(scene: Scene) -> bool:
    return all(each.full for each in scene.selections.values())


@pytest.fixture(params=["Deployment"])
async def stage(cluster: Cluster, namespace: str, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """Both versions of three pods each, ready."""
    kube = await Kube.open(cluster.kubeconfig)
    store = ClusterStore(kube, [namespace])
    store.start()
    found = Stage(cluster, namespace, store)
    try:
        workloads = [_workload(version, request.param) for version in ("v1", "v2")]
        others = [each for each in manifests() if each["kind"] != "ServiceEntry"]
        await found.put(*workloads, service(), *others)
        await found.ready()
        found.seen.clear()
        yield found
    finally:
        await store.close()
        await kube.close()
        await asyncio.sleep(0.1)  # TLS connections end a moment after their session


def _workload(version: str, kind: str) -> dict[str, Any]:
    obj = deployment(f"ranker-{version}", version=version, replicas=3)
    if kind == "StatefulSet":
        obj["kind"] = kind
        obj["spec"]["serviceName"] = "ranker"
    return obj


@pytest.mark.parametrize("stage", ["Deployment", "StatefulSet"], indirect=True)
async def test_a_new_image_is_one_new_revision_that_is_ready_when_all_pods_have_it(stage: Stage) -> None:
    before = (await stage.scene()).selections["candidate"]
    kind, name = before.workloads[0].name
    stage.cluster.part("kwok").suspend()  # no pod becomes ready: the roll-out waits until it was seen
    await stage.kubectl("set", "image", f"{kind.lower()}/{name}", "model=example.invalid/model:v3")
    rolling = await stage.until(lambda scene: scene.rolling)
    stage.cluster.part("kwok").resume()
    assert rolling.revisions["candidate"] != before.revision, (
        "the traffic can leave before the first pod changes"
    )
    after = await stage.ready()
    assert after.revisions["candidate"] == rolling.revisions["candidate"]
    assert {revision for revision, _ in stage.seen} == {before.revision, after.revisions["candidate"]}
    pods = await stage.store.pods(stage.namespace, before.labels)
    images = {
        pod["spec"]["containers"][0]["image"] for pod in pods if "deletionTimestamp" not in pod["metadata"]
    }
    assert images == {"example.invalid/model:v3"}


async def test_a_restart_is_a_new_revision_and_undoing_it_is_the_old_one(stage: Stage) -> None:
    first = (await stage.scene()).revisions["candidate"]
    await stage.kubectl("rollout", "restart", CANDIDATE)
    await stage.until(lambda scene: scene.revisions.get("candidate") != first)
    await stage.ready()
    await stage.kubectl("rollout", "undo", CANDIDATE)
    await stage.until(lambda scene: scene.revisions.get("candidate") == first)
    await stage.ready()


async def test_scaling_up_and_down_changes_nothing_that_a_run_starts_or_stops_by(stage: Stage) -> None:
    revision = (await stage.scene()).revisions["candidate"]
    for replicas in (6, 1, 4):
        await stage.kubectl("scale", CANDIDATE, f"--replicas={replicas}")
        await stage.until(_scaled(stage, replicas))
    assert {*stage.seen} == {(revision, "")}
    await stage.kubectl("scale", CANDIDATE, "--replicas=0")
    asleep = await stage.until(lambda scene: scene.missing)
    assert asleep.missing == {"candidate": "Deployment ranker-v2 is scaled to zero"}
    assert asleep.revisions["candidate"] == revision
    await stage.kubectl("scale", CANDIDATE, "--replicas=2")
    assert (await stage.ready()).revisions["candidate"] == revision


def _scaled(stage: Stage, replicas: int) -> Callable[[Scene], bool]:
    informer = stage.store._of("Deployment")[0]

    def settled(scene: Scene) -> bool:
        status = informer.objects[stage.namespace, "ranker-v2"].get("status") or {}
        return not scene.rolling and status.get("readyReplicas") == replicas == status.get("replicas")

    return settled


async def test_what_does_not_matter_leaves_the_scene_as_it_was_read(stage: Stage) -> None:
    before = await stage.scene()
    await stage.kubectl("annotate", CANDIDATE, "note=hello")
    await stage.kubectl("scale", CANDIDATE, "--replicas=5")
    await stage.until(_scaled(stage, 5))
    await stage.kubectl("create", "deployment", "bystander", "--image=example.invalid/other:1")
    await stage.until(
        lambda _: (
            "Deployment bystander" in map(str, stage.inventory.objects(stage.namespace).workloads.names())
        )
    )
    assert (await stage.scene()).selections == before.selections


async def test_a_pod_that_crashes_is_found_with_its_last_words(stage: Stage) -> None:
    labels = (await stage.scene()).selections["candidate"].labels
    pods = await stage.store.pods(stage.namespace, labels)
    assert len(pods) == 3
    assert failing(pods, restarts(pods, 0.0)) == {}
    name = pods[0]["metadata"]["name"]
    last = {"exitCode": 1, "reason": "Error", "message": "cannot load weights"}
    await _crash(stage, name, {"waiting": {"reason": "CrashLoopBackOff"}}, last)
    short = await stage.until(lambda scene: not _full(scene))
    assert short.missing == {}
    pods = await stage.store.pods(stage.namespace, labels)
    assert failing(pods, restarts(pods, 0.0)) == {
        "CrashLoop": f"container model of pod {name} was restarted 5 times; it ended with Error, "
        "exit code 1: cannot load weights"
    }


async def test_when_no_pod_is_ready_the_candidate_has_no_endpoint(stage: Stage) -> None:
    labels = (await stage.scene()).selections["candidate"].labels
    for pod in await stage.store.pods(stage.namespace, labels):
        waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
        await _crash(stage, pod["metadata"]["name"], waiting, {"exitCode": 137, "reason": "OOMKilled"})
    lost = await stage.until(lambda scene: scene.missing)
    assert lost.missing == {"candidate": "Deployment ranker-v2 has no ready endpoint"}
    assert lost.rolling == {}


async def _crash(stage: Stage, pod: str, state: dict[str, Any], last: dict[str, Any]) -> None:
    """Play the kubelet's part."""
    container = {
        "name": "model", "image": "m", "imageID": "", "ready": False, "restartCount": 5, "state": state,
        "lastState": {"terminated": {"startedAt": None, "finishedAt": None, **last}},
    }  # fmt: skip
    conditions = [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]
    status = {"status": {"containerStatuses": [container], "conditions": conditions}}
    await stage.kubectl(
        "patch", "pod", pod, "--subresource=status", "--type=strategic", "-p", json.dumps(status)
    )


async def test_a_rollout_that_gets_nowhere_is_told_by_its_deadline(stage: Stage) -> None:
    pods = {"spec": {"nodeSelector": {"nowhere": "true"}}}
    nowhere = {"spec": {"progressDeadlineSeconds": 1, "template": pods}}
    await stage.kubectl("patch", CANDIDATE, "-p", json.dumps(nowhere))
    scene = await stage.until(lambda scene: any(each.stuck for each in scene.selections.values()))
    assert "has timed out progressing" in scene.selections["candidate"].stuck
    assert scene.missing == {}, "pods of the old revision serve on"
    assert "rolling out" in scene.rolling["candidate"]


async def test_a_version_that_is_deleted_is_gone_and_back_as_the_same_revision(stage: Stage) -> None:
    revision = (await stage.scene()).revisions["candidate"]
    await stage.kubectl("delete", CANDIDATE, "--wait=false")
    gone = await stage.until(lambda scene: scene.missing)
    assert gone.missing["candidate"] == (
        "no Deployment or StatefulSet has pods with the labels app=ranker, version=v2"
    )
    await stage.put(_workload("v2", "Deployment"))
    assert (await stage.ready()).revisions["candidate"] == revision
