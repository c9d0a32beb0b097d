"""Means and margins in points in the report: numbers and pictures have their own units."""

import numpy as np
import pytest

from analysis.judge import Design, Interval, MetricDesign, advance, fresh, verdict
from analysis.tables import Arm, MeanArm, MeanTable, Table
from controller import shown
from controller.api.figures import figures
from controller.api.page import page
from controller.api.report import report
from controller.cli.prose import prose
from controller.metric_view import metric_views
from tests.support.fake_run import fake_run

SCORE = MetricDesign("score", "mean", margin=0.05, unit="ratio", higher_is_better=True)
ERRORS = MetricDesign("errors", "proportion", margin_points=0.005)
DESIGN = Design((SCORE, ERRORS), 0.01, 0.05, planned_looks=60, min_samples=100)


@pytest.fixture(scope="module")
def found():
    run, dice = fake_run(looks=30, finished=False), np.random.default_rng(2)
    run["policy"]["spec"]["metrics"] = [
        {"template": "model-score", "name": "score", "margin": "5%"},
        {"template": "istio-error-rate", "name": "errors", "marginPoints": "0.5%"},
    ]
    evidence = fresh(DESIGN)
    for at, tick in enumerate(run["ticks"], start=1):
        means = (MeanArm(n, float(dice.normal(mu, 0.2, n).sum())) for n, mu in ((900, 0.84), (300, 0.80)))
        errors = (Arm(n, (int(dice.binomial(n, 0.01)),)) for n in (900, 300))
        tables = {"score": MeanTable(10 * at, *means), "errors": Table(10 * at, *errors)}
        [evidence] = advance([(DESIGN, evidence, [Interval(10 * at, 0.25, tables)])])
        tick["verdict"] = verdict(DESIGN, evidence).as_dict()
    return report(run)


def test_the_table_has_means_with_the_difference_and_margins_in_their_unit(found):
    score, errors = found.metrics
    assert (score.kind, score.margin, score.margin_odds_ratio) == ("mean", "5%", None)
    assert score.margin_difference == pytest.approx(-5)  # a score is worse when it is lower
    assert (errors.kind, errors.margin, errors.margin_odds_ratio) == ("proportion", "0.5 points", None)
    assert shown.control(score.view).startswith("0.8")
    assert shown.effect(score.view).startswith("-")
    assert " to " in shown.span(score.view)
    assert shown.control(errors.view).endswith("%")


def test_the_page_and_the_text_show_them(found):
    for words in (page(found), prose(found)):
        for part in (
            shown.control(found.metrics[0].view),
            shown.effect(found.metrics[0].view),
            "0.5 points",
            "Means",
            "0.5 percentage points",
        ):
            assert part in words


def test_a_mean_is_drawn_in_per_cent_of_the_control(found):
    looks = found.series["score"]
    assert looks[-1].low < looks[-1].effect < looks[-1].high
    assert looks[-1].effect == pytest.approx(-4.8, abs=1)
    drawn = [str(figure) for figure in figures(found)]
    [picture] = [each for each in drawn if "Effect on score" in each]
    assert "per cent of it" in picture
    assert "margin -5%" in picture


def test_before_there_is_a_sequence_its_range_is_a_dash():
    assert shown.signed(None) == "–"
    tables = {"score": MeanTable(10, MeanArm(200, 100.0), MeanArm(200, 100.0))}
    [evidence] = advance([(DESIGN, fresh(DESIGN), [Interval(10, 0.25, tables)])])
    score, _ = metric_views(verdict(DESIGN, evidence).as_dict())
    assert (shown.effect(score), shown.span(score)) == ("0%", "–")
