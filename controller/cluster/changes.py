"""What changed lately, by sequence numbers of its own: bounded, and honest about what it has forgotten.

Every change of an object tells of the object as it is now: older versions of it are not kept in memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from controller.ports import ConflictError, WatchEvent

if TYPE_CHECKING:
    from collections.abc import Collection

KEPT = 4096


class Changes:
    """The newest changes of all kinds, oldest first."""

    def __init__(self, kept: int = KEPT) -> None:
        self._events: deque[WatchEvent] = deque(maxlen=kept)
        self._numbers: dict[tuple[str, str | None, str], list[int]] = {}
        """Those of an object's changes, oldest first, since it was last deleted."""
        self._next = asyncio.Event()
        self.newest = 0
        """The number of the last change."""

    def add(self, event: WatchEvent) -> None:
        """Give a change its number and wake whoever waits for it."""
        self._events.append(event)
        self.newest += 1
        self._renew(event)
        self._next.set()
        self._next = asyncio.Event()

    def _renew(self, event: WatchEvent) -> None:
        """Let the kept changes of the same object share its newest version."""
        metadata = event.object["metadata"]
        key = event.object["kind"], metadata.get("namespace"), metadata["name"]
        forgotten = self.newest - len(self._events)
        kept = [number for number in self._numbers.pop(key, ()) if number > forgotten]
        for number in kept:
            at = number - self.newest - 1
            self._events[at] = WatchEvent(self._events[at].type, event.object)
        if event.type != "DELETED":
            self._numbers[key] = [*kept, self.newest]

    def after(self, number: int, kinds: Collection[str]) -> list[WatchEvent]:
        """Return the changes of `kinds` after a number; ConflictError when they are not known (any more)."""
        count = self.newest - number
        if not 0 <= count <= len(self._events):
            raise ConflictError(f"the changes after {number} are not known (any more): list again")
        newest = (self._events[at] for at in range(-count, 0))
        return [event for event in newest if event.object["kind"] in kinds]

    async def wait(self, number: int) -> None:
        """Wait until there is a change after a number."""
        while self.newest <= number:
            await self._next.wait()
