"""Kayenta's NetflixACAJudge: Mann-Whitney on one point per interval, for many pairs of series at once.

As in spinnaker/kayenta (a69573be, April 2025): the interval for the shift of the candidate's series against
the control's inverts the rank-sum statistic, corrected for ties and continuity, at a confidence of 98 %

    D(mu) = (W - n_x (n_x + 1) / 2 - n_x n_y / 2 - sign / 2) / sigma,    roots D = +-2.326

on [min x - max y, max x - min y], as R's `wilcox.test` does, with R's root finder and its accuracy of 1e-4.
The series is High when the lower end exceeds a quarter of the estimated shift (root of D = 0) and the ratio
of the means is at least the allowed increase. Since the accuracy is absolute, units matter: the engine feeds
percentages.

One difference: where both series are constant Kayenta adds noise of 1e-5 of their value to be able to rank
them. Here the result is the limit of no noise, the difference itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import ndtri

from analysis.engines.roots import falling_roots

if TYPE_CHECKING:
    from analysis.engines.engine import Flags
    from analysis.hypergeometric import Floats, Ints

TOLERANCE = 0.25
"""Of the estimated shift, which the lower end has to exceed."""
QUANTILE = float(ndtri(0.99))
"""Two-sided confidence 98 %."""


class Shift(NamedTuple):
    """How far the candidate's series lies above the control's: 98 % interval and estimate, each (series,)."""

    low: Floats
    high: Floats
    estimate: Floats


def shift(candidate: Floats, control: Floats) -> Shift:
    """Return the shifts of n pairs of series, (n, points) each."""
    return Shift(
        low=shift_at(candidate, control, QUANTILE),
        high=shift_at(candidate, control, -QUANTILE),
        estimate=shift_at(candidate, control, 0.0),
    )


def shift_at(candidate: Floats, control: Floats, quantile: float) -> Floats:
    """Return mu with D(mu) = quantile, or the end of the possible shifts that is nearest to it."""
    result = candidate[:, 0] - control[:, 0]
    rows = np.flatnonzero((np.ptp(candidate, axis=1) > 0) | (np.ptp(control, axis=1) > 0))
    x, y = candidate[rows], control[rows]

    def distance(mu: Floats, among: Ints) -> Floats:
        return rank_sum(x[among] - mu[:, None], y[among]) - quantile

    low, high = x.min(axis=1) - y.max(axis=1), x.max(axis=1) - y.min(axis=1)
    result[rows] = falling_roots(distance, low, high)
    return result


def is_high(low: Floats, estimate: Floats, ratio: Floats, allowed_increase: float = 1.0) -> Flags:
    """Tell where Kayenta says High (direction `increase`): of lower end, estimate and ratio of means."""
    return (low > TOLERANCE * np.abs(estimate)) & (np.isnan(ratio) | (ratio >= allowed_increase))


def mean_ratio(candidate: Floats, control: Floats) -> Floats:
    """Return the ratios of the means of n pairs of series, nan where a mean is 0."""
    above, below = (np.asarray(series.mean(axis=1)) for series in (candidate, control))
    ratio = np.full_like(above, np.nan)
    np.divide(above, below, out=ratio, where=(above != 0) & (below != 0))
    return ratio


def rank_sum(x: Floats, y: Floats) -> Floats:
    """Return D of n pairs of samples, (n, n_x) and (n, n_y): corrected for ties and continuity."""
    n_x, n_y = x.shape[1], y.shape[1]
    size = n_x + n_y
    both = np.concatenate([x, y], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    ordered = np.take_along_axis(both, order, axis=1)
    begins = np.ones(ordered.shape, dtype=bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.flatnonzero(begins)
    ties = np.diff(np.append(first, begins.size))
    ranks = np.repeat(first % size + (ties + 1) / 2, ties).reshape(ordered.shape)
    excess = (ranks * (order < n_x)).sum(axis=1) - n_x * (n_x + 1) / 2 - n_x * n_y / 2
    tied = np.bincount(first // size, weights=ties.astype(np.float64) ** 3 - ties, minlength=len(x))
    sigma = np.sqrt(n_x * n_y / 12 * (size + 1 - tied / (size * (size - 1))))
    corrected = excess - np.sign(excess) / 2
    return np.asarray(corrected / np.where(sigma > 0, sigma, 1.0))
