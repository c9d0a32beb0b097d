"""A history that only the leader writes.

Two fences, since each alone leaves a gap. The lease is asked before each record, so that a process which
knows that it leads no longer writes nothing. And each term claims the history in the database: a record of an
older term is refused there, in the very transaction that would write it, however late it comes. After a claim
nothing of an older term arrives any more, so what the new term reads then is where it goes on from.

A history that lets the loop wait in vain is left alone for a while: a rollback must not wait for it again.

A leader whose claim was taken over resigns. Was it a mistake (a deposed process woke up between its election
and its claim), the rightful leader's next term claims again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from controller.ports import History, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from controller.ports import Tick

T = TypeVar("T")

IN_VAIN = 1.0
"""A call that failed after so many seconds was waited for in vain."""
REST = 10.0
"""Seconds for which such a history is left alone."""


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
        self._rests_until, self._problem = 0.0, ""

    async def claim(self) -> None:
        """Begin this process's term in the history, once; UnavailableError."""
        self._lease.check()
        if not self._claimed:
            who = self._lease.where, self._lease.identity
            await self._ask(lambda: self._history.claim(*who, time.time()))
            self._claimed = True

    async def record(self, *ticks: Tick) -> None:
        """Write looks of different runs, all or none, if this process leads; UnavailableError."""
        await self.claim()
        try:
            await self._ask(lambda: self._history.record(*ticks))
        except DeposedError as error:
            self._lease.resign(str(error))
            raise

    def hurry(self) -> None:
        """Make calls fail soon that are not answered, also those under way."""
        self._history.hurry()

    async def evidence(self, run: str) -> tuple[int, Mapping[str, Any]] | None:
        """Return (cursor, evidence) of the last look of a run, or None."""
        await self.claim()
        return await self._ask(lambda: self._history.evidence(run))

    async def intervals(self, run: str) -> Sequence[Mapping[str, Any]]:
        """Return a run's intervals as they were recorded, oldest first."""
        await self.claim()
        return await self._ask(lambda: self._history.intervals(run))

    async def runs(self, policy: str | None = None, limit: int = 100) -> list[Mapping[str, Any]]:
        """Return runs, newest first."""
        return await self._history.runs(policy, limit)

    async def run(self, run: str) -> Mapping[str, Any] | None:
        """Return one run with all that is known of it, or None."""
        return await self._ask(lambda: self._history.run(run))

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        began = time.monotonic()
        if began < self._rests_until:
            raise UnavailableError(self._problem)
        try:
            return await call()
        except UnavailableError as error:
            now = time.monotonic()
            if now - began > IN_VAIN:
                self._rests_until, self._problem = now + REST, str(error)
            raise
