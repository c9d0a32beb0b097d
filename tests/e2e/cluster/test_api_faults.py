"""The API server is slow, refuses, forgets, hangs or ends during a rollout: the decision is right even so.

Whatever is refused is said with verb and resource, nothing is left half done, and when the API server does
its part again the same run goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import chart
from tests.support.deployed import Deployed
from tests.support.exact import assert_as_of_one_controller
from tests.support.incluster import InCluster
from tests.support.kube_proxy import KubeProxy, kube_proxy
from tests.support.recorded import assert_recorded_once, assert_steps_in_order
from tests.support.standalone import LONG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from cluster.running import Cluster
    from tests.support.replica import Replica

pytestmark = [pytest.mark.real, pytest.mark.cluster]

OUTAGE_S = 20.0
UNKNOWN = "the API server does not accept our credentials (401)"
REVIEWS = "apis/authorization.k8s.io/v1/subjectaccessreviews"
ROLES = "apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles/{}"


# --- it ends, or hangs


async def test_without_etcd_or_api_server_traffic_flows_nothing_is_decided_and_the_run_goes_on(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=LONG) as mesh:
        run, [replica] = await mesh.under_way(), mesh.replicas
        await mesh.intervals(2)
        cluster.part("etcd").suspend()
        await asyncio.sleep(OUTAGE_S)
        cluster.part("etcd").resume()
        await asyncio.to_thread(cluster.mend)
        await goes_on(mesh, run.id)
        await asyncio.to_thread(cluster.part("kube-apiserver").stop)
        await mesh.flowing()
        await asyncio.to_thread(cluster.part("kube-apiserver").start)
        await goes_on(mesh, run.id)
        assert replica.alive
        mesh.candidate.error_rate = 0.6
        assert await mesh.decided() == ("RolledBack", "Harmful")
        assert await mesh.weights() == [100, 0]
        await assert_as_of_one_controller(mesh, [30])


async def goes_on(mesh: InCluster, run: str) -> None:
    """Wait until the same run, at the same weights, has more intervals than before."""
    before = len((await mesh.history())["intervals"])

    async def more() -> bool:
        return len((await mesh.history())["intervals"]) > before

    await mesh.eventually(more, "another interval")
    status = await mesh.status()
    assert status.run is not None
    assert (status.run.id, status.run.step, status.run.active) == (run, 0, True)
    assert await mesh.weights() == [70, 30]


# --- it answers otherwise than it should


def slow_and_too_busy(proxy: KubeProxy) -> None:
    proxy.delay(0.7)
    proxy.answer(429, times=4, match="PATCH", headers={"Retry-After": "1"}, message="too many requests")


def conflicts_and_torn_watches(proxy: KubeProxy) -> None:
    proxy.answer(409, times=4, match="PATCH", message="the object has been modified")
    proxy.tear_watches()


def errors_and_forgotten_versions(proxy: KubeProxy) -> None:
    proxy.answer(410, times=8, match="watch=true", message="too old resource version")
    proxy.answer(500, times=4, match="PATCH", message="etcdserver: request timed out")
    proxy.cut_watches()


FAULTS = (slow_and_too_busy, conflicts_and_torn_watches, errors_and_forgotten_versions)


async def test_a_bad_candidate_is_rolled_back_whatever_the_api_server_answers(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with proxied(cluster, namespace, tmp_path) as (mesh, proxy):
        await mesh.under_way()
        for spoil in FAULTS:
            spoil(proxy)
            mesh.candidate.error_rate = 0.6
            assert await mesh.decided() == ("RolledBack", "Harmful"), spoil.__name__
            assert await mesh.weights() == [100, 0]
            proxy.heal()
            history = await mesh.history()
            assert_recorded_once(history, mesh.load)
            assert_steps_in_order(history, [30])
            if spoil is not FAULTS[-1]:
                await mesh.fresh_run()
        assert mesh.load.lost == {}


@contextlib.asynccontextmanager
async def proxied(
    cluster: Cluster, namespace: str, folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None
) -> AsyncIterator[tuple[InCluster, KubeProxy]]:
    """Run a rollout whose controller comes through a proxy; `change` its kubeconfig before."""
    mesh = InCluster(cluster, namespace, folder, steps=LONG, start=False)
    with kube_proxy(cluster) as proxy:
        async with mesh:
            assert mesh.kubeconfig is not None
            mesh.kubeconfig = proxy.kubeconfig(mesh.kubeconfig)
            config = json.loads(mesh.kubeconfig.read_text())
            change(config)
            mesh.kubeconfig.write_text(json.dumps(config))
            replica = await mesh.another()
            await mesh.ready(replica)
            await mesh.routed()
            async with mesh.load:
                yield mesh, proxy


# --- it does not know us any more


async def test_a_token_that_is_rotated_costs_nothing_and_one_that_is_not_is_said(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"

    def by_file(config: dict[str, Any]) -> None:
        token.write_text(bound_token(cluster, namespace, "first"))
        config["users"][0]["user"] = {"tokenFile": str(token)}

    async with proxied(cluster, namespace, tmp_path, by_file) as (mesh, proxy):
        run, [replica] = await mesh.under_way(), mesh.replicas
        token.write_text(bound_token(cluster, namespace, "second"))
        revoke(cluster, namespace, "first")
        await refused(mesh, proxy)
        await goes_on(mesh, run.id)
        assert f"{UNKNOWN}: update leases" not in replica.said()

        revoke(cluster, namespace, "second")
        await says(mesh, f"{UNKNOWN}: update leases")
        await says(mesh, "leading no longer")
        await replica.stop(signal.SIGKILL)
        await replica.start()
        await unready(mesh, replica, UNKNOWN)
        assert await mesh.weights() == [70, 30]
        token.write_text(bound_token(cluster, namespace, "third"))
        await mesh.ready(replica)
        await goes_on(mesh, run.id)
        await mesh.abort()
        await assert_as_of_one_controller(mesh, [30])


def bound_token(cluster: Cluster, namespace: str, secret: str) -> str:
    """Return a token that is valid for as long as a Secret is there; real ones last ten minutes at least."""
    cluster.kubectl("create", "secret", "generic", secret, "-n", namespace)
    bound = ("--bound-object-kind", "Secret", "--bound-object-name", secret)
    return cluster.kubectl("create", "token", chart.lease_name(namespace), "-n", namespace, *bound).strip()


def revoke(cluster: Cluster, namespace: str, secret: str) -> None:
    cluster.kubectl("delete", "secret", secret, "-n", namespace)


async def refused(mesh: InCluster, proxy: KubeProxy) -> None:
    """Wait until the API server has refused the old token, and has taken another one since."""

    async def answered() -> bool:
        codes = [code for _, code in proxy.writes]
        return 401 in codes and codes[-1] == 200

    await mesh.eventually(answered, "a refusal")


async def says(mesh: InCluster, words: str) -> None:
    async def said() -> bool:
        return words in mesh.said()

    await mesh.eventually(said, words)


async def unready(mesh: InCluster, replica: Replica, words: str) -> None:
    """Wait until a controller says that it is not ready, and why; it lives."""

    async def tells() -> bool:
        assert replica.alive
        try:
            async with mesh.session.get(f"{replica.api}/readyz") as response:
                return response.status == 503 and words in await response.text()
        except OSError:
            return False  # it has just been started

    await mesh.eventually(tells, "words about readiness")


# --- it does not allow what we do


async def test_each_right_that_is_missing_is_named_and_when_it_is_given_back_the_run_goes_on(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with proxied(cluster, namespace, tmp_path) as (mesh, proxy):
        await mesh.under_way()
        async with denied(mesh, "patch", "virtualservices"):
            async with denied(mesh, "patch", "rolloutpolicies/status"), denied(mesh, "create", "events"):
                mesh.candidate.error_rate = 0.6
                await says(mesh, denial(mesh, "patch rolloutpolicies/status.penstock.dev"))
                assert (await mesh.run()).active
            await says(mesh, denial(mesh, "patch virtualservices.networking.istio.io"))
            status = await mesh.until(lambda s: s.run and s.run.outcome, "the decision")
            assert status.run is not None
            assert not status.run.applied
            assert await mesh.weights() == [70, 30]
        assert await mesh.decided() == ("RolledBack", "Harmful")
        assert await mesh.weights() == [100, 0]

        async with denied(mesh, "create", "events"):
            run = await mesh.fresh_run()
            await says(mesh, denial(mesh, "create events.events.k8s.io"))
        async with denied(mesh, "watch", "destinationrules"), denied(mesh, "update", "leases"):
            proxy.cut_watches("/destinationrules")
            await says(mesh, denial(mesh, "watch destinationrules.networking.istio.io"))
            await says(mesh, denial(mesh, "update leases.coordination.k8s.io"))
            await says(mesh, "leading no longer")
        await goes_on(mesh, run.id)
        await says(mesh, "destinationrules.networking.istio.io: works again")
        await mesh.abort()
        assert_recorded_once(await mesh.history(), mesh.load)
        assert mesh.load.lost == {}


async def test_without_the_right_to_list_pods_the_run_goes_on_and_says_what_it_does_not_see(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with Deployed(cluster, namespace, tmp_path, steps=LONG) as mesh:
        run, before = await mesh.under_way(), await rights(mesh)
        async with denied(mesh, "list", "pods"):
            assert await rights(mesh) == {key: before[key] for key in before.keys() - {"pods"}}
            await mesh.crash("v2", all_pods=False)
            await says(mesh, f"the pods cannot be listed: {denial(mesh, 'list pods')}")
            await goes_on(mesh, run.id)
            assert (await mesh.run()).active, "a crash that nobody sees is no reason"
        assert await mesh.decided() == ("RolledBack", "CrashLoop")
        assert await mesh.weights() == [100, 0]
        assert await rights(mesh) == before
        assert mesh.load.lost == {}


async def rights(mesh: InCluster) -> dict[str, set[str]]:
    """Return what `kubectl auth can-i --list` says of the controller's ServiceAccount."""
    account = chart.lease_name(mesh.namespace)
    return await asyncio.to_thread(chart.rights, mesh.cluster, mesh.namespace, account, mesh.namespace)


