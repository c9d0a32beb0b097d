"""The local store's SQLite file: each read and write as a plain function on a connection.

Writes belong inside `transaction`, which leaves all of them or nothing, whatever happens to the process. A
change of an object takes the next number of one counter as its resourceVersion and leaves a row in `changes`.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from controller.ports import ConflictError, NotFoundError, Ref, UnavailableError, WatchEvent
from controller.sqlite import write_ahead
from controller.standalone import objects
from istio.jsonpatch import PatchConflictError, PatchError, apply_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from controller.ports import Object

    Change = Callable[[Object | None], Object | None]
    """From the live object (None: not there) to the manifest wanted (None: not there)."""

SCHEMA = 1
KEPT_CHANGES = 10_000
KEPT_EVENTS = 1_000
BUSY_SECONDS = 5.0
"""How long a write waits for another process's write before the store counts as unavailable."""
BATCH = 256
STATUS_MANAGER = "penstock"

_TABLES = """
CREATE TABLE objects (kind TEXT, namespace TEXT, name TEXT, body TEXT NOT NULL,
                      PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID;
CREATE TABLE changes (version INTEGER PRIMARY KEY, type TEXT NOT NULL, kind TEXT NOT NULL,
                      body TEXT NOT NULL);
CREATE TABLE counter (version INTEGER NOT NULL);
INSERT INTO counter VALUES (0);
CREATE TABLE events (kind TEXT, namespace TEXT, name TEXT, type TEXT, reason TEXT, message TEXT,
                     count INTEGER NOT NULL, first REAL NOT NULL, last REAL NOT NULL,
                     PRIMARY KEY (kind, namespace, name, type, reason, message));
CREATE INDEX events_by_time ON events (last);
CREATE TABLE files (path TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
"""


