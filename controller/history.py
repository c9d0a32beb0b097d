"""Every observation and decision of every run, in SQLite or PostgreSQL, through SQLAlchemy.

Guarantees: a look is one transaction, so evidence and cursor never part; recording it again changes nothing,
and an older look never takes the place of a newer one; numbers come back bit for bit (floats are written as
their shortest exact decimals, in text, since a database's own JSON may round them or refuse infinities).
Nothing is ever deleted. Of the evidence only the latest is kept.

In a cluster each term of a leader claims the history: a record of an older term is refused in its own
transaction, and a claim waits for those under way. The standalone controller claims nothing.

A database that is locked, read-only, down, silent or written by a newer Penstock is an UnavailableError.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import sqlalchemy as sa

from controller import history_rows
from controller.line import Line
from controller.migrations import migrate
from controller.ports import UnavailableError
from controller.sqlite import words, write_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from controller.ports import Tick

P = ParamSpec("P")
T = TypeVar("T")

WAIT_SECONDS = 5
"""How long to wait for a lock."""
CONNECT_SECONDS = 3
HURRIED_SECONDS = 1.5
"""How long to wait for an answer while a rollback waits behind it."""
HURRY_SECONDS = 10.0
"""For so long after `hurry`."""


class SqlHistory:
    """`controller.ports.History` on a database URL: `sqlite:///PATH` or `postgresql+psycopg://...`."""

    def __init__(self, url: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="history")
        self._engine = _engine(url)
        self._where = self._engine.url.render_as_string(hide_password=True)
        self._line: Line | None = None
        if self._engine.dialect.name != "sqlite":  # which waits for locks only
            self._line = Line()
            sa.event.listen(self._engine, "connect", self._line.connected)
        self._prepared = False
        self._term: tuple[str, int] | None = None
        """Scope and number of the term that this process claimed."""
        self._hurried_until = 0.0
        self._waits: set[asyncio.Timeout] = set()
        self._given_up: asyncio.Future[Any] | None = None
        """A call that nobody waits for any more; until its end there is no other."""

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect, and create the tables on first use; UnavailableError."""
        history = cls(url)
        try:
            await history.runs(limit=1)
        except BaseException:
            await history.close()
            raise
        return history

    async def close(self) -> None:
        """Finish what is being written and let the connections go."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown(wait=False)
        if self._line:
            self._line.forget()

    async def claim(self, scope: str, holder: str, at: float) -> int:
        """Begin a term of `holder` and return its number; older ones of `scope` can record nothing more."""
        epoch = await self._run(history_rows.claim, scope, holder, at)
        self._term = scope, epoch
        return epoch

    async def record(self, *ticks: Tick) -> None:
        """Write looks of different runs in one transaction; DeposedError, UnavailableError."""
        await self._run(history_rows.record, sorted(ticks, key=lambda tick: tick.run), self._term)

    def hurry(self) -> None:
        """Make calls fail soon that are not answered, also those under way: a rollback waits behind them.

        Such a call goes on all the same. A look that it records late is there already when it comes again.
        """
        now = asyncio.get_running_loop().time()
        self._hurried_until = now + HURRY_SECONDS
        for wait in self._waits:
            if wait.when() is None:
                wait.reschedule(now + HURRIED_SECONDS)

    async def evidence(self, run: str) -> tuple[int, Mapping[str, Any]] | None:
        """Return (cursor, evidence) of the last look of a run, or None."""
        return await self._run(history_rows.evidence, run)

    async def intervals(self, run: str) -> Sequence[Mapping[str, Any]]:
        """Return a run's intervals as they were recorded, oldest first."""
        return await self._run(history_rows.intervals, run)

    async def runs(self, policy: str | None = None, limit: int = 100) -> list[Mapping[str, Any]]:
        """Return runs, newest first: {id, policy, **run_facts, cursor, weights, verdict}."""
        return await self._run(history_rows.runs, policy, limit)

    async def run(self, run: str) -> Mapping[str, Any] | None:
        """Return one run with `latencies`, `ticks`, `intervals` and `decisions`, oldest first, or None."""
        return await self._run(history_rows.whole, run)

    async def _run(
        self, work: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def call() -> T:
            try:
                with self._line.bounded() if self._line else nullcontext():
                    if not self._prepared:
                        migrate(self._engine, self._where)
                        self._prepared = True
                    with self._engine.begin() as connection:
                        return work(connection, *args, **kwargs)
            except sa.exc.DBAPIError as error:
                raise UnavailableError(f"the history {self._where} {_reason(error)}") from error

        if self._given_up is not None and not self._given_up.done():
            raise UnavailableError(f"the history {self._where} still does not answer")
        return await self._answer(asyncio.get_running_loop().run_in_executor(self._thread, call))

    async def _answer(self, answer: asyncio.Future[T]) -> T:
        """Wait for an answer, for a short time only while there is a hurry."""
        hurried = asyncio.get_running_loop().time() < self._hurried_until
        try:
            async with asyncio.timeout(HURRIED_SECONDS if hurried else None) as wait:
                self._waits.add(wait)
                try:
                    return await asyncio.shield(answer)
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            self._given_up = answer
            raise UnavailableError(
                f"the history {self._where} does not answer: nothing within {HURRIED_SECONDS:g} s"
            ) from None


def _engine(url: str) -> sa.Engine:
    try:
        engine = sa.create_engine(
            url, connect_args=_connect_args(url), pool_pre_ping=True, pool_size=1, max_overflow=0
        )
    except (sa.exc.ArgumentError, ImportError) as error:
        raise UnavailableError(f"the URL of the history cannot be used: {error}") from error
    except ValueError:  # its words may hold a part of the password
        raise UnavailableError("the URL of the history cannot be used: its port is not a number") from None
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _configure_sqlite)
    return engine


def _connect_args(url: str) -> dict[str, Any]:
    if sa.make_url(url).get_backend_name() == "sqlite":
        return {"timeout": WAIT_SECONDS}
    milliseconds = WAIT_SECONDS * 1000
    return {
        "connect_timeout": CONNECT_SECONDS,
        # a controller that is stopped inside a transaction must not hold its locks against its successor
        "options": f"-c lock_timeout={milliseconds} -c statement_timeout={2 * milliseconds}"
        f" -c idle_in_transaction_session_timeout={2 * milliseconds}",
    }


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    write_ahead(connection, WAIT_SECONDS)
    # After a power cut the last looks may be gone; they are read from Prometheus again.
    connection.execute("PRAGMA synchronous = NORMAL")


def _reason(error: sa.exc.DBAPIError) -> str:
    if isinstance(error.orig, sqlite3.Error):
        return words(error.orig)
    first = str(error.orig).strip().partition("\n")[0]
    return f"does not answer: {first[:300]}"
