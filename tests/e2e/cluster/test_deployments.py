"""Rollouts of real Deployments with real requests: rolled, scaled and crashed during a run; promoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.deployed import Deployed, image
from tests.support.recorded import assert_recorded_once
from tests.support.standalone import LONG, QUICK

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.running import Cluster

pytestmark = [pytest.mark.real, pytest.mark.cluster]


async def test_rolled_scaled_and_crashed_in_the_middle_of_a_run(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with Deployed(cluster, namespace, tmp_path, steps=LONG) as mesh:
        first = await mesh.under_way()
        for version, replicas in (("v2", 4), ("v1", 3), ("v2", 1)):
            await mesh.scale(version, replicas)
        assert await mesh.run() == first, "scaling is no news"
        assert await mesh.weights() == [70, 30]

        await mesh.roll("v2", "v3")
        second = await mesh.numbered(2)
        assert (second.step, second.revisions["candidate"] == first.revisions["candidate"]) == (0, False)
        assert await mesh.weights() == [70, 30]
        old = await mesh.history_of(first.id)
        assert (old["outcome"], old["reason"]) == ("Superseded", "NewRevision")
        assert old["decisions"][-1]["weights"] == {"stable": 100, "candidate": 0}
        assert_recorded_once(old, mesh.load)
        fresh = [row["end"] for row in (await mesh.history())["intervals"]]
        assert all(end > second.started_at for end in fresh)

        await mesh.scale("v2", 2)
        await mesh.crash("v2", all_pods=False)
        assert await mesh.decided() == ("RolledBack", "CrashLoop")
        assert "it ended with Error, exit code 1: cannot load weights" in (await mesh.run()).message
        assert await mesh.weights() == [100, 0]

        await mesh.roll("v2", "v4")
        await mesh.numbered(3)
        await mesh.unready("v2")
        assert await mesh.decided() == ("RolledBack", "CandidateGone")
        assert "Deployment ranker-v2 has no ready endpoint" in (await mesh.run()).message
        assert await mesh.weights() == [100, 0]
        assert mesh.load.lost == {}


async def test_promotion_by_copy_and_the_idle_version_sleeps_and_wakes(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    spec = {"promotion": {"mode": "copy", "scaleDownAfter": "1s"}}
    rights = {"workloads": {"write": True}}
    async with Deployed(cluster, namespace, tmp_path, steps=QUICK, spec=spec, chart_values=rights) as mesh:
        await mesh.until(lambda s: s.run and s.run.outcome and not s.run.copies, "the copy")
        run = await mesh.run()
        assert (run.outcome, run.reason, run.number) == ("Promoted", "Safe", 1)
        assert await mesh.weights() == [100, 0]
        assert image(await mesh.deployment("v1")) == "example.invalid/model:v2"
        assert (await mesh.deployment("v1"))["spec"]["template"]["metadata"]["labels"]["version"] == "v1"
        history = await mesh.history()
        assert_recorded_once(history, mesh.load)

        await mesh.until(lambda s: s.idle and s.idle.phase == "Asleep", "the idle version to sleep")
        assert (await mesh.deployment("v2"))["spec"]["replicas"] == 0
        assert (await mesh.run()).number == 1, "what the controller itself wrote is no new revision"

        await mesh.roll("v2", "v3")
        await mesh.numbered(2)
        assert (await mesh.deployment("v2"))["spec"]["replicas"] == 2
        assert mesh.load.lost == {}
