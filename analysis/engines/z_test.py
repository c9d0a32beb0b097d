"""The z-test for two proportions: with confidence interval and non-inferiority for one look; as an engine.

With unpooled variance v = p_c (1 - p_c) / n_c + p_b (1 - p_b) / n_b the interval is d -+ z sqrt(v) for
d = p_c - p_b (Wald); non-inferiority compares d with a share of the control's rate, as Spotify's
`confidence` does. The engine tests the rate ratio r by z = (p_c - r p_b) / sqrt(v) with both rates estimated
under the null p_c = r p_b, which for r = 1 is the usual pooled test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from analysis.engines.engine import (
    CLUSTERS,
    PEEKING,
    POOLING,
    Counts,
    Rates,
    Readings,
    conclude,
    nothing_safe,
    shares,
    so_far,
)

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats, Ints


class ZTest(NamedTuple):
    """A difference of proportions, candidate less control: its interval and p-value."""

    difference: float
    low: float
    high: float
    p_value: float


class NonInferiority(NamedTuple):
    """Whether events are more frequent by less than the margin: upper bound of the difference, p-value."""

    difference: float
    upper: float
    p_value: float


def z_test(control: tuple[int, int], candidate: tuple[int, int], alpha: float) -> ZTest:
    """Return the two-sided test at one look. Each arm is (requests, events), with events in at least one.

    The interval holds the true difference with probability 1 - alpha, at a look fixed before.
    """
    difference, error = _difference(control, candidate)
    half = float(ndtri(1 - alpha / 2)) * error
    p_value = 2 * float(ndtr(-abs(difference) / error))
    return ZTest(difference, difference - half, difference + half, p_value)


def non_inferiority(
    control: tuple[int, int], candidate: tuple[int, int], margin: float, alpha: float
) -> NonInferiority:
    """Return the one-sided test of "the rate is at least `margin` (a fraction of the control's) higher"."""
    difference, error = _difference(control, candidate)
    allowed = margin * control[1] / control[0]
    p_value = float(ndtr((difference - allowed) / error))
    return NonInferiority(difference, difference + float(ndtri(1 - alpha)) * error, p_value)


def _difference(control: tuple[int, int], candidate: tuple[int, int]) -> tuple[float, float]:
    """Return the difference and its standard error."""
    (n_b, k_b), (n_c, k_c) = control, candidate
    p_b, p_c = k_b / n_b, k_c / n_c
    return p_c - p_b, float(np.sqrt(p_c * (1 - p_c) / n_c + p_b * (1 - p_b) / n_b))


def ratio_z(counts: Counts, ratio: float) -> Floats:
    """Return z against "the candidate's rate is `ratio` times the control's"; 0 where nothing is known."""
    p_b, p_c = shares(counts)
    null_b = np.minimum((counts.k_b + counts.k_c) / np.maximum(counts.n_b + ratio * counts.n_c, 1), 1 / ratio)
    null_c = ratio * null_b
    variance = null_c * (1 - null_c) / np.maximum(counts.n_c, 1)
    variance += ratio**2 * null_b * (1 - null_b) / np.maximum(counts.n_b, 1)
    known = counts.both & (variance > 0)
    return np.where(known, (p_c - ratio * p_b) / np.sqrt(np.where(known, variance, 1.0)), 0.0)


@dataclass(frozen=True, slots=True)
class FixedHorizonZ:
    """The one-sided z-test on the totals, at every look."""

    name: str = "fixedHorizonZ"
    lacks: tuple[str, ...] = (PEEKING, POOLING, CLUSTERS)

    def looks(self, tables: Ints, errors: Rates) -> Readings:
        """Return the readings; the statistic is z."""
        counts = so_far(tables)
        statistic = ratio_z(counts, 1 + errors.tolerance)
        bound = float(ndtri(1 - errors.false_rollback))
        safe = nothing_safe(tables)
        if errors.margin is not None:
            safe = ratio_z(counts, 1 + errors.margin) <= float(ndtri(errors.false_promote))
        return conclude(statistic > bound, safe, statistic, bound)
