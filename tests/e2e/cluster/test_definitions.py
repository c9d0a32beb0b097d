"""Penstock's own definitions are removed from a cluster and installed again, with the policies in them.

In a cluster of its own: definitions are everybody's. There is no traffic here; what is tested is what becomes
of the weights, and that the controller comes back by itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from cluster.errors import KubectlError, NoClusterError
from cluster.running import start
from controller.ports import NotFoundError
from tests.support.clusters import own_namespace, refuse
from tests.support.incluster import InCluster
from tests.support.standalone import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.running import Cluster

pytestmark = [pytest.mark.real, pytest.mark.cluster]

PARTS = {"etcd", "kube-apiserver", "kube-controller-manager"}
DEFINITIONS = ("rolloutpolicies.penstock.dev", "metrictemplates.penstock.dev")


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that nobody else uses, with the definitions that the controller watches."""
    try:
        with start(tmp_path_factory.mktemp("breakable"), PARTS) as cluster:
            cluster.install_istio_crds()
            cluster.install_crds()
            yield cluster
    except NoClusterError as error:
        refuse(str(error))


async def test_definitions_that_are_removed_take_the_policies_with_them_and_come_back(
    breakable: Cluster, tmp_path: Path
) -> None:
    """They go as their rule says; while there is no controller, its finalizer keeps them, and the traffic."""
    with own_namespace(breakable) as namespace:
        async with InCluster(breakable, namespace, tmp_path, steps=LONG, load=False) as mesh:
            first, controller = await mesh.under_way(), mesh.replicas[0]
            assert await mesh.weights() == [70, 30]
            await remove_definitions(mesh)
            await mesh.eventually(lambda: removed(mesh), "the end of the definitions")
            assert await mesh.weights() == [100, 0]
            assert controller.alive

            await asyncio.to_thread(breakable.install_crds)
            await mesh.eventually(lambda: applied(mesh), "the policy to be taken")
            second = await mesh.under_way()
            assert second.id != first.id
            assert await mesh.weights() == [70, 30]

            await controller.stop()
            await remove_definitions(mesh)
            await mesh.intervals(2)
            assert (await mesh.run()).id == second.id, "the finalizer keeps it"
            assert await mesh.weights() == [70, 30]
            await controller.start()
            await mesh.eventually(lambda: removed(mesh), "the end of the definitions")
            assert await mesh.weights() == [100, 0]
            assert controller.alive
            assert "unforeseen" not in mesh.said()


async def remove_definitions(mesh: InCluster) -> None:
    await asyncio.to_thread(mesh.cluster.kubectl, "delete", "crd", *DEFINITIONS, "--wait=false")


async def applied(mesh: InCluster) -> bool:
    """Tell whether the API server takes the policy: it serves a definition a moment after it has it."""
    try:
        await asyncio.to_thread(mesh.apply, mesh.policy)
    except KubectlError:
        return False
    return True


async def removed(mesh: InCluster) -> bool:
    """Tell whether neither definition is there any more."""
    for name in DEFINITIONS:
        try:
            await mesh.request("GET", f"apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        except NotFoundError:
            continue
        return False
    return True
