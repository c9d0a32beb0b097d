"""The local store: objects in one SQLite file, with what the controller expects of an API server.

Guarantees: each write is one transaction (a killed process leaves all of it or nothing) and gets the next
resourceVersion; status and spec do not touch each other; a failed `test` of a patch, or a status for an older
version, is a ConflictError; a database that is locked, read-only, damaged or of a newer Penstock is an
UnavailableError that says so. Several processes may use one file. Only the newest 10,000 changes are kept: a
watch from before them is told to list again.

All database work runs on one thread, so that the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar

from controller import sqlite
from controller.ports import UnavailableError
from controller.standalone import database, objects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from controller.ports import Object, Ref, WatchEvent

P = ParamSpec("P")
T = TypeVar("T")

POLL_SECONDS = 0.2
"""How soon a watch sees what another process wrote; own writes wake it at once."""


class LocalStore:
    """`controller.ports.Store` on a SQLite file; make it with `open`, end it with `close`."""

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, busy_seconds: float = database.BUSY_SECONDS
    ) -> None:
        self.path = path
        self._clock = clock
        self._busy_seconds = busy_seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._connection: sqlite3.Connection | None = None
        self._watchers: set[asyncio.Event] = set()

    @classmethod
    async def open(
        cls, path: Path, clock: Callable[[], float] = time.time, busy_seconds: float = database.BUSY_SECONDS
    ) -> Self:
        """Open or create the file; UnavailableError when it cannot be used."""
        store = cls(path, clock, busy_seconds)
        try:
            await store.version()
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Finish what is being written and close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    async def list(self, kind: str, namespace: str | None = None) -> list[Object]:
        """Return all objects of a kind, by namespace and name."""
        return await self._read(database.listing, kind, namespace)

    async def get(self, ref: Ref) -> Object:
        """Return one object; NotFoundError."""
        return await self._read(database.get, ref)

    async def events(self, ref: Ref | None = None, limit: int = 100) -> Sequence[Object]:
        """Return events, newest first: {type, reason, message, count, firstSeen, lastSeen, object}."""
        return await self._read(database.events, ref, limit)

    async def files(self) -> dict[str, str]:
        """Return the manifests as last applied from the folder: text by path."""
        return await self._read(database.files)

    async def version(self) -> str:
        """Return the newest resourceVersion: a watch since then misses nothing."""
        return str(await self._read(database.version))

    async def changes(self, kinds: Sequence[str], since: str) -> tuple[str, Sequence[WatchEvent]]:
        """Return the changes of `kinds` after resourceVersion `since`, and up to where they reach.

        ConflictError when they are no longer kept: list again.
        """
        reached, found = int(since), []
        while True:
            before = reached
            reached, more = await self._read(database.changes, tuple(kinds), before)
            found += more
            if reached == before:
                return str(reached), found

    async def watch(self, kinds: Sequence[str], since: str | None = None) -> AsyncIterator[WatchEvent]:
        """Yield changes of `kinds` after resourceVersion `since` (None: from now on), until closed.

        ConflictError when the changes after `since` are no longer kept: list again, watch from there.
        """
        wake = asyncio.Event()
        self._watchers.add(wake)
        try:
            seen = int(await self.version() if since is None else since)
            while True:
                wake.clear()
                reached, changes = await self._read(database.changes, tuple(kinds), seen)
                for change in changes:
                    yield change
                if reached == seen:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(wake.wait(), POLL_SECONDS)
                seen = reached
        finally:
            self._watchers.discard(wake)

    async def patch(self, ref: Ref, operations: Sequence[Mapping[str, Any]], *, manager: str) -> Object:
        """Apply a JSON Patch as one write by `manager`; what it says of the status is dropped.

        ConflictError when a `test` fails, NotFoundError, and istio.jsonpatch.PatchError when the patch does
        not fit the object or would change its identity.
        """
        return await self._write(database.patch, ref, list(operations), manager, self._clock())

    async def patch_status(self, ref: Ref, status: Object, *, resource_version: str) -> Object:
        """Replace the status; ConflictError when the object is no longer at `resource_version`."""
        return await self._write(database.patch_status, ref, status, resource_version, self._clock())

    async def put(self, obj: Object, *, manager: str) -> Object:
        """Create or replace an object; a live one keeps its status and its `penstock.dev/*` annotations."""
        ref = objects.ref_of(obj)
        await self.change({ref: lambda _: obj}, manager=manager)
        return await self.get(ref)

    async def delete(self, ref: Ref, *, manager: str) -> None:
        """Delete an object; one that is not there is no error."""
        await self.change({ref: lambda _: None}, manager=manager)

    async def change(
        self, wanted: Mapping[Ref, database.Change], *, manager: str, applied: Mapping[str, str] | None = None
    ) -> set[Ref]:
        """Write several objects in one transaction; return those that changed.

        Each change gets the live object (None: not there) and returns the manifest wanted (None: not there)
        inside the transaction, so that nothing comes in between. With `applied`, the manifests as last
        applied from the folder are replaced too.
        """
        return await self._write(database.change, wanted, manager, applied, self._clock())

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Object]:  # noqa: ARG002
        """Return nothing: there are no pods without Kubernetes."""
        return []

    async def event(self, ref: Ref, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Tell of something that happened to an object; equal events are counted, the oldest forgotten."""
        await self._write(database.event, ref, (type_, reason, message), self._clock())

    async def _write(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def call(connection: sqlite3.Connection) -> T:
            with database.transaction(connection):
                return work(connection, *args, **kwargs)

        result = await self._read(call)
        for wake in self._watchers:
            wake.set()
        return result

    async def _read(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def call() -> T:
            try:
                if self._connection is None:
                    self._connection = database.connect(self.path, self._busy_seconds)
                return work(self._connection, *args, **kwargs)
            except sqlite3.Error as error:
                raise UnavailableError(f"the store {self.path} {sqlite.words(error)}") from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
