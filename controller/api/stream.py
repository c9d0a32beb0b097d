"""Changes as server-sent events: bounded queues, heartbeats, and no silent loss.

A reader that is too slow for its queue is told so (`reset`) and reads again; the controller never waits
for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Change = dict[str, Any]

QUEUE = 256
HEARTBEAT = 15.0
_RESET: Change = {"type": "reset", "object": {"detail": "changes were missed; read the lists again"}}


def frame(change: Change) -> str:
    """Return one event of the stream; JSON keeps it on one line, whatever the object holds.

    A number that is infinite or none is null, as in the other answers: JSON has neither.
    """
    return f"event: {change['type']}\ndata: {orjson.dumps(change['object']).decode()}\n\n"


async def frames(
    changes: AsyncIterator[Change], *, heartbeat: float = HEARTBEAT, queue: int = QUEUE
) -> AsyncIterator[str]:
    """Yield the changes as text, a comment every `heartbeat` seconds of silence; end when the changes end."""
    waiting: asyncio.Queue[Change | None] = asyncio.Queue(queue)
    pump = asyncio.create_task(_pump(changes, waiting))
    try:
        yield "retry: 2000\n\n"
        while True:
            try:
                change = await asyncio.wait_for(waiting.get(), heartbeat)
            except TimeoutError:
                yield ": still here\n\n"
                continue
            if change is None:
                return
            yield frame(change)
    finally:
        pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pump


async def _pump(changes: AsyncIterator[Change], waiting: asyncio.Queue[Change | None]) -> None:
    try:
        async for change in changes:
            if waiting.full():
                _clear(waiting)
                waiting.put_nowait(_RESET)
            else:
                waiting.put_nowait(change)
    finally:
        if waiting.full():
            _clear(waiting)
            waiting.put_nowait(_RESET)
        waiting.put_nowait(None)


def _clear(waiting: asyncio.Queue[Change | None]) -> None:
    while not waiting.empty():
        waiting.get_nowait()


class Places:
    """A bounded number of watchers at a time."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    @property
    def full(self) -> bool:
        """Whether there is no place left."""
        return self._free <= 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold one place."""
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1
