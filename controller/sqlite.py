"""What the store and the history share as SQLite files: the journal, and errors in words."""

from __future__ import annotations

import sqlite3
import time

_WORDS = {
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked by another connection",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reports an error",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: is the folder there, and writable?",
    sqlite3.SQLITE_CORRUPT: "is damaged: move it away, and Penstock makes a new one",
    sqlite3.SQLITE_NOTADB: "is not a database: move it away, and Penstock makes a new one",
    sqlite3.SQLITE_PERM: "may not be opened by this user",
    sqlite3.SQLITE_AUTH: "may not be opened by this user",
}


def words(error: sqlite3.Error) -> str:
    """Return what is wrong with the database, to follow its name; else SQLite's own words."""
    code = getattr(error, "sqlite_errorcode", 0)
    return _WORDS.get(code & 0xFF, f"does not answer: {error}")  # the high bits only say where it happened


def write_ahead(connection: sqlite3.Connection, seconds: float) -> None:
    """Let readers and one writer work at the same time, from now on and for everybody.

    SQLite itself does not wait for a lock here, so this does, up to `seconds`; then sqlite3.OperationalError.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
