"""`penstock run` end to end: real API server, istiod, Envoy and Prometheus, real requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.incluster import InCluster
from tests.support.standalone import LONG, QUICK

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.running import Cluster

pytestmark = [pytest.mark.real, pytest.mark.cluster]


async def test_a_good_candidate_is_promoted_step_by_step(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=QUICK) as mesh:
        assert await mesh.decided() == ("Promoted", "Safe")
        assert await mesh.weights() == [0, 100]
        steps = [each["weights"] for each in (await mesh.history())["decisions"] if each["weights"]]
        assert [weights["candidate"] for weights in steps] == [20, 50, 100]
        ready = (await mesh.status()).condition("Ready")
        assert ready is not None
        assert ready.status == "True"
        table = cluster.kubectl("get", "rp", "-n", namespace)
        assert "Promoted (Safe)" in table
        for reason in ("Started", "Safe"):
            await mesh.until_event(reason)
        assert mesh.load.lost == {}


async def test_a_bad_candidate_is_rolled_back_with_the_reason(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=LONG) as mesh:
        await mesh.under_way()
        mesh.candidate.error_rate = 0.5
        assert await mesh.decided() == ("RolledBack", "Harmful")
        assert await mesh.weights() == [100, 0]
        event = await mesh.until_event("Harmful")
        assert event["type"] == "Warning"
        assert mesh.load.lost == {}


async def test_a_run_that_holds_costs_no_write(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=LONG) as mesh:
        await mesh.until(lambda s: s.verdict == "Safe", "evidence that changes no more")
        for _ in range(4):  # that a busy Prometheus is late is worth a word, and that it is there again
            before = await versions(mesh)
            await mesh.intervals(5)
            if await versions(mesh) == before:
                return
        pytest.fail("it is written again and again")


async def versions(mesh: InCluster) -> list[str]:
    """Return the resourceVersions of policy and route."""
    found = [await mesh.live(ref) for ref in (mesh.policy_ref, mesh.route_ref)]
    return [obj["metadata"]["resourceVersion"] for obj in found]


async def test_nothing_but_weights_is_changed_and_each_change_is_one_write(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=LONG, start=False) as mesh:
        before = await mesh.live(mesh.route_ref)
        await mesh.up()
        async with mesh.load:
            await mesh.under_way()
        after = await mesh.live(mesh.route_ref)
        assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
        for obj in (before, after):
            for entry in obj["spec"]["http"][0]["route"]:
                entry.pop("weight")
        assert after["spec"] == before["spec"]
