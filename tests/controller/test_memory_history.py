"""Without a history: what is kept is bounded, and a run goes on from its status. See also test_history.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller import memory_history
from controller.memory_history import MemoryHistory
from controller.ports import Tick
from tests.support.rig import BAD, GOOD, Rig, ended

LOOK = Tick(
    run="a", policy="ns/a", at=1.0, cursor=1, weights={"v1": 1}, intervals=[{"metric": "m", "end": 1}],
    evidence={"x": 1}, verdict={"kind": "Safe"}, run_facts={"number": 1},
)  # fmt: skip


async def test_only_the_newest_rows_are_kept_and_what_is_decided_on_always(monkeypatch):
    monkeypatch.setattr(memory_history, "ROWS", 8)
    history = MemoryHistory()
    for at in range(1, 10):
        for run in ("a", "b"):
            interval = {"metric": "m", "end": at}
            await history.record(
                replace(LOOK, run=run, at=float(at), cursor=at, intervals=[interval], evidence={"x": at})
            )
    for run in ("a", "b"):
        whole = await history.run(run)
        assert len(whole["ticks"]) + len(whole["intervals"]) == 4
        assert whole["ticks"][-1]["cursor"] == whole["intervals"][-1]["end"] == 9
        assert await history.evidence(run) == (9, {"x": 9})


async def test_the_runs_that_were_recorded_last_are_kept(monkeypatch):
    monkeypatch.setattr(memory_history, "RUNS", 3)
    history = MemoryHistory()
    for number in range(5):
        await history.record(replace(LOOK, run=f"old{number}"), replace(LOOK, run="open", cursor=number + 1))
    assert {run["id"] for run in await history.runs()} == {"old3", "old4", "open"}


async def test_what_is_read_is_the_readers_own():
    history = MemoryHistory()
    await history.record(LOOK)
    (await history.evidence("a"))[1]["x"] = 2
    (await history.run("a"))["ticks"].clear()
    assert await history.evidence("a") == (1, {"x": 1})
    assert len((await history.run("a"))["ticks"]) == 1


async def _lose_everything(rig: Rig) -> None:
    """Kill the controller, and its history with it."""
    await rig.history.close()
    rig.history = MemoryHistory()
    rig.crash()


@pytest.mark.parametrize(("rates", "outcome"), [(GOOD, "Promoted"), (BAD, "RolledBack")])
async def test_a_run_that_loses_its_history_again_and_again_ends_rightly_without_repeating_a_step(
    rig, rates, outcome
):
    await rig.start(rates)
    steps, weights = [], []
    status = await rig.status()
    for _ in range(200):
        status = await rig.run(7)
        await _lose_everything(rig)
        if status.run and status.run.active:
            steps.append(status.run.step)
        weights.append(tuple(await rig.weights()))
        assert sum(weights[-1]) == 100
        if ended(status):
            break
    assert status.run.outcome == outcome
    assert status.run.number == 1
    assert steps == sorted(steps)
    shown = [each for at, each in enumerate(weights) if at == 0 or weights[at - 1] != each]
    assert len(shown) == len(set(shown)), "no weights come twice"


async def test_the_open_step_is_read_again_and_a_person_is_told_that_the_rest_is_lost(rig):
    await rig.start(GOOD, metric={"margin": "1%"}, deadline="2h")
    await rig.run(60, until=lambda status: bool(status.run and status.run.step == 1 and status.run.applied))
    await rig.run(21)
    before = await rig.ends()
    since = (await rig.status()).run.step_started_at
    assert (await rig.status()).run.active
    assert any(end < since for end in before), "something was measured in the first step"
    await _lose_everything(rig)
    await rig.run(1)
    after = await rig.ends()
    assert after == [end for end in before if end > since]
    assert len(after) >= 3
    reasons = await rig.reasons()
    assert reasons.count("EvidenceDropped") == 1
    event = next(e for e in await rig.store.events() if e["reason"] == "EvidenceDropped")
    assert "the history has nothing of this run" in event["message"]
    await rig.run(30)
    assert (await rig.reasons()).count("EvidenceDropped") == 1


async def test_a_run_whose_history_is_there_is_not_said_to_have_lost_it(rig):
    await rig.start(GOOD)
    for _ in range(5):
        await rig.run(4)
        rig.crash()
    assert "EvidenceDropped" not in await rig.reasons()
