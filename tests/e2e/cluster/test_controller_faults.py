"""A controller in a cluster dies at each of its writes, and a new process goes on as if nothing had been."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections import defaultdict
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.deployed import Deployed, image
from tests.support.exact import assert_as_of_one_controller
from tests.support.incluster import InCluster
from tests.support.kube_proxy import kube_proxy
from tests.support.recorded import assert_recorded_once, assert_steps_in_order
from tests.support.standalone import LONG
from tests.support.watched import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from cluster.running import Cluster
    from controller.status import Run, Status
    from tests.support.kube_proxy import KubeProxy, When
    from tests.support.replica import Replica

pytestmark = [pytest.mark.real, pytest.mark.cluster]

STEPS = ({"weight": 30, "hold": "1s"}, {"weight": 60, "hold": "1s"})
SPLITS = ([100, 0], [70, 30], [40, 60], [0, 100])
WRITES = {
    "lease": "/leases/",
    "finalizer": "/rolloutpolicies/ranker?",
    "status": "/rolloutpolicies/ranker/status?",
    "event": "/events",
    "weights": "/virtualservices/ranker?",
}
MOST = {"lease": 2, "finalizer": 2, "status": 4, "event": 2, "weights": 4}
"""At the start of the run, its confirmation and its first step."""
COPIES = {"copy": "/deployments/ranker-v1?", "scale": "/deployments/ranker-v2?"}
MOST_COPIES = {"copy": 2, "scale": 4}
"""At the copy, when the idle version is scaled down, and when it is scaled up."""
LOST, DONE = "instead", "after"


class Killer:
    """Kills each process at its first write; every kind in turn before it is done, and right after.

    `writes`: each kind of write, by a part of its path; `most`: how many processes are killed at each.
    """

    def __init__(
        self, mesh: InCluster, proxy: KubeProxy, writes: Mapping[str, str], most: Mapping[str, int]
    ) -> None:
        self.killed: defaultdict[str, list[When]] = defaultdict(list)
        self._mesh, self._proxy, self._writes, self._most = mesh, proxy, writes, most

    @property
    def done(self) -> bool:
        """Whether all were killed who should be."""
        return {kind: len(times) for kind, times in self.killed.items()} == self._most

    def successes(self, path: str) -> int:
        """Return how many writes with this in their path the API server has carried out."""
        return sum(path in text and status < 300 for text, status in self._proxy.writes)

    def aim(self) -> None:
        """Let the process that is started next die at its first write."""
        self._proxy.heal()
        for kind in self._writes:
            if len(self.killed[kind]) < self._most[kind]:
                self._aim_at(kind, LOST if len(self.killed[kind]) % 2 == 0 else DONE)

    def _aim_at(self, kind: str, when: When) -> None:
        self._proxy.on_write(1, lambda: self._kill(kind, when), match=self._writes[kind], when=when)

    def _kill(self, kind: str, when: When) -> None:
        [replica] = self._mesh.replicas
        if replica.alive:
            self.killed[kind].append(when)
            replica.send(signal.SIGKILL)
        else:  # the write is of the last one, and comes late
            self._aim_at(kind, when)


@contextlib.asynccontextmanager
async def dying(
    cluster: Cluster, mesh: InCluster, writes: Mapping[str, str], most: Mapping[str, int]
) -> AsyncIterator[Killer]:
    """A mesh under load whose controllers are killed at their writes, the first of which runs."""
    with kube_proxy(cluster) as proxy:
        async with mesh:
            assert mesh.kubeconfig is not None
            mesh.kubeconfig = proxy.kubeconfig(mesh.kubeconfig)
            await mesh.routed()
            async with mesh.load:
                killer = Killer(mesh, proxy, writes, most)
                killer.aim()
                await mesh.another()
                yield killer


async def test_a_controller_that_is_killed_at_each_write_goes_on_exactly(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    mesh = InCluster(cluster, namespace, tmp_path, steps=STEPS, start=False)
    async with dying(cluster, mesh, WRITES, MOST) as killer:
        await killed_until(mesh, killer, lambda s: s.run and s.run.outcome and s.run.applied)
        assert killer.done
        assert await mesh.decided() == ("Promoted", "Safe")
        assert await mesh.weights() == [0, 100]
        await mesh.ready(mesh.replicas[0])
        await assert_as_of_one_controller(mesh, [30, 60, 100])


async def test_a_controller_that_is_killed_at_the_writes_of_a_promotion_copies_and_scales_once(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    spec = {"promotion": {"mode": "copy", "scaleDownAfter": "1s"}}
    mesh = Deployed(
        cluster, namespace, tmp_path, steps=({"weight": 60},), spec=spec, start=False,
        chart_values={"workloads": {"write": True}},
    )  # fmt: skip
    async with dying(cluster, mesh, COPIES, MOST_COPIES) as killer:
        await killed_until(mesh, killer, lambda s: s.idle and s.idle.phase == "Asleep")
        run = await mesh.run()
        assert (run.outcome, run.reason, run.number) == ("Promoted", "Safe", 1)
        assert await mesh.weights() == [100, 0]
        assert image(await mesh.deployment("v1")) == image(await mesh.deployment("v2"))
        assert (await mesh.deployment("v2"))["spec"]["replicas"] == 0
        await mesh.ready(mesh.replicas[0])
        history = await mesh.history()
        assert_recorded_once(history, mesh.load)
        assert_steps_in_order(history, [60, 100])

        await mesh.roll("v2", "v3")
        await killed_until(mesh, killer, lambda s: s.run and s.run.number == 2)
        assert killer.done
        assert (await mesh.deployment("v2"))["spec"]["replicas"] == 2
        assert {kind: killer.successes(path) for kind, path in COPIES.items()} == {
            "copy": 1, "scale": 2,
        }  # fmt: skip
        assert mesh.load.lost == {}


async def killed_until(mesh: InCluster, killer: Killer, over: Callable[[Status], object]) -> None:
    """Start process after process, as each is killed, until the status is as it should be."""
    [replica] = mesh.replicas
    while await dies(mesh, replica, over):
        assert await mesh.weights() in SPLITS
        killer.aim()
        await replica.start()


async def test_a_controller_that_is_killed_while_it_records_goes_on_exactly(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=LONG) as mesh:
        run = await mesh.under_way()
        with locked(tmp_path / "history.db"):
            await asked_in_vain(mesh, run)
            await killed(mesh)
        for _ in range(2):
            await recorded_more(mesh)
            await killed(mesh)
        await recorded_more(mesh)
        mesh.candidate.error_rate = 0.5
        assert await mesh.decided() == ("RolledBack", "Harmful")
        assert await mesh.weights() == [100, 0]
        assert (await mesh.run()).id == run.id
        await assert_as_of_one_controller(mesh, [30])


async def killed(mesh: InCluster) -> None:
    """Kill the controller in the middle of the run, and start another process."""
    [replica] = mesh.replicas
    await replica.stop(signal.SIGKILL)
    assert await mesh.weights() == [70, 30]
    await replica.start()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let nothing be written to a history, so that the next record waits inside its transaction."""
    with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield


async def asked_in_vain(mesh: InCluster, run: Run) -> None:
    """Ask for a run, so that its last looks are recorded; there is no answer while they cannot be."""
    [replica] = mesh.replicas
    with contextlib.suppress(TimeoutError):
        async with mesh.session.get(f"{replica.api}/v1/runs/{run.id}", timeout=aiohttp.ClientTimeout(2)):
            pass


async def recorded_more(mesh: InCluster) -> None:
    """Wait until one more look was recorded, and return at once."""
    await mesh.ready(mesh.replicas[0])
    before = len((await mesh.history())["intervals"])

    async def more() -> bool:
        return len((await mesh.history())["intervals"]) > before

    await mesh.eventually(more, "one more look in the history")


async def dies(mesh: InCluster, replica: Replica, over: Callable[[Status], object]) -> bool:
    """Wait until the process was killed, or the status is as it should be."""

    async def settled() -> bool:
        return not replica.alive or bool(over(await mesh.status()))

    await mesh.eventually(settled, "the end of the process or of the story")
    return not replica.alive
