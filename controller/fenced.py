"""A history that only the leader writes.

Two fences, since each alone leaves a gap. The lease is asked before each record, so that a process which
knows that it leads no longer writes nothing. And each term claims the history in the database: a record of an
older term is refused there, in the very transaction that would write it, however late it comes. After a claim
nothing of an older term arrives any more, so what the new term reads then is where it goes on from.

A leader whose claim was taken over resigns. Was it a mistake (a deposed process woke up between its election
and its claim), the rightful leader's next term claims again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from controller.ports import History, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.ports import Tick


class DeposedError(UnavailableError):
    """Another term has claimed the history since: nothing was written."""


class Claimed(History, Protocol):
    """A history that knows terms."""

    async def claim(self, scope: str, holder: str, at: float) -> int:
        """Begin a term of `holder` and return its number; all older ones of `scope` are over.

        From now on `record` raises DeposedError when a newer term has begun. UnavailableError.
        """


class Fence(Protocol):
    """What is asked of a lease."""

    identity: str

    @property
    def where(self) -> str:
        """What is led: `namespace/name` of the Lease."""

    def check(self) -> None:
        """Raise UnavailableError unless this process leads."""

    def resign(self, why: str) -> None:
        """Stop leading."""


class FencedHistory:
    """`controller.ports.History` for the time of one term, which it claims before anything else.

    A history that is down when the term begins is claimed when it is back; meanwhile there is none.
    """

    def __init__(self, history: Claimed, lease: Fence) -> None:
        self._history, self._lease = history, lease
        self._claimed = False

    async def claim(self) -> None:
        """Begin this process's term in the history, once; UnavailableError."""
        self._lease.check()
        if not self._claimed:
            await self._history.claim(self._lease.where, self._lease.identity, time.time())
            self._claimed = True

    async def record(self, *ticks: Tick) -> None:
        """Write looks of different runs, all or none, if this process leads; UnavailableError."""
        await self.claim()
        try:
            await self._history.record(*ticks)
        except DeposedError as error:
            self._lease.resign(str(error))
            raise

    async def evidence(self, run: str) -> tuple[int, Mapping[str, Any]] | None:
        """Return (cursor, evidence) of the last look of a run, or None."""
        await self.claim()
        return await self._history.evidence(run)

    async def intervals(self, run: str) -> Sequence[Mapping[str, Any]]:
        """Return a run's intervals as they were recorded, oldest first."""
        await self.claim()
        return await self._history.intervals(run)

    async def runs(self, policy: str | None = None, limit: int = 100) -> list[Mapping[str, Any]]:
        """Return runs, newest first."""
        return await self._history.runs(policy, limit)

    async def run(self, run: str) -> Mapping[str, Any] | None:
        """Return one run with all that is known of it, or None."""
        return await self._history.run(run)
