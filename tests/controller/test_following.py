"""What changes while a look is under way: nobody's wish waits for the time that the look has planned."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from controller.ports import Reading, UnavailableError
from controller.schedule import Schedule
from tests.support.rig import GOOD, POLICY, Rig
from tests.support.simulated import Clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from controller.ports import Object, Ref


async def during_a_look(rig: Rig, change: Callable[[], Awaitable[None]]) -> None:
    """Take a look whose metrics cannot be read, and change something while they are waited for."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def no_answer(*_: Any, **__: Any) -> Reading:
        asked.set()
        await answer.wait()
        raise UnavailableError("it hung up")

    rig.mesh.read = no_answer  # type: ignore[method-assign]
    rig.clock.time += 10
    looking = asyncio.create_task(rig.loop.look())
    async with asyncio.timeout(30):
        await asked.wait()
    await change()
    answer.set()
    await looking


@pytest.fixture
async def under_way(rig: Rig) -> Rig:
    """A run of a good candidate a few seconds after its start."""
    await rig.start(GOOD, minSamples=1_000_000)
    await rig.run(3)
    return rig


async def test_what_is_asked_while_a_look_is_under_way_is_answered_by_the_next(under_way: Rig) -> None:
    await during_a_look(under_way, lambda: under_way.act("pause"))
    await under_way.looks(1)
    status = await under_way.status()
    assert status.run is not None
    assert status.run.paused


async def test_an_edit_while_a_look_is_under_way_is_seen_by_the_next(under_way: Rig) -> None:
    await during_a_look(under_way, lambda: under_way.patch(POLICY, "/spec/strategy", {"lottery": {}}))
    await under_way.looks(1)
    stalled = (await under_way.status()).condition("Stalled")
    assert stalled is not None
    assert stalled.reason == "PolicyInvalid"


async def test_changes_that_were_missed_while_a_look_is_under_way_are_looked_for_by_the_next(
    under_way: Rig,
) -> None:
    """The watch begins anew in the middle of a look, and the change itself is never told."""
    _, tell = under_way.loop._follower, under_way.loop.changed

    async def missed() -> None:
        under_way.loop.changed = lambda *_, **__: None  # type: ignore[method-assign]
        await under_way.act("pause")
        under_way.loop.changed = tell  # type: ignore[method-assign]
        following = asyncio.create_task(under_way.loop._follower.run())
        async with asyncio.timeout(30):
            await under_way.loop._schedule._wake.wait()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    under_way.loop._schedule._wake.clear()
    await during_a_look(under_way, missed)
    await under_way.looks(1)
    status = await under_way.status()
    assert status.run is not None
    assert status.run.paused


async def test_an_own_write_that_is_told_before_its_answer_makes_nothing_due(rig: Rig) -> None:
    """The watch of an API server may be faster than the answer to the write."""
    await rig.start(GOOD, minSamples=1_000_000)
    write, told = rig.store.patch_status, []

    async def told_first(ref: Ref, status: Object, *, resource_version: str) -> Object:
        stored = await write(ref, status, resource_version=resource_version)
        rig.loop.changed(stored)
        told.append(stored)
        return stored

    rig.store.patch_status = told_first  # type: ignore[method-assign]
    await rig.looks(1)
    assert told
    assert not rig.loop._schedule.is_due("default/ranker", rig.clock.time - 0.2)


async def test_a_wait_that_is_cancelled_leaves_nothing_running() -> None:
    schedule = Schedule(_Still(), 0.5)
    waiting = asyncio.create_task(schedule.wait())
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 4
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


class _Still(Clock):
    """A clock on which nobody's sleep ends."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()
