"""Of a quiet run the few rules that are asked come to what all of them would have come to."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decision import Action, Case, Judgement
from controller.deletion import withdraw
from controller.machine import decide
from controller.open_run import OPEN_RUN, QUIET
from controller.quiet import is_quiet
from controller.status import Contest
from tests.support.situations import NOW, UNDECIDED, judged, open_run, policy, world

UNUSUAL_WORLD = {
    "revisions": [{"stable": "z", "candidate": "b"}, {"stable": "a", "candidate": "c"}, {}],
    "missing": [{"candidate": "gone"}, {"stable": "gone"}],
    "failing": [{"CannotStart": "why"}, {"CrashLoop": "why"}],
    "taken": ["ml/older"],
    "invalid": ["wrong"],
    "live": [None, {"stable": 90, "candidate": 10}, {}],
    "metrics_error": ["down"],
    "behind": [True],
    "action": [Action("1", verb) for verb in ("pause", "promote", "abort", "retry")],
    "late": [True],
    "overwritten": [True],
    "deleting": [True],
}
UNUSUAL_RUN = {
    "applied": [False],
    "paused": [True],
    "approved": [True],
    "waiting_for_approval": [True],
    "step_started_at": [None, 0.0, NOW - 1, NOW - 1000],
    "started_at": [NOW - 100_000],
    "held": [100.0],
    "step": [1, 2],
    "control": ["other"],
    "control_revision": ["z"],
    "weights": [{"stable": 100, "candidate": 0}, {"stable": 0, "candidate": 100}],
    "contest": [Contest(count=3, at=NOW - 5, until=NOW + 5)],
}


def some_of(choices):
    """Return a strategy for a few changes."""
    each = st.sampled_from([(name, value) for name, values in choices.items() for value in values])
    return st.lists(each, max_size=2).map(dict)


JUDGEMENTS = st.builds(
    lambda kind, harm, enough, age: judged(kind, harm=harm, enough=enough, data_end=age and NOW - age),
    st.sampled_from(["Harmful", "Safe", "Undecided", "NoData", "Invalid"]),
    st.sampled_from(["", "", "", "worse"]),
    st.booleans(),
    st.sampled_from([None, 1.0, 5.0, 95.0, 1000.0]),
)
POLICIES = [
    policy(onNoData=silent, onDeadline=late, noDataTimeout="30s", deadline=deadline)
    for silent in ("hold", "rollback")
    for late in ("hold", "rollback", "promote")
    for deadline in ("60s", "1h")
]


def by_all_rules(case: Case):
    return next(found for rule in (withdraw, *OPEN_RUN) if (found := rule(case)) is not None)


@given(st.sampled_from(POLICIES), some_of(UNUSUAL_WORLD), some_of(UNUSUAL_RUN), JUDGEMENTS)
def test_the_decision_is_that_of_all_rules(chosen, here, run, judgement):
    status = open_run(**run)
    case = Case(
        chosen, status, world(live=status.run.weights) if "live" not in here else world(), judgement, NOW
    )
    case = replace(case, world=replace(case.world, **here))
    if is_quiet(case):
        assert decide(*case.inputs) == by_all_rules(case)
    assert is_quiet(case) or here or run or judgement.harm or judgement.kind == "Harmful"


def single(choices):
    return [{name: value} for name, values in choices.items() for value in values]


CHANGES = [(here, {}) for here in single(UNUSUAL_WORLD)] + [({}, run) for run in single(UNUSUAL_RUN)]


@pytest.mark.parametrize(("here", "run"), CHANGES)
def test_one_thing_that_is_unusual_is_seen(here, run):
    status = open_run(**run)
    seen = {"live": status.run.weights, **here}
    for judgement in (UNDECIDED, judged("Harmful"), judged("Undecided", harm="worse")):
        case = Case(policy(), status, world(**seen), judgement, NOW)
        found, wanted = decide(*case.inputs), by_all_rules(case)
        assert (found.action, found.reason, found.message) == (wanted.action, wanted.reason, wanted.message)


@pytest.mark.parametrize("judgement", [UNDECIDED, judged("Safe"), Judgement(), judged("Invalid")])
def test_a_run_without_anything_unusual_is_quiet(judgement):
    case = Case(policy(), open_run(), world(), judgement, NOW)
    assert is_quiet(case)
    assert decide(*case.inputs) == by_all_rules(case)


def test_the_rules_for_a_quiet_run_are_some_of_all_in_their_order():
    assert [rule for rule in OPEN_RUN if rule in QUIET] == [*QUIET]
