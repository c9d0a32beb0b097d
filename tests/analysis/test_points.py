"""Margins in percentage points, and events that are good, in the judge."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.design import POINTS_MOMENTS, Design, Interval, MetricDesign
from analysis.judge import advance, fresh, verdict
from analysis.points import Asked, advance_points, log_e_points
from analysis.tables import Arm, Table

ERRORS = MetricDesign("errors", "proportion", margin_points=0.005)
ACCURACY = MetricDesign("accuracy", "proportion", margin_points=0.02, higher_is_better=True)
SIZES = (1800, 200)


def design(*metrics, planned=60):
    return Design(metrics, 0.01, 0.05, planned_looks=planned, min_samples=100)


def intervals(count, rates, *, name, seed=1, good=False):
    rng = np.random.default_rng(seed)
    found = []
    for at in range(1, count + 1):
        events = [int(rng.binomial(n, rate)) for n, rate in zip(SIZES, rates, strict=True)]
        arms = (Arm(n, (n - k if good else k,)) for n, k in zip(SIZES, events, strict=True))
        found.append(Interval(10 * at, 0.1, {name: Table(10 * at, *arms)}))
    return found


def judged(one, found):
    [evidence] = advance([(one, fresh(one), found)])
    return verdict(one, evidence)


@pytest.mark.parametrize(
    ("metric", "rates", "kind"),
    [
        (ERRORS, (0.01, 0.01), "Safe"),
        (ERRORS, (0.01, 0.03), "Harmful"),
        (replace(ERRORS, margin_points=0.0001), (0.01, 0.01), "Undecided"),
        (ACCURACY, (0.16, 0.16), "Safe"),
        (ACCURACY, (0.16, 0.10), "Safe"),
        (ACCURACY, (0.16, 0.22), "Harmful"),
    ],
)
def test_a_margin_in_points_is_proven_by_the_difference_of_the_shares(metric, rates, kind):
    found = intervals(60, rates, name=metric.name, good=metric.higher_is_better)
    assert judged(design(metric), found).kind == kind


def test_words_and_numbers_are_in_points():
    metric = judged(design(ERRORS), intervals(60, (0.01, 0.011), name="errors")).metrics[0]
    low, high = metric.difference_interval
    assert low < metric.difference < high < 0.005
    assert metric.difference == pytest.approx(metric.candidate.rate - metric.control.rate, abs=1e-9)
    side = "worse" if metric.difference > 0 else "better"
    size = (
        f"{100 * abs(metric.difference):.3g} points {side}, 99% sequence {100 * low:.3g} to {100 * high:.3g};"
    )
    assert size in metric.sentence
    assert "not worse than 0.5 points, e = " in metric.sentence


def test_points_of_a_good_event_are_lost_when_there_are_fewer():
    metric = judged(design(ACCURACY), intervals(60, (0.16, 0.165), name="accuracy", good=True)).metrics[0]
    assert metric.control.rate == pytest.approx(0.84, abs=0.01)
    low, high = metric.difference_interval
    assert low < metric.difference < high
    assert metric.difference == pytest.approx(metric.candidate.rate - metric.control.rate, abs=1e-9)
    word = "worse" if metric.difference < 0 else "better"
    assert f"points {word}, 99% sequence {-100 * high:.3g} to {-100 * low:.3g}; of the opposite: odds" in (
        metric.sentence
    )


def test_within_the_burn_in_the_margin_is_not_told_of_but_harm_is():
    found = judged(design(ERRORS), intervals(5, (0.01, 0.01), name="errors")).metrics[0]
    assert found.e_safe == 1
    assert found.sentence.endswith("nothing is said before 8 intervals with both versions, this is 5")
    assert judged(design(ERRORS), intervals(5, (0.01, 0.1), name="errors")).kind == "Harmful"


def test_a_good_event_is_judged_as_the_absence_of_a_bad_one():
    bad = MetricDesign("accuracy", "proportion", margin=0.25)
    good = replace(bad, higher_is_better=True)
    rates = (0.16, 0.17)
    [plain] = advance([(design(bad), fresh(design(bad)), intervals(9, rates, name="accuracy"))])
    [mirror] = advance([(design(good), fresh(design(good)), intervals(9, rates, name="accuracy", good=True))])
    assert plain.to_dict() == mirror.to_dict()
    one, other = (verdict(design(m), e).metrics[0] for m, e in ((bad, plain), (good, mirror)))
    assert one.odds_ratio == other.odds_ratio
    assert one.candidate.rate == pytest.approx(1 - other.candidate.rate)
    assert "of the opposite: odds ratio" in other.sentence


def test_the_constant_is_chosen_once_and_not_by_the_difference():
    rng, chosen = np.random.default_rng(2), []
    for shift in (0.0, 0.05):
        moments, seen = np.zeros((1, POINTS_MOMENTS)), []
        for _ in range(20):
            errors = rng.binomial(1000, 0.1)
            counts = np.array([[[1000, errors], [1000, 100 + int(1000 * shift)]]])
            moments = advance_points(
                moments, counts, 0.02, Asked(np.array([0.05]), np.array([60])), np.ones(1)
            )
            seen.append(float(moments[0, -1]))
        assert seen[:7] == [0.0] * 7
        assert len({*seen[7:]}) == 1
        chosen.append(seen[-1])
    assert chosen[1] / chosen[0] == pytest.approx(1, abs=0.6)
    assert log_e_points(np.zeros((3, POINTS_MOMENTS)), 0.02, np.ones(3)).tolist() == [0.0] * 3


def test_the_state_of_a_margin_in_points_is_below_a_kilobyte():
    one = design(ERRORS)
    [evidence] = advance([(one, fresh(one), intervals(20, (0.01, 0.01), name="errors"))])
    assert len(json.dumps(evidence.to_dict()["metrics"][0])) < 1024


@pytest.mark.parametrize(("baseline", "margin"), [(0.01, 0.005), (0.16, 0.02), (0.001, 0.001)])
@pytest.mark.parametrize("sizes", [(1800, 200), (1000, 1000)])
def test_a_candidate_at_the_margin_is_rarely_called_safe(baseline, margin, sizes):
    runs, asked, rng = 1000, Asked(np.full(1000, 0.05), np.full(1000, 60)), np.random.default_rng(6)
    moments, safe = np.zeros((runs, POINTS_MOMENTS)), np.zeros(runs, dtype=bool)
    for _ in range(60):
        arms = zip(sizes, (baseline, baseline + margin), strict=True)
        counts = [(np.full(runs, n), rng.binomial(n, rate, runs)) for n, rate in arms]
        moments = advance_points(moments, np.array(counts).transpose(2, 0, 1), margin, asked, np.ones(runs))
        safe |= log_e_points(moments, margin, np.ones(runs)) >= math.log(20)
    assert safe.sum() <= 50 + 3 * math.sqrt(50)


@pytest.mark.parametrize(
    "fields",
    [
        {"margin_points": 0.0},
        {"margin_points": 1.5},
        {"margin_points": 0.1, "margin": 0.1},
        {"margin_points": 0.1, "kind": "mean"},
        {"higher_is_better": True, "kind": "histogram", "edges": (1.0,)},
    ],
)
def test_margins_and_directions_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValueError, match=r"points|lower is better"):
        MetricDesign(**{"name": "m", "kind": "proportion", **fields})
