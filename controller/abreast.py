"""Work on many things, a few at a time: in their order, and as one group that ends together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")


async def abreast(work: Callable[[T], Awaitable[None]], things: Sequence[T], *, limit: int) -> None:
    """Do `work` for each of some things, for at most `limit` of them at once; they begin in their order.

    When this returns or raises nothing of it runs any more. Who cancels it cancels what is under way, and the
    rest never begins; so does an error of `work`, which is raised as it is.
    """
    waiting = iter(things)

    async def hand() -> None:
        for thing in waiting:
            await work(thing)

    hands = [asyncio.create_task(hand()) for _ in things[:limit]]
    try:
        await asyncio.gather(*hands)
    finally:
        for each in hands:
            each.cancel()
        await asyncio.gather(*hands, return_exceptions=True)
