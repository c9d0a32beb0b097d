"""Objects of a running rollout are deleted, renamed, broken and brought back, on a real cluster.

The run holds and says why, traffic never goes where nobody wanted it, an abort works all the while, and when
the object is back the same run goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from copy import deepcopy
from typing import TYPE_CHECKING

import pytest

from cluster.errors import KubectlError
from controller.chores import FINALIZER
from controller.ports import NotFoundError, Ref
from tests.support import chart
from tests.support.clusters import own_namespace
from tests.support.incluster import HOST, InCluster
from tests.support.policies import changed
from tests.support.recorded import assert_recorded_once, assert_steps_in_order
from tests.support.standalone import LONG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cluster.running import Cluster
    from controller.ports import Object
    from controller.status import Status

pytestmark = [pytest.mark.real, pytest.mark.cluster]

NAMED = {"virtualService": {"name": HOST, "routes": ["primary"]}}


async def test_a_route_or_rule_that_goes_holds_the_run_which_goes_on_when_it_is_back(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=LONG, spec=NAMED) as mesh:
        run = await mesh.under_way()
        route = await take_away(mesh, mesh.route_ref)
        await stalled(mesh, "RouteUnreadable", f"VirtualService {HOST} does not exist")
        await apply(mesh, with_weights(route, 100, 0))
        await mesh.until_event("DriftCorrected", "team changed the weights to stable 100%, candidate 0%")
        await goes_on(mesh, run.id)

        await rename(mesh, "main")
        await stalled(mesh, "RouteUnreadable", "no route 'primary'")
        assert await mesh.weights() == [70, 30]
        await rename(mesh, "primary")
        await goes_on(mesh, run.id)

        rule_ref = mesh.route_ref._replace(kind="DestinationRule")
        rule = await take_away(mesh, rule_ref)
        await stalled(mesh, "ControlGone", "cannot roll back: stable takes no traffic")
        assert await mesh.weights() == [70, 30], "neither version has an endpoint: nowhere is better"
        await apply(mesh, rule)
        await goes_on(mesh, run.id)

        v1 = rule["spec"]["subsets"][0]
        await mesh.patch(rule_ref, [{"op": "replace", "path": "/spec/subsets", "value": [v1]}])
        assert await mesh.decided() == ("RolledBack", "CandidateGone")
        assert await mesh.weights() == [100, 0]
        history = await mesh.history()
        assert_recorded_once(history, mesh.load)
        assert_steps_in_order(history, [30])


async def test_a_policy_that_is_edited_to_nonsense_holds_its_run_and_can_be_aborted(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=LONG) as mesh:
        run = await mesh.under_way()
        before = await mesh.live(mesh.policy_ref)
        with pytest.raises(KubectlError, match="exactly one of subset and host must be set"):
            await apply(
                mesh, changed(mesh.policy, "spec.variants", [{"name": "stable"}, {"name": "candidate"}])
            )
        assert (await mesh.live(mesh.policy_ref))["spec"] == before["spec"]

        nowhere = [{"template": "nowhere", "margin": "400%", "dispersion": "1"}]
        await apply(mesh, changed(mesh.policy, "spec.metrics", nowhere))
        await mesh.until(_ready_says("nowhere"), "words about the template")
        assert await mesh.weights() == [70, 30]
        assert (await mesh.run()).id == run.id
        await apply(mesh, mesh.policy)
        await goes_on(mesh, run.id)

        await apply(mesh, changed(mesh.policy, "spec.metrics", nowhere))
        await mesh.until(_ready_says("nowhere"), "words about the template")
        await mesh.abort()
        await apply(mesh, mesh.policy)
        assert_recorded_once(await mesh.history(), mesh.load)


def _ready_says(words: str) -> Callable[[Status], bool]:
    def says(status: Status) -> bool:
        condition = status.condition("Ready")
        return condition is not None and condition.status == "False" and words in condition.message

    return says


async def test_a_policy_that_is_deleted_leaves_its_traffic_as_its_rule_says(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=LONG) as mesh:
        seen = set()
        for rule, weights in (("keep", [70, 30]), ("rollback", [100, 0])):
            await apply(mesh, changed(mesh.policy, "spec.onDeletion", rule))
            run = await mesh.under_way()
            assert await mesh.weights() == [70, 30]
            assert run.id not in seen, "a policy that was made anew begins anew"
            seen.add(run.id)
            assert FINALIZER in (await mesh.live(mesh.policy_ref))["metadata"]["finalizers"]
            await mesh.delete(mesh.policy_ref)
            await gone(mesh, mesh.policy_ref)
            assert await mesh.weights() == weights
            history = await mesh.recorded(run.id, "Deleted")
            assert history["outcome"] == "Superseded"
            assert_recorded_once(history, mesh.load)
        await mesh.intervals(2)
        assert await mesh.weights() == [100, 0]


async def test_a_namespace_that_is_deleted_never_hangs(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    """The controller lives elsewhere and has a ClusterRole: a Role of the namespace would go with it."""
    with own_namespace(cluster) as system:
        rights = await asyncio.to_thread(chart.install, cluster, system)
        lease = Ref("Lease", system, chart.lease_name(system))
        async with InCluster(
            cluster, namespace, tmp_path, steps=LONG, kubeconfig=rights, lease=lease
        ) as mesh:
            await mesh.under_way()
            await asyncio.to_thread(cluster.kubectl, "delete", "namespace", namespace, "--wait=false")

            async def is_gone() -> bool:
                with contextlib.suppress(NotFoundError):
                    await mesh.request("GET", f"api/v1/namespaces/{namespace}")
                    return False
                return True

            await mesh.eventually(is_gone, "the end of the namespace")
            assert mesh.replicas[0].alive


async def gone(mesh: InCluster, ref: Ref) -> None:
    """Wait until an object is gone."""

    async def is_gone() -> bool:
        try:
            await mesh.live(ref)
        except NotFoundError:
            return True
        return False

    await mesh.eventually(is_gone, "the end of", ref)


async def take_away(mesh: InCluster, ref: Ref) -> Object:
    """Delete an object; return it as it can be applied again."""
    obj = await mesh.live(ref)
    await mesh.delete(ref)
    keep = {key: obj["metadata"][key] for key in ("name", "namespace")}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": keep, "spec": obj["spec"]}


def with_weights(route: Object, *weights: int) -> Object:
    """Return a VirtualService with other weights."""
    changed = deepcopy(route)
    for destination, weight in zip(changed["spec"]["http"][0]["route"], weights, strict=True):
        destination["weight"] = weight
    return changed


async def apply(mesh: InCluster, *objects: Object) -> None:
    """Apply objects as a team does, while requests go on."""
    await asyncio.to_thread(mesh.apply, *objects)


async def rename(mesh: InCluster, name: str) -> None:
    await mesh.patch(mesh.route_ref, [{"op": "replace", "path": "/spec/http/0/name", "value": name}])


async def stalled(mesh: InCluster, reason: str, words: str) -> Status:
    """Wait until the policy says that it is stalled, and why."""

    def says(status: Status) -> bool:
        condition = status.condition("Stalled")
        found = condition is not None and condition.status == "True" and condition.reason == reason
        return found and words in condition.message

    return await mesh.until(says, f"Stalled: {reason}: {words}")


async def goes_on(mesh: InCluster, run: str) -> None:
    """Wait until the same run is on the same step, measures again, and has its weights."""

    def well(status: Status) -> bool:
        condition = status.condition("Stalled")
        return bool(
            status.run and status.run.applied and status.run.active and status.run.step_started_at
            and condition is not None and condition.status == "False"
        )  # fmt: skip

    status = await mesh.until(well, "the run to go on")
    assert status.run is not None
    assert (status.run.id, status.run.step) == (run, 0)
    assert await mesh.weights() == [70, 30]
