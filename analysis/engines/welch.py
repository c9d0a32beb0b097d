"""Welch's t-test on the rates of the intervals: one rate per arm and interval, each as good as another.

t = (m_c - r m_b) / sqrt(s_c^2 / t + r^2 s_b^2 / t) with the degrees of freedom of Welch (1947, Biometrika
34:28-35) and Satterthwaite. Intervals in which an arm had no requests are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtr

from analysis.engines.engine import PEEKING, Rates, Readings, conclude, each, nothing_safe, shares

if TYPE_CHECKING:
    from analysis.engines.engine import Flags
    from analysis.hypergeometric import Floats, Ints

_UNWEIGHTED = "An interval with three requests weighs as much as one with thirty thousand."


@dataclass(frozen=True, slots=True)
class Welch:
    """The one-sided t-test on interval rates, at every look from the second interval on."""

    name: str = "welch"
    lacks: tuple[str, ...] = (
        PEEKING,
        _UNWEIGHTED,
        "Rates that wander (correlated in time) make it roll back harmless candidates.",
    )

    def looks(self, tables: Ints, errors: Rates) -> Readings:
        """Return the readings; the statistic is 1 - p, the confidence that the candidate is worse."""
        counts = each(tables)
        rates = shares(counts)
        statistic = _confidence(*rates, counts.both, 1 + errors.tolerance)
        safe = nothing_safe(tables)
        if errors.margin is not None:
            safe = _confidence(*rates, counts.both, 1 + errors.margin) < errors.false_promote
        bound = 1 - errors.false_rollback
        return conclude(statistic > bound, safe, statistic, bound)


def _confidence(control: Floats, candidate: Floats, both: Flags, ratio: float) -> Floats:
    """Return P(T <= t) per look and run, against "the mean rate is `ratio` times the control's"; else 1/2."""
    number = np.cumsum(both, axis=0, dtype=np.float64)
    mean_c, error_c = _mean(candidate, both, number)
    mean_b, error_b = _mean(ratio * control, both, number)
    error = error_c + error_b
    known = (number > 1) & (error > 0)
    error = np.where(known, error, 1.0)
    squares = (error_c**2 + error_b**2) / np.maximum(number - 1, 1)
    freedom = np.where(known, error**2 / np.where(known, squares, 1.0), 1.0)
    return np.where(known, stdtr(freedom, (mean_c - mean_b) / np.sqrt(error)), 0.5)


def _mean(rates: Floats, both: Flags, number: Floats) -> tuple[Floats, Floats]:
    """Return the running mean and its squared standard error."""
    sums = np.cumsum(np.where(both, rates, 0.0), axis=0)
    squares = np.cumsum(np.where(both, rates**2, 0.0), axis=0)
    mean = sums / np.maximum(number, 1)
    spread = np.maximum(squares - sums * mean, 0.0) / np.maximum(number - 1, 1)
    spread[squares * 1e-12 > spread] = 0.0  # all alike, but for rounding
    return mean, spread / np.maximum(number, 1)
