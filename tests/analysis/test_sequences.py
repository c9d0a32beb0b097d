"""Confidence sequences: published intervals, agreement with brute force, the truth inside at all looks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special

from analysis.boundaries import TwoSidedNormal, best_r
from analysis.sequences import (
    anytime_p_values,
    asymptotic_r2,
    asymptotic_radius,
    bernoulli_interval,
    bernoulli_sequence,
    log_rate_ratio_interval,
    multinomial_p_values,
    share_interval,
    treatment_effect,
)

# 1000 units, one bit each, from the demo of average treatment effects in gostevehoward/confseq (MIT).
OUTCOMES = """
94428fa16409002040d00441a9350080a43022200c01004c066ab005cab2a882a8f62200060880880180b12560998070010032b60a0601
78aa082204c5342204226a5350008f0005940041c80622b0a0738ca4104013cb885337800803168041e4ae145900240408030d320a0c84
e10104c0409c4c08430ab095c041a1
"""
TREATMENTS = """
84e4b64579e9cb3e5e050e491f4cf0cb6d95df2ac6a13e7cf48a768091b4fa55a9ffa2c5249cb94081c9aa31f19c7d4ea8b02e3bb1803d
b5b8041335f5ceaa153b6a97546a2a4fca9c246189bf4f364cfb0409c0cb7f0a8b722f44f66226910bae25fc67c134797b3c0532a32f10
edb2fd8d86d97ed87b0ef49ca8d181
"""


def bits(digits):
    return np.array([int(bit) for bit in f"{int(''.join(digits.split()), 16):01000b}"])


@pytest.mark.parametrize(
    ("successes", "trials", "t_opt", "expected"),
    [
        (700, 1000, 100, (0.651629, 0.745949)),
        (15, 50, 50, (0.129556, 0.511896)),
        (5, 50, 50, (0.013021, 0.269264)),
        (1, 50, 50, (0, 0.13489)),
        (49, 50, 50, (1 - 0.13489, 1)),
        (100, 200, 1, (0.328923, 0.671076)),
        (1, 2, 50, (0, 1)),
        (0, 1, 50, (0, 1)),
        (1, 1, 50, (0, 1)),
    ],
)
def test_intervals_for_a_proportion_are_the_published_ones(successes, trials, t_opt, expected):
    """Printed with digits cut off, not rounded; 49 of 50 is 1 of 50 seen from the other side."""
    assert bernoulli_interval(successes, trials, 0.05, t_opt) == pytest.approx(expected, abs=2e-6)


def test_the_sequence_of_a_conversion_rate_is_the_published_one():
    """The example of `ville`: who is treated and who converts are drawn in this order."""
    rng = np.random.default_rng(42)
    treated = rng.random(40_000) < 0.5
    converted = rng.random(40_000) < np.where(treated, 0.05, 0.04)
    successes = converted[~treated].cumsum()[:10_000]
    low, high = bernoulli_sequence(successes, np.arange(1, 10_001), 0.05)
    looks = np.array([500, 2000, 10_000]) - 1
    assert successes[looks].tolist() == [24, 82, 408]
    assert low[looks] == pytest.approx([0.021432, 0.027731, 0.033527], abs=1e-6)
    assert high[looks] == pytest.approx([0.069866, 0.060495, 0.049223], abs=1e-6)


def test_the_multinomial_p_value_is_the_published_one():
    assert multinomial_p_values([(100, 150)], (0.5, 0.5)) == pytest.approx([0.0515172], abs=5e-8)


def test_p_values_of_batches_only_fall():
    found = multinomial_p_values([(50, 450), (100, 900), (1000, 1000)], (0.5, 0.5), concentration=10_000)
    assert found == pytest.approx([0.000501844, 2.3678998e-13, 2.3678998e-13], rel=1e-6)


def test_the_interval_of_the_rate_ratio_is_the_published_one():
    found = log_rate_ratio_interval((100, 150), (0.5, 0.5), 0.05)
    assert found == pytest.approx((-0.00119395, 0.82342417), abs=5e-8)


def test_the_interval_of_a_share_is_the_published_one():
    found = share_interval((520, 480), 0, (0.5, 0.5), 0.05)
    assert found == pytest.approx((0.47382069, 0.56595221), abs=5e-8)
    assert multinomial_p_values([(520, 480)], (0.5, 0.5))[0] == 1


def test_the_asymptotic_radius_is_the_published_one():
    r2 = asymptotic_r2(1000, 0.05)
    assert r2 == pytest.approx(0.00820916, abs=5e-9)
    assert 1 / best_r(1000, one_sided=False) == pytest.approx(0.00793615, abs=5e-9)
    margins = asymptotic_radius([100, 1000, 5000], 1.0, r2, 0.05)
    assert margins == pytest.approx([0.3823532, 0.0959790, 0.0446481], abs=5e-8)


def test_the_effect_of_a_treatment_is_the_published_one():
    found = treatment_effect(bits(OUTCOMES), bits(TREATMENTS), 0.5, t_opt=50, outcome_variance=0.16)
    rows = np.array([6, 10, 1000]) - 1
    assert found.estimate[rows] == pytest.approx([0.6805556, 0.6533333, 0.1745911], abs=5e-8)
    assert found.p_value[rows] == pytest.approx([0.9402825, 0.8885483, 7.33500e-5], rel=1e-6)
    assert (found.low[-1], found.high[-1]) == pytest.approx((0.0557940, 0.2933882), abs=5e-8)
    assert (found.low[9], found.high[9]) == (-1, 1)


def test_sums_of_intervals_use_the_same_normal_mixture():
    """S +- sqrt((V + r) ln((V + r) / (r alpha^2))), the martingale form."""
    v, r, alpha = 37.0, 5.0, 0.05
    assert TwoSidedNormal(r).bound(v, alpha) == pytest.approx(
        math.sqrt((v + r) * math.log((v + r) / (r * alpha**2)))
    )
    assert asymptotic_radius(37, 2.0, 1 / r, alpha) == pytest.approx(
        2 * TwoSidedNormal(r).bound(v, alpha) / 37
    )


@given(st.integers(1, 10_000), st.floats(0.001, 0.1))
def test_the_tuned_radius_is_about_smallest_at_its_sample_size(t_opt, alpha):
    r2 = asymptotic_r2(t_opt, alpha)
    best = asymptotic_radius(t_opt, 1.0, r2, alpha)
    assert all(best < asymptotic_radius(t_opt, 1.0, r2 * factor, alpha) for factor in (0.8, 1.25))


COUNTS = st.tuples(st.integers(0, 300), st.integers(0, 300)).filter(any)


@given(COUNTS, st.floats(0.001, 0.3))
def test_intervals_contain_the_estimate_and_grow_with_confidence(counts, alpha):
    successes, trials = counts[0], sum(counts)

    def of(level):
        low, high = bernoulli_sequence([successes], [trials], level)
        return [
            bernoulli_interval(successes, trials, level, 100),
            (low[0], high[0]),
            share_interval(counts, 0, (0.3, 0.7), level),
        ]

    for (low, high), (wider_low, wider_high) in zip(of(alpha), of(alpha / 5), strict=True):
        assert wider_low <= low <= successes / trials <= high <= wider_high


@given(COUNTS, st.floats(0.05, 0.95))
def test_exchanging_the_arms_mirrors_the_intervals(counts, share):
    shares, exchanged = (share, 1 - share), (1 - share, share)
    low, high = share_interval(counts, 0, shares, 0.05)
    assert share_interval(counts[::-1], 0, exchanged, 0.05) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    low, high = log_rate_ratio_interval(counts, shares, 0.05)
    assert log_rate_ratio_interval(counts[::-1], exchanged, 0.05) == pytest.approx((-high, -low), abs=1e-6)


@given(COUNTS, st.floats(0.05, 0.95))
def test_the_rates_are_equal_within_the_interval_unless_the_p_value_is_small(counts, share):
    shares = (1 - share, share)
    low, high = log_rate_ratio_interval(counts, shares, 0.05)
    p = multinomial_p_values([counts], shares)[0]
    if abs(p - 0.05) > 1e-6:
        assert (low <= 0 <= high) == (p > 0.05)


def test_projections_of_three_arms_are_the_extremes_over_all_chances():
    """Against a numerical search over the confidence set of the whole vector."""
    counts, shares, alpha = (40, 70, 15), (0.3, 0.5, 0.2), 0.05
    prior = 100 * np.array(shares)
    marginal = (
        special.gammaln(100)
        - special.gammaln(100 + sum(counts))
        + (special.gammaln(prior + counts) - special.gammaln(prior)).sum()
    )
    inside = {
        "type": "ineq",
        "fun": lambda x: np.dot(counts, x - special.logsumexp(x)) - marginal - math.log(alpha),
    }

    def least(goal):
        start = np.log(np.array(counts) / sum(counts))
        return optimize.minimize(goal, start, constraints=inside).fun

    def extremes(goal):
        return least(goal), -least(lambda x: -goal(x))

    of_share = extremes(lambda x: special.softmax(x)[1])
    assert share_interval(counts, 1, shares, alpha) == pytest.approx(of_share, abs=1e-4)
    of_ratio = extremes(lambda x: x[2] - x[0] - math.log(0.2 / 0.3))
    assert log_rate_ratio_interval(counts, shares, alpha, arms=(2, 0)) == pytest.approx(of_ratio, abs=1e-4)


def test_without_events_nothing_is_known():
    assert share_interval((0, 0), 0, (0.5, 0.5), 0.05) == (0, 1)
    assert log_rate_ratio_interval((0, 0, 9), (0.4, 0.3, 0.3), 0.05) == (-math.inf, math.inf)
    assert log_rate_ratio_interval((0, 50), (0.5, 0.5), 0.05)[1] == math.inf


def test_what_was_excluded_once_stays_excluded():
    low, high = bernoulli_sequence([50, 60, 62], [100, 200, 300], 0.05)
    assert np.all(np.diff(low) >= 0)
    assert np.all(np.diff(high) <= 0)
    alone = bernoulli_sequence([62], [300], 0.05)
    assert low[-1] > alone[0][0]


def test_a_prior_far_from_the_truth_costs_width_only():
    narrow, far = (
        np.subtract(*bernoulli_sequence([20], [1000], 0.05, prior=prior)[::-1])[0]
        for prior in ((2, 98), (98, 2))
    )
    assert narrow < far


@pytest.mark.parametrize("truth", [0.02, 0.5])
def test_sequences_for_a_proportion_miss_the_truth_seldom_at_any_look(truth):
    runs, looks = 1000, np.arange(20, 1001, 20)
    successes = np.random.default_rng(8).binomial(20, truth, (runs, looks.size)).cumsum(axis=1)
    missed = 0
    for run in successes:
        low, high = bernoulli_sequence(run, looks, 0.1)
        missed += not low[-1] <= truth <= high[-1]
    assert missed / runs <= 0.1


def test_the_effect_is_missed_seldom_and_found_in_time():
    rng, missed, found = np.random.default_rng(9), 0, 0
    for _ in range(60):
        treated = rng.random(1500) < 0.3
        outcomes = rng.random(1500) < np.where(treated, 0.5, 0.25)
        effect = treatment_effect(outcomes, treated, 0.3, t_opt=800, outcome_variance=0.2, alpha=0.1)
        missed += bool(np.any((effect.low > 0.25) | (effect.high < 0.25)))
        found += bool(effect.low[-1] > 0)
    assert missed <= 6
    assert found >= 55


def test_the_effect_does_not_depend_on_the_unit_of_the_outcome():
    y, z = bits(OUTCOMES)[:300], bits(TREATMENTS)[:300]
    plain = treatment_effect(y, z, 0.5, t_opt=50, outcome_variance=0.16)
    scaled = treatment_effect(5 + 2 * y, z, 0.5, t_opt=50, outcome_variance=0.64, support=(5, 7))
    assert scaled.estimate == pytest.approx(2 * plain.estimate)
    assert scaled.high == pytest.approx(2 * plain.high)
    assert scaled.p_value == pytest.approx(plain.p_value)


def test_a_strong_harm_is_no_evidence_of_benefit():
    treated = np.tile([0, 1], 2000)
    effect = treatment_effect(1 - treated, treated, 0.5, t_opt=100, outcome_variance=0.2)
    assert effect.p_value[-1] == 1
    assert effect.high[-1] < -0.9


def test_anytime_p_values_are_capped_and_never_rise():
    assert anytime_p_values([-900.0, math.log(2), 0.0, 900.0]).tolist() == [
        1,
        pytest.approx(0.5),
        pytest.approx(0.5),
        0,
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: bernoulli_interval(3, 2, 0.05, 10),
        lambda: bernoulli_interval(0, 0, 0.05, 10),
        lambda: bernoulli_interval(1, 2, 1.5, 10),
        lambda: bernoulli_interval(1, 2, 0.05, 0),
        lambda: asymptotic_r2(0, 0.05),
        lambda: asymptotic_r2(10, 1),
        lambda: multinomial_p_values([(1, 2)], (0.5, 0.6)),
        lambda: share_interval((1, 2), 0, (0.5, 0.5), 0),
        lambda: treatment_effect([1], [1], 1, t_opt=1, outcome_variance=1),
        lambda: treatment_effect([2], [1], 0.5, t_opt=1, outcome_variance=1),
        lambda: treatment_effect([1], [2], 0.5, t_opt=1, outcome_variance=1),
        lambda: treatment_effect([1, 0], [1], 0.5, t_opt=1, outcome_variance=1),
        lambda: treatment_effect([], [], 0.5, t_opt=1, outcome_variance=1),
    ],
)
def test_impossible_input_is_an_error(wrong):
    with pytest.raises(ValueError, match=r"must|successes|needs"):
        wrong()
