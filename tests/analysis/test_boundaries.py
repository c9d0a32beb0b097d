"""Boundaries: the numbers of the authors' own tests, the integrals they stand for, and the guarantee."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from analysis.boundaries import (
    BetaBinomial,
    GammaExponential,
    GammaPoisson,
    OneSidedNormal,
    TwoSidedNormal,
    best_r,
    beta_binomial,
    bisect,
    poly_stitching_bound,
)

ONE_SIDED = best_r(100, one_sided=True)
MIXTURES = {
    "two-sided normal": TwoSidedNormal(best_r(100, one_sided=False)),
    "one-sided normal": OneSidedNormal(ONE_SIDED),
    "gamma-exponential": GammaExponential(ONE_SIDED, 2),
    "gamma-Poisson": GammaPoisson(ONE_SIDED, 2),
    "two-sided beta-binomial": beta_binomial(100, 0.2, 0.8, one_sided=False),
    "one-sided beta-binomial": beta_binomial(100, 0.2, 0.8, one_sided=True),
}


def test_the_best_r_is_the_published_one():
    assert best_r(100, one_sided=False) == pytest.approx(12.60056, abs=5e-6)


@pytest.mark.parametrize(
    ("name", "log_value", "bound"),
    [
        ("two-sided normal", -0.6510052, 30.35209),
        ("one-sided normal", -0.06502391, 27.66071),
        ("gamma-exponential", -0.2490165, 33.02017),
        ("gamma-Poisson", -0.06991219, 30.1949),
        ("two-sided beta-binomial", -0.6941012, 31.4308),
        ("one-sided beta-binomial", -0.07134019, 28.41238),
    ],
)
def test_values_and_bounds_are_the_published_ones(name, log_value, bound):
    mixture = MIXTURES[name]
    assert mixture.log_value(10, 100) == pytest.approx(log_value, abs=5e-8)
    assert mixture.bound(100, 0.05) == pytest.approx(bound, abs=5e-6)


def test_a_bounded_sum_is_not_bounded_beyond_what_it_can_reach():
    assert MIXTURES["one-sided beta-binomial"].bound(0.32, 0.05) == pytest.approx(1.6)


@pytest.mark.parametrize(("c", "expected"), [(3, 64.48755), (-1, 28.99389)])
def test_stitched_bounds_are_the_published_ones(c, expected):
    assert poly_stitching_bound(100, 0.05, 10, c) == pytest.approx(expected, abs=5e-6)


def test_a_stitched_bound_is_constant_before_its_first_time():
    assert poly_stitching_bound([1, 10], 0.05, 10)[0] == poly_stitching_bound(10, 0.05, 10)


def test_the_normal_mixtures_are_integrals_over_normal_priors():
    r, s, v = 12.0, 15.0, 60.0

    def weighed(x):
        return stats.norm.pdf(x, scale=1 / math.sqrt(r)) * math.exp(x * s - x * x * v / 2)

    both, upper = integrate.quad(weighed, -5, 5)[0], integrate.quad(weighed, 0, 5)[0]
    assert TwoSidedNormal(r).log_value(s, v) == pytest.approx(math.log(both))
    assert OneSidedNormal(r).log_value(s, v) == pytest.approx(math.log(2 * upper))


def test_the_beta_binomial_mixture_is_a_bayes_factor_of_coin_flips():
    """With g = p, h = 1 - p and a beta prior it is the likelihood of s' successes over that under p."""
    p, successes, trials = 0.3, 17, 40
    mixture = BetaBinomial(r=2.1, g=p, h=1 - p, one_sided=False)
    a, b = 2.1 / (1 - p), 2.1 / p
    marginal = stats.betabinom.logpmf(successes, trials, a, b) - stats.binom.logpmf(successes, trials, p)
    assert mixture.log_value(successes - trials * p, trials * p * (1 - p)) == pytest.approx(marginal)


@pytest.mark.parametrize("name", MIXTURES)
def test_the_mixture_is_one_before_anything_happened(name):
    assert MIXTURES[name].log_value(0.0, 0.0) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", MIXTURES)
