"""The schema's steps: a database of each older version is brought up whole, or stays as it was.

data/history-v1-*.sql were made by the code of that version. Not covered here: what the tables mean.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from controller import migrations
from controller.history import SqlHistory
from controller.history_rows import META
from controller.ports import Tick, UnavailableError
from tests.support.postgresql import empty

DATA = Path(__file__).parent / "data"
RUN = "default.ranker.1.5c7edfbe"
TABLES = ("runs", "ticks", "intervals", "decisions")


def _statements(text: str) -> list[str]:
    """Split SQL at the ends of statements, which here are the ends of lines."""
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    return [each for each in kept.split(";\n") if each.strip() not in {"", "BEGIN TRANSACTION", "COMMIT"}]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/history.db"
    url = request.getfixturevalue("postgresql")
    empty(url)
    return url


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A busy machine may need longer than a controller should wait."""
    monkeypatch.setattr("controller.history.CONNECT_SECONDS", 60)
    monkeypatch.setattr("controller.history.WAIT_SECONDS", 60)
    monkeypatch.setattr("controller.line.ANSWER_SECONDS", 120)


@pytest.fixture
def engine(url):
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


def _as_of_version_1(engine: sa.Engine) -> None:
    text = (DATA / f"history-v1-{engine.dialect.name}.sql").read_text()
    with engine.begin() as connection:
        for statement in _statements(text):
            connection.exec_driver_sql(statement.replace("%", "%%"))


def _rows(engine: sa.Engine) -> dict[str, list[tuple]]:
    with engine.connect() as connection:
        return {
            table: sorted(map(tuple, connection.exec_driver_sql(f"SELECT * FROM {table}")))
            for table in TABLES
        }


def _versions(engine: sa.Engine) -> list[int]:
    with engine.connect() as connection:
        query = "SELECT version FROM penstock_schema ORDER BY version"
        return list(connection.exec_driver_sql(query).scalars())


async def test_a_database_of_version_1_is_brought_up_with_nothing_lost(engine, url):
    _as_of_version_1(engine)
    before = _rows(engine)
    assert [len(before[table]) for table in TABLES] == [1, 4, 6, 3]
    history = await SqlHistory.open(url)
    assert _rows(engine) == before
    assert _versions(engine) == list(range(1, len(migrations.STEPS) + 1))
    run = await history.run(RUN)
    assert (run["outcome"], run["cursor"]) == ("RolledBack", 1_700_000_025)
    assert [each["action"] for each in run["decisions"]] == ["Start", "Advance", "RollBack"]
    await history.close()


async def test_a_run_of_version_1_goes_on_after_the_migration(engine, url):
    _as_of_version_1(engine)
    history = await SqlHistory.open(url)
    await history.claim("ops/penstock", "me", 1.0)
    cursor, evidence = await history.evidence(RUN)
    look = Tick(
        run=RUN, policy="default/ranker", at=1_700_000_100.5, cursor=cursor + 5, weights={}, intervals=[],
        evidence={**evidence, "weight": 51}, verdict={"kind": "Harmful"},
    )  # fmt: skip
    await history.record(look)
    assert await history.evidence(RUN) == (cursor + 5, look.evidence)
    assert len((await history.run(RUN))["ticks"]) == 5
    await history.close()


async def test_the_steps_make_the_tables_that_the_history_knows(engine, url):
    await (await SqlHistory.open(url)).close()
    made = sa.MetaData()
    made.reflect(engine)
    assert set(made.tables) == {*META.tables, "penstock_schema"}
    for name, table in META.tables.items():
        found = made.tables[name]
        shape = [(c.name, c.nullable, c.primary_key, c.type._type_affinity) for c in table.columns]
        assert [(c.name, c.nullable, c.primary_key, c.type._type_affinity) for c in found.columns] == shape
        assert [c.name for c in found.primary_key] == [c.name for c in table.primary_key]
        assert {i.name for i in found.indexes} == {i.name for i in table.indexes}
        assert len(found.foreign_keys) == len(table.foreign_keys)


@pytest.mark.parametrize("at", [0, 1])
async def test_a_step_that_fails_leaves_the_version_before(engine, url, monkeypatch, at):
    whole = migrations.STEPS
    broken = [*whole[:at], (*whole[at], "CREATE TABLE runs (again TEXT)")]
    if at:
        _as_of_version_1(engine)
        before = _rows(engine)
    monkeypatch.setattr(migrations, "STEPS", broken)
    with pytest.raises(UnavailableError, match="does not answer"):
        await SqlHistory.open(url)
    found = set(sa.inspect(engine).get_table_names())
    assert found == ({*TABLES, "penstock_schema"} if at else set())
    if at:
        assert (_rows(engine), _versions(engine)) == (before, [1])
    monkeypatch.setattr(migrations, "STEPS", whole)
    await (await SqlHistory.open(url)).close()
    assert _versions(engine) == [1, 2]


async def test_many_may_bring_a_database_up_at_once(engine, url):
    _as_of_version_1(engine)
    before = _rows(engine)
    for history in await asyncio.gather(*(SqlHistory.open(url) for _ in range(6))):
        await history.close()
    assert (_rows(engine), _versions(engine)) == (before, [1, 2])


async def test_a_controller_of_the_version_before_goes_on_writing(engine, url, monkeypatch):
    """A rolling update: the old one prepared its database before the new one brought it up."""
    monkeypatch.setattr(migrations, "STEPS", migrations.STEPS[:1])
    old = await SqlHistory.open(url)
    monkeypatch.undo()
    new = await SqlHistory.open(url)
    look = Tick(
        run="a", policy="ns/a", at=1.0, cursor=1, weights={}, intervals=[], evidence={"x": 1}, verdict={}
    )
    await old.record(look)
    assert await new.evidence("a") == (1, {"x": 1})
    await new.record(replace(look, cursor=2, at=2.0))
    await old.close()
    await new.close()


async def test_a_database_of_a_newer_penstock_is_refused_and_left_alone(engine, url):
    await (await SqlHistory.open(url)).close()
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO penstock_schema (version) VALUES (99)")
    with pytest.raises(UnavailableError, match=r"newer Penstock \(schema 99; this one knows 2\)"):
        await SqlHistory.open(url)
    assert _versions(engine) == [1, 2, 99]


def test_the_fixture_is_what_a_real_run_wrote():
    text = (DATA / "history-v1-sqlite.sql").read_text()
    facts = next(line for line in text.splitlines() if line.startswith('INSERT INTO "runs"'))
    assert json.loads(facts[facts.rindex("'{") + 1 : facts.rindex("'")])["outcome"] == "RolledBack"
