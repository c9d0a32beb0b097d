import numpy as np
import pytest
from scipy.stats import norm

from analysis.engines.group_sequential import (
    crossing_probabilities,
    equally_spaced,
    obrien_fleming_spending,
    pocock_bound,
    pocock_spending,
    power_spending,
    repeated_error,
    spending_bounds,
)

FIVE = equally_spaced(5)


@pytest.mark.parametrize(
    ("looks", "error"),
    [(1, 0.05), (2, 0.0831), (3, 0.1073), (4, 0.1262), (5, 0.1417), (10, 0.1934), (20, 0.2479), (50, 0.3205),
     (100, 0.3736), (200, 0.4243)],
)  # fmt: skip
def test_case_n62_repeated_significance_tests(looks, error):
    assert repeated_error(looks, 0.05) == pytest.approx(error, abs=6e-5)


@pytest.mark.parametrize(
    ("looks", "bound"), [(2, 2.178), (3, 2.289), (4, 2.361), (5, 2.413), (10, 2.555), (20, 2.672)]
)
def test_case_n63_pocock(looks, bound):
    assert pocock_bound(looks, 0.05) == pytest.approx(bound, abs=6e-4)


@pytest.mark.parametrize(
    ("spending", "two_sided", "expected"),
    [
        pytest.param(obrien_fleming_spending, True, [4.8769, 3.3570, 2.6803, 2.2898, 2.0310], id="N64"),
        pytest.param(pocock_spending, True, [2.4380, 2.4268, 2.4102, 2.3966, 2.3860], id="N65"),
        pytest.param(power_spending(2), True, [3.0902, 2.7141, 2.4727, 2.2798, 2.1140], id="N66 two-sided"),
        pytest.param(power_spending(2), False, [2.8782, 2.4702, 2.2009, 1.9818, 1.7902], id="N66 one-sided"),
    ],
)
def test_cases_n64_to_n66_spending(spending, two_sided, expected):
    found = spending_bounds(FIVE, spending, 0.05, two_sided=two_sided)
    assert found == pytest.approx(expected, abs=2e-4)  # Spotify's integration is coarser than ours


@pytest.mark.parametrize("two_sided", [True, False])
def test_bounds_spend_what_they_should_at_uneven_looks(two_sided):
    fractions = [0.05, 0.3, 0.35, 0.9, 1.0]
    bounds = spending_bounds(fractions, pocock_spending, 0.05, two_sided=two_sided)
    spent = np.cumsum(crossing_probabilities(bounds, fractions, two_sided=two_sided))
    sides = 2 if two_sided else 1
    assert spent == pytest.approx([sides * pocock_spending(t, 0.05 / sides) for t in fractions], abs=1e-8)


def test_case_n76_a_test_repeated_up_to_ten_thousand_observations_rejects_two_times_out_of_three():
    """Netflix: 66 of 100 A/A runs; the standard error of that is 5."""
    fractions = np.unique(np.geomspace(10, 10_000, 400).round()) / 10_000
    chance = sum(crossing_probabilities([norm.ppf(0.975)] * fractions.size, fractions.tolist()))
    assert chance == pytest.approx(0.66, abs=0.1)