@given(v=st.floats(1, 1e5), alpha=st.floats(1e-6, 0.5))
def test_the_mixture_is_at_its_threshold_on_the_bound(name, v, alpha):
    mixture = MIXTURES[name]
    bound = mixture.bound(v, alpha)
    reached = mixture.log_value(bound, v)
    assert reached == pytest.approx(-math.log(alpha), abs=1e-6) or (
        isinstance(mixture, BetaBinomial) and bound == pytest.approx(v / 0.2) and reached <= -math.log(alpha)
    )


@pytest.mark.parametrize("name", MIXTURES)
@given(v=st.floats(1, 1e4), alpha=st.floats(1e-4, 0.3), factor=st.floats(1.01, 10))
def test_bounds_grow_with_time_and_with_confidence(name, v, alpha, factor):
    mixture = MIXTURES[name]
    assert mixture.bound(v, alpha) <= mixture.bound(v * factor, alpha) * (1 + 1e-9)
    assert mixture.bound(v, alpha) <= mixture.bound(v, alpha / factor) * (1 + 1e-9)


def test_bounds_of_many_times_are_those_of_each():
    times = np.array([1.0, 50.0, 4000.0])
    for mixture in MIXTURES.values():
        assert mixture.bound(times, 0.05).tolist() == [float(mixture.bound(v, 0.05)) for v in times]


def test_a_bound_is_lower_at_its_time_than_one_made_for_another():
    made_for = {v_opt: TwoSidedNormal(best_r(v_opt, one_sided=False)) for v_opt in (10, 100, 1000)}
    bound = {v_opt: mixture.bound(100, 0.05) for v_opt, mixture in made_for.items()}
    assert bound[100] < min(bound[10], bound[1000])


@pytest.mark.parametrize("name", ["one-sided normal", "gamma-exponential", "gamma-Poisson"])
def test_sums_far_below_zero_are_no_evidence_and_no_error(name):
    assert np.all(MIXTURES[name].log_value([-1e3, -1e6], 10.0) < 0)


@pytest.mark.parametrize(
    ("name", "draw", "variance", "alpha"),
    [
        ("one-sided normal", lambda rng, shape: rng.normal(size=shape), 1.0, 0.1),
        ("gamma-exponential", lambda rng, shape: rng.exponential(1.0, size=shape) - 1, 1.0, 0.1),
        ("gamma-Poisson", lambda rng, shape: rng.poisson(0.3, size=shape) - 0.3, 0.3, 0.1),
        ("one-sided beta-binomial", lambda rng, shape: (rng.random(shape) < 0.2) - 0.2, 0.16, 0.1),
    ],
)
def test_sums_without_a_drift_seldom_cross_their_bound_at_any_time(name, draw, variance, alpha):
    sums = draw(np.random.default_rng(5), (1000, 600)).cumsum(axis=1)
    bounds = MIXTURES[name].bound(variance * np.arange(1, 601), alpha)
    crossed = (sums > bounds + 1e-9).any(axis=1).mean()
    assert 0 < crossed <= alpha


def test_a_sum_with_a_drift_crosses():
    sums = (np.random.default_rng(6).normal(size=600) + 0.3).cumsum()
    assert (sums > MIXTURES["one-sided normal"].bound(np.arange(1.0, 601), 0.05)).any()


def test_bisection_returns_an_end_when_nothing_turns():
    low, high = np.array([1.0, 1.0]), np.array([3.0, 3.0])
    assert bisect(lambda x: np.array([True, False]), low, high).tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: best_r(0, one_sided=False),
        lambda: best_r(10, 0.5, one_sided=True),
        lambda: TwoSidedNormal(0),
        lambda: GammaPoisson(1, -1),
        lambda: beta_binomial(10, 0, 1, one_sided=True),
        lambda: TwoSidedNormal(1).bound(1, 0),
        lambda: OneSidedNormal(1).bound(1, 1),
        lambda: poly_stitching_bound(1, 0.05, 0),
        lambda: poly_stitching_bound(1, 0.05, 1, eta=1),
    ],
)
def test_impossible_parameters_are_errors(wrong):
    with pytest.raises(ValueError, match=r"positive|between|above"):
        wrong()
