"""Where a run enters and leaves the lane: nothing is judged or lost there that would not be without it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from controller.lane import Lane
from controller.ports import UnavailableError
from tests.controller.test_lane import NAMES, Closed, held, told
from tests.support.rig import GOOD, POLICY, Rig, manifests
from tests.support.simulated import Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STEPS = [{"weight": 20, "hold": "10s"}, {"weight": 50, "hold": "40s"}, {"weight": 60}]


async def begun(folder: Path, lane: Callable[[], Lane], **decision: Any) -> Rig:
    rig = Rig(folder)
    await rig.open(*(Service(name, dict(GOOD)) for name in NAMES))
    rig.loop._carrier.lane = lane()
    objects = manifests(**decision)
    objects[0]["spec"]["strategy"]["canary"]["steps"] = STEPS
    await rig.put(*objects)
    return rig


async def both(story: Callable[[Rig], Awaitable[Any]], **decision: Any) -> tuple[list[Any], list[Any]]:
    """Return what there is of each rollout after a story, with the lane and without."""
    results = []
    for lane in (Lane, Closed):
        with tempfile.TemporaryDirectory() as folder:
            rig = await begun(Path(folder), lane, **decision)
            await story(rig)
            results.append([each for name in NAMES for each in await found(rig, name)])
            await rig.close()
    return results[0], results[1]


async def found(rig: Rig, name: str) -> list[Any]:
    """Return run, status and weights of a rollout, if there is one."""
    await rig.loop.record()
    if not await rig.history.runs(f"default/{name}"):
        return []
    return [await rig.whole(name=name), (await rig.status(name)).dump(), await rig.weights(name)]


async def middle(rig: Rig) -> None:
    """Be at a step in the middle that is held for a while."""
    await rig.run(45)
    assert await rig.weights() == [50, 50]


async def edited(rig: Rig) -> None:
    """Ask another question while looks are not recorded yet."""
    await middle(rig)
    await rig.patch(POLICY, "/spec/metrics/0/margin", "50%")
    await rig.run(12)


async def edited_and_aborted(rig: Rig) -> None:
    await middle(rig)
    await rig.patch(POLICY, "/spec/metrics/0/margin", "50%")
    await rig.act("abort")
    await rig.run(7)


@pytest.mark.parametrize("story", [middle, edited, edited_and_aborted])
def test_a_step_in_the_middle_ends_the_same_with_and_without_the_lane(
    story: Callable[[Rig], Awaitable[None]],
) -> None:
    with_lane, without = asyncio.run(both(story, minSamples=50))
    assert told(with_lane) == told(without)


async def three_rhythms(rig: Rig) -> None:
    """Have intervals of several lengths, a history that is full for a while, and processes that restart."""
    for name, interval in (("other", "10s"), ("third", "15s")):
        objects = manifests(name, minSamples=1500, interval=interval)
        objects[0]["spec"]["strategy"]["canary"]["steps"] = STEPS
        await rig.put(*objects)
    await rig.run(50)
    record = rig.history.record
    rig.history.record = full  # type: ignore[method-assign]
    await rig.run(33)
    rig.history.record = record  # type: ignore[method-assign]
    rig.mesh.restart()
    await rig.run(40)


async def full(*_: Any) -> None:
    raise UnavailableError("the disk is full")


def test_rollouts_of_several_rhythms_end_the_same_with_and_without_the_lane() -> None:
    with_lane, without = asyncio.run(both(three_rhythms, minSamples=1500, deadline="10h"))
    for found in (with_lane, without):
        for run in found[::3]:
            del run["ticks"]  # what could not be recorded is read again, in one look
    assert told(with_lane) == told(without)


async def test_a_policy_that_is_made_anew_leaves_all_that_was_looked_at(rig: Rig) -> None:
    await held(rig)
    await rig.run(10)
    [before] = await rig.history.runs()
    await rig.store.patch(POLICY, [{"op": "remove", "path": "/metadata/finalizers"}], manager="kubectl")
    await rig.store.delete(POLICY, manager="kubectl")
    await rig.put(manifests(deadline="9h")[0])
    assert (await rig.status()).run is None
    await rig.loop.look()
    after = await rig.history.run(before["id"])
    assert after is not None
    assert after["cursor"] == before["cursor"] + 10


async def test_runs_are_looked_at_soon_when_a_look_at_all_fails(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held(rig)
    monkeypatch.setattr("controller.evidence.Collector._read", broken)
    rig.clock.time += 5
    await rig.loop.look()
    assert "default/ranker" not in rig.loop.lane
    failed_at = rig.clock.time
    rig.loop._schedule._wake.clear()
    await rig.loop._schedule.wait(rig.loop.lane.next_look(0.5))
    assert rig.clock.time <= failed_at + 1.5


async def test_a_run_that_cannot_enter_does_not_stop_the_others(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.start(GOOD, minSamples=1_000_000, deadline="10h")
    monkeypatch.setattr("analysis.herd.Herd.add", broken)
    await rig.run(30)
    assert "default/ranker" not in rig.loop.lane
    ends = await rig.ends()
    assert ends[-1] >= rig.clock.time - 6


async def test_a_look_that_fails_when_some_have_left_forgets_nobody(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = [Service("ranker", dict(GOOD)), Service("other", dict(GOOD))]
    await rig.open(*services)
    for service in services:
        await rig.put(*manifests(service.name, minSamples=1_000_000, deadline="10h"))
    await rig.run(23)
    assert all(f"default/{service.name}" in rig.loop.lane for service in services)
    services[0].rps = 0
    monkeypatch.setattr("analysis.herd.Herd.advance", broken)
    await rig.run(10)
    monkeypatch.undo()
    services[0].rps = 60
    await rig.run(12)
    for name in ("ranker", "other"):
        assert (await rig.whole(name=name))["cursor"] >= rig.clock.time - 6


async def test_a_run_whose_counts_cannot_be_placed_does_not_stop_the_others(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held(rig)
    monkeypatch.setattr("controller.group.Picker", broken)
    await rig.run(12)
    ends = await rig.ends()
    assert ends == [*range(ends[0], ends[-1] + 1, 5)]
    assert ends[-1] >= rig.clock.time - 6


def broken(*_: Any, **__: Any) -> Any:
    raise ArithmeticError