def denial(mesh: InCluster, what: str) -> str:
    return f"not allowed to {what} in namespace {mesh.namespace} (403)"


@contextlib.asynccontextmanager
async def denied(mesh: InCluster, verb: str, resource: str) -> AsyncIterator[None]:
    """Take one verb of one resource from the controller, and give it back."""
    name = chart.lease_name(mesh.namespace)
    path = ROLES.format(mesh.namespace, f"{name}-lease" if resource == "leases" else name)
    role = await mesh.request("GET", path)
    less = [rest for rule in role["rules"] for rest in without(rule, verb, resource)]
    [group] = {rule["apiGroups"][0] for rule in role["rules"] if resource in rule["resources"]}
    assert less != role["rules"]
    await mesh.request("PUT", path, json={**role, "rules": less})
    await mesh.eventually(lambda: lacks(mesh, verb, group, resource), "the right to be gone")
    try:
        yield
    finally:
        now = await mesh.request("GET", path)
        await mesh.request("PUT", path, json={**now, "rules": role["rules"]})


async def lacks(mesh: InCluster, verb: str, group: str, resource: str) -> bool:
    """Tell whether the controller may not do something; the API server learns of rights a moment late."""
    name, _, part = resource.partition("/")
    asked = {
        "user": f"system:serviceaccount:{mesh.namespace}:{chart.lease_name(mesh.namespace)}",
        "resourceAttributes": {
            "namespace": mesh.namespace, "verb": verb, "group": group, "resource": name, "subresource": part,
        },
    }  # fmt: skip
    if resource == "leases":
        asked["resourceAttributes"]["name"] = mesh.lease.name
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": asked}
    return not (await mesh.request("POST", REVIEWS, json=review))["status"]["allowed"]


def without(rule: dict[str, Any], verb: str, resource: str) -> list[dict[str, Any]]:
    """Return a rule without one verb of one of its resources, as up to two rules."""
    if verb not in rule["verbs"] or resource not in rule["resources"]:
        return [rule]
    others = [each for each in rule["resources"] if each != resource]
    verbs = [each for each in rule["verbs"] if each != verb]
    kept = [{**rule, "resources": others}] if others else []
    return kept + ([{**rule, "resources": [resource], "verbs": verbs}] if verbs else [])
