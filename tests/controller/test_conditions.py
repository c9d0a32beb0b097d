"""Conditions are what scripts wait for: each situation has the ones that kstatus and our readers expect."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.conditions import looked_at, with_conditions
from controller.decision import Decision, Judgement, World
from controller.machine import decide
from controller.ports import Applied
from controller.status import Status
from tests.support.situations import NOW, judged, on_step, open_run, policy, world

RESTING = {"stable": 100, "candidate": 0}


def conditions(
    status: Status, here: World, judgement: Judgement, now: float = NOW
) -> tuple[Status, dict[str, str]]:
    decision = decide(policy(), status, here, judgement, now)
    told = with_conditions(decision, here, judgement, now=now, generation=3)
    return told, {condition.type: condition.status for condition in told.conditions}


def test_a_run_in_progress_is_reconciling_and_not_ready() -> None:
    status, found = conditions(open_run(step_started_at=NOW - 20), world(), judged("Undecided"))
    assert (found["Ready"], found["Reconciling"], found["Stalled"], found["Healthy"]) == (
        "False", "True", "False", "True",
    )  # fmt: skip
    assert status.observed_generation == 3
    assert status.summary == "Step 1/3, 5% to candidate: undecided"
    silent, _ = conditions(open_run(step_started_at=NOW - 20), world(), judged("NoData"))
    assert silent.summary == "Step 1/3, 5% to candidate: no data"


def test_a_promoted_run_is_ready_once_the_proxies_confirmed() -> None:
    status, here = on_step(2)
    promoted, found = conditions(status, here, judged("Safe"))
    assert (found["Ready"], promoted.verdict) == ("False", "Safe")
    done, found = conditions(promoted, world(live={"stable": 0, "candidate": 100}), Judgement())
    assert (found["Ready"], found["Stalled"], done.verdict) == ("True", "False", "Safe")


def test_a_rolled_back_run_is_stalled_unhealthy_and_keeps_its_verdict() -> None:
    bad, _ = conditions(open_run(), world(), judged("Harmful"))
    done, found = conditions(bad, world(live=RESTING), Judgement())
    assert (found["Ready"], found["Stalled"], found["Healthy"]) == ("False", "True", "False")
    assert done.verdict == "Harmful"


@pytest.mark.parametrize(
    ("here", "judgement", "type_", "reason"),
    [
        (world(metrics_error="down"), judged("Undecided"), "MetricsAvailable", "MetricsUnavailable"),
        (world(live=None, route_error="gone"), judged("Undecided"), "Stalled", "RouteUnreadable"),
        (world(), judged("Invalid"), "Stalled", "Invalid"),
    ],
)
def test_what_hinders_a_run_is_named(here: World, judgement: Judgement, type_: str, reason: str) -> None:
    status, found = conditions(open_run(step_started_at=NOW - 100), here, judgement)
    condition = status.condition(type_)
    assert condition is not None
    assert condition.reason == reason
    assert found["Stalled"] == "True"


def test_transition_times_move_only_with_the_status() -> None:
    resting, behind = open_run(step_started_at=NOW - 20), Applied(ok=False, detail="old")
    first, _ = conditions(resting, world(), judged("Undecided"))
    second, _ = conditions(first, world(), judged("Undecided"), NOW + 5)
    assert second.conditions == first.conditions
    assert first.run is not None
    lagging = first.model_copy(update={"run": first.run.model_copy(update={"applied": False})})
    third, _ = conditions(lagging, world(applied=behind), judged("Undecided"), NOW + 6)
    changed, kept = third.condition("TrafficApplied"), third.condition("Paused")
    assert changed is not None
    assert kept is not None
    assert (changed.last_transition_time, kept.last_transition_time) == (NOW + 6, NOW)


def test_whoever_repairs_one_thing_reads_what_is_the_next() -> None:
    def told(status: Status, error: str) -> Status:
        return conditions(status, world(live=None, route_error=error), judged("Undecided"))[0]

    first = told(open_run(), "VirtualService ranker does not exist")
    second = told(first, "VirtualService ranker: route http[0] has no destination 'ranker/v9'")
    for type_ in ("Ready", "Stalled"):
        condition = second.condition(type_)
        assert condition is not None
        assert "has no destination 'ranker/v9'" in condition.message
    assert told(second, "VirtualService ranker: route http[0] has no destination 'ranker/v9'") == second


def test_an_invalid_split_is_not_told_again_for_other_numbers() -> None:
    first, _ = conditions(open_run(), world(), judged("Invalid", sentence="p = 0.0001"))
    second, _ = conditions(first, world(), judged("Invalid", sentence="p = 0.00009"))
    assert second == first


def test_no_message_is_longer_than_kubernetes_takes() -> None:
    routes = ", ".join(f"route-{number} (http[{number}])" for number in range(5000))
    here = world(live=None, route_error=f"VirtualService ranker has no route main; it has {routes}")
    told, _ = conditions(open_run(), here, judged("Undecided"))
    longest = max(len(condition.message) for condition in told.conditions)
    assert 1000 < longest < 32768


def test_a_status_that_was_found_to_stay_stays_while_what_was_looked_at_is_the_same() -> None:
    """Whatever else changes: then conditions need not be made again."""
    status, here = on_step(0)
    looks = [
        (decide(policy(), status, around, judgement, now), around, judgement, now)
        for around in (here, replace(here, metrics_error="down"), replace(here, behind=True))
        for judgement in (judged("Undecided"), judged("Safe"), judged("Invalid"), Judgement())
        for now in (NOW, NOW + 7)
    ]
    holds = [look for look in looks if look[0].status is status]
    for decision, around, judgement, now in holds:
        told = with_conditions(decision, around, judgement, now=now, generation=3)
        for other, there, found, then in holds:
            again = replace(other, status=told)
            stays = with_conditions(again, there, found, now=then, generation=3) == told
            same = looked_at(decision, around, judgement, 3) == looked_at(other, there, found, 3)
            assert stays or not same


def test_weights_are_left_out_before_there_are_any() -> None:
    """The WEIGHT column of `kubectl get` would print them as {}."""
    assert "weights" not in Status().dump()
    assert Status.of({"status": Status().dump()}) == Status()
    assert Status(weights={"stable": 100}).dump()["weights"] == {"stable": 100}


@pytest.mark.parametrize("reason", ["RollingOut", "CrashLoop", "NotReady"])
@pytest.mark.parametrize("action", ["Refuse", "Alarm", "EndWatch"])
def test_what_is_decided_beside_a_rollout_that_is_not_ready_never_makes_it_so(
    reason: str, action: str
) -> None:
    """A script that waits for Ready may look in that moment."""
    promoted, _ = conditions(on_step(2)[0], on_step(2)[1], judged("Safe"))
    promoted, _ = conditions(promoted, world(live={"stable": 0, "candidate": 100}), Judgement())
    held = Decision("Hold", reason, "its pods are not there", promoted)
    before = with_conditions(held, World(), Judgement(), now=NOW, generation=3)
    beside = Decision(action, "ForAMoment", "", before)
    after = with_conditions(beside, World(), Judgement(), now=NOW, generation=3)
    for type_ in ("Ready", "Reconciling", "Stalled", "Progressing"):
        assert after.condition(type_) == before.condition(type_)
    ready = after.condition("Ready")
    assert ready is not None
    assert ready.status == "False"
