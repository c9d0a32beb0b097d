"""Two controllers, one rollout, one history: whoever leads goes on exactly, and nobody else writes.

Each controller reaches the API server through a proxy of its own, so that it is known who wrote what.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from controller.status import from_rfc3339
from tests.support import chart
from tests.support.exact import assert_as_of_one_controller
from tests.support.incluster import InCluster
from tests.support.kube_proxy import KubeProxy, kube_proxy
from tests.support.standalone import LONG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cluster.running import Cluster
    from tests.support.replica import Replica

pytestmark = [pytest.mark.real, pytest.mark.cluster]

STEPS = ({"weight": 30, "hold": "5s"}, {"weight": 60, "hold": "1h"}, {"weight": 80})
LASTS = 60
"""Seconds of a lease that nobody outwaits."""


@dataclass(frozen=True)
class Seat:
    """A controller and its own way to the API server."""

    replica: Replica
    proxy: KubeProxy

    def written(self) -> list[tuple[str, int]]:
        """Return the writes that succeeded, but those of the lease."""
        return [write for write in self.proxy.writes if write[1] < 300 and "/leases" not in write[0]]


@contextlib.asynccontextmanager
async def two_seats(mesh: InCluster, *options: str) -> AsyncIterator[tuple[Seat, Seat]]:
    """Start two controllers and yield them, the leader first."""
    with kube_proxy(mesh.cluster) as one, kube_proxy(mesh.cluster) as other:
        assert mesh.kubeconfig is not None
        seats = [
            Seat(await mesh.another(kubeconfig=proxy.kubeconfig(mesh.kubeconfig), options=options), proxy)
            for proxy in (one, other)
        ]
        try:
            for seat in seats:
                await mesh.ready(seat.replica)
            await mesh.routed()
            leader = await mesh.leader()
            first, second = sorted(seats, key=lambda seat: seat.replica is not leader)
            yield first, second
        finally:
            await asyncio.gather(*(seat.replica.stop() for seat in seats if seat.replica.alive))


async def test_leaders_that_are_stopped_cut_off_or_killed_are_followed_exactly(
    cluster: Cluster, namespace: str, tmp_path: Path, postgres: str
) -> None:
    mesh = InCluster(cluster, namespace, tmp_path, steps=STEPS, history=postgres, start=False)
    async with mesh, two_seats(mesh) as (first, second), mesh.load:
        run = await mesh.under_way()
        late = threading.Event()
        first.proxy.on_write(1, lambda: (stop(first), late.wait(60)), match="/status")
        await mesh.act("pause")
        await leads(mesh, second.replica)
        await mesh.until(lambda s: s.run and s.run.paused, "the pause")
        await mesh.act("resume")
        await mesh.until(lambda s: s.run and s.run.step == 1 and s.run.applied, "the second step")
        written = first.written()
        late.set()  # the write that the first one had begun arrives now
        first.replica.send(signal.SIGCONT)
        await follows(mesh, first)

        second.proxy.block()
        await leads(mesh, first.replica)
        assert first.written() == written, "until now it had no leave, and nothing has happened since"
        written = second.written()
        second.proxy.unblock(late=True)
        await follows(mesh, second)

        await first.replica.stop(signal.SIGKILL)
        await leads(mesh, second.replica)
        mesh.candidate.error_rate = 0.6
        assert await mesh.decided() == ("RolledBack", "Harmful")
        assert await mesh.weights() == [100, 0]
        assert (await mesh.run()).id == run.id
        assert 4 <= terms(postgres, namespace) <= (await lease(mesh))["leaseTransitions"]
        await assert_as_of_one_controller(mesh, [30, 60])


async def test_a_leader_that_ends_gives_way_at_once_and_a_follower_takes_actions(
    cluster: Cluster, namespace: str, tmp_path: Path, postgres: str
) -> None:
    mesh = InCluster(cluster, namespace, tmp_path, steps=LONG, history=postgres, start=False)
    async with mesh, two_seats(mesh, "--lease-seconds", str(LASTS)) as (first, second), mesh.load:
        run = await mesh.under_way()
        async with taken_at_once(mesh):
            assert await first.replica.stop(signal.SIGTERM) == 0
            await leads(mesh, second.replica)
        await first.replica.start()
        await mesh.ready(first.replica)
        written = first.written()
        for verb in ("pause", "resume", "abort"):
            await ask(mesh, first, verb)
            await mesh.until(lambda s, verb=verb: s.last_action and s.last_action.verb == verb, verb)
        status = await mesh.until(lambda s: s.run and s.run.outcome and s.run.applied, "the abort")
        assert status.run is not None
        assert (status.run.id, status.run.outcome, status.run.reason) == (run.id, "RolledBack", "Aborted")
        assert await mesh.weights() == [100, 0]
        asked = first.written()[len(written) :]
        assert len(asked) == 3, "what people ask for, and nothing else"
        assert terms(postgres, namespace) == 2
        await assert_as_of_one_controller(mesh, [30])


async def test_a_process_that_starts_again_in_its_pod_leads_at_once_even_if_the_last_one_lives(
    cluster: Cluster, namespace: str, tmp_path: Path, postgres: str
) -> None:
    """That it lives should not be: what each of them writes is guarded, so they only disturb each other."""
    mesh = InCluster(cluster, namespace, tmp_path, steps=LONG, history=postgres, start=False)
    options = "--lease-seconds", str(LASTS)
    async with mesh:
        first = await mesh.another(options=options)
        await mesh.routed()
        async with mesh.load:
            run = await mesh.under_way()
            pod = {"PENSTOCK_POD_UID": f"{namespace}-0"}
            async with taken_at_once(mesh):
                second = await mesh.another(options=options, env=pod)
                await leads(mesh, second)
            await mesh.ready(first)
            await mesh.intervals(3)
            assert await mesh.leader() is second
            async with taken_at_once(mesh):
                await second.stop(signal.SIGKILL)
                await second.start(**pod)
                await leads(mesh, second)
            mesh.candidate.error_rate = 0.6
            assert await mesh.decided() == ("RolledBack", "Harmful")
            assert await mesh.weights() == [100, 0]
            assert (await mesh.run()).id == run.id
            assert terms(postgres, namespace) == 3
            await assert_as_of_one_controller(mesh, [30])


def stop(seat: Seat) -> None:
    seat.replica.send(signal.SIGSTOP)


async def leads(mesh: InCluster, replica: Replica) -> None:
    """Wait until a controller leads."""

    async def it_does() -> bool:
        return await mesh.leader() is replica

    await mesh.eventually(it_does, "the other one to lead")


async def follows(mesh: InCluster, seat: Seat) -> None:
    """Wait until a controller that led knows that it does not, and serves; let some intervals pass."""
    before = seat.written()
    await mesh.ready(seat.replica)
    assert await mesh.leader() is not seat.replica
    await mesh.intervals(3)
    assert seat.written() == before


async def lease(mesh: InCluster) -> dict[str, Any]:
    """Return the record of the lease."""
    spec: dict[str, Any] = (await mesh.live(mesh.lease))["spec"]
    return spec


@contextlib.asynccontextmanager
async def taken_at_once(mesh: InCluster) -> AsyncIterator[None]:
    """Assert that another term begins before the lease of the present one could have run out."""
    before = await lease(mesh)
    yield
    after = await lease(mesh)
    assert after["leaseTransitions"] == before["leaseTransitions"] + 1
    assert from_rfc3339(after["acquireTime"]) < from_rfc3339(before["renewTime"]) + LASTS


async def ask(mesh: InCluster, seat: Seat, verb: str) -> None:
    """Ask one controller's API for an action."""
    url = f"{seat.replica.api}/v1/rollouts/{mesh.namespace}/ranker/actions"
    secret = {"Authorization": "Bearer test"}
    async with mesh.session.post(url, json={"verb": verb, "actor": "ann"}, headers=secret) as response:
        assert response.status == 202, await response.text()


def terms(url: str, namespace: str) -> int:
    """Return how many terms the history has seen."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        scope = f"{namespace}/{chart.lease_name(namespace)}"
        row: Any = connection.execute("SELECT epoch FROM terms WHERE scope = %s", [scope]).fetchone()
        return int(row[0])
