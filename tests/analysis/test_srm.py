import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from analysis.srm import LOG_TILTS, dirichlet_multinomial_log_bayes_factor, log_evidence, log_increments


def evidence(rows):
    control, candidate, share = np.array(rows, dtype=float).T
    return float(np.exp(log_evidence(log_increments(control, candidate, share).sum(axis=0))))


def test_case_n31_multinomial_bayes_factor():
    found = dirichlet_multinomial_log_bayes_factor((100, 150), (0.5, 0.5), 100)
    assert found == pytest.approx(2.9658389, abs=1e-6)
    assert math.exp(-found) == pytest.approx(0.0515172, rel=1e-5)


@pytest.mark.parametrize(
    ("counts", "p"), [((500, 600), 0.6714507), ((100, 900), 2.3678998e-13), ((500, 500), 1.0)]
)
def test_case_n46_and_n47_sequential_p_values(counts, p):
    bayes_factor = math.exp(dirichlet_multinomial_log_bayes_factor(counts, (0.5, 0.5)))
    assert min(1, 1 / bayes_factor) == pytest.approx(p, rel=1e-5)


def test_case_n47_first_batch():
    bayes_factor = math.exp(dirichlet_multinomial_log_bayes_factor((50, 450), (0.5, 0.5)))
    assert 1 / bayes_factor == pytest.approx(0.000501844, rel=1e-5)


@pytest.mark.parametrize(("counts", "p"), [((500, 600), 0.00256883), ((1000, 1200), 2.0079e-5)])
def test_peeking_costs_more_than_the_single_look_of_case_n51(counts, p):
    assert chisquare(counts).pvalue == pytest.approx(p, rel=1e-4)
    assert 1 / evidence([(*counts, 0.5)]) > p


@pytest.mark.parametrize("shares", [(0.5, 0.6), (1.0, 0.0), (0.5,)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="shares"):
        dirichlet_multinomial_log_bayes_factor((1, 2), shares)


@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.05, 0.5)])
def test_the_expectation_under_the_null_is_one_also_when_the_share_changes(shares):
    totals, value = (5, 4), 0.0
    for path in itertools.product(range(totals[0] + 1), range(totals[1] + 1)):
        chance = math.prod(binom.pmf(k, n, s) for k, n, s in zip(path, totals, shares, strict=True))
        value += chance * evidence([(n - k, k, s) for k, n, s in zip(path, totals, shares, strict=True)])
    assert value == pytest.approx(1, rel=1e-9)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([0.0, 1.0]))
def test_nothing_is_tested_where_nothing_is_split(control, candidate, share):
    assert evidence([(control, candidate, share)]) == 1


def test_a_weight_that_was_never_applied_is_found_at_once():
    assert evidence([(2000, 0, 0.05)]) > 1000
    assert evidence([(400, 200, 0.05)]) > 1e50


def test_a_small_deviation_is_found_as_fast_as_with_a_dirichlet_prior():
    """n = 100,000, 5.3 % instead of 5 %: p = 7.1e-4 with concentration 10000."""
    dirichlet = math.exp(dirichlet_multinomial_log_bayes_factor((94_700, 5_300), (0.95, 0.05)))
    assert 1 / dirichlet == pytest.approx(7.1e-4, rel=0.01)
    assert evidence([(94_700, 5_300, 0.05)]) > dirichlet / 5


def test_a_true_split_is_seldom_doubted():
    rng = np.random.default_rng(5)
    shares = np.repeat([0.01, 0.05, 0.25, 0.5], 30)
    candidate = rng.binomial(2000, shares, (300, shares.size))
    each = log_increments(
        2000.0 - candidate.ravel(), candidate.ravel().astype(float), np.tile(shares, 300)
    ).reshape(300, shares.size, LOG_TILTS.size)
    crossed = log_evidence(each.cumsum(axis=1)).max(axis=1) >= math.log(20)
    assert crossed.mean() <= 0.05
