import numpy as np
import pytest

from analysis.engines.engine import Counts
from analysis.engines.z_test import non_inferiority, ratio_z, z_test


def test_case_n61_difference_of_proportions():
    found = z_test((19000, 95), (1000, 12), 0.05)
    assert found.difference == pytest.approx(0.007)
    assert (found.low, found.high) == pytest.approx((0.000177, 0.013823), abs=1e-6)
    assert found.p_value == pytest.approx(0.044339, abs=1e-6)


def test_case_n61_non_inferiority():
    found = non_inferiority((19000, 95), (1000, 12), 0.5, 0.05)
    assert found.upper == pytest.approx(0.012726, abs=1e-6)
    assert found.p_value == pytest.approx(0.901944, abs=1e-6)


def test_the_z_of_equal_rates_is_the_pooled_one():
    counts = Counts(*(np.array([x]) for x in (1800.0, 18.0, 200.0, 5.0)))
    pooled = 23 / 2000
    error = np.sqrt(pooled * (1 - pooled) * (1 / 200 + 1 / 1800))
    assert ratio_z(counts, 1.0)[0] == pytest.approx((5 / 200 - 18 / 1800) / error)


def test_a_ratio_that_fits_the_counts_has_z_zero():
    counts = Counts(*(np.array([x]) for x in (1000.0, 10.0, 1000.0, 20.0)))
    assert ratio_z(counts, 2.0)[0] == pytest.approx(0)
    assert ratio_z(counts, 1.5)[0] > 0 > ratio_z(counts, 3.0)[0]
