"""The schema of the history, step by step: what each version of it adds to the one before.

A database of any older version is brought up, each step in one transaction together with its version, under a
lock that only one process holds: several controllers may start at once, and a step that fails leaves the
version before, whole. A newer database is refused. Steps only add, so that a controller of the version
before goes on writing while its successor starts (a rolling update). A step never changes once it has been
released: the tests keep a database of each version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from controller.ports import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

LOCK = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(7465647)"}
"""How to be the only one until the transaction ends."""

_VERSIONS = sa.table("penstock_schema", sa.column("version"))

_RUNS_TICKS_INTERVALS_DECISIONS = (
    "CREATE TABLE penstock_schema (version INTEGER NOT NULL, PRIMARY KEY (version))",
    """CREATE TABLE runs (
        id TEXT NOT NULL, policy TEXT NOT NULL, started DOUBLE PRECISION NOT NULL,
        at DOUBLE PRECISION NOT NULL, cursor BIGINT NOT NULL, weights TEXT NOT NULL, verdict TEXT NOT NULL,
        evidence TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (id))""",
    "CREATE INDEX runs_by_policy ON runs (policy, started)",
    "CREATE INDEX runs_by_start ON runs (started)",
    """CREATE TABLE ticks (
        run TEXT NOT NULL REFERENCES runs (id), cursor BIGINT NOT NULL, at DOUBLE PRECISION NOT NULL,
        weights TEXT NOT NULL, verdict TEXT NOT NULL, PRIMARY KEY (run, cursor))""",
    """CREATE TABLE intervals (
        run TEXT NOT NULL REFERENCES runs (id), "end" BIGINT NOT NULL, metric TEXT NOT NULL,
        counts TEXT NOT NULL, PRIMARY KEY (run, "end", metric))""",
    """CREATE TABLE decisions (
        run TEXT NOT NULL REFERENCES runs (id), cursor BIGINT NOT NULL, seq INTEGER NOT NULL,
        at DOUBLE PRECISION NOT NULL, decision TEXT NOT NULL, PRIMARY KEY (run, cursor, seq))""",
)
_TERMS = (
    """CREATE TABLE terms (
        scope TEXT NOT NULL, epoch BIGINT NOT NULL, holder TEXT NOT NULL, since DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (scope))""",
)

STEPS: Sequence[Sequence[str]] = (_RUNS_TICKS_INTERVALS_DECISIONS, _TERMS)
"""The statements of version 1, 2 and so on, for SQLite and PostgreSQL alike."""


def migrate(engine: sa.Engine, where: str) -> None:
    """Bring a database up to the newest version; UnavailableError for one of a newer Penstock."""
    with engine.begin() as connection:
        found = _version(connection)
    while found < len(STEPS):
        with engine.begin() as connection:
            connection.exec_driver_sql(LOCK[engine.dialect.name])
            found = _version(connection)  # another process may have been faster
            if found < len(STEPS):
                found = _step(connection, found)
    if found > len(STEPS):
        known = f"schema {found}; this one knows {len(STEPS)}"
        raise UnavailableError(f"the history {where} was written by a newer Penstock ({known})")


def _version(connection: sa.Connection) -> int:
    if not sa.inspect(connection).has_table(_VERSIONS.name):
        return 0
    return int(connection.scalar(sa.select(sa.func.max(_VERSIONS.c.version))) or 0)


def _step(connection: sa.Connection, found: int) -> int:
    """Take the step from version `found`; return where that leads."""
    for statement in STEPS[found]:
        connection.exec_driver_sql(statement)
    connection.execute(sa.insert(_VERSIONS).values(version=found + 1))
    return found + 1
