"""GrowthBook's sequential test of a mean or proportion, relative to the control's.

The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024, arXiv 2103.06476;
proposition B.1 for its tuning, equation 155 of version 7 for the p-value) around the delta-method estimate of
the uplift. It is tightest when both arms together have about `tuning` units.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Sample(NamedTuple):
    """One arm: units, and mean and variance over them."""

    n: int
    mean: float
    variance: float


class Uplift(NamedTuple):
    """The candidate's mean over the control's, less 1: interval at all looks, standard error and p-value."""

    estimate: float
    low: float
    high: float
    error: float
    p_value: float


def sample(n: int, total: float, squares: float) -> Sample:
    """Return an arm from the sum and the sum of squares over n > 1 units."""
    return Sample(n, total / n, (squares - total**2 / n) / (n - 1))


def proportion(n: int, events: int) -> Sample:
    """Return an arm of n units with so many events."""
    return Sample(n, events / n, events / n * (1 - events / n))


def sequential_uplift(
    control: Sample, candidate: Sample, alpha: float = 0.05, tuning: float = 5000
) -> Uplift:
    """Return the two-sided sequential test. The control's mean must not be 0."""
    n = control.n + candidate.n
    estimate = candidate.mean / control.mean - 1
    variance = candidate.variance / (control.mean**2 * candidate.n)
    variance += control.variance * candidate.mean**2 / (control.mean**4 * control.n)
    log = -2 * math.log(alpha)
    spread = n * (log + math.log(log + 1)) / tuning  # n rho^2
    half = math.sqrt(variance * 2 * (spread + 1) / spread * math.log(math.sqrt(spread + 1) / alpha))
    log_e = estimate**2 / variance * spread / (2 * (spread + 1)) - 0.5 * math.log(spread + 1)
    return Uplift(estimate, estimate - half, estimate + half, math.sqrt(variance), math.exp(-max(log_e, 0.0)))
