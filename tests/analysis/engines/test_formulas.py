"""The tests of others that are single formulas: MaxSPRT, SPRT, GrowthBook's, chi-square, DKW bands."""

import numpy as np
import pytest
from scipy.stats import norm

from analysis.engines import dkw, growthbook, maxsprt, split_tests, sprt

CRITICAL_VALUES = {
    1: 2.853937,
    2: 3.046977,
    5: 3.297183,
    10: 3.467952,
    20: 3.628123,
    50: 3.819903,
    100: 3.952321,
}


@pytest.mark.parametrize(("end", "critical"), CRITICAL_VALUES.items())
def test_case_n68_critical_values_of_maxsprt(end, critical):
    assert maxsprt.critical_value(end, 0.05) == pytest.approx(critical, abs=1e-6)


def test_the_chance_of_a_signal_agrees_with_a_simulation():
    dice = np.random.default_rng(2)
    arrivals = dice.exponential(size=(4000, 60)).cumsum(axis=1)
    number = np.arange(1, 61)
    ratio = np.where(number > arrivals, arrivals - number + number * np.log(number / arrivals), 0.0)
    signalled = ((ratio >= 2.5) & (arrivals < 15) & (number >= 3)).any(axis=1)
    assert signalled.mean() == pytest.approx(maxsprt.signal_probability(2.5, 15, least=3), abs=0.02)


@pytest.mark.parametrize(
    ("share", "ratio", "q1", "equal", "worse"),
    [(0.05, 3, 0.136364, 65.63, 48.62), (0.1, 2, 0.181818, 101.94, 86.27)],
)
def test_case_n71_walds_test(share, ratio, q1, equal, worse):
    found = sprt.plan(share, ratio, 0.05, 0.05)
    assert found.q1 == pytest.approx(q1, abs=1e-6)
    assert (found.upper, -found.lower) == pytest.approx((2.944439, 2.944439), abs=1e-6)
    assert (found.events_if_equal, found.events_if_worse) == pytest.approx((equal, worse), abs=0.005)


def test_case_n52_growthbook_revenue():
    control = growthbook.sample(3000, 1396.87, 52377.9767)
    candidate = growthbook.sample(3461, 2422.7, 134698.29)
    found = growthbook.sequential_uplift(control, candidate, tuning=1000)
    assert found == pytest.approx((0.50336, -0.55844, 1.56516, 0.33341, 1), abs=6e-6)


def test_case_n53_growthbook_proportion():
    found = growthbook.sequential_uplift(growthbook.proportion(3000, 1396), growthbook.proportion(3461, 2422))
    assert found[:4] == pytest.approx((0.50386, 0.40098, 0.60675, 0.03386), abs=6e-6)
    assert found.p_value == pytest.approx(5.17e-44, rel=2e-3)


@pytest.mark.parametrize(("counts", "p"), [((500, 600), 0.00256883), ((1000, 1200), 2.0079e-5)])
def test_case_n51_chi_square(counts, p):
    assert split_tests.chi_square_p_value(counts, (0.5, 0.5)) == pytest.approx(p, rel=1e-4)


@pytest.mark.parametrize(
    ("counts", "concentration", "p"),
    [
        pytest.param((100, 150), 100, 0.0515172, id="N31"),
        pytest.param((500, 600), 10_000, 0.6714507, id="N46 first"),
        pytest.param((100, 900), 10_000, 2.3678998e-13, id="N46 second"),
        pytest.param((500, 500), 10_000, 1.0, id="N46 third"),
    ],
)
def test_cases_n31_and_n46_sequential_p_values_of_the_split(counts, concentration, p):
    found = split_tests.sequential_p_values([counts], (0.5, 0.5), concentration)
    assert found == pytest.approx([p], rel=1e-5)


def test_case_n47_two_batches_and_p_values_never_rise():
    batches = [(50, 450), (50, 450), (900, 100)]
    found = split_tests.sequential_p_values(batches, (0.5, 0.5))
    assert found == pytest.approx([0.000501844, 2.3679e-13, 2.3679e-13], rel=1e-4)


@pytest.mark.parametrize(("n", "expected"), [(100, 0.2691758), (1000, 0.0865691), (10_000, 0.0277107)])
def test_case_n12_width_of_bands(n, expected):
    assert dkw.radius(n, 0.05) == pytest.approx(expected, abs=1e-7)


def latencies(looks, runs, slowing, seed=1):
    """Requests and those above 50, 100, 250, 500 ms; log-normal with median 80 ms."""
    dice = np.random.default_rng(seed)
    edges = np.log(np.array([50, 100, 250, 500]) / 80)
    arms = []
    for requests, shift in ((1800, 0.0), (200, np.log(slowing))):
        above = norm.sf((edges - shift) / 0.8)
        bins = np.concatenate([[1 - above[0]], above[:-1] - above[1:], above[-1:]])
        drawn = dice.multinomial(requests, bins, (looks, runs))
        arms.append(drawn[..., ::-1].cumsum(axis=-1)[..., ::-1])
    return np.stack(arms, axis=2)


def test_bands_find_a_shift_of_everything_and_no_shift_where_there_is_none():
    slow, same = (dkw.slower(latencies(60, 20, slowing), 0.05) for slowing in (1.5, 1.0))
    assert slow[-1].all()
    assert slow[0].mean() < 0.5
    assert not same.any()
