"""Tell whoever listens what happened: bounded queues, and a listener that is too slow misses the oldest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WAITING = 256
"""News kept for one listener."""


class News:
    """One sender, any number of listeners."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[dict[str, Any]]] = set()

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._queues)

    def tell(self, type_: str, obj: Any) -> None:
        """Send {"type", "object"} to everyone who listens now."""
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait({"type": type_, "object": obj})

    async def listen(self) -> AsyncIterator[dict[str, Any]]:
        """Yield news from now on, until closed."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(WAITING)
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)
