"""Weights that somebody else changes: by the policy's rule, named, and never fought over."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.conditions import with_conditions
from controller.decision import Action, Decision
from controller.drifting import FREE, LONGEST_PAUSE, STOOD
from controller.machine import decide
from controller.ports import Applied
from controller.scene import MANAGER
from controller.status import Status
from tests.support.rig import GOOD, ROUTE, Rig, ended, manifests
from tests.support.simulated import Service
from tests.support.situations import NOW, UNDECIDED, judged, on_step, open_run, policy, world

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from controller.decision import World
    from controller.status import Run

FLUX = "kustomize-controller"
WANTED = {"stable": 95, "candidate": 5}
GIT = {"stable": 100, "candidate": 0}
AWAY = {"stable": 0, "candidate": 100}
UNDONE = world(live=GIT, changed_by=FLUX, overwritten=True)
WAITING = Applied(ok=False, detail="not yet")
MOST_A_MINUTE = 12


def the_run(decision: Decision) -> Run:
    assert decision.status.run is not None
    return decision.status.run


def decided(status: Status, here: World = UNDONE, now: float = NOW, **rules: object) -> Decision:
    return decide(policy(**rules), status, here, UNDECIDED, now)


def contested(status: Status, here: World = UNDONE) -> Decision:
    """Undo corrections at once until they are contested."""
    for _ in range(FREE):
        decision = decided(status, here)
        assert (decision.reason, decision.write) == ("DriftCorrected", status.weights)
        status = decision.status
    return decided(status, here)


# --- a write that was made, and one that was not


def test_a_write_of_ours_that_was_not_made_yet_is_finished_and_is_no_drift() -> None:
    unfinished = replace(UNDONE, overwritten=False)
    for rule in ("correct", "adopt", "hold"):
        decision = decided(open_run(applied=False), unfinished, onDrift=rule)
        assert (decision.action, decision.write) == ("Settle", WANTED)


@pytest.mark.parametrize(
    ("rule", "action", "written"),
    [("correct", "Correct", WANTED), ("adopt", "Adopt", None), ("hold", "Hold", None)],
)
@pytest.mark.parametrize("applied", [True, False])
def test_what_was_written_and_overwritten_is_drift_also_before_the_proxies_confirm(
    rule: str, action: str, written: object, applied: bool
) -> None:
    decision = decided(open_run(applied=applied), onDrift=rule)
    assert (decision.action, decision.write) == (action, written)
    assert f"{FLUX} changed the weights to stable 100%, candidate 0%" in decision.message
    # who comes next and remembers nothing decides the same
    again = decided(decision.status, replace(UNDONE, overwritten=rule == "correct"), onDrift=rule)
    assert again.write == written


def test_under_an_invalid_policy_an_overwritten_split_is_left_alone() -> None:
    decision = decided(open_run(applied=False), replace(UNDONE, invalid="spec: no such field"))
    assert (decision.reason, decision.write) == ("PolicyInvalid", None)


# --- no write war


def test_corrections_that_do_not_last_wait_longer_and_longer_and_name_who_undoes_them() -> None:
    decision = contested(open_run())
    assert (decision.action, decision.reason, decision.write) == ("Hold", "Contested", None)
    assert FLUX in decision.message
    assert "docs/install.md" in decision.message
    waits, status, now = [], decision.status, NOW
    for _ in range(6):
        began = now
        while (decision := decided(status, now=now)).write is None:
            status, now = decision.status, now + 1
        waits.append(now - began)
        status = decision.status
    assert waits == [10, 20, 40, 80, LONGEST_PAUSE, LONGEST_PAUSE]


def test_while_it_waits_nothing_is_written_at_all() -> None:
    first = contested(open_run())
    later = decided(first.status, now=NOW + 9)
    assert later.status == first.status
    assert not later.notable


def test_a_correction_that_stood_is_not_held_against_anybody() -> None:
    status, now = open_run(), NOW
    for _ in range(3 * FREE):
        decision = decided(status, now=now)
        assert decision.write == WANTED
        status, now = decision.status, now + STOOD


def test_a_clock_that_was_set_back_does_not_lengthen_the_wait() -> None:
    decision = contested(open_run())
    assert decided(decision.status, now=NOW - 3600).write == WANTED


def written_at(gaps: Sequence[float]) -> Iterator[float]:
    """Play somebody who undoes each correction after so many seconds, and yield when we write."""
    status, now = open_run(), NOW
    for gap in gaps:
        now += gap
        while (decision := decided(status, now=now)).write is None:
            status, now = decision.status, now + 1.0
        status = Status.model_validate(decision.status.dump())
        yield now


@given(st.lists(st.one_of(st.floats(0, 2), st.floats(0, 60)), min_size=1, max_size=40))
def test_whatever_others_do_the_writes_of_a_minute_are_bounded(gaps: list[float]) -> None:
    times = list(written_at(gaps))
    for at in times:
        assert sum(at <= each < at + 60 for each in times) <= MOST_A_MINUTE


@pytest.mark.parametrize("action", [None, Action("n1", "abort", "ann")])
def test_a_rollback_gets_through_however_contested_the_weights_are(action: Action | None) -> None:
    status = contested(open_run(), replace(UNDONE, live=AWAY)).status
    here = replace(UNDONE, live=AWAY, action=action)
    judgement = UNDECIDED if action else judged("Harmful")
    decision = decide(policy(), status, here, judgement, NOW + 1)
    assert (decision.action, decision.write) == ("RollBack", GIT)
    # and again, when that is undone before the proxies have it
    for _ in range(FREE):
        decision = decided(decision.status, replace(here, action=None), now=NOW + 2)
        assert (decision.action, decision.write) == ("Settle", GIT)
    assert decided(decision.status, replace(here, action=None), now=NOW + 3).reason == "Contested"


def test_weights_that_come_back_by_themselves_end_the_contest_and_the_run_goes_on() -> None:
    status = contested(open_run()).status
    back = decided(status, world(), now=NOW + 5)
    assert (back.action, back.reason) == ("Return", "DriftOver")
    assert the_run(back).contest is None
    assert decided(back.status, world(), now=NOW + 6).action == "Confirm"


@pytest.mark.parametrize("rule", ["correct", "hold"])
def test_the_time_that_a_step_had_before_a_drift_counts(rule: str) -> None:
    status = open_run(step_started_at=NOW - 45)
    status = decided(status, replace(UNDONE, overwritten=False), onDrift=rule).status
    here = world()
    for at in (NOW + 5, NOW + 6):
        status = decided(status, here, at, onDrift=rule).status
    held = the_run(decided(status, here, NOW + 7, onDrift=rule))
    assert held.held == 45
    began = held.step_started_at
    assert began is not None
    early, late = (
        decide(policy(onDrift=rule), status, here, judged("Undecided", data_end=at - 1), at).reason
        for at in (began + 12, began + 16)
    )
    assert (early, late) == ("Holding", "NoHarmShown")


# --- after a run


def over(here: World, status: Status) -> tuple[Decision, Status]:
    decision = decided(status, here)
    return decision, with_conditions(decision, here, UNDECIDED, now=NOW, generation=1)


def promoted() -> Status:
    status, here = on_step(2)
    ended = decide(policy(), status, here, judged("Safe"), NOW).status
    return decide(policy(), ended, world(live=AWAY), UNDECIDED, NOW).status


def test_who_undoes_a_promotion_is_named_and_nothing_is_written() -> None:
    status = promoted()
    _, resting = over(world(live=AWAY), status)
    decision, told = over(world(live=GIT, changed_by=FLUX, overwritten=True), resting)
    assert (decision.reason, decision.write) == ("Drift", None)
    stalled, ready = told.condition("Stalled"), told.condition("Ready")
    assert stalled
    assert ready
    assert (stalled.status, stalled.reason, ready.status) == ("True", "Drift", "False")
    assert f"{FLUX} changed the weights to stable 100%, candidate 0%; wanted: stable 0%" in stalled.message
    assert told.summary == "Promoted (Safe), but the weights were changed since"
    _, again = over(world(live=AWAY), told)
    assert again.summary == "Promoted (Safe)"
    assert [(c.type, c.status) for c in again.conditions] == [(c.type, c.status) for c in resting.conditions]


def test_a_new_candidate_starts_its_run_though_the_last_weights_were_changed() -> None:
    newer = world(live=GIT, changed_by=FLUX, revisions={"stable": "c", "candidate": "b"})
    decision = decided(promoted(), newer)
    assert (decision.action, decision.write) == ("Start", {"stable": 5, "candidate": 95})


@pytest.mark.parametrize("rule", ["correct", "adopt", "hold"])
def test_a_late_write_of_a_deposed_leader_is_put_right_whatever_the_rule(rule: str) -> None:
    late = world(live={"stable": 50, "candidate": 50}, changed_by="penstock", late=True)
    decision = decided(open_run(), late, onDrift=rule)
    assert (decision.action, decision.reason, decision.write) == ("Correct", "DriftCorrected", WANTED)
    assert decision.message.startswith("a late write of another penstock changed the weights to stable 50%")


def test_a_late_write_after_the_end_of_a_run_is_put_right() -> None:
    decision = decided(promoted(), world(live=GIT, changed_by="penstock", late=True))
    assert (decision.action, decision.write) == ("Correct", AWAY)
    assert the_run(decided(decision.status, world(live=AWAY))).applied


def test_an_end_that_is_undone_before_it_is_confirmed_is_made_true_without_a_fight() -> None:
    status, here = on_step(2)
    ended = decide(policy(), status, here, judged("Safe"), NOW).status
    held = contested(ended)
    assert (held.action, held.reason, held.write) == ("Hold", "Contested", None)
    assert decided(held.status, replace(UNDONE, overwritten=False), now=NOW + 1).write is None, (
        "also after a crash"
    )
    told = with_conditions(held, UNDONE, UNDECIDED, now=NOW, generation=1)
    stalled, applied = told.condition("Stalled"), told.condition("TrafficApplied")
    assert stalled
    assert applied
    assert (stalled.reason, applied.status, applied.reason) == ("Contested", "False", "Contested")
    decision = decided(held.status, now=NOW + 10)
    assert decision.write == AWAY
    confirmed = decided(decision.status, world(live=AWAY), now=NOW + 11)
    assert the_run(confirmed).ended_at == NOW + 11


@pytest.mark.parametrize(("rule", "reason"), [("correct", "Contested"), ("hold", "Drift")])
def test_conditions_of_a_run_say_who_changed_the_weights(rule: str, reason: str) -> None:
    decision = contested(open_run()) if rule == "correct" else decided(open_run(), onDrift=rule)
    told = with_conditions(decision, UNDONE, UNDECIDED, now=NOW, generation=1)
    for type_, status in [("Stalled", "True"), ("Ready", "False"), ("TrafficApplied", "False")]:
        condition = told.condition(type_)
        assert condition
        assert (condition.status, condition.reason) == (status, reason)
        assert FLUX in condition.message
    assert told.summary == f"Step 1/3, 5% to candidate: {reason.lower()}"


# --- in the loop


async def apply(rig: Rig, control: int, candidate: int, manager: str = FLUX) -> None:
    """Apply weights as a tool does, in one write."""
    path = "/spec/http/0/route/{}/weight"
    operations = [
        {"op": "replace", "path": path.format(at), "value": weight}
        for at, weight in enumerate((control, candidate))
    ]
    rig.loop.changed(await rig.store.patch(ROUTE, operations, manager=manager))


async def fight(rig: Rig, seconds: int, every: int = 3) -> list[float]:
    """Apply Git's weights again and again; return when the controller wrote its own."""
    writes: list[float] = []
    for second in range(seconds):
        before = await generation(rig)
        if second % every == 0:
            was = await rig.weights()
            await apply(rig, 100, 0)
            before += was != [100, 0]
        await rig.run(1)
        writes += [rig.clock.time] * (await generation(rig) - before)
    return writes


