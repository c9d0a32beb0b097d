"""What the controller tells of its rollouts in /metrics: the same text as prometheus_client would make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from controller.rollout_metric import RolloutMetric
from controller.telemetry import VERDICTS, Telemetry

NAMES = st.from_regex(r"[a-z0-9]([-.a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
POLICIES = st.builds("{}/{}".format, NAMES, NAMES)
VALUES = st.floats(min_value=0, max_value=1e5).map(lambda value: round(value, 3)) | st.integers(0, 10**5)
"""From a million on it writes them as Go does; what they say is the same."""


def told(telemetry):
    """Return the value of each line about a rollout, by name and labels without `policy`."""
    families = text_string_to_metric_families(telemetry.exposition().decode())
    return {
        (sample.name, *(value for label, value in sample.labels.items() if label != "policy")): sample.value
        for family in families for sample in family.samples if "policy" in sample.labels
    }  # fmt: skip


@given(st.dictionaries(POLICIES, st.dictionaries(NAMES, VALUES, max_size=3), max_size=3))
def test_the_text_is_the_one_that_prometheus_client_makes(rollouts):
    ours, registry = RolloutMetric("a_metric", "What it says", "variant"), CollectorRegistry()
    theirs = Gauge("a_metric", "What it says", ["policy", "variant"], registry=registry)
    for policy, values in rollouts.items():
        ours.put(policy, values)
        for variant, value in values.items():
            theirs.labels(policy, variant).set(value)
    assert ours.exposition().encode() == generate_latest(registry)


@pytest.fixture
def telemetry():
    return Telemetry(clock=lambda: 1000.0)


def test_a_rollout_is_told_by_its_weights_verdict_surges_and_the_age_of_its_step(telemetry):
    telemetry.show("ml/ranker", {"stable": 80, "candidate": 20}, "Safe", 1, since=990.0)
    verdicts = {("penstock_verdict", kind): float(kind == "Safe") for kind in VERDICTS}
    assert told(telemetry) == {
        ("penstock_weight_percent", "stable"): 80, ("penstock_weight_percent", "candidate"): 20,
        ("penstock_surges",): 1, ("penstock_step_age_seconds",): 10, **verdicts,
    }  # fmt: skip


def test_a_change_replaces_everything_that_was_told_before(telemetry):
    telemetry.show("ml/ranker", {"stable": 80, "candidate": 20}, "Safe", 1, since=990.0)
    telemetry.show("ml/ranker", {"stable": 100}, "Undecided", 0)
    now = told(telemetry)
    assert ("penstock_weight_percent", "candidate") not in now
    assert now["penstock_weight_percent", "stable"] == 100
    assert now["penstock_verdict", "Safe"] == 0
    assert now["penstock_verdict", "Undecided"] == 1
    assert now["penstock_surges",] == now["penstock_step_age_seconds",] == 0


def test_decisions_are_counted_and_stay_when_the_gauges_are_hidden(telemetry):
    telemetry.show("ml/ranker", {"stable": 100}, "Safe", 0)
    for action in ("Start", "Promote", "Start"):
        telemetry.decided("ml/ranker", action)
    telemetry.hide()
    assert told(telemetry) == {
        ("penstock_decisions_total", "Start"): 2, ("penstock_decisions_total", "Promote"): 1
    }  # fmt: skip


def test_a_rollout_that_was_hidden_is_told_again_though_nothing_changed(telemetry):
    for _ in range(2):
        telemetry.show("ml/ranker", {"stable": 100}, "Safe", 0)
        assert told(telemetry)["penstock_weight_percent", "stable"] == 100
        telemetry.hide()
        assert told(telemetry) == {}


def test_nothing_is_told_of_what_is_forgotten_and_all_of_the_others(telemetry):
    for policy in ("ml/ranker", "ml/other"):
        telemetry.show(policy, {"stable": 100}, "Safe", 0)
        telemetry.decided(policy, "Start")
    telemetry.forget("ml/ranker")
    telemetry.forget("ml/was-never-there")
    text = telemetry.exposition().decode()
    assert 'policy="ml/ranker"' not in text
    assert 'penstock_decisions_total{action="Start",policy="ml/other"} 1.0' in text


def test_queries_of_templates_that_are_gone_are_told_no_more() -> None:
    telemetry = Telemetry()
    for name in ("kept", "gone", "kept"):
        telemetry.queries.labels(name).inc()
    telemetry.keep_templates({"kept", "new"})
    text = telemetry.exposition()
    assert b'penstock_queries_total{template="kept"} 2.0' in text
    assert b'template="gone"' not in text
