"""The times of `penstock plan`, against rollouts that were simulated: in the right place, give or take."""

import pytest

from analysis.power import Traffic, time_to_promote, time_to_rollback
from analysis.simulate import Behaviour
from controller.cli.forecast import HEADER, forecast
from controller.dossier import design_of
from controller.simulate import simulate
from policies.catalog import templates
from policies.parse import policy_from_object
from tests.support.policies import changed, policy

LOOK = 11.0
"""Seconds: decisions come at looks, a second after the end of an interval."""


def made(weight, *, margin="100%", dispersion="1", hold="20m", **decision):
    metric = {"template": "istio-error-rate", "margin": margin, "dispersion": dispersion}
    obj = changed(policy(), "spec.strategy.canary.steps", [{"weight": weight, "hold": hold}])
    obj = changed(obj, "spec.metrics", [metric])
    return policy_from_object(
        changed(obj, "spec.decision", {"deadline": "30m", "falseRollback": "5%", **decision})
    )


def median(plan, outcome, effect):
    result = simulate(plan, design_of(plan, templates()), Behaviour(effect=effect), runs=60, seed=1)
    assert result.share(outcome).count > 50
    return result.share(outcome).median


@pytest.mark.parametrize(("weight", "effect", "dispersion"), [
    (10, 1.5, "1"), (10, 2.0, "1"), (25, 2.0, "1"), (50, 1.5, "1"), (10, 3.0, "4"),
])  # fmt: skip
def test_harm_is_found_when_the_plan_says(weight, effect, dispersion):
    expected = time_to_rollback(Traffic(200, weight / 100, 0.01, float(dispersion)), effect, 0.05)
    found = median(made(weight, dispersion=dispersion), "rolledBack", effect)
    assert 0.6 * expected.shortest - LOOK <= found <= 1.3 * expected.longest + LOOK


@pytest.mark.parametrize(("weight", "margin"), [(10, 1.0), (25, 0.5), (50, 1.0)])
def test_safety_is_proven_when_the_plan_says(weight, margin):
    expected = time_to_promote(Traffic(200, weight / 100, 0.01), margin, 0.05)
    found = median(made(weight, margin=f"{100 * margin:g}%", hold="0s"), "promoted", 1.0)
    assert 0.6 * expected.shortest - LOOK <= found <= 1.3 * expected.longest + LOOK


def test_there_is_a_row_for_every_proportion_and_step_below_100_per_cent():
    obj = changed(policy(), "spec.metrics", [
        {"template": "istio-error-rate", "name": "errors", "tolerance": "60%"},
        {"template": "istio-latency", "margin": "100%"},
    ])  # fmt: skip
    obj = changed(obj, "spec.strategy.canary.steps", [{"weight": 5}, {"weight": 50}, {"weight": 100}])
    rows = forecast(policy_from_object(obj), templates(), rps=200, baseline=0.01)
    assert [row[:2] for row in rows] == [["errors", "5%"], ["errors", "50%"]]
    assert all(len(row) == len(HEADER) for row in rows)
    assert rows[0][2] == "tolerated"
    assert rows[0][-1] == "–"
