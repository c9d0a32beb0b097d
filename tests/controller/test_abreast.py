"""Work on many things, a few at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.abreast import abreast
from controller.ports import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Site:
    """Where each thing takes some turns of the event loop."""

    def __init__(self, turns: Sequence[int]) -> None:
        self._turns = turns
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.most = 0

    @property
    def under_way(self) -> int:
        return len(self.begun) - len(self.ended)

    async def work(self, number: int) -> None:
        self.begun.append(number)
        self.most = max(self.most, self.under_way)
        try:
            for _ in range(self._turns[number]):
                await asyncio.sleep(0)
        finally:
            self.ended.append(number)


@given(turns=st.lists(st.integers(0, 5)), limit=st.integers(1, 4))
def test_all_are_done_in_their_order_and_never_more_than_the_limit_at_once(
    turns: list[int], limit: int
) -> None:
    site = Site(turns)
    asyncio.run(abreast(site.work, range(len(turns)), limit=limit))
    assert site.begun == list(range(len(turns)))
    assert sorted(site.ended) == site.begun
    assert site.most <= limit


async def test_as_many_as_the_limit_are_under_way_at_once() -> None:
    site = Site([3] * 20)
    await abreast(site.work, range(20), limit=8)
    assert site.most == 8


async def test_who_cancels_it_leaves_nothing_running_and_the_rest_never_begins() -> None:
    site = Site([10**9] * 20)
    task = asyncio.create_task(abreast(site.work, range(20), limit=8))
    for _ in range(10):
        await asyncio.sleep(0)
    assert site.under_way == 8
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert site.begun == list(range(8))
    assert site.under_way == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_ends_the_others_and_is_raised_as_it_is() -> None:
    site = Site([10**9] * 20)

    async def work(number: int) -> None:
        if number == 3:
            raise UnavailableError("the third")
        await site.work(number)

    with pytest.raises(UnavailableError, match="the third"):
        await abreast(work, range(20), limit=8)
    assert site.under_way == 0
    assert set(site.begun) <= set(range(8))


async def test_of_several_errors_one_is_raised_and_none_is_left_untold() -> None:
    async def work(number: int) -> None:
        await asyncio.sleep(0)
        raise UnavailableError(f"number {number}")

    with pytest.raises(UnavailableError, match="number 0"):
        await abreast(work, range(3), limit=3)