async def generation(rig: Rig) -> int:
    meta: dict[str, Any] = (await rig.store.get(ROUTE))["metadata"]
    return int(meta["generation"])


async def test_a_tool_that_applies_every_three_seconds_is_named_and_not_fought_and_the_run_goes_on(
    rig: Rig,
) -> None:
    await rig.start(GOOD)
    await rig.run(8)
    before = rig.clock.time
    writes = await fight(rig, 120)
    assert FREE < len(writes) < MOST_A_MINUTE
    gaps = [later - earlier for earlier, later in pairwise(writes)]
    assert gaps == sorted(gaps), "each waits longer than the one before"
    status = await rig.status()
    stalled = status.condition("Stalled")
    assert stalled
    assert (stalled.status, stalled.reason) == ("True", "Contested")
    assert f"{FLUX} changed the weights to stable 100%, candidate 0%" in stalled.message
    assert "Contested" in await rig.reasons()
    assert not [end for end in await rig.ends() if before + 5 < end], "nothing was measured meanwhile"
    assert ended(await rig.run(400, until=ended))
    assert await rig.weights() == [0, 100]
    assert (await rig.whole())["outcome"] == "Promoted"


async def test_a_tool_that_applies_now_and_then_costs_a_correction_and_the_run_gets_on(rig: Rig) -> None:
    """Though no step ever has its weights for as long as it is to be held without a drift."""
    await rig.open(Service("ranker", dict(GOOD)))
    objects = manifests()
    objects[0]["spec"]["strategy"]["canary"]["steps"] = [{"weight": 20, "hold": "90s"}, {"weight": 50}]
    await rig.put(*objects)
    await rig.run(8)
    await fight(rig, 350, every=35)
    reasons = await rig.reasons()
    assert "DriftCorrected" in reasons
    assert "Contested" not in reasons
    assert ("Advance", "NoHarmShown") in await rig.decisions()
    run = (await rig.status()).run
    assert run is not None
    assert (run.outcome, run.reason) == ("Promoted", "Safe")


