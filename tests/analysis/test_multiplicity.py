"""Combining e-values: published numbers, exact small cases, and the guarantees on simulated nulls."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from analysis.multiplicity import combine, e_bh, e_to_p, log_thresholds, log_weighted_average, p_to_log_e

PUBLISHED = np.log([100, 80, 3, 1, 0.5, 60, 45, 2, 1, 1])


@pytest.mark.parametrize(("alpha", "rejected"), [(0.05, ()), (0.1, (0, 1, 5, 6))])
def test_the_published_list_is_rejected_as_published(alpha, rejected):
    assert e_bh(PUBLISHED, alpha) == rejected


def test_the_average_of_the_published_list_is_the_published_one():
    assert math.exp(log_weighted_average(PUBLISHED, [0.1] * 10)) == pytest.approx(29.35)


@pytest.mark.parametrize(
    ("p", "e"), [(0.05, 1.783322), (0.01, 4.450992), (0.001, 20.791134), (0.5, 0.638674), (1.0, 0.5)]
)
def test_calibrated_p_values_are_the_published_ones(p, e):
    assert np.exp(p_to_log_e(p)) == pytest.approx(e, abs=5e-7)


def test_a_p_value_of_zero_is_worth_everything():
    assert p_to_log_e([0.0, 1e-320]).tolist() == [math.inf, pytest.approx(723.6, abs=0.5)]


def test_the_calibrator_is_smooth_where_its_series_begins():
    p = np.exp(-np.array([0.99e-3, 1.01e-3]))
    assert np.diff(p_to_log_e(p))[0] == pytest.approx(2e-5 / 3, rel=1e-3)


def test_the_calibrator_is_an_e_value_and_no_waste():
    """Its expectation under a uniform p is 1."""
    total, _ = integrate.quad(lambda x: np.exp(p_to_log_e(np.exp(-x)) - x), 0, 600, limit=400)
    beyond = 1 / 600
    assert total + beyond == pytest.approx(1, abs=1e-4)


@given(st.floats(0, 1))
def test_a_p_value_made_of_a_calibrated_one_is_no_smaller(p):
    assert e_to_p(p_to_log_e(p)) >= p


def test_e_values_below_one_are_a_p_value_of_one():
    assert e_to_p([-800.0, 0.0, math.log(20)]).tolist() == [1, 1, pytest.approx(0.05)]


def test_the_one_with_most_weighted_evidence_is_blamed():
    combined = combine(np.log([30, 50]), [0.8, 0.2], alpha=0.01)
    assert combined.blame == 0
    assert math.exp(combined.log_e) == pytest.approx(34)
    assert combined.named == ()


def test_named_are_those_who_suffice_alone():
    combined = combine(np.log([39, 41, 1000]), [0.5, 0.25, 0.25], alpha=0.1)
    assert combined.named == (0, 1, 2)
    assert combine(np.log([39, 39, 1000]), [0.5, 0.25, 0.25], alpha=0.1).named == (0, 2)


def test_thresholds_share_alpha_by_weight():
    assert np.exp(log_thresholds([0.8, 0.2], 0.05)) == pytest.approx([25, 100])


def test_huge_e_values_stay_finite():
    assert combine([5000.0, -5000.0], [0.5, 0.5], 0.05).log_e == pytest.approx(5000 - math.log(2))


E_LISTS = st.lists(st.floats(-20, 20), min_size=1, max_size=12)


@given(E_LISTS, st.floats(0.001, 0.5))
def test_whoever_is_named_has_decided_the_verdict(log_e, alpha):
    combined = combine(log_e, [1 / len(log_e)] * len(log_e), alpha)
    if combined.named:
        assert combined.log_e >= -math.log(alpha) - 1e-9
        assert combined.blame in combined.named


@given(E_LISTS, st.floats(0.001, 0.5))
def test_a_list_rejects_those_of_bonferroni_and_the_largest_first(log_e, alpha):
    rejected = e_bh(log_e, alpha)
    assert set(combine(log_e, [1 / len(log_e)] * len(log_e), alpha).named) <= set(rejected)
    others = [e for index, e in enumerate(log_e) if index not in rejected]
    assert not rejected or max(others, default=-math.inf) <= min(log_e[index] for index in rejected)


@given(E_LISTS, st.floats(0.001, 0.25))
def test_a_larger_alpha_rejects_no_less(log_e, alpha):
    assert set(e_bh(log_e, alpha)) <= set(e_bh(log_e, 2 * alpha))


def test_the_share_of_mistakes_in_lists_is_below_alpha():
    """Ten metrics, seven of them harmless; e-values exp(3 z - 9 / 2) that depend on each other."""
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(800):
        z = 0.6 * rng.normal() + 0.8 * rng.normal(size=10)
        z[:3] += 3
        rejected = e_bh(3 * z - 4.5, 0.2)
        shares.append(sum(index >= 3 for index in rejected) / max(len(rejected), 1))
    assert 0 < np.mean(shares) <= 0.2


def test_an_empty_list_rejects_nothing():
    assert e_bh([], 0.05) == ()


@pytest.mark.parametrize("weights", [[0.5, 0.4], [1.5, -0.5], [1.0, 0.0]])
def test_weights_that_are_no_shares_are_errors(weights):
    with pytest.raises(ValueError, match="weights must be positive and sum to 1"):
        log_weighted_average([0.0, 0.0], weights)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_what_is_no_p_value_is_an_error(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        p_to_log_e(p)
