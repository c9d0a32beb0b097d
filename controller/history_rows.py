"""The tables of the history, and what is written to and read from them; each function inside a transaction.

The tables are as the last step of `controller.migrations` leaves them.
"""

from __future__ import annotations

import json
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from controller.dossier import in_full
from controller.fenced import DeposedError
from controller.ports import Finite
from controller.retaken import identity, takes_the_place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.ports import Tick


class _Json(sa.TypeDecorator[Any]):
    """JSON in a text column: exact, infinities included."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str:  # noqa: ARG002 - SQLAlchemy's signature
        return json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        return json.loads(value)


META = sa.MetaData()
_RUNS = sa.Table(
    "runs",
    META,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("policy", sa.Text, nullable=False),
    sa.Column("started", sa.Double, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("cursor", sa.BigInteger, nullable=False),
    sa.Column("weights", _Json, nullable=False),
    sa.Column("verdict", _Json, nullable=False),
    sa.Column("evidence", _Json, nullable=False),
    sa.Column("facts", _Json, nullable=False),
    sa.Index("runs_by_policy", "policy", "started"),
    sa.Index("runs_by_start", "started"),
)
_TICKS = sa.Table(
    "ticks",
    META,
    sa.Column("run", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("cursor", sa.BigInteger, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("weights", _Json, nullable=False),
    sa.Column("verdict", _Json, nullable=False),
)
_INTERVALS = sa.Table(
    "intervals",
    META,
    sa.Column("run", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("end", sa.BigInteger, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("counts", _Json, nullable=False),
)
_DECISIONS = sa.Table(
    "decisions",
    META,
    sa.Column("run", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("cursor", sa.BigInteger, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("decision", _Json, nullable=False),
)
_TERMS = sa.Table(
    "terms",
    META,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("since", sa.Double, nullable=False),
)

_EVIDENCE = ("cursor", "evidence")
_LATEST = ("at", "weights", "facts")


def _insert(dialect: str, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    return (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)


def claim(connection: sa.Connection, scope: str, holder: str, at: float) -> int:
    """Begin a term of `holder` and return its number."""
    insert = _insert(connection.dialect.name, _TERMS).values(scope=scope, epoch=1, holder=holder, since=at)
    again = {"epoch": _TERMS.c.epoch + 1, "holder": holder, "since": at}
    claim = insert.on_conflict_do_update(index_elements=["scope"], set_=again)
    return int(connection.scalar(claim.returning(_TERMS.c.epoch)))


def _refuse_deposed(connection: sa.Connection, scope: str, epoch: int) -> None:
    """Raise DeposedError if a newer term has begun; until the transaction ends none can begin."""
    query = sa.select(_TERMS.c.epoch, _TERMS.c.holder).where(_TERMS.c.scope == scope)
    last = connection.execute(query.with_for_update(read=True)).first()
    if last is None or last.epoch != epoch:
        raise DeposedError(f"deposed: {last.holder if last else 'nobody'} has claimed the history")


def record(connection: sa.Connection, ticks: Sequence[Tick], term: tuple[str, int] | None) -> None:
    """Write looks of different runs; DeposedError if `term` (scope and number) is over."""
    if not ticks:
        return
    # first the runs: this locks them against a second writer
    runs = [_run_row(tick) for tick in ticks]
    _write(connection, _runs_upsert(connection.dialect.name), runs)
    if term is not None:
        _refuse_deposed(connection, *term)  # SQLite has no lock before the first write
    rows = [look for tick, run in zip(ticks, runs, strict=True) for look in _look_rows(tick, run)]
    _write(connection, _new_rows(_TICKS, connection.dialect.name), rows)
    tables = [
        {"run": tick.run, "end": table["end"], "metric": table["metric"], "counts": _text(table)}
        for tick in ticks
        for tables in (*(look.intervals for look in tick.earlier), tick.intervals)
        for table in tables
    ]
    _write(connection, _new_rows(_INTERVALS, connection.dialect.name), tables)
    for tick in ticks:
        if tick.decision is not None:
            look = {"run": tick.run, "cursor": tick.cursor, "at": tick.at}
            _record_decision(connection, look, dict(tick.decision))


def _look_rows(tick: Tick, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a tick's looks, oldest first; `run` is the row of its run."""
    common = {"run": tick.run, "weights": run["weights"]}
    rows = [
        {**common, "cursor": look.cursor, "at": look.at, "verdict": _text(look.verdict)}
        for look in tick.earlier
    ]
    if tick.is_look:
        rows.append({**common, "cursor": tick.cursor, "at": tick.at, "verdict": run["verdict"]})
    return rows


