"""The t-mixture against what others published (statistics of 500 A/A experiments, looked at daily)."""

from __future__ import annotations

import math

import numpy as np

from analysis.t_mixture import best_phi, log_t_mixture

DAYS, PER_DAY, EXPERIMENTS = 20, 400, 500


def test_daily_looks_fool_a_t_test_but_not_the_mixture():
    """PyFixest's documentation: 5.2 % at one look, 25.0 % with daily looks, 1.0 % with the mixture."""
    dice = np.random.default_rng(79)
    values = dice.normal(size=(EXPERIMENTS, 2, DAYS * PER_DAY // 2))
    phi = best_phi(DAYS * PER_DAY, 2, 0.05)
    t_test, mixture = np.zeros((2, EXPERIMENTS, DAYS), dtype=bool)
    for day in range(DAYS):
        so_far = values[:, :, : (day + 1) * PER_DAY // 2]
        n = 2 * so_far.shape[2]
        spread = np.sqrt(so_far.var(axis=2, ddof=1).sum(axis=1) / so_far.shape[2])
        t = (so_far[:, 1].mean(axis=1) - so_far[:, 0].mean(axis=1)) / spread
        t_test[:, day] = np.abs(t) > 1.96
        mixture[:, day] = [log_t_mixture(each, n, 2, phi) >= math.log(20) for each in t.tolist()]
    assert abs(t_test[:, -1].mean() - 0.05) < 0.03
    assert t_test.any(axis=1).mean() > 0.19
    assert mixture.any(axis=1).mean() < 0.03
