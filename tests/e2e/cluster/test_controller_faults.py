"""A controller in a cluster dies at each of its writes, and a new process goes on as if nothing had been."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.support.exact import assert_as_of_one_controller
from tests.support.incluster import InCluster
from tests.support.kube_proxy import kube_proxy
from tests.support.standalone import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cluster.running import Cluster
    from tests.support.incluster import Replica
    from tests.support.kube_proxy import KubeProxy, When

pytestmark = [pytest.mark.real, pytest.mark.cluster]

STEPS = ({"weight": 30, "hold": "1s"}, {"weight": 60, "hold": "1s"})
WRITES = {
    "lease": "/leases/",
    "finalizer": "/rolloutpolicies/ranker?",
    "status": "/rolloutpolicies/ranker/status?",
    "event": "/events",
    "weights": "/virtualservices/ranker?",
}
"""Each kind of write, by a part of its path."""
MOST = {"lease": 2, "finalizer": 2, "status": 4, "event": 2, "weights": 4}
"""How many processes are killed at each: at the start of the run, its confirmation and its first step."""
LOST, DONE = "instead", "after"


class Killer:
    """Kills each process at its first write; every kind in turn before it is done, and right after."""

    def __init__(self, proxy: KubeProxy) -> None:
        self.killed: defaultdict[str, list[When]] = defaultdict(list)
        self._proxy = proxy

    def aim(self, replica: Replica) -> None:
        """Let the process die at its first write."""
        self._proxy.heal()
        for kind, path in WRITES.items():
            if len(self.killed[kind]) < MOST[kind]:
                when: When = LOST if len(self.killed[kind]) % 2 == 0 else DONE
                self._proxy.on_write(
                    1, lambda k=kind, w=when: self._kill(replica, k, w), match=path, when=when
                )

    def _kill(self, replica: Replica, kind: str, when: When) -> None:
        if replica.alive:
            self.killed[kind].append(when)
            replica.send(signal.SIGKILL)


@pytest.mark.timeout(300)
async def test_a_controller_that_is_killed_at_each_write_goes_on_exactly(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    mesh = InCluster(cluster, namespace, tmp_path, steps=STEPS, start=False)
    with kube_proxy(cluster) as proxy:
        async with mesh:
            assert mesh.kubeconfig is not None
            mesh.kubeconfig = proxy.kubeconfig(mesh.kubeconfig)
            await mesh.routed()
            async with mesh.load:
                killed = await killed_again_and_again(mesh, Killer(proxy))
                assert {kind: len(times) for kind, times in killed.items()} == MOST
                assert await mesh.decided() == ("Promoted", "Safe")
                assert await mesh.weights() == [0, 100]
                await mesh.ready(mesh.replicas[0])
                await assert_as_of_one_controller(mesh, [30, 60, 100])


async def killed_again_and_again(mesh: InCluster, killer: Killer) -> Mapping[str, Sequence[When]]:
    """Start process after process until the run is over; return at which writes they were killed."""
    replica = await mesh.another()
    killer.aim(replica)
    while await dies(mesh, replica):
        assert await mesh.weights() in ([100, 0], [70, 30], [40, 60], [0, 100])
        await replica.start()
        killer.aim(replica)
    return killer.killed


async def test_a_controller_that_is_killed_while_it_records_goes_on_exactly(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=LONG) as mesh:
        run = await mesh.under_way()
        [replica], path = mesh.replicas, tmp_path / "history.db"
        for moment in ("before", "after", "after"):
            with locked(path) if moment == "before" else contextlib.nullcontext():
                if moment == "before":
                    await mesh.intervals(2)
                else:
                    await recorded_more(mesh, path)
                await replica.stop(signal.SIGKILL)
            assert await mesh.weights() == [70, 30]
            await replica.start()
        await recorded_more(mesh, path)
        mesh.candidate.error_rate = 0.5
        assert await mesh.decided() == ("RolledBack", "Harmful")
        assert await mesh.weights() == [100, 0]
        assert (await mesh.run()).id == run.id
        await mesh.ready(replica)
        await assert_as_of_one_controller(mesh, [30])


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let nothing be written to a history, so that the next record waits inside its transaction."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield


async def recorded_more(mesh: InCluster, path: Path) -> None:
    """Wait until one more look was recorded, and return at once."""
    with contextlib.closing(sqlite3.connect(path)) as database:

        async def ticks() -> int:
            return int(database.execute("SELECT count(*) FROM ticks").fetchone()[0])

        before = await ticks()

        async def more() -> bool:
            return await ticks() > before

        await mesh.eventually(more, "one more look in the history")


async def dies(mesh: InCluster, replica: Replica) -> bool:
    """Wait until the process was killed, or the run is over."""

    async def settled() -> bool:
        if not replica.alive:
            return True
        run = (await mesh.status()).run
        return run is not None and bool(run.outcome and run.applied)

    await mesh.eventually(settled, "the end of the process or of the run")
    return not replica.alive
