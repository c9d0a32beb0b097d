import pytest

from controller.view import event_views, rollout_view, run_summary
from tests.support.fake_backend import event, policy, running
from tests.support.fake_run import fake_run

ROLLING_OUT = {"type": "Ready", "status": "False", "reason": "RollingOut"}
STUCK = {"type": "Ready", "status": "False", "reason": "ProgressDeadlineExceeded"}


@pytest.mark.parametrize(
    ("status", "state", "exit_code"),
    [
        ({}, "Pending", 3),
        ({"summary": "nothing to roll out"}, "Idle", 0),
        ({"run": {"step": 0}}, "Progressing", 3),
        ({"run": {"paused": True}}, "Paused", 4),
        ({"run": {"waitingForApproval": True}}, "Waiting", 4),
        ({"run": {"outcome": "Promoted"}}, "Promoted", 0),
        ({"run": {"outcome": "RolledBack"}}, "RolledBack", 1),
        ({"run": {"outcome": "Superseded"}}, "Superseded", 3),
        ({"run": {}, "conditions": [{"type": "Stalled", "status": "True"}]}, "Stalled", 1),
        ({"conditions": [ROLLING_OUT]}, "RollingOut", 3),
        ({"run": {"outcome": "Promoted"}, "conditions": [ROLLING_OUT]}, "RollingOut", 3),
        ({"run": {"outcome": "RolledBack"}, "conditions": [ROLLING_OUT]}, "RollingOut", 3),
        ({"run": {"outcome": "Promoted"}, "conditions": [STUCK]}, "Stalled", 1),
        (
            {"run": {"outcome": "Promoted"}, "conditions": [{"type": "Stalled", "status": "True"}]},
            "Promoted",
            0,
        ),
    ],
)
def test_the_state_and_the_exit_status_follow_the_run(status, state, exit_code):
    view = rollout_view(policy(**status))
    assert (view.state, view.exit_code) == (state, exit_code)


def test_variants_carry_their_role_weight_and_destination():
    stable, candidate = rollout_view(running()).variants
    assert (stable.name, stable.role, stable.weight, stable.destination) == ("stable", "control", 75, "v1")
    assert (candidate.name, candidate.role, candidate.weight) == ("candidate", "candidate", 25)


def test_steps_count_from_one_and_know_what_is_done():
    view = rollout_view(running())
    assert view.run.step == 2
    assert [step.state for step in view.steps] == ["done", "current", "next"]


def test_every_step_of_a_promoted_run_is_done_and_none_of_a_rolled_back_one_is_current():
    assert {step.state for step in rollout_view(running(outcome="Promoted")).steps} == {"done"}
    assert [step.state for step in rollout_view(running(outcome="RolledBack")).steps] == [
        "done",
        "next",
        "next",
    ]


def test_metrics_come_from_the_last_verdict():
    errors, latency = rollout_view(running()).metrics
    assert (errors.name, latency.name) == ("errors", "latency")
    assert errors.bound_harm == 200
    assert errors.interval[0] < errors.odds_ratio < errors.interval[1]


def test_the_object_is_there_only_when_asked_for():
    assert rollout_view(policy()).object is None
    assert rollout_view(policy(), with_object=True).object["kind"] == "RolloutPolicy"


def test_events_are_sorted_the_latest_first_and_name_their_rollout():
    first, second = event_views([event(reason="Old"), event(reason="New", after=60)])
    assert (first.reason, second.reason, first.object) == ("New", "Old", "ml/ranker")


def test_a_bare_policy_is_a_view_too():
    view = rollout_view({"metadata": {"name": "x"}})
    assert (view.key, view.state, view.variants, view.steps) == ("default/x", "Pending", (), ())


def test_a_run_is_listed_under_its_rollout_whether_the_history_keeps_the_policy_or_its_key():
    run = fake_run(looks=3, finished=False)
    assert run_summary(run).policy == run_summary({**run, "policy": "ml/ranker"}).policy == "ml/ranker"
    assert run_summary(run).verdict == "Undecided"
