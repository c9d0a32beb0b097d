import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats.contingency import odds_ratio

from analysis.confidence import NODES, confidence_bounds, mantel_haenszel, mantel_haenszel_terms
from analysis.hypergeometric import log_likelihood_ratios


def likelihood(tables, log_w, phi=1.0):
    return log_likelihood_ratios(*np.array(tables).T, np.exp(log_w)).sum(axis=0) / phi


def reference(tables, alpha, phi=1.0):
    """The same set on a grid of 0.0003 in ln w, with nothing read between nodes."""
    mixture = np.linspace(-math.log(10), math.log(10), 8001)
    values = likelihood(tables, mixture, phi)
    area = np.trapezoid(np.exp(values - values.max()), mixture)
    level = values.max() + math.log(area / (2 * math.log(10))) + math.log(alpha)
    wide = np.linspace(-math.log(25), math.log(25), 20001)
    inside = wide[likelihood(tables, wide, phi) > level]
    return math.exp(inside[0]), math.exp(inside[-1])


@pytest.mark.parametrize("phi", [1.0, 3.0])
@pytest.mark.parametrize(
    "tables",
    [
        [(200, 4, 1800, 17)],
        [(200, 4, 1800, 17)] * 20,
        [(2000, 40, 1800, 17), (100, 5, 1800, 20)] * 10,
        [(200, 20, 200, 100)] * 4,
        [(100_000, 5500, 100_000, 5000)],
    ],
)
def test_the_sequence_agrees_with_a_direct_inversion_and_is_never_narrower(tables, phi):
    low, high = confidence_bounds(likelihood(tables, NODES, phi), 0.05)
    expected_low, expected_high = reference(tables, 0.05, phi)
    width = math.log(expected_high / expected_low)
    assert -1e-3 <= math.log(expected_low / low) <= 0.01 * width + 1e-3
    assert -1e-3 <= math.log(high / expected_high) <= 0.01 * width + 1e-3


def test_without_events_nothing_is_excluded():
    assert confidence_bounds(likelihood([(200, 0, 1800, 0)], NODES), 0.05) == (0.0, None)


def test_events_in_one_arm_only_bound_one_side():
    low, high = confidence_bounds(likelihood([(50, 50, 50, 0)], NODES), 0.05)
    assert low > 1
    assert high is None


def test_a_million_events_still_give_an_interval_around_the_estimate():
    low, high = confidence_bounds(likelihood([(10**6, 33_000, 10**6, 30_000)] * 16, NODES), 0.05)
    assert 1.09 < low < 1.1031 < high < 1.12


@settings(max_examples=40)
@given(st.integers(1, 150), st.integers(1, 600), st.floats(0.001, 0.3))
def test_a_smaller_alpha_gives_a_wider_interval_around_the_likeliest(k_c, k_b, alpha):
    table = [(200, k_c, 1800, k_b)]
    values = likelihood(table, NODES)
    low, high = confidence_bounds(values, alpha)
    wider_low, wider_high = confidence_bounds(values, alpha / 3)
    best = odds_ratio([[k_c, 200 - k_c], [k_b, 1800 - k_b]]).statistic
    assert wider_low <= low < best
    assert high is None or best < high
    assert wider_high is None or (high is not None and high <= wider_high)


def test_the_sequence_misses_the_truth_seldom_at_any_look():
    rng = np.random.default_rng(11)
    runs, looks, p, truth = 60, 30, 0.02, 2.0
    odds = truth * p / (1 - p)
    k_c, k_b = rng.binomial(300, odds / (1 + odds), (runs, looks)), rng.binomial(1200, p, (runs, looks))
    each = log_likelihood_ratios(300, k_c.ravel(), 1200, k_b.ravel(), np.exp(NODES))
    sums = each.reshape(runs, looks, -1).cumsum(axis=1)
    missed = 0
    for run in sums:
        bounds = [confidence_bounds(values, 0.05) for values in run[::3]]
        missed += any(not low <= truth <= (high or math.inf) for low, high in bounds)
    assert missed / runs <= 0.1


def test_mantel_haenszel_of_one_table_is_its_cross_product_ratio():
    sums = mantel_haenszel_terms(*(np.array([x]) for x in (200, 4, 1800, 17))).sum(axis=0)
    assert mantel_haenszel(*sums) == pytest.approx((4 * 1783) / (17 * 196))


def test_mantel_haenszel_is_not_fooled_by_a_share_that_changes_with_the_rate():
    """Simpson: the same odds in both arms in each interval, but the pooled rates differ threefold."""
    n_c, k_c, n_b, k_b = np.array([(100, 10, 1900, 190), (1000, 1, 1000, 1)]).T
    assert mantel_haenszel(*mantel_haenszel_terms(n_c, k_c, n_b, k_b).sum(axis=0)) == pytest.approx(1)


def test_mantel_haenszel_is_undefined_without_events_in_the_control():
    assert mantel_haenszel(*mantel_haenszel_terms(*(np.array([x]) for x in (10, 3, 10, 0)))[0]) is None
    assert mantel_haenszel(0.0, 0.0) is None
    assert mantel_haenszel(0.0, 2.0) == 0.0
