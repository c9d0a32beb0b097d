"""Means in the judge: what is proven, in which direction, and what is said before there is evidence."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.design import Design, Interval, MetricDesign
from analysis.judge import advance, fresh, verdict
from analysis.mean_guardrail import mean_sums
from analysis.means import Allowance, advance_means, fresh_means, log_e_harm, log_e_safe
from analysis.simulate import Behaviour, Streams
from analysis.tables import Arm, MeanArm, MeanTable, Table

SCORE = MetricDesign("score", "mean", margin=0.05, unit="ratio", higher_is_better=True)
DELAY = MetricDesign("delay", "mean", margin=0.1, unit="milliseconds")
SIZES = (1800, 200)


def design(*metrics, planned=60):
    return Design(metrics, 0.01, 0.05, planned_looks=planned, min_samples=100)


def intervals(count, means, *, name="score", sd=0.2, seed=1, sizes=SIZES):
    rng = np.random.default_rng(seed)
    found = []
    for at in range(1, count + 1):
        arms = (MeanArm(n, float(rng.normal(mu, sd, n).sum())) for n, mu in zip(sizes, means, strict=True))
        found.append(Interval(10 * at, 0.1, {name: MeanTable(10 * at, *arms)}))
    return found


def judged(one, found):
    [evidence] = advance([(one, fresh(one), found)])
    return verdict(one, evidence)


@pytest.mark.parametrize(
    ("metric", "means", "kind"),
    [
        (SCORE, (0.84, 0.80), "Harmful"),
        (SCORE, (0.84, 0.84), "Safe"),
        (SCORE, (0.84, 0.90), "Safe"),
        (DELAY, (0.84, 0.90), "Harmful"),
        (DELAY, (0.84, 0.84), "Safe"),
        (DELAY, (0.84, 0.78), "Safe"),
        (replace(SCORE, tolerance=0.1), (0.84, 0.79), "Undecided"),
        (replace(SCORE, margin=None), (0.84, 0.84), "Undecided"),
    ],
)
def test_harm_is_a_worse_mean_and_which_way_is_worse_is_the_metrics(metric, means, kind):
    found = judged(design(metric), intervals(40, means, name=metric.name))
    assert found.kind == found.metrics[0].kind == kind


def test_a_verdict_has_both_means_and_the_difference_in_numbers_and_words():
    metric = judged(design(SCORE), intervals(40, (0.84, 0.80))).metrics[0]
    assert (metric.measure, metric.odds_ratio) == ("mean", None)
    assert metric.control.mean == pytest.approx(0.84, abs=0.005)
    assert metric.candidate.mean == pytest.approx(0.80, abs=0.005)
    assert metric.difference == pytest.approx(metric.candidate.mean / metric.control.mean - 1, abs=1e-4)
    low, high = metric.difference_interval
    assert low < -0.04 / 0.84 < high < 0
    seen = f"score {metric.candidate.mean:.3g} against {metric.control.mean:.3g} "
    size = f"({100 * metric.difference:+.3g}%, 99% sequence {100 * low:+.3g}% to {100 * high:+.3g}%)"
    assert metric.sentence.startswith(f"{seen}{size}: harm is proven, e = ")


def test_a_time_has_its_unit():
    metric = judged(design(DELAY), intervals(20, (80.0, 80.0), name="delay", sd=20)).metrics[0]
    assert metric.sentence.startswith("delay 8")
    assert " ms against " in metric.sentence


def test_the_first_seven_intervals_say_nothing_and_say_so():
    found = judged(design(SCORE), intervals(7, (0.84, 0.2)))
    metric = found.metrics[0]
    assert (found.kind, metric.e_harm, metric.e_safe) == ("Undecided", 1.0, 1.0)
    assert found.sentence.endswith("nothing is said before 8 intervals with both versions, this is 7")
    assert judged(design(SCORE), intervals(16, (0.84, 0.2))).kind == "Harmful"


def test_a_mean_that_is_no_base_for_a_percentage_is_said_to_be_none():
    found = judged(design(SCORE), intervals(20, (0.0, 0.0), sd=0.0))
    assert found.kind == "Undecided"
    assert "the control's mean is not above 0" in found.sentence


def test_one_interval_that_outweighs_the_others_is_not_enough():
    heavy = intervals(20, (0.84, 0.84))
    last = MeanTable(200, MeanArm(18_000_000, 15_120_000.0), MeanArm(18_000_000, 15_120_000.0))
    heavy[-1] = replace(heavy[-1], tables={"score": last})
    assert "most of the weight is on fewer than 6 intervals" in judged(design(SCORE), heavy).sentence


def test_a_silent_candidate_is_no_data_and_few_values_are_too_few():
    assert judged(design(SCORE), intervals(20, (0.84, 0.84), sizes=(1800, 0))).kind == "NoData"
    found = judged(design(SCORE), intervals(20, (0.84, 0.2), sizes=(1800, 4)))
    assert found.sentence == "score: too few samples: 80 of 100"


def test_the_evidence_is_that_of_the_means_with_the_largest_dispersion_so_far():
    one, sums = design(SCORE), fresh_means(1)
    found = [
        replace(each, dispersion={"score": (phi,)})
        for each, phi in zip(intervals(12, (0.84, 0.82)), [2.0, 3.0] * 6, strict=True)
    ]
    for interval in found:
        b, c = interval.tables["score"].control, interval.tables["score"].candidate
        sums = advance_means(sums, [b.total], [b.sum], [c.total], [c.sum])
    [evidence] = advance([(one, fresh(one), found)])
    own = evidence.metrics[0]
    kept = mean_sums(own.moments[None])
    assert all(np.array_equal(a, b) for a, b in zip(kept, sums, strict=True))
    asked = {"planned_looks": 60, "higher_is_better": True, "dispersion": 3.0}
    assert own.log_e == log_e_harm(sums, tolerance=Allowance(0.0, relative=True), **asked)[0]
    assert own.log_safe == log_e_safe(sums, margin=Allowance(0.05, relative=True), **asked)[0]


def test_dispersion_holds_evidence_back():
    plain = judged(design(SCORE), intervals(20, (0.84, 0.80))).metrics[0]
    wary = judged(design(replace(SCORE, dispersion=4.0)), intervals(20, (0.84, 0.80))).metrics[0]
    assert wary.e_harm < plain.e_harm
    assert wary.dispersion == pytest.approx(4)


def test_events_for_a_mean_and_sums_for_a_proportion_are_refused():
    events, sums = Table(10, Arm(5, (1,)), Arm(5, (1,))), MeanTable(10, MeanArm(5, 1.0), MeanArm(5, 1.0))
    for metric, table in ((SCORE, events), (MetricDesign("score", "proportion"), sums)):
        one = design(metric)
        with pytest.raises(ValueError, match="score"):
            advance([(one, fresh(one), [Interval(10, 0.5, {"score": table})])])


def test_the_state_of_a_mean_is_below_half_a_kilobyte():
    one = design(SCORE)
    [evidence] = advance([(one, fresh(one), intervals(20, (0.84, 0.84)))])
    assert len(json.dumps(evidence.to_dict()["metrics"][0])) < 512


def test_arms_of_means_add_up_and_refuse_what_is_no_sum():
    table = MeanTable(10, MeanArm(2, 1.5), MeanArm(1, 0.5)) + MeanTable(20, MeanArm(1, 0.5), MeanArm(0, 0.0))
    assert table == MeanTable(20, MeanArm(3, 2.0), MeanArm(1, 0.5))
    for wrong in ((-1, 0.0), (1, math.nan), (1, math.inf)):
        with pytest.raises(ValueError, match="cannot have the sum"):
            MeanArm(*wrong)


@pytest.mark.parametrize("metric", [SCORE, DELAY], ids=["higher", "lower"])
@pytest.mark.parametrize(("effect", "field", "bound"), [(1.0, "peak", 100), ("margin", "safe_peak", 20)])
def test_error_rates_hold_at_the_border_of_the_null(metric, effect, field, bound):
    """Harmless candidates are called harmful in 1 %, those at the margin safe in 5 % of runs at most."""
    runs, one = 200, design(metric)
    worse = 1 + metric.margin if effect == "margin" else effect
    streams = Streams(one, Behaviour(effect=worse, harm="shift"), runs, (4,))
    states = [fresh(one)] * runs
    for look in range(30):
        drawn = streams.draw(np.full(runs, 0.2), 10, 10 * look)
        states = advance([(one, state, [each]) for state, each in zip(states, drawn, strict=True)])
    wrong = sum(getattr(state.metrics[0], field) >= math.log(bound) for state in states)
    assert wrong <= runs / bound + 3 * math.sqrt(runs / bound)
