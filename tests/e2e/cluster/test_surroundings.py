"""What a run goes by fails: Prometheus, istiod, the history's database, the clock. Traffic stays right.

A rollback and an abort wait for none of them; steps wait; and afterwards the run goes on where it was, with
every interval counted once.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import postgresql
from tests.support.exact import assert_no_interval_lost
from tests.support.incluster import InCluster
from tests.support.recorded import assert_recorded_once, assert_steps_in_order
from tests.support.replica import ROOT
from tests.support.standalone import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.parts import Part
    from cluster.running import Cluster
    from controller.status import Run, Status

pytestmark = [pytest.mark.real, pytest.mark.cluster]

STAYS = ({"weight": 30, "hold": "90m"}, {"weight": 60})
"""Steps of a run that stays where it is, also when an hour seems to have passed."""
MANY = tuple({"weight": weight, "hold": "2s"} for weight in (10, 20, 30, 40, 50))
"""A run that is still under way when a slow machine comes to disturb it."""
TWO = ({"weight": 30, "hold": "2s", "pause": True}, {"weight": 60, "hold": "1h"})
"""A run that takes its second step when a person lets it."""
CLOCK = """
import time
from pathlib import Path

real, offset = time.time, Path({path!r})
time.time = lambda: real() + float(offset.read_text())
"""
"""Run by Python before anything else: the clock of this process goes by a file."""


def is_stalled(reason: str, words: str = "") -> object:
    """Return a condition that a status says that it is stalled for a reason."""

    def says(status: Status) -> bool:
        found = status.condition("Stalled")
        return bool(found and found.status == "True" and found.reason == reason and words in found.message)

    return says


async def test_prometheus_comes_back_empty_and_the_run_goes_on(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    prometheus = cluster.part("prometheus")
    async with InCluster(cluster, namespace, tmp_path, steps=LONG) as mesh:
        run = await mesh.under_way()
        await mesh.measured_after(run.started_at)
        await asyncio.to_thread(prometheus.stop)
        await mesh.until(is_stalled("MetricsUnavailable"), "words about Prometheus")
        assert (await mesh.run(), await mesh.weights()) == (run, [70, 30])
        shutil.rmtree(prometheus.folder / "data")
        back = time.time()
        await asyncio.to_thread(prometheus.start)
        await mesh.measured_after(back)
        assert (await mesh.run()).id == run.id
        mesh.candidate.error_rate = 0.5
        assert await mesh.decided() == ("RolledBack", "Harmful")
        assert await mesh.weights() == [100, 0]
        assert_recorded_once(await mesh.history(), mesh.load)

        await mesh.fresh_run()
        await asyncio.to_thread(prometheus.stop)
        await mesh.abort()
        await asyncio.to_thread(prometheus.start)
        assert mesh.load.lost == {}


async def test_istiod_is_down_while_a_weight_changes_and_the_observed_share_tells(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    """Weights that never arrived prove nothing: no promotion by them until they are there; harm is found."""
    istiod = cluster.part("istiod")
    async with InCluster(cluster, namespace, tmp_path, steps=TWO) as mesh:
        await step_without(istiod, mesh)
        mesh.candidate.error_rate = 0.5
        assert await mesh.decided() == ("RolledBack", "Harmful")
        assert await mesh.weights() == [100, 0]
        istiod.resume()
        history = await mesh.history()
        assert_recorded_once(history, mesh.load)
        assert_steps_in_order(history, [30, 60])

        await mesh.fresh_run()
        await step_without(istiod, mesh)
        assert (await mesh.run()).step == 1
        assert await mesh.weights() == [40, 60]
        istiod.resume()
        await arrived(mesh, 0.5)
        await mesh.until(lambda s: s.verdict == "Safe", "safety, proven anew")
        assert (await mesh.run()).step == 1
        assert await mesh.weights() == [40, 60]
        assert "SplitRestored" in [each["reason"] for each in await mesh.events()]
        assert_recorded_once(await mesh.history(), mesh.load)
        assert mesh.load.lost == {}


async def step_without(istiod: Part, mesh: InCluster) -> None:
    """Take the second step while istiod hears of nothing, and wait until the observed share tells."""
    await mesh.until(lambda s: s.run and s.run.waiting_for_approval, "the end of the first step")
    istiod.suspend()
    await mesh.act("promote")
    await mesh.until(lambda s: s.run and s.run.step == 1 and s.run.applied, "the second step")
    assert await mesh.weights() == [40, 60]
    told = await mesh.until(is_stalled("Invalid"), "the split to be told")
    assert told.verdict == "Invalid"


async def arrived(mesh: InCluster, share: float) -> None:
    """Wait until the candidate gets more than a share of the requests."""

    async def has_share() -> bool:
        before = dict(mesh.load.answers)
        await mesh.flowing()
        new = {version: mesh.load.answers[version] - before.get(version, 0) for version in ("v1", "v2")}
        return new["v2"] > share * sum(new.values())

    await mesh.eventually(has_share, "the weights to arrive")


@pytest.fixture
def server() -> Iterator[postgresql.Server]:
    """A PostgreSQL server of the test's own."""
    try:
        with postgresql.running_server() as running:
            yield running
    except postgresql.NoPostgresqlError as error:
        pytest.skip(str(error))


