"""Leader election with real processes on a real API server."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from controller.cluster.kube import Kube
from controller.cluster.lease import Lease
from controller.cluster.lease_object import KubeLeases
from controller.ports import ConflictError, NotFoundError, UnavailableError
from controller.status import from_rfc3339
from tests.support.watched import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cluster.running import Cluster

pytestmark = [pytest.mark.real, pytest.mark.cluster]

SECONDS = 6
ROOT = Path(__file__).parents[3]


@dataclass
class Candidate:
    """A process of tests.support.candidate."""

    process: subprocess.Popen[str]
    lines: queue.Queue[str] = field(default_factory=queue.Queue)

    def read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put("")

    def until(self, *starts: str) -> list[str]:
        """Return what it says up to the first line that begins so."""
        said = []
        while not said or not said[-1].startswith(starts):
            said.append(self.lines.get(timeout=PATIENCE))
            assert said[-1], f"it has ended: {said}"
        return said


@pytest.fixture
def candidate(cluster: Cluster, namespace: str) -> Iterator[Callable[..., Candidate]]:
    """Start a process that stands for the lease of this namespace."""
    leases = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "penstock"}}
    counts = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "counts"}}
    for obj in (leases, counts):
        cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(obj))
    started: list[Candidate] = []

    def start(name: str, seconds: int = SECONDS) -> Candidate:
        command = [sys.executable, "-m", "tests.support.candidate", str(cluster.kubeconfig), namespace, name]
        process = subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        started.append(Candidate(process))
        threading.Thread(target=started[-1].read).start()
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        each.process.stdout.close()


def _counts(cluster: Cluster, namespace: str) -> dict[str, str]:
    return json.loads(cluster.kubectl("get", "configmap", "counts", "-n", namespace, "-o", "json"))["data"]


def _lease(cluster: Cluster, namespace: str) -> dict[str, Any]:
    return json.loads(cluster.kubectl("get", "lease", "penstock", "-n", namespace, "-o", "json"))["spec"]


def test_when_the_leader_is_killed_the_other_one_leads_after_its_lease(cluster, namespace, candidate):
    first = candidate("first")
    first.until("wrote 3")
    second = candidate("second")
    before = _lease(cluster, namespace)
    assert before["holderIdentity"] == "first"
    first.process.kill()
    first.process.wait()
    second.until("wrote 3")
    lease = _lease(cluster, namespace)
    assert (lease["holderIdentity"], lease["leaseDurationSeconds"]) == ("second", SECONDS)
    assert lease["leaseTransitions"] > before["leaseTransitions"]
    assert from_rfc3339(lease["acquireTime"]) > from_rfc3339(before["renewTime"]) + SECONDS


def test_a_leader_that_was_stopped_past_its_lease_writes_nothing_when_it_is_resumed(
    cluster, namespace, candidate
):
    first = candidate("first")
    first.until("wrote 3")
    second = candidate("second")
    first.process.send_signal(signal.SIGSTOP)
    second.until("wrote 3")
    before = _counts(cluster, namespace)
    first.process.send_signal(signal.SIGCONT)
    # either its next write is refused, or it learns before that write that its term is over
    said = first.until("refused", "over")
    # what was written and answered before it was stopped may be told only now
    told = [line for line in said if line.startswith("wrote")]
    assert int(before["first"]) >= max((int(line.split()[1]) for line in told), default=0)
    second.until("wrote")
    second.until("wrote")
    after = _counts(cluster, namespace)
    assert after["first"] == before["first"]
    assert int(after["second"]) > int(before["second"])
    second.process.terminate()
    first.until("begins")
    first.until("wrote")


def test_a_leader_that_ends_in_order_is_followed_without_a_wait(cluster, namespace, candidate):
    first = candidate("first", seconds=60)
    first.until("wrote 3")
    second = candidate("second", seconds=60)
    before = _lease(cluster, namespace)
    first.process.terminate()
    first.until("ended")
    second.until("wrote 3")
    after = _lease(cluster, namespace)
    assert after["leaseTransitions"] == 2
    assert from_rfc3339(after["acquireTime"]) < from_rfc3339(before["renewTime"]) + 60, "it did not run out"


@contextlib.asynccontextmanager
async def _leases(cluster: Cluster, namespace: str):
    kube = await Kube.open(cluster.kubeconfig)
    try:
        yield KubeLeases(kube, namespace, "penstock")
    finally:
        await kube.close()


async def test_the_api_server_guards_the_lease_as_the_port_says(cluster, namespace):
    async with _leases(cluster, namespace) as leases:
        with pytest.raises(NotFoundError):
            await leases.read()
        first = await leases.create({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}})
        with pytest.raises(ConflictError):
            await leases.create({"spec": {}})
        second = await leases.replace({**first, "spec": {**first["spec"], "leaseTransitions": 1}})
        assert (await leases.read())["spec"] == second["spec"]
        with pytest.raises(ConflictError):
            await leases.replace({**first, "spec": {}})
        cluster.kubectl("delete", "lease", "penstock", "-n", namespace)
        with pytest.raises((ConflictError, NotFoundError)):
            await leases.replace(second)
        with pytest.raises(NotFoundError):
            await leases.read()  # a write to what is gone did not bring it back


async def test_a_lease_is_taken_renewed_given_back_and_taken_again(cluster, namespace):
    async with _leases(cluster, namespace) as leases:
        await leases.create({"spec": {}})
        one, two = (Lease(leases, identity=name, seconds=60) for name in ("one", "two"))
        await one.acquire()
        await one._attempt(5.0)
        one.check()
        spec = (await leases.read())["spec"]
        assert spec["renewTime"] > spec["acquireTime"]
        await one.release()
        assert "holderIdentity" not in (await leases.read())["spec"]
        await two.acquire()
        assert (await leases.read())["spec"]["leaseTransitions"] == 2


async def test_a_namespace_that_is_not_there_is_said(cluster):
    async with _leases(cluster, "no-such-namespace") as leases:
        with pytest.raises(UnavailableError, match="namespace of the lease is not there"):
            await leases.create({"spec": {}})
