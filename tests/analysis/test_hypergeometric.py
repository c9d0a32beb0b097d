import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom, nchypergeom_fisher

from analysis.hypergeometric import log_likelihood_ratios

ODDS_RATIOS = (0.1, 0.5, 0.9, 1.25, 2.0, 10.0)


@st.composite
def tables(draw, largest=300):
    n_c, n_b = draw(st.integers(0, largest)), draw(st.integers(0, largest))
    return n_c, draw(st.integers(0, n_c)), n_b, draw(st.integers(0, n_b))


def exact(n_c, k_c, n_b, k_b, odds_ratio):
    """The same in whole numbers of any length."""
    total, w = k_c + k_b, Fraction(odds_ratio).limit_denominator(1000)
    low, high = max(0, total - n_b), min(n_c, total)
    term, central, tilted = math.comb(n_c, low) * math.comb(n_b, total - low), 0, 0
    for j in range(low, high + 1):
        central += term
        tilted += term * w.numerator ** (j - low) * w.denominator ** (high - j)
        term = term * (n_c - j) * (total - j) // ((j + 1) * (n_b - total + j + 1))
    powers = (k_c - low) * math.log(w.numerator) + (high - k_c) * math.log(w.denominator)
    return powers - math.log(tilted) + math.log(central)


def test_case_n38_agrees_with_the_ratio_of_scipys_probabilities():
    expected = nchypergeom_fisher.pmf(4, 2000, 21, 200, 2) / hypergeom.pmf(4, 2000, 21, 200)
    assert math.exp(log_likelihood_ratios(200, 4, 1800, 17, [2.0])[0, 0]) == pytest.approx(expected, rel=1e-9)
    assert expected == pytest.approx(2.1789835, rel=1e-7)


@given(tables(largest=60), st.floats(0.05, 20))
def test_small_tables_agree_with_scipy(table, odds_ratio):
    n_c, k_c, n_b, k_b = table
    n, total = n_c + n_b, k_c + k_b
    if n == 0:
        return
    expected = nchypergeom_fisher.logpmf(k_c, n, total, n_c, odds_ratio) - hypergeom.logpmf(
        k_c, n, total, n_c
    )
    assert log_likelihood_ratios(*table, [odds_ratio])[0, 0] == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize(
    ("n_c", "n_b", "total"),
    [
        (200, 1800, 200),
        (500, 500, 400),
        (1000, 9000, 600),
        (3000, 1000, 2000),
        (300, 20_000, 4000),
        (600, 5000, 2500),
        (10_000, 10_000, 800),
        (1_000_000, 9_000_000, 700),
    ],
)
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 1.0])
def test_large_tables_are_exact(n_c, n_b, total, part):
    low, high = max(0, total - n_b), min(n_c, total)
    k_c = low + int(part * (high - low))
    found = log_likelihood_ratios(n_c, k_c, n_b, total - k_c, ODDS_RATIOS)[0]
    expected = [exact(n_c, k_c, n_b, total - k_c, w) for w in ODDS_RATIOS]
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_the_two_ways_to_sum_agree_where_they_meet():
    """Extreme odds ratios force the long way on tables that the short way can do, too."""
    table = (250, 40, 1500, 90)
    long_way = log_likelihood_ratios(*table, [*ODDS_RATIOS, 1e6])[0, :-1]
    assert long_way == pytest.approx(log_likelihood_ratios(*table, ODDS_RATIOS)[0], rel=1e-11, abs=1e-11)


def test_counts_of_any_size_are_answered():
    found = log_likelihood_ratios(10**12, 10**10, 10**12, 10**10, [1.0001, 2.0])
    assert np.isfinite(found).all()
    assert found[0, 0] == pytest.approx(-(10**10) / 4 * 0.99 * math.log(1.0001) ** 2, rel=1e-3)


@pytest.mark.parametrize(
    "table", [(0, 0, 50, 3), (50, 3, 0, 0), (0, 0, 0, 0), (20, 0, 80, 0), (20, 20, 80, 80)]
)
def test_a_table_that_says_nothing_adds_exactly_nothing(table):
    assert (log_likelihood_ratios(*table, ODDS_RATIOS) == 0).all()


@given(tables(), st.floats(0.05, 20))
def test_swapping_the_arms_inverts_the_odds_ratio(table, odds_ratio):
    n_c, k_c, n_b, k_b = table
    there = log_likelihood_ratios(n_c, k_c, n_b, k_b, [odds_ratio])
    back = log_likelihood_ratios(n_b, k_b, n_c, k_c, [1 / odds_ratio])
    assert there == pytest.approx(back, rel=1e-10, abs=1e-10)


@given(tables(), st.floats(0.05, 20))
def test_swapping_events_and_others_inverts_the_odds_ratio(table, odds_ratio):
    n_c, k_c, n_b, k_b = table
    there = log_likelihood_ratios(n_c, k_c, n_b, k_b, [odds_ratio])
    back = log_likelihood_ratios(n_c, n_c - k_c, n_b, n_b - k_b, [1 / odds_ratio])
    assert there == pytest.approx(back, rel=1e-10, abs=1e-10)


@settings(max_examples=30)
@given(st.lists(tables(), min_size=2, max_size=300))
def test_a_table_has_the_same_result_bit_for_bit_in_any_company(many):
    together = log_likelihood_ratios(*np.array(many).T, ODDS_RATIOS)
    alone = np.concatenate([log_likelihood_ratios(*table, ODDS_RATIOS) for table in many])
    assert np.array_equal(together, alone)
