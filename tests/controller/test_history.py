"""The history: what was recorded comes back exactly, once, on SQLite and on PostgreSQL.

Not covered here: the order of writes against status and VirtualService, which is the loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import sqlite3
from dataclasses import replace
from threading import Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import history_rows
from controller.fenced import DeposedError, FencedHistory
from controller.history import SqlHistory
from controller.memory_history import MemoryHistory
from controller.ports import Look, Tick, UnavailableError
from tests.support.postgresql import empty, suspended

LOOK = Tick(
    run="ml.ranker.1",
    policy="ml/ranker",
    at=1_000.5,
    cursor=1_000,
    weights={"stable": 95, "candidate": 5},
    intervals=[
        {"metric": "errors", "end": 1_000, "control": {"total": 95, "events": [1]}, "candidate": {"total": 5}}
    ],
    evidence={"log": [0.1, -math.inf, 1e-300]},
    verdict={"kind": "Undecided", "sentence": "too early", "metrics": [{"e_harm": 1.25, "sentence": "no"}]},
    run_facts={"number": 1, "control": "v1", "candidate": "v2"},
)
PROMOTE = {
    "action": "advance",
    "reason": "Safe",
    "message": "next step",
    "step": 1,
    "weights": {},
    "inputs": {},
}


def _later(look: Tick, **changes) -> Tick:
    return replace(look, at=look.at + 10, cursor=look.cursor + 10, intervals=[], **changes)


DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.real)]


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A busy machine may need longer than a controller should wait."""
    monkeypatch.setattr("controller.history.CONNECT_SECONDS", 60)
    monkeypatch.setattr("controller.history.WAIT_SECONDS", 60)
    monkeypatch.setattr("controller.line.ANSWER_SECONDS", 120)


