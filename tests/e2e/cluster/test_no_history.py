"""Without a history store a controller that was killed decides from the status of the policy alone."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.incluster import InCluster

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.running import Cluster

pytestmark = [pytest.mark.real, pytest.mark.cluster]

STEPS = ({"weight": 30}, {"weight": 60, "hold": "1h"}, {"weight": 80})


async def test_the_same_run_goes_on_at_its_step_and_harm_is_still_found(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=STEPS, history="none") as mesh:
        [controller] = mesh.replicas
        status = await mesh.until(lambda s: s.run and s.run.step == 1 and s.run.applied, "the second step")
        await controller.stop(signal.SIGKILL)
        await mesh.flowing()
        await controller.start()
        told = await mesh.until_event("EvidenceDropped", "the history has nothing of this run")
        assert told["type"] == "Warning"
        run = await mesh.run()
        assert status.run is not None
        assert (run.id, run.step, run.step_started_at) == (status.run.id, 1, status.run.step_started_at)
        assert await mesh.weights() == [40, 60]
        mesh.candidate.error_rate = 0.5
        assert await mesh.decided() == ("RolledBack", "Harmful")
        assert (await mesh.run()).id == run.id
        assert await mesh.weights() == [100, 0]
        assert mesh.load.lost == {}
