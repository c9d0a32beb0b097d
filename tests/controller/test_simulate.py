"""Simulated rollouts: decided as the loop decides, counted as a statistician counts."""

import math

import pytest

from analysis.simulate import Behaviour
from controller import simulate as simulated
from controller import simulated_past
from controller.dossier import design_of
from controller.endings import Ending, Result, Share
from controller.judgement import judgement_of
from controller.simulate import looks, onset, simulate
from policies.catalog import templates
from policies.parse import policy_from_object
from tests.support.policies import changed, policy

STEPS = [{"weight": 10, "hold": "1m"}, {"weight": 50, "hold": "1m"}]


ERRORS = {"template": "istio-error-rate", "margin": "50%", "dispersion": "1"}


def made(steps=STEPS, metrics=({"template": "istio-error-rate", "margin": "100%"},), **decision):
    obj = changed(policy(), "spec.strategy.canary.steps", list(steps))
    obj = changed(obj, "spec.metrics", list(metrics))
    return policy_from_object(changed(obj, "spec.decision", {"deadline": "10m", **decision}))


def run(plan, *, runs=20, seed=1, **behaviour):
    return simulate(plan, design_of(plan, templates()), Behaviour(**behaviour), runs=runs, seed=seed)


def outcomes(result):
    return {(ending.outcome, ending.reason) for ending in result.endings}


def test_a_candidate_like_the_control_is_promoted_and_a_bad_one_rolled_back():
    plan = made()
    good, bad = run(plan), run(plan, effect=5.0)
    assert good.share("promoted", "Safe").count >= 19
    assert outcomes(bad) == {("rolledBack", "Harmful")}
    assert bad.share("rolledBack").median < 60 < good.share("promoted").median


def test_a_promotion_takes_the_holds_and_no_interval_counts_in_which_weights_changed():
    """60 s at 10 % end with the look at 61 s; 60 s more end between looks, so the next one promotes."""
    result = run(made(), runs=5, rps=5000.0)
    assert result.share("promoted").median == 121.0
    held = run(made([{"weight": 50, "hold": "0s"}], minSamples=100), runs=5, rps=5000.0)
    assert held.share("promoted").median == 11.0


def test_evidence_of_an_interval_with_two_weights_is_not_taken(monkeypatch):
    seen = []
    monkeypatch.setattr(
        simulated, "advance", lambda batch: seen.append([i.end for *_, [i] in batch]) or REAL_ADVANCE(batch)
    )
    run(made(), runs=1, rps=5000.0)
    start = simulated.START // 10 * 10
    ends = [end - start for look in seen for end in look]
    assert ends == [10, 20, 30, 40, 50, 60, 80, 90, 100, 110, 120]


REAL_ADVANCE = simulated.advance


@pytest.mark.parametrize("metrics", [
    (ERRORS,),
    (ERRORS, {"template": "istio-latency", "margin": "100%", "dispersion": "1"}),
])  # fmt: skip
@pytest.mark.parametrize("effect", [1.0, 1.6])
def test_holding_on_the_kind_alone_ends_as_every_look_with_the_whole_verdict_does(
    monkeypatch, metrics, effect
):
    steps = [{"weight": 10, "hold": "30s"}, {"weight": 30, "require": "safe"}, {"weight": 50, "pause": True}]
    plan = made(steps, metrics, deadline="4m")
    briefly = run(plan, runs=10, effect=effect, scenario="bursts")
    monkeypatch.setattr(
        simulated._Rollout, "_briefly", lambda self, _: judgement_of(self.design, self.evidence)
    )
    assert run(plan, runs=10, effect=effect, scenario="bursts") == briefly
    assert len({ending.seconds for ending in briefly.endings}) > 2


@pytest.mark.parametrize("metric", [{"template": "istio-latency"}, {"template": "istio-error-rate"}])
def test_runs_measure_their_own_past_and_the_result_is_repeatable(monkeypatch, metric):
    plan = made(metrics=[{**metric, "margin": "100%"}], deadline="4m")
    first = run(plan, runs=6, pods=(3, 1))
    assert run(plan, runs=6, pods=(3, 1)) == first
    monkeypatch.setattr(simulated_past, "_MOST_NUMBERS", 1)  # one run at a time
    assert len(run(plan, runs=6, pods=(3, 1)).endings) == 6


def test_clusters_that_a_run_measures_do_not_roll_it_back():
    def rolled_back(dispersion):
        plan = made(metrics=[{**ERRORS, "dispersion": dispersion}], falseRollback="5%")
        return run(plan, runs=60, scenario="betabinomial", phi=6.0).share("rolledBack", "Harmful").share

    assert rolled_back("1") > 0.3
    assert rolled_back("auto") < 0.1


