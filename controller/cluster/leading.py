"""Leads for as long as it may: one term after another, each from a clean start.

A term is everything that only a leader does. It begins with an empty memory (whatever happened between two
terms, another may have led) and is cancelled the moment that leadership is lost or cannot be renewed. No
outage of the API server ends the process: it stands again and waits. The next term begins only when the last
one has ended, and the lease is given back only then.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.cluster.lease import NotLeaderError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from controller.cluster.lease import Lease

log = logging.getLogger("penstock")

REST = 5.0
"""Seconds after a failed term: enough for another candidate to come first."""


@dataclass(slots=True)
class Leadership:
    """What others may ask of it."""

    leading: bool = False
    """Whether a term runs."""


async def lead(lease: Lease, term: Callable[[], Awaitable[None]], state: Leadership) -> None:
    """Run a `term` whenever this process leads, until cancelled; then give the lease back.

    A term that ends by itself is told, and the lease given back: the next one begins in another process or,
    after some rest, in this one.
    """
    try:
        while True:
            await lease.acquire()
            if not await _one_term(lease, term, state):
                await lease.release()
                await asyncio.sleep(REST)
    finally:
        await lease.release()


async def _one_term(lease: Lease, term: Callable[[], Awaitable[None]], state: Leadership) -> bool:
    """Run a term to its end, whatever ends it; return whether it was the loss of the lease."""
    state.leading = True
    log.info("leading, as %s (transition %d)", lease.identity, lease.transitions)
    lost = False
    try:
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(lease.keep())
            group.create_task(_until_over(term, keeping))
    except* NotLeaderError as why:
        log.warning("leading no longer: %s", why.exceptions[0])
        lost = True
    except* Exception as failed:
        log.error("the term ended by an error", exc_info=failed)
    finally:
        state.leading = False
    return lost


async def _until_over(term: Callable[[], Awaitable[None]], keeping: asyncio.Task[None]) -> None:
    await term()
    keeping.cancel()