def connect(path: Path, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Open or create the file; sqlite3.Error, or UnavailableError when it is not this Penstock's."""
    database = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    try:
        schema = database.execute("PRAGMA user_version").fetchone()[0]
        if schema > SCHEMA:
            raise UnavailableError(
                f"the store {path} was written by a newer Penstock (schema {schema}; this one knows {SCHEMA})"
            )
        if schema == 0:
            write_ahead(database, busy_seconds)
            _create(database, path)
        database.execute("PRAGMA synchronous = FULL")  # a weight that Envoy serves survives a power cut
    except BaseException:
        database.close()
        raise
    return database


def _create(database: sqlite3.Connection, path: Path) -> None:
    with transaction(database):
        if database.execute("PRAGMA user_version").fetchone()[0]:
            return  # another process was faster
        if database.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise UnavailableError(f"{path} is the database of another program, not Penstock's store")
        for statement in _TABLES.split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {SCHEMA}")


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Hold the write lock; commit at the end, roll back on any error."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def listing(database: sqlite3.Connection, kind: str, namespace: str | None) -> list[Object]:
    """Return the objects of a kind, by namespace and name."""
    rows = database.execute(
        "SELECT body FROM objects WHERE kind = ?1 AND (?2 IS NULL OR namespace = ?2) "
        "ORDER BY namespace, name",
        (kind, namespace),
    )
    return [json.loads(body) for (body,) in rows]


def get(database: sqlite3.Connection, ref: Ref) -> Object:
    """Return one object; NotFoundError."""
    live = _find(database, ref)
    if live is None:
        raise NotFoundError(f"there is no {ref}")
    return live


def _find(database: sqlite3.Connection, ref: Ref) -> Object | None:
    row = database.execute(
        "SELECT body FROM objects WHERE kind = ? AND namespace = ? AND name = ?", tuple(ref)
    ).fetchone()
    return json.loads(row[0]) if row else None


def files(database: sqlite3.Connection) -> dict[str, str]:
    """Return the manifests as last applied: text by path."""
    return dict(database.execute("SELECT path, text FROM files ORDER BY path").fetchall())


def version(database: sqlite3.Connection) -> int:
    """Return the newest resourceVersion."""
    return int(database.execute("SELECT version FROM counter").fetchone()[0])


def changes(database: sqlite3.Connection, kinds: tuple[str, ...], seen: int) -> tuple[int, list[WatchEvent]]:
    """Return how far the next changes after `seen` reach, and those of `kinds`.

    ConflictError when they are forgotten, or `seen` lies ahead: the file is another one than before.
    """
    newest = version(database)
    oldest = database.execute("SELECT min(version) FROM changes").fetchone()[0] or newest + 1
    if not oldest - 1 <= seen <= newest:
        raise ConflictError(f"the changes after version {seen} are not known (any more): list again")
    rows = database.execute(
        "SELECT version, type, kind, body FROM changes WHERE version > ? ORDER BY version LIMIT ?",
        (seen, BATCH),
    ).fetchall()
    events = [WatchEvent(type_, json.loads(body)) for _, type_, kind, body in rows if kind in kinds]
    return (rows[-1][0] if rows else seen), events


def patch(
    database: sqlite3.Connection, ref: Ref, operations: list[Mapping[str, Any]], manager: str, now: float
) -> Object:
    """Apply a JSON Patch to all but the status; return the version that is live then."""
    live = get(database, ref)
    try:
        body = apply_patch(live, operations)
    except PatchConflictError as error:
        raise ConflictError(f"{ref} changed meanwhile: {error}") from error
    if path := objects.protected_change(live, body):
        raise PatchError(f"a patch may not change {path}")
    revised = objects.revise(live, body, manager=manager, now=now)
    if revised is None:
        return live
    return _save(database, ref, revised, "DELETED" if objects.over(revised) else "MODIFIED")


def patch_status(
    database: sqlite3.Connection, ref: Ref, status: Object, resource_version: str, now: float
) -> Object:
    """Replace the status; ConflictError when the object is not at `resource_version`."""
    live = get(database, ref)
    if (current := live["metadata"]["resourceVersion"]) != resource_version:
        raise ConflictError(f"{ref} changed meanwhile: it is at version {current}, not {resource_version}")
    revised = objects.with_status(live, status, manager=STATUS_MANAGER, now=now)
    return live if revised is None else _save(database, ref, revised, "MODIFIED")


def change(
    database: sqlite3.Connection,
    wanted: Mapping[Ref, Change],
    manager: str,
    applied: Mapping[str, str] | None,
    now: float,
) -> set[Ref]:
    """Write several objects, and the manifests as last `applied`; return what changed."""
    changed = {ref for ref, to in wanted.items() if _change(database, ref, to, manager, now)}
    if applied is not None:
        database.execute("DELETE FROM files")
        database.executemany("INSERT INTO files VALUES (?, ?)", applied.items())
    return changed


def _change(database: sqlite3.Connection, ref: Ref, to: Change, manager: str, now: float) -> bool:
    live = _find(database, ref)
    wanted = to(live)
    if wanted is None:
        return live is not None and _delete(database, ref, live, now)
    if live is None:
        _save(database, ref, objects.create(wanted, manager=manager, now=now), "ADDED")
        return True
    back = live["metadata"].pop("deletionTimestamp", None)
    revised = objects.replace(live, wanted, manager=manager, now=now) or (live if back else None)
    if revised is not None:
        _save(database, ref, revised, "MODIFIED")
    return revised is not None


def _delete(database: sqlite3.Connection, ref: Ref, live: Object, now: float) -> bool:
    """Delete an object, or mark it until its finalizers are gone; tell whether this changed anything."""
    doomed = objects.doomed(live, now=now)
    if doomed == live:
        return False
    _save(database, ref, doomed or live, "MODIFIED" if doomed else "DELETED")
    return True


def _save(
    database: sqlite3.Connection, ref: Ref, body: Object, type_: Literal["ADDED", "MODIFIED", "DELETED"]
) -> Object:
    """Give `body` the next resourceVersion, store or remove it, and note the change."""
    database.execute("UPDATE counter SET version = version + 1")
    number = version(database)
    body["metadata"]["resourceVersion"] = str(number)
    text = json.dumps(body, separators=(",", ":"))
    if type_ == "DELETED":
        database.execute("DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?", tuple(ref))
    else:
        database.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (*ref, text))
    database.execute("INSERT INTO changes VALUES (?, ?, ?, ?)", (number, type_, ref.kind, text))
    database.execute("DELETE FROM changes WHERE version <= ?", (number - KEPT_CHANGES,))
    return body


def event(database: sqlite3.Connection, ref: Ref, what: tuple[str, str, str], now: float) -> None:
    """Note (type, reason, message) about an object, or count it once more."""
    database.execute(
        "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?7) "
        "ON CONFLICT DO UPDATE SET count = count + 1, last = excluded.last",
        (*ref, *what, now),
    )
    database.execute(
        "DELETE FROM events WHERE rowid IN "
        "(SELECT rowid FROM events ORDER BY last DESC, rowid DESC LIMIT -1 OFFSET ?)",
        (KEPT_EVENTS,),
    )


def events(database: sqlite3.Connection, ref: Ref | None, limit: int) -> list[Object]:
    """Return the newest events, of one object or of all."""
    rows = database.execute(
        "SELECT kind, namespace, name, type, reason, message, count, first, last FROM events "
        "WHERE ?1 IS NULL OR (kind = ?1 AND namespace = ?2 AND name = ?3) "
        "ORDER BY last DESC, rowid DESC LIMIT ?4",
        (*(ref or (None, None, None)), limit),
    )
    return [
        {
            "type": type_,
            "reason": reason,
            "message": message,
            "count": count,
            "firstSeen": objects.timestamp(first),
            "lastSeen": objects.timestamp(last),
            "object": {"kind": kind, "namespace": namespace, "name": name},
        }
        for kind, namespace, name, type_, reason, message, count, first, last in rows
    ]
