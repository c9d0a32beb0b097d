import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import mannwhitneyu, norm

from analysis.engines.group_sequential import repeated_error
from analysis.engines.kayenta import is_high, mean_ratio, rank_sum, shift
from analysis.engines.roots import falling_roots

ONES = np.ones((1, 10))


def mostly(value, count):
    return np.array([[value] * count + [1.0] * (10 - count)])


def high(candidate, control, **options):
    found = shift(candidate, control)
    return bool(is_high(found.low, found.estimate, mean_ratio(candidate, control), **options)[0])


def test_case_n83_seventy_times_the_mean_passes():
    found = shift(mostly(100.0, 7), ONES)
    assert found.low[0] == pytest.approx(6.825022991538781e-5, rel=1e-12)
    assert found.high[0] == 99.0
    assert found.estimate[0] == pytest.approx(98.99992904170193, rel=1e-14)
    assert mean_ratio(mostly(100.0, 7), ONES)[0] == pytest.approx(70.3)
    assert not high(mostly(100.0, 7), ONES)


def test_case_n84_one_point_more_is_high():
    assert shift(mostly(100.0, 8), ONES).low[0] == pytest.approx(98.9999, abs=1e-4)
    assert high(mostly(100.0, 8), ONES)


def test_an_allowed_increase_lets_a_small_effect_pass():
    candidate = np.array([[1.02 + i * 1e-4 for i in range(40)]])
    control = np.array([[1.0 + i * 1e-4 for i in range(40)]])
    assert high(candidate, control)
    assert not high(candidate, control, allowed_increase=1.1)


def test_constant_series_are_apart_by_their_difference():
    assert [x[0] for x in shift(2 * ONES, ONES)] == [1, 1, 1]
    assert high(2 * ONES, ONES)
    assert not high(ONES, ONES)
    assert not high(ONES, 2 * ONES)


def test_an_effect_relative_to_nothing_is_ignored():
    assert np.isnan(mean_ratio(ONES, 0 * ONES))
    assert high(ONES, 0 * ONES, allowed_increase=5)


@pytest.mark.parametrize("tied", [False, True])
def test_the_rank_sum_agrees_with_scipy(tied):
    dice = np.random.default_rng(1)
    x, y = dice.normal(0.3, 1, (8, 12)), dice.normal(0, 1, (8, 17))
    if tied:
        x, y = x.round(), y.round()
    for mine, row_x, row_y in zip(rank_sum(x, y), x, y, strict=True):
        expected = mannwhitneyu(row_x, row_y, method="asymptotic").pvalue
        assert min(1, 2 * norm.sf(abs(mine))) == pytest.approx(expected, rel=1e-9)


def test_many_roots_are_found_at_once():
    levels = np.array([0.1, 1.0, 5.0, 40.0, -3.0, 200.0])

    def falling(x, which):
        return levels[which] - x - x**3 / 10

    roots = falling_roots(falling, np.full(6, -1.0), np.full(6, 9.0))
    expected = [brentq(lambda x, level=level: level - x - x**3 / 10, -50, 50) for level in levels[:4]]
    np.testing.assert_allclose(roots[:4], expected, atol=1e-4)
    assert roots[4:].tolist() == [-1.0, 9.0]  # the nearest ends


def test_case_n79_a_test_repeated_twenty_times_rejects_five_times_as_often():
    dice = np.random.default_rng(7)
    x, y = dice.exponential(size=(2, 400, 20 * 40))
    crossed = np.array([np.abs(rank_sum(x[:, :n], y[:, :n])) > norm.ppf(0.975) for n in range(40, 801, 40)])
    assert crossed[-1].mean() == pytest.approx(0.05, abs=0.035)
    assert crossed.any(axis=0).mean() == pytest.approx(repeated_error(20, 0.05), abs=0.065)