async def test_postgresql_is_restarted_in_the_middle_of_a_run(
    cluster: Cluster, namespace: str, tmp_path: Path, server: postgresql.Server
) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=MANY, history=server.url) as mesh:
        await mesh.under_way()
        server.stop()
        await said(mesh, "does not answer: ")  # what was recorded before has been carried out
        run = await mesh.run()
        assert run.outcome is None
        await mesh.eventually(lambda: in_force(mesh, run), "the weights of the last step that was recorded")
        await mesh.intervals(4)
        now = await mesh.run()
        assert (now.step, now.outcome, now.weights) == (run.step, None, run.weights), (
            "it waits for its record"
        )
        assert await in_force(mesh, run)
        back = time.time()
        server.start()
        await mesh.measured_after(back)
        assert await mesh.decided() == ("Promoted", "Safe")
        assert await mesh.weights() == [0, 100]
        history = await mesh.history()
        assert history["id"] == run.id
        assert_recorded_once(history, mesh.load)
        assert_steps_in_order(history, [10, 20, 30, 40, 50, 100])
        assert mesh.load.lost == {}


async def in_force(mesh: InCluster, run: Run) -> bool:
    """Tell whether the live weights are those that a run wants."""
    return await mesh.weights() == [run.weights["stable"], run.weights["candidate"]]


async def test_the_disk_of_the_history_is_full(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """The kernel lets the process write no file further than the history's own: as on a full disk."""
    async with InCluster(cluster, namespace, tmp_path, steps=LONG) as mesh:
        run, full = await mesh.under_way(), time.time()
        with no_more_than(mesh.replicas[0].pid, mesh.replicas[0].log.stat().st_size + 40_000):
            await said(mesh, "the disk")
            assert (await mesh.run(), await mesh.weights()) == (run, [70, 30])
            mesh.candidate.error_rate = 0.5
            assert await mesh.decided() == ("RolledBack", "Harmful")
            assert await mesh.weights() == [100, 0]
            assert mesh.replicas[0].alive

        history = await mesh.recorded(run.id, "Harmful")
        assert [each["action"] for each in history["decisions"]] == ["Start", "RollBack"]
        assert max(row["end"] for row in history["intervals"]) > full
        assert_recorded_once(history, mesh.load)
        assert mesh.load.lost == {}


@contextlib.contextmanager
def no_more_than(pid: int, size: int) -> Iterator[None]:
    """Let a process make no file longer than `size` bytes."""
    old = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, old)


async def said(mesh: InCluster, words: str) -> None:
    """Wait until the controller says something."""

    async def is_said() -> bool:
        return words in mesh.said()

    await mesh.eventually(is_said, "the words", words)


async def test_the_clock_is_stepped_by_an_hour_and_back(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    offset = tmp_path / "offset"
    offset.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(CLOCK.format(path=str(offset)))
    async with InCluster(cluster, namespace, tmp_path, steps=STAYS, start=False) as mesh:
        replica = await mesh.another(env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
        await mesh.ready(replica)
        await mesh.routed()
        async with mesh.load:
            run = await mesh.under_way()
            await mesh.measured_after(run.started_at)
            for step in ("3600", "0", "-3600", "0"):
                swap(offset, step)
                await mesh.intervals(3)
                assert ((await mesh.run()).id, await mesh.weights()) == (run.id, [70, 30]), step
            await mesh.measured_after(time.time())
            await assert_no_interval_lost(mesh, await mesh.history())
            swap(offset, "3600")
            await mesh.abort()
            swap(offset, "0")
            assert_recorded_once(await mesh.history(), mesh.load)
            await mesh.fresh_run()
            mesh.candidate.error_rate = 0.5
            assert await mesh.decided() == ("RolledBack", "Harmful")
            assert_recorded_once(await mesh.history(), mesh.load)
        assert mesh.load.lost == {}


def swap(path: Path, text: str) -> None:
    """Write a file that is never seen half written."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)