def _write(connection: sa.Connection, insert: sa.Insert, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows whose values are as the driver takes them.

    SQLAlchemy writes the statement, but what it does for each row costs more than the database.
    """
    if not rows:
        return
    compiled = insert.compile(dialect=connection.dialect, column_keys=[*rows[0]])
    names = getattr(compiled, "positiontup", None)
    values = [*map(itemgetter(*names), rows)] if names else [*rows]
    connection.exec_driver_sql(compiled.string, values)


def _new_rows(table: sa.Table, dialect: str) -> sa.Insert:
    """Return the statement for rows that change nothing where they are already."""
    return _insert(dialect, table).on_conflict_do_nothing()


def _runs_upsert(dialect: str) -> sa.Insert:
    """Write what is latest: evidence by its cursor, the rest by time, since a decision may need no data."""
    insert = _insert(dialect, _RUNS)
    new, old = insert.excluded, _RUNS.c
    update = {key: sa.case((new.cursor >= old.cursor, new[key]), else_=old[key]) for key in _EVIDENCE}
    update |= {key: sa.case((new.at >= old.at, new[key]), else_=old[key]) for key in _LATEST}
    # an abort while the evidence cannot be read has no verdict: the last one stays
    judged = (new.at >= old.at) & (sa.type_coerce(new.verdict, sa.Text) != sa.literal_column("'{}'"))
    update["verdict"] = sa.case((judged, new.verdict), else_=old.verdict)
    return insert.on_conflict_do_update(index_elements=["id"], set_=update)


def _run_row(tick: Tick) -> dict[str, Any]:
    return {
        "id": tick.run, "policy": tick.policy, "started": tick.at, "at": tick.at, "cursor": tick.cursor,
        "evidence": _text(tick.evidence), "verdict": _text(tick.verdict), "weights": _text(tick.weights),
        "facts": _text(tick.run_facts),
    }  # fmt: skip


def _text(values: Mapping[str, Any]) -> str:
    """Return JSON: exact, infinities included."""
    if isinstance(values, Finite):
        return orjson.dumps(values).decode()
    return json.dumps(dict(values), separators=(",", ":"))


def _record_decision(connection: sa.Connection, look: Mapping[str, Any], decision: dict[str, Any]) -> None:
    """Append a decision, unless it is the last one of this look: then the look is being recorded again.

    One that was recorded at an earlier look and never carried out gives way to the same one, taken again.
    """
    row = _DECISIONS.c
    of_run = sa.select(row.cursor, row.seq, row.decision).where(row.run == look["run"])
    of_look = of_run.where(row.cursor == look["cursor"]).order_by(row.seq.desc()).limit(1)
    before = connection.execute(of_look).first()
    if before is not None and identity(before.decision) == identity(decision):
        return
    values = {**look, "seq": before.seq + 1 if before else 0, "decision": decision}
    last = connection.execute(
        of_run.order_by(row.at.desc(), row.cursor.desc(), row.seq.desc()).limit(1)
    ).first()
    if last is not None and takes_the_place(decision, last.decision):
        its_key = (row.run == look["run"]) & (row.cursor == last.cursor) & (row.seq == last.seq)
        connection.execute(sa.update(_DECISIONS).where(its_key).values(**values))
    else:
        connection.execute(sa.insert(_DECISIONS).values(**values))


def evidence(connection: sa.Connection, run: str) -> tuple[int, Mapping[str, Any]] | None:
    """Return (cursor, evidence) of the last look of a run, or None."""
    row = connection.execute(sa.select(_RUNS.c.cursor, _RUNS.c.evidence).where(_RUNS.c.id == run)).first()
    return (row.cursor, row.evidence) if row else None


def runs(connection: sa.Connection, policy: str | None, limit: int) -> list[Mapping[str, Any]]:
    """Return runs, newest first."""
    query = sa.select(_RUNS).order_by(_RUNS.c.started.desc(), _RUNS.c.id.desc()).limit(limit)
    if policy is not None:
        query = query.where(_RUNS.c.policy == policy)
    return [_summary(row) for row in connection.execute(query)]


def _summary(row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id, "policy": row.policy, **row.facts,
        "cursor": row.cursor, "weights": row.weights, "verdict": row.verdict,
    }  # fmt: skip


def whole(connection: sa.Connection, run: str) -> Mapping[str, Any] | None:
    """Return one run with all that is known of it, oldest first, or None."""
    row = connection.execute(sa.select(_RUNS).where(_RUNS.c.id == run)).first()
    if row is None:
        return None
    found = _summary(row) | {
        "latencies": row.evidence.get("latencies", {}),
        "ticks": _rows(connection, _TICKS, run),
        "intervals": intervals(connection, run),
        "decisions": [
            {**row["decision"], "at": row["at"], "cursor": row["cursor"]}
            for row in _rows(connection, _DECISIONS, run)
        ],
    }
    return in_full(found, row.evidence)


def intervals(connection: sa.Connection, run: str) -> list[Mapping[str, Any]]:
    """Return a run's intervals as they were recorded, oldest first."""
    return [row["counts"] for row in _rows(connection, _INTERVALS, run)]


def _rows(connection: sa.Connection, table: sa.Table, run: str) -> Sequence[dict[str, Any]]:
    """Return a run's rows of a table in the order of their keys, which is that of time."""
    columns = [column for column in table.c if column.name != "run"]
    query = sa.select(*columns).where(table.c.run == run).order_by(*table.primary_key.columns)
    return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's public way
