"""The Lease that ships is empty: the first start waits for nobody, and no upgrade takes it from a leader."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
import yaml

from controller.cluster.kube import Kube
from controller.cluster.lease import Lease
from controller.cluster.lease_object import KubeLeases
from tests.support import chart
from tests.support.watched import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cluster.running import Cluster

pytestmark = [pytest.mark.real, pytest.mark.cluster]

LONG = 3600
"""Seconds of a lease that nobody outwaits."""


def by_helm(cluster: Cluster, namespace: str, value: str) -> None:
    """Install the chart, or upgrade it."""
    values = f"prometheus.url={chart.PROMETHEUS},namespaces={{{namespace}}},rbac.userRoles=false"
    options = ("--install", "--skip-crds", "--set", f"{values},podLabels.a={value}")
    helm(cluster, namespace, "upgrade", "penstock", str(chart.CHART), *options)


def helm(cluster: Cluster, namespace: str, *arguments: str) -> None:
    command = [*arguments, "-n", namespace, "--kubeconfig", str(cluster.kubeconfig)]
    done = chart.run_helm(cluster.binary("helm"), command)
    assert done.returncode == 0, done.stderr


def by_kubectl(*options: str) -> Callable[[Cluster, str, str], None]:
    """Return what applies the rendered chart."""

    def install(cluster: Cluster, namespace: str, value: str) -> None:
        made = chart.objects(
            cluster.binary("helm"), namespace, namespaces=[namespace], rbac={"userRoles": False},
            podLabels={"a": value},
        )  # fmt: skip
        cluster.kubectl("apply", *options, "-f", "-", stdin=yaml.safe_dump_all(made))

    return install


@contextlib.asynccontextmanager
async def leases_of(cluster: Cluster, namespace: str) -> AsyncIterator[KubeLeases]:
    kube = await Kube.open(cluster.kubeconfig)
    try:
        yield KubeLeases(kube, namespace, "penstock")
    finally:
        await kube.close()


@pytest.mark.parametrize(
    "install",
    [by_helm, by_kubectl(), by_kubectl("--server-side"), by_kubectl("--server-side", "--force-conflicts")],
    ids=["helm", "apply", "server-side", "by force"],
)
async def test_it_is_taken_at_once_and_kept_when_penstock_is_installed_again(cluster, namespace, install):
    await asyncio.to_thread(install, cluster, namespace, "one")
    async with leases_of(cluster, namespace) as leases:
        assert (await leases.read()).get("spec") in (None, {})
        leader = Lease(leases, identity="leader", seconds=LONG)
        async with asyncio.timeout(PATIENCE):
            await leader.acquire()
        held = (await leases.read())["spec"]
        await asyncio.to_thread(install, cluster, namespace, "two")
        assert (await leases.read())["spec"] == held
        for _ in range(2):  # the first one may find that the labels have changed
            await leader._attempt(PATIENCE)
        leader.check()
        assert (await leases.read())["spec"]["renewTime"] > held["renewTime"]
        await leader.release()
        freed = (await leases.read())["spec"]
        await asyncio.to_thread(install, cluster, namespace, "three")
        assert (await leases.read())["spec"] == freed
        assert freed["leaseTransitions"] == 1


def test_it_goes_with_the_release_and_can_come_again(cluster, namespace):
    by_helm(cluster, namespace, "one")
    helm(cluster, namespace, "uninstall", "penstock", "--wait")
    left = cluster.kubectl("get", "leases,roles,deployments,services", "-n", namespace, "-o", "name")
    assert left.split() == []
    by_helm(cluster, namespace, "one")