def test_what_the_warm_up_leaves_out_is_not_judged():
    hurried = made(metrics=[ERRORS], deadline="4m")
    warm = made(metrics=[ERRORS], deadline="4m", warmUp="1m")
    assert run(hurried, effect=8.0).median < 60 < run(warm, effect=8.0).median


def test_approvals_are_given_at_once():
    steps = [{"weight": 10, "pause": True}, {"weight": 50, "pause": True}]
    paused, free = run(made(steps)), run(made([{"weight": 10}, {"weight": 50}]))
    assert paused == free
    assert paused.share("promoted").count >= 18


@pytest.mark.parametrize(("rule", "ending"), [
    ("hold", ("held", "DeadlineExceeded")),
    ("rollback", ("rolledBack", "DeadlineExceeded")),
    ("promote", ("promoted", "DeadlineExceeded")),
])  # fmt: skip
def test_the_deadline_has_the_say_of_the_policy(rule, ending):
    plan = made(metrics=[{"template": "istio-error-rate", "margin": "1%"}], deadline="3m", onDeadline=rule)
    result = run(plan, runs=5)
    assert outcomes(result) == {ending}
    assert looks(plan) == 18
    times = {ending.seconds for ending in result.endings}
    assert times == ({None} if rule == "hold" else {181.0})


def test_without_enough_requests_a_run_is_held_for_that_reason():
    result = run(made(deadline="2m"), runs=3, rps=1.0)
    assert outcomes(result) == {("held", "TooFewSamples")}


def test_the_same_seed_gives_the_same_result_whatever_else_is_simulated():
    plan = made()
    assert run(plan, effect=2.0) == run(plan, effect=2.0)
    assert run(plan, effect=2.0) != run(plan, effect=2.0, seed=2)


def test_every_look_is_told():
    told = []
    plan = made(deadline="1m")
    simulate(
        plan, design_of(plan, templates()), Behaviour(rps=1.0), runs=1, seed=1, looked=lambda: told.append(1)
    )
    assert len(told) == looks(plan) == 6


def test_independent_requests_keep_the_rate_of_false_rollbacks_and_bursts_break_it_unless_assumed():
    def rolled_back(scenario, dispersion):
        metric = {"template": "istio-error-rate", "margin": "25%", "dispersion": dispersion}
        plan = made([{"weight": 20, "hold": "10m"}], [metric], falseRollback="5%")
        return run(plan, runs=200, scenario=scenario).share("rolledBack", "Harmful")

    assert not rolled_back("iid", "1").exceeds(0.05)
    assert rolled_back("bursts", "1").exceeds(0.3)
    assert not rolled_back("bursts", "5").exceeds(0.05)


def test_late_harm_is_found_after_it_began():
    plan = made([{"weight": 20, "hold": "4m"}])
    middle = onset(plan, templates())
    assert middle == 120.0
    result = run(plan, scenario="late", effect=4.0, onset=middle)
    assert result.share("rolledBack", "Harmful").count >= 18
    assert 120 < result.share("rolledBack").median < 240


def test_a_share_has_an_error_even_when_all_or_none_ended_so():
    half = Share(50, 100)
    assert half.share == 0.5
    assert half.error == pytest.approx(0.05)
    assert Share(0, 98).error == pytest.approx(math.sqrt(0.01 * 0.99 / 98))
    assert Share(98, 98).error == pytest.approx(Share(0, 98).error)


@pytest.mark.parametrize(("count", "exceeds"), [(2, False), (5, False), (8, True), (200, True)])
def test_a_share_exceeds_only_by_more_than_two_errors(count, exceeds):
    assert Share(count, 200).exceeds(0.01) is exceeds


def test_a_result_counts_outcomes_with_reasons_and_medians():
    endings = (
        Ending("promoted", "Safe", 100.0),
        Ending("promoted", "DeadlineExceeded", 300.0),
        Ending("rolledBack", "Harmful", 20.0),
        Ending("held", "ProvingSafety", None),
    )
    result = Result(2.0, endings)
    assert result.median == 200.0
    assert Result(2.0, endings[2:] + endings[3:]).median is None
    found = result.as_dict()
    assert found["promoted"]["count"] == 2
    assert found["promoted"]["reasons"] == {"Safe": 1, "DeadlineExceeded": 1}
    assert found["promoted"]["medianSeconds"] == 200.0
    assert found["rolledBack"]["share"] == 0.25
    assert found["held"] == {
        "count": 1, "share": 0.25, "error": Share(1, 4).error, "medianSeconds": None,
        "reasons": {"ProvingSafety": 1},
    }  # fmt: skip
    assert (found["effect"], found["runs"], found["medianSeconds"]) == (2.0, 4, 200.0)