@contextlib.asynccontextmanager
async def _opened(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/history.db"
    else:
        url = request.getfixturevalue("postgresql")
        empty(url)
    history = await SqlHistory.open(url)
    yield history
    await history.close()


@pytest.fixture(params=DATABASES)
async def database(request, tmp_path):
    """A history that several processes can share."""
    async with _opened(request, tmp_path) as history:
        yield history


@pytest.fixture(params=["memory", *DATABASES])
async def history(request, tmp_path):
    """A history of each kind."""
    if request.param == "memory":
        yield MemoryHistory()
        return
    async with _opened(request, tmp_path) as history:
        yield history


async def test_a_look_comes_back_as_it_was_recorded(history):
    await history.record(replace(LOOK, decision=PROMOTE))
    assert await history.evidence(LOOK.run) == (1_000, LOOK.evidence)
    run = await history.run(LOOK.run)
    assert run is not None
    assert (run["id"], run["number"], run["cursor"], run["weights"]) == (LOOK.run, 1, 1_000, LOOK.weights)
    assert run["verdict"] == LOOK.verdict
    assert run["intervals"] == LOOK.intervals
    assert run["decisions"] == [{**PROMOTE, "at": 1_000.5, "cursor": 1_000}]
    assert run["ticks"] == [
        {
            "cursor": 1_000,
            "at": 1_000.5,
            "weights": LOOK.weights,
            "verdict": LOOK.verdict,
        }
    ]


async def test_recording_a_look_again_changes_nothing(history):
    await history.record(replace(LOOK, decision=PROMOTE))
    once = await history.run(LOOK.run)
    await history.record(replace(LOOK, decision=PROMOTE))
    assert await history.run(LOOK.run) == once


async def test_looks_that_are_recorded_together_come_back_as_if_one_by_one(history):
    times = [1_010, 1_020, 1_030]
    looks = [
        replace(LOOK, at=end + 0.5, cursor=end, intervals=[{**LOOK.intervals[0], "end": end}])
        for end in times
    ]
    alone = [replace(look, run="ml.ranker.2") for look in (LOOK, *looks)]
    for look in alone:
        await history.record(look)
    *earlier, last = [Look(look.at, look.cursor, look.intervals, look.verdict) for look in looks]
    await history.record(LOOK)
    await history.record(replace(looks[-1], earlier=earlier))
    together, each = await history.run(LOOK.run), await history.run("ml.ranker.2")
    assert last.cursor == together["cursor"] == 1_030
    assert [tick["cursor"] for tick in together["ticks"]] == [1_000, *times]
    assert together == {**each, "id": LOOK.run}


async def test_looks_that_were_recorded_already_are_not_recorded_again_with_later_ones(history):
    await history.record(LOOK)
    earlier = [Look(LOOK.at, LOOK.cursor, LOOK.intervals, {"kind": "Safe"})]
    await history.record(_later(LOOK, earlier=earlier))
    run = await history.run(LOOK.run)
    assert [tick["verdict"] for tick in run["ticks"]] == [LOOK.verdict, LOOK.verdict]
    assert run["intervals"] == LOOK.intervals


async def test_an_older_look_does_not_take_the_place_of_a_newer_one(database):
    newer = _later(LOOK, evidence={"log": [2.0]})
    await database.record(newer)
    await database.record(LOOK)
    assert await database.evidence(LOOK.run) == (1_010, {"log": [2.0]})
    assert [tick["cursor"] for tick in (await database.run(LOOK.run))["ticks"]] == [1_000, 1_010]


async def test_a_decision_without_evidence_updates_the_run_and_keeps_its_evidence(history):
    await history.record(LOOK)
    abort = replace(
        LOOK, at=LOOK.at + 5, cursor=0, evidence={}, intervals=[], run_facts={"outcome": "Aborted"}
    )
    await history.record(replace(abort, decision={"action": "RollBack"}))
    assert await history.evidence(LOOK.run) == (LOOK.cursor, LOOK.evidence)
    assert (await history.runs())[0]["outcome"] == "Aborted"


async def test_decisions_at_one_cursor_are_kept_in_their_order(history):
    actions = ["pause", "resume", "pause"]
    for action in actions:
        await history.record(replace(LOOK, decision={"action": action}))
    assert [decision["action"] for decision in (await history.run(LOOK.run))["decisions"]] == actions


async def test_a_step_that_was_recorded_and_not_taken_gives_way_when_it_is_taken(history):
    advance = {
        "action": "Advance",
        "reason": "NoHarmShown",
        "message": "first",
        "step": 1,
        "weights": {"candidate": 9},
    }
    await history.record(replace(LOOK, decision={"action": "Start"}))
    await history.record(replace(LOOK, decision=advance))
    later = _later(LOOK, decision={**advance, "message": "again"})
    await history.record(later)
    await history.record(later)
    decisions = (await history.run(LOOK.run))["decisions"]
    assert [(each["action"], each.get("message"), each["cursor"]) for each in decisions] == [
        ("Start", None, LOOK.cursor), ("Advance", "again", later.cursor),
    ]  # fmt: skip
    await history.record(_later(later, decision={**advance, "step": 2}))
    assert [each.get("step") for each in (await history.run(LOOK.run))["decisions"]] == [None, 1, 2]


async def test_what_may_be_done_twice_is_kept_twice(history):
    for look in (LOOK, _later(LOOK), _later(_later(LOOK))):
        await history.record(replace(look, decision={"action": "Correct", "reason": "Drift", "step": 1}))
    assert len((await history.run(LOOK.run))["decisions"]) == 3


async def test_facts_of_a_run_are_those_of_its_latest_look(history):
    await history.record(LOOK)
    await history.record(replace(LOOK, run_facts={"number": 1, "outcome": "Promoted"}))
    assert (await history.runs())[0]["outcome"] == "Promoted"


async def test_runs_come_newest_first_by_policy_and_bounded(history):
    for number in range(1, 4):
        await history.record(replace(LOOK, run=f"ml.ranker.{number}", at=float(number)))
    await history.record(replace(LOOK, run="ml.other.1", policy="ml/other", at=9.0))
    assert [run["id"] for run in await history.runs("ml/ranker", limit=2)] == ["ml.ranker.3", "ml.ranker.2"]
    assert (await history.runs())[0]["id"] == "ml.other.1"


async def test_what_is_not_there_is_none(history):
    assert await history.run("no.such.1") is None
    assert await history.evidence("no.such.1") is None
    assert await history.runs("no/such") == []


async def test_looks_of_many_runs_at_once_are_all_kept(history):
    await asyncio.gather(*(history.record(replace(LOOK, run=f"ml.r{i}.1")) for i in range(20)))
    assert len(await history.runs()) == 20


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(evidence=st.dictionaries(st.text(), _JSON, max_size=4))
def test_evidence_survives_a_restart_bit_for_bit(tmp_path, evidence):
    async def story():
        url = f"sqlite:///{tmp_path}/exact.db"
        first = await SqlHistory.open(url)
        last = await first.evidence(LOOK.run)
        cursor = last[0] + 10 if last else 10
        await first.record(replace(LOOK, cursor=cursor, evidence=evidence))
        await first.close()
        second = await SqlHistory.open(url)
        found = await second.evidence(LOOK.run)
        await second.close()
        assert found == (cursor, evidence)
        assert repr(found[1]) == repr(evidence)

    asyncio.run(story())


async def test_a_locked_database_is_unavailable_and_recovers(tmp_path, monkeypatch):
    monkeypatch.setattr("controller.history.WAIT_SECONDS", 0.05)
    path = tmp_path / "history.db"
    history = await SqlHistory.open(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match=r"history.db is locked by another process"):
        await history.record(LOOK)
    other.execute("ROLLBACK")
    other.close()
    assert await history.run(LOOK.run) is None
    await history.record(LOOK)
    assert await history.evidence(LOOK.run) is not None
    await history.close()


async def test_many_may_start_on_an_empty_database_at_once(tmp_path):
    url = f"sqlite:///{tmp_path}/history.db"
    for history in await asyncio.gather(*(SqlHistory.open(url) for _ in range(6))):
        await history.close()


async def test_a_half_recorded_look_leaves_nothing(tmp_path):
    history = await SqlHistory.open(f"sqlite:///{tmp_path}/history.db")
    with pytest.raises(KeyError):
        await history.record(replace(LOOK, intervals=[{"metric": "errors"}]))
    assert await history.run(LOOK.run) is None
    await history.close()


async def test_a_file_that_is_no_database_is_unavailable(tmp_path):
    (tmp_path / "history.db").write_text("not a database at all, but long enough to be looked at " * 20)
    with pytest.raises(UnavailableError, match="is not a database"):
        await SqlHistory.open(f"sqlite:///{tmp_path}/history.db")


async def test_a_missing_folder_is_unavailable(tmp_path):
    with pytest.raises(UnavailableError, match="cannot be opened"):
        await SqlHistory.open(f"sqlite:///{tmp_path}/none/history.db")


async def test_a_history_of_a_newer_penstock_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/history.db"
    await (await SqlHistory.open(url)).close()
    with sqlite3.connect(tmp_path / "history.db") as other:
        other.execute("INSERT INTO penstock_schema VALUES (99)")
    other.close()
    with pytest.raises(UnavailableError, match=r"newer Penstock \(schema 99; this one knows 2\)"):
        await SqlHistory.open(url)


async def test_a_database_server_that_is_down_is_unavailable_and_its_password_unsaid():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pytest.importorskip("psycopg")
    with pytest.raises(UnavailableError, match="does not answer") as caught:
        await SqlHistory.open(f"postgresql+psycopg://me:secret@127.0.0.1:{port}/postgres")
    assert "secret" not in str(caught.value)


async def test_looks_of_several_runs_are_one_transaction(database):
    other = replace(LOOK, run="ml.other.1", policy="ml/other", decision=PROMOTE)
    with pytest.raises(TypeError, match="not JSON serializable"):
        await database.record(LOOK, replace(other, verdict={"kind": object()}))
    assert await database.runs() == []
    await database.record(other, LOOK)
    await database.record(_later(LOOK), _later(other, decision=None))
    assert await database.record() is None
    for look in (LOOK, other):
        whole = await database.run(look.run)
        assert [tick["cursor"] for tick in whole["ticks"]] == [1_000, 1_010]
        assert len(whole["intervals"]) == 1
        assert len(whole["decisions"]) == (look is other)


async def test_a_decision_without_a_verdict_leaves_the_last_one(history):
    await history.record(LOOK)
    await history.record(_later(LOOK, verdict={}, decision=PROMOTE))
    [run] = await history.runs()
    assert run["verdict"] == LOOK.verdict


# Terms of leaders.


async def _second(history: SqlHistory) -> SqlHistory:
    """Open the same database as another process does."""
    return await SqlHistory.open(history._engine.url.render_as_string(hide_password=False))


async def test_a_record_of_an_older_term_is_refused_whole(database):
    heir = await _second(database)
    assert await database.claim("ops/penstock", "old", 1.0) == 1
    await database.record(LOOK)
    assert await heir.claim("ops/penstock", "heir", 2.0) == 2
    with pytest.raises(DeposedError, match="heir has claimed the history"):
        await database.record(_later(LOOK), replace(LOOK, run="ml.other.1"))
    assert await heir.evidence(LOOK.run) == (LOOK.cursor, LOOK.evidence)
    assert len(await heir.runs()) == 1
    await heir.record(_later(LOOK))
    assert (await database.evidence(LOOK.run))[0] == LOOK.cursor + 10, "reading needs no term"
    await heir.close()


async def test_who_was_deposed_by_mistake_claims_again(database):
    heir = await _second(database)
    await database.claim("ops/penstock", "old", 1.0)
    await heir.claim("ops/penstock", "heir", 2.0)
    assert await database.claim("ops/penstock", "old", 3.0) == 3
    await database.record(LOOK)
    with pytest.raises(DeposedError, match="old has claimed"):
        await heir.record(LOOK)
    await heir.close()


async def test_terms_of_different_leases_do_not_touch_each_other(database):
    other = await _second(database)
    assert await database.claim("team-a/penstock", "a", 1.0) == 1
    assert await other.claim("team-b/penstock", "b", 1.0) == 1
    await database.record(LOOK)
    await other.record(replace(LOOK, run="ml.other.1"))
    await other.close()


async def test_of_many_claims_at_once_exactly_the_last_one_may_record(database):
    others = [await _second(database) for _ in range(4)]
    terms = await asyncio.gather(*(other.claim("ops/penstock", "x", 1.0) for other in others))
    assert sorted(terms) == [1, 2, 3, 4]
    for other, term in zip(others, terms, strict=True):
        if term == 4:
            await other.record(LOOK)
        else:
            with pytest.raises(DeposedError):
                await other.record(LOOK)
        await other.close()


class _Fence:
    identity, where = "me", "ops/penstock"

    def __init__(self) -> None:
        self.lost, self.resigned = False, ""

    def check(self) -> None:
        if self.lost:
            raise UnavailableError("the lease ran out")

    def resign(self, why: str) -> None:
        self.resigned = why


async def test_without_its_lease_a_leader_neither_claims_nor_records(history):
    fence = _Fence()
    fenced = FencedHistory(history, fence)
    await fenced.record(LOOK)
    assert await fenced.evidence(LOOK.run) == (LOOK.cursor, LOOK.evidence)
    assert len(await fenced.intervals(LOOK.run)) == len(await fenced.runs()) == 1
    assert (await fenced.run(LOOK.run))["id"] == LOOK.run
    fence.lost = True
    late = FencedHistory(history, fence)
    for refused in (fenced.record(_later(LOOK)), late.claim(), late.evidence(LOOK.run)):
        with pytest.raises(UnavailableError, match="the lease ran out"):
            await refused
    assert (await history.evidence(LOOK.run))[0] == LOOK.cursor
    assert await history.claim("ops/penstock", "next", 1.0) == 2, "the late one claimed nothing"


async def test_what_a_term_reads_first_is_final(database):
    """It claims before it reads: nothing of the old term comes after what the new one went on from."""
    heir = await _second(database)
    old, new = FencedHistory(database, _Fence()), FencedHistory(heir, _Fence())
    await old.record(LOOK)
    assert (await new.evidence(LOOK.run))[0] == LOOK.cursor
    with pytest.raises(DeposedError):
        await old.record(_later(LOOK))
    await heir.close()


async def test_a_leader_that_is_deposed_in_the_database_resigns(database):
    fence, heir = _Fence(), await _second(database)
    fenced = FencedHistory(database, fence)
    await fenced.claim()
    await heir.claim("ops/penstock", "heir", 2.0)
    with pytest.raises(DeposedError):
        await fenced.record(LOOK)
    assert "heir" in fence.resigned
    await heir.close()


async def test_a_history_that_was_waited_for_in_vain_is_left_alone_for_a_while(database, monkeypatch):
    monkeypatch.setattr("controller.fenced.IN_VAIN", -1.0)
    fenced, records = FencedHistory(database, _Fence()), database.record
    await fenced.record(LOOK)

    async def locked(*_ticks):
        raise UnavailableError("the history is locked")

    database.record = locked
    with pytest.raises(UnavailableError, match="is locked"):
        await fenced.record(_later(LOOK))
    database.record = records
    reads = fenced.evidence(LOOK.run), fenced.intervals(LOOK.run), fenced.run(LOOK.run)
    for refused in (fenced.record(_later(LOOK)), *reads):
        with pytest.raises(UnavailableError, match="is locked"):
            await refused
    assert len(await fenced.runs()) == 1, "people may ask for it all the same"
    monkeypatch.setattr("controller.fenced.time.monotonic", lambda: math.inf)
    await fenced.record(_later(LOOK))


@pytest.mark.parametrize("first", ["call", "hurry"])
async def test_in_a_hurry_nobody_waits_for_an_answer_for_long(first, tmp_path, monkeypatch):
    monkeypatch.setattr("controller.history.HURRIED_SECONDS", 0.05)
    history, answer, begun = await SqlHistory.open(f"sqlite:///{tmp_path / 'history.db'}"), Event(), Event()
    record = history_rows.record

    def slowly(*arguments):
        begun.set()
        answer.wait(60)
        return record(*arguments)

    monkeypatch.setattr("controller.history_rows.record", slowly)
    if first == "hurry":
        history.hurry()
    late = asyncio.create_task(history.record(LOOK))
    await asyncio.to_thread(begun.wait)
    history.hurry()
    with pytest.raises(UnavailableError, match=r"does not answer: nothing within 0\.05 s"):
        await late
    with pytest.raises(UnavailableError, match="still does not answer"):
        await history.evidence(LOOK.run)
    answer.set()
    await history._given_up
    monkeypatch.setattr("controller.history.HURRIED_SECONDS", 60)
    assert (await history.evidence(LOOK.run))[0] == LOOK.cursor, "what comes late is kept all the same"
    monkeypatch.setattr("controller.history_rows.record", record)
    await history.record(LOOK)
    assert len((await history.run(LOOK.run))["ticks"]) == 1
    await history.close()


async def _in_the_end(call):
    """Return what a call gives, made again while the database is later than anybody waits for it."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(UnavailableError):
                return await call()


@pytest.mark.real
async def test_a_server_that_hangs_is_not_waited_for_for_ever(postgresql, monkeypatch):
    monkeypatch.setattr("controller.history.CONNECT_SECONDS", 2)
    history = await _in_the_end(lambda: SqlHistory.open(postgresql))
    await history.record(LOOK)
    with suspended(postgresql), monkeypatch.context() as soon:
        soon.setattr("controller.line.ANSWER_SECONDS", 0.3)
        with pytest.raises(UnavailableError, match="does not answer"):
            await history.record(_later(LOOK))
    await _in_the_end(lambda: history.record(_later(LOOK)))
    assert (await history.evidence(LOOK.run))[0] == LOOK.cursor + 10
    await history.close()


@pytest.mark.real
async def test_a_controller_that_stops_inside_a_transaction_holds_up_its_successor_for_a_while_only(
    postgresql, monkeypatch
):
    psycopg = pytest.importorskip("psycopg")
    monkeypatch.setattr("controller.history.WAIT_SECONDS", 1)
    empty(postgresql)
    stopped, heir = await SqlHistory.open(postgresql), await SqlHistory.open(postgresql)
    await stopped.claim("ops/penstock", "stopped", 1.0)
    with stopped._engine.connect() as connection:
        connection.exec_driver_sql("SELECT epoch FROM terms FOR SHARE")  # and now nothing more
        term, refusals = None, []
        while term is None and len(refusals) < 60:
            try:
                term = await heir.claim("ops/penstock", "heir", 2.0)
            except UnavailableError as error:
                refusals.append(str(error))
        assert term == 2
        assert [words for words in refusals if "lock timeout" not in words] == []
        with pytest.raises(Exception, match=r"idle-in-transaction|closed") as caught:
            connection.exec_driver_sql("SELECT 1")
        assert isinstance(caught.value.__cause__, psycopg.Error)
    await stopped.close()
    await heir.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense:secret", "Could not parse"),
        ("mysql://ann:secret@host/x", "No module named"),
        ("postgresql+carrier://ann:secret@host/x", "Can't load plugin"),
        ("postgresql+psycopg://ann:se:secret@host:port/x", "its port is not a number"),
    ],
)
async def test_a_url_that_cannot_be_used_is_refused_without_its_password(url, words):
    with pytest.raises(
        UnavailableError, match=f"^the URL of the history cannot be used: .*{words}"
    ) as caught:
        await SqlHistory.open(url)
    assert "secret" not in str(caught.value)