async def test_a_contest_outlives_the_controller(rig: Rig) -> None:
    await rig.start(GOOD, minSamples=1_000_000)
    await rig.run(8)
    await fight(rig, 20)
    rig.crash()
    assert len(await fight(rig, 60)) <= 3


async def test_who_undoes_a_promotion_is_told_once_and_left_alone(rig: Rig) -> None:
    await rig.start(GOOD)
    assert ended(await rig.run(400, until=ended))
    await apply(rig, 100, 0)
    for _ in range(3):
        await apply(rig, 100, 0)
        status = await rig.run(3)
    assert await rig.weights() == [100, 0]
    assert (await rig.reasons()).count("Drift") == 1
    stalled = status.condition("Stalled")
    assert stalled
    assert stalled.reason == "Drift"
    assert FLUX in stalled.message
    await apply(rig, 0, 100)
    ready = (await rig.run(1)).condition("Ready")
    assert ready
    assert ready.status == "True"


@pytest.mark.parametrize("rule", ["correct", "adopt", "hold"])
async def test_weights_that_an_earlier_leader_wrote_late_are_put_right(rig: Rig, rule: str) -> None:
    await rig.start(GOOD, onDrift=rule, minSamples=1_000_000)
    await rig.run(8)
    await apply(rig, 40, 60, manager=MANAGER)
    await rig.run(1)
    assert await rig.weights() == [80, 20]
    # after a change by a person it is not the last writer any more
    await apply(rig, 40, 60)
    await rig.run(1)
    assert await rig.weights() == ([80, 20] if rule == "correct" else [40, 60])


async def test_weights_that_an_earlier_leader_wrote_after_the_end_are_put_right(rig: Rig) -> None:
    await rig.start(GOOD)
    assert ended(await rig.run(400, until=ended))
    await apply(rig, 80, 20, manager=MANAGER)
    status = await rig.run(2)
    assert await rig.weights() == [0, 100]
    assert ended(status)
