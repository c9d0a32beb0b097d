import numpy as np
import pytest

from controller.distribution import distribution, median_error, quantile


@pytest.mark.parametrize(
    ("part", "expected"), [(10, 1), (25, 3), (50, 5), (75, 8), (90, 9), (100, 10), (0, 1)]
)
def test_a_quantile_is_one_of_the_times(part, expected):
    assert quantile([*range(1, 11)], part) == expected


def test_the_error_of_a_median_is_that_of_many_medians():
    dice = np.random.default_rng(1)
    samples = np.sort(dice.exponential(100, (2000, 200)), axis=1)
    actual = np.median(samples, axis=1).std()
    estimated = np.mean([median_error(sample.tolist()) for sample in samples])
    assert estimated == pytest.approx(actual, rel=0.1)


@pytest.mark.parametrize("times", [[], [5.0]])
def test_a_median_of_less_than_two_has_no_error(times):
    assert median_error(times) is None


def test_a_distribution_counts_every_time():
    found = distribution([1.0, 1.0, 11.0])
    assert found["times"] == [[1.0, 2], [11.0, 1]]
    assert found["quantiles"] == {"10": 1.0, "25": 1.0, "50": 1.0, "75": 11.0, "90": 11.0}
    assert distribution([]) == {}
