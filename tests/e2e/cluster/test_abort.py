"""Abort brings all traffic back within one interval, whatever state the run is in and whatever is down."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import postgresql
from tests.support.incluster import InCluster
from tests.support.recorded import assert_recorded_once

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cluster.running import Cluster
    from controller.status import Run

pytestmark = [pytest.mark.real, pytest.mark.cluster]

INTERVAL_S = 20
"""Longer than a busy machine takes for anything that does not wait for the interval's end."""
STEPS = ({"weight": 30, "hold": "1h"}, {"weight": 60})


async def test_abort_works_within_one_interval_in_each_state(
    cluster: Cluster, namespace: str, tmp_path: Path, postgres: str
) -> None:
    every = {"interval": f"{INTERVAL_S}s"}
    mesh = InCluster(cluster, namespace, tmp_path, steps=STEPS, decision=every, history=postgres)
    async with mesh:
        await mesh.under_way()
        await aborted(mesh)

        await mesh.act("retry")
        await mesh.until(lambda s: s.run and s.run.number == 2, "a run whose weights are not confirmed yet")
        await aborted(mesh)

        await another(mesh)
        await mesh.act("pause")
        await mesh.until(lambda s: s.run and s.run.paused, "the pause")
        await aborted(mesh)

        await another(mesh)
        async with no_metrics(cluster):
            await mesh.intervals(0.1)
            await aborted(mesh)

        run = await another(mesh)
        await mesh.act("pause")
        await mesh.until(lambda s: s.run and s.run.paused, "the pause")
        with postgresql.suspended(postgres):
            await aborted(mesh)
            await mesh.flowing()
        history = await mesh.recorded(run.id, "Aborted")
        assert_recorded_once(history, mesh.load)
        assert [each["action"] for each in history["decisions"]].count("RollBack") == 1
        assert mesh.load.lost == {}


async def another(mesh: InCluster) -> Run:
    """Start another run and wait until its weights are confirmed."""
    await mesh.act("retry")
    await mesh.until(lambda s: s.run and s.run.active, "another run")
    return await mesh.under_way()


async def aborted(mesh: InCluster) -> None:
    """Abort, and assert that the route gave all traffic back within an interval."""
    asked = time.time()
    await mesh.abort()
    await mesh.witness.up_to_date()
    home = mesh.witness.routes[mesh.route_ref.name][-1]
    assert home.weights == (100, 0)
    assert home.at - asked < INTERVAL_S


@contextlib.asynccontextmanager
async def no_metrics(cluster: Cluster) -> AsyncIterator[None]:
    """Let Prometheus hang."""
    cluster.part("prometheus").suspend()
    try:
        yield
    finally:
        cluster.part("prometheus").resume()
        await asyncio.to_thread(cluster.part("prometheus").wait_ready)
