"""Drawn events have the mean and the dispersion that they are asked to have."""

import numpy as np
import pytest

from analysis.draws import beta_binomial, bursts, exceedances, split

MANY = 60_000


def dice():
    return np.random.default_rng(1)


@pytest.mark.parametrize("phi", [1.0, 2.0, 4.0])
def test_beta_binomial_events_vary_phi_times_as_much(phi):
    found = beta_binomial(dice(), np.full((1, MANY), 200), np.full((1, MANY), 0.05), phi)
    assert found.mean() == pytest.approx(10, rel=0.01)
    assert found.var() == pytest.approx(phi * 200 * 0.05 * 0.95, rel=0.04)


@pytest.mark.parametrize("requests", [0, 1, 3])
def test_few_requests_are_no_trouble(requests):
    found = beta_binomial(dice(), np.full((2, 500), requests), np.full((2, 500), 0.3), 4.0)
    assert ((found >= 0) & (found <= requests)).all()


def test_bursts_keep_the_mean_and_have_the_dispersion_of_geometric_sizes():
    """E[size^2] / E[size] = 2 * 3 - 1 for a geometric size with mean 3."""
    found = bursts(dice(), np.full((1, MANY), 5000), np.full((1, MANY), 0.01), 3)
    assert found.mean() == pytest.approx(50, rel=0.01)
    assert found.var() / found.mean() == pytest.approx(5, rel=0.05)


def test_exceedances_fall_from_edge_to_edge():
    above = np.broadcast_to(np.array([0.6, 0.3, 0.1])[:, None, None], (3, 2, 4000))
    found = exceedances(dice(), np.full((2, 4000), 50), above)
    assert found.shape == (4000, 2, 3)
    assert (np.diff(found, axis=2) <= 0).all()
    assert found.mean(axis=(0, 1)) == pytest.approx([30, 15, 5], rel=0.02)


def test_requests_are_split_over_series_by_their_shares():
    every = np.full(2000, 100)
    found = split(dice(), every, [0.7, 0.2, 0.1])
    assert found.shape == (3, 2000)
    assert (found.sum(axis=0) == every).all()
    assert found.mean(axis=1) == pytest.approx([70, 20, 10], rel=0.03)
    assert (split(dice(), every, [1.0]) == every).all()
