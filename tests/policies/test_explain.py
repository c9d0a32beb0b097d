"""A policy in words: everything that it decides is said, with its numbers."""

import pytest

from policies import catalog
from policies.explain import Stage, explain
from policies.parse import parse, policy_from_object
from policies.units import Duration
from tests.support.policies import changed, policy, template, text

STEPS = "spec.strategy.canary.steps"


def plan(obj):
    return explain(policy_from_object(obj), catalog.templates())


def test_the_plan_says_what_moves_where():
    first, second, *_ = plan(policy()).sentences
    assert first == (
        "ml/ranker shifts requests for ranker from stable (subset v1) to candidate (subset v2) in 2 steps: "
        "5%, 50%, then 100%."
    )
    assert second == "It writes the weights of the only route of VirtualService ranker and nothing else."


def test_each_step_starts_after_the_holds_before_it_and_lasts_a_look_at_least():
    steps = [{"weight": 5, "hold": "1m"}, {"weight": 20, "pause": True}, {"weight": 100, "require": "safe"}]
    result = plan(changed(policy(), STEPS, steps))
    assert result.steps == (
        Stage(1, 5, Duration.parse("1m"), False, "noHarm", Duration(0)),
        Stage(2, 20, Duration.parse("10s"), True, "noHarm", Duration.parse("1m")),
        Stage(3, 100, Duration.parse("10s"), False, "safe", Duration.parse("1m10s")),
    )
    assert str(result.earliest_promotion) == "1m20s"
    assert "in 3 steps: 5%, 20%, 100%." in result.sentences[0]
    assert "After 20% it waits for a person: `penstock promote ranker`." in result.sentences


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.virtualService.routes", ["a", "b", "c"], "routes a, b and c of VirtualService ranker"),
        ("spec.variants.1", {"name": "new", "host": "ranker-v2"}, "new (host ranker-v2)"),
        ("spec.metrics.0.name", "errors", "harm is shown by errors;"),
        ("spec.metrics.0.tolerance", "10%", "harm is shown by istio-error-rate (beyond 10%);"),
        ("spec.metrics.0.margin", "7.5%", "shown that istio-error-rate is at most 7.5% worse in odds;"),
        ("spec.decision.falseRollback", "2%", "harmless candidate is at most 2%"),
        ("spec.decision.falsePromote", "3%", "worse than a margin is at most 3%"),
        ("spec.decision.minSamples", 7, "have had 7 requests each"),
        ("spec.decision.interval", "30s", "It looks every 30s"),
        ("spec.decision.onDeadline", "rollback", "Without a decision after 2h it rolls back."),
        ("spec.decision.onDeadline", "promote", "promotes, although safety is not shown"),
        ("spec.decision.onNoData", "rollback", "Without data for 5m it rolls back."),
        ("spec.decision.onDrift", "adopt", "it goes on with theirs"),
    ],
)
def test_what_the_policy_sets_is_said(path, value, words):
    assert words in " ".join(plan(changed(policy(), path, value)).sentences)


def test_latency_is_said_in_time_and_a_share_is_no_guardrail_of_harm():
    metrics = [{"template": "istio-latency", "margin": "10%"}, {"template": "istio-request-share"}]
    words = " ".join(plan(changed(policy(), "spec.metrics", metrics)).sentences)
    assert "istio-latency is at most 10% worse in time" in words
    assert "istio-request-share" not in words


def test_a_template_that_is_not_given_is_an_error():
    with pytest.raises(KeyError):
        explain(policy_from_object(policy()), {})


@pytest.mark.parametrize(("dispersion", "words"), [
    ("1", "istio-error-rate: requests are assumed to be independent of each other (dispersion 1)."),
    ("3", "istio-error-rate: events are assumed to vary 3 times as much as independent ones (dispersion)."),
])  # fmt: skip
def test_the_plan_says_what_its_rates_rest_on(dispersion, words):
    found = plan(changed(policy(), "spec.metrics.0.dispersion", dispersion))
    assert "at most 1% of harmless candidates are rolled back, and at most 5%" in found.guarantees[0]
    assert words in found.guarantees
    assert found.warnings == ()


def test_the_plan_warns_of_a_margin_that_the_edges_cannot_prove():
    obj = changed(policy(), "spec.metrics", [{"template": "istio-latency", "margin": "10%", "name": "times"}])
    [warning] = plan(obj).warnings
    assert warning.startswith("times: margin 10% is finer than the edges, which can prove 100% at best")


def test_an_engine_is_named_and_no_error_rate_is_promised_for_it():
    result = plan(changed(policy(), "spec.decision.engine", "threshold"))
    text = " ".join(result.sentences)
    assert "error rates are judged by the engine threshold." in text
    assert "the chance" not in text
    assert result.guarantees[0].startswith(
        "Except for error rates, which threshold judges: whenever one looks"
    )


def test_a_watch_says_how_long_how_often_it_is_wrong_and_that_it_touches_nothing():
    obj = changed(policy(), "spec.watch", {"duration": "12h", "falseAlarmEvery": "720h", "tolerance": "30%"})
    last = plan(obj).sentences[-1]
    for words in ("for 12h", "more than 30% above", "one false alarm in 720h", "traffic is left as it is"):
        assert words in last


def test_a_margin_in_points_is_said_in_points():
    metric = {"template": "istio-error-rate", "marginPoints": "0.5%"}
    sentences = plan(changed(policy(), "spec.metrics.0", metric)).sentences
    assert any("istio-error-rate is at most 0.5 percentage points worse;" in each for each in sentences)


def test_of_a_mean_and_of_points_the_plan_says_in_what_the_margin_is():
    own = parse([("f.yaml", text(template("mean")))]).templates[0].value
    metrics = [{"template": "own", "margin": "2%"}, {"template": "istio-error-rate", "marginPoints": "0.5%"}]
    obj = changed(policy(), "spec.metrics", metrics)
    found = explain(policy_from_object(obj), {**catalog.templates(), "own": own})
    words = " ".join(found.sentences)
    assert "own is at most 2% worse in its mean" in words
    assert "istio-error-rate is at most 0.5 percentage points worse" in words
    assert (
        "own: how much it varies is measured from interval to interval; for noise that lasts longer, its "
        "variance is taken 2 times (assume)."
    ) in found.guarantees


def test_a_copy_and_a_scale_down_are_part_of_the_plan_and_of_what_is_written() -> None:
    obj = changed(policy(), "spec.promotion", {"mode": "copy", "scaleDownAfter": "30m"})
    words = " ".join(plan(obj).sentences)
    assert "after a run the control's pod template and the replicas of the version without traffic." in words
    assert "of stable takes the pod template of candidate (environment and arguments too" in words
    assert "30m after the end of a run the version without traffic is scaled to zero, unless" in words
    assert "nothing else." not in words


@pytest.mark.parametrize(
    ("rule", "words"),
    [("rollback", "all traffic goes to the control"), ("keep", "the traffic stays as it is")],
)
def test_what_a_deletion_does_is_part_of_the_plan(rule: str, words: str) -> None:
    assert words in " ".join(plan(changed(policy(), "spec.onDeletion", rule)).sentences)
