"""Interval differences with a confidence sequence that does not trust the requests to be independent.

The statistic of `analysis.risk_difference`, sums of w (p_c - r p_b), with the variance taken from their own
scatter. Its constant is set at the end of the burn-in, so that it is tightest `BEST_LOOKS` looks in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.engines.engine import Rates, Readings, conclude_e, each
from analysis.risk_difference import BURN_IN, log_e_above, log_e_below, precision, terms, variance

if TYPE_CHECKING:
    from analysis.engines.engine import Counts
    from analysis.hypergeometric import Floats, Ints

BEST_LOOKS = 30
"""Where the sequence is tightest: five minutes of looks every ten seconds."""


@dataclass(frozen=True, slots=True)
class RobustDifferences:
    """Asymptotic confidence sequences on interval differences; nothing is said within the burn-in."""

    name: str = "robustDifferences"
    lacks: tuple[str, ...] = (
        f"Its error rates are approximate, and it says nothing before {BURN_IN} intervals.",
        "Rates that wander for longer than an interval make it roll back harmless candidates.",
    )

    def looks(self, tables: Ints, errors: Rates) -> Readings:
        """Return the readings; the statistic is the e-value."""
        counts = each(tables)
        harm = _sums(counts, 1 + errors.tolerance)
        log_harm = log_e_above(harm, 0.0, _constant(harm, errors.false_rollback))
        log_safe = None
        if errors.margin is not None:
            safe = _sums(counts, 1 + errors.margin)
            log_safe = log_e_below(safe, 0.0, _constant(safe, errors.false_promote))
        return conclude_e(log_harm, log_safe, errors)


def _sums(counts: Counts, ratio: float) -> Floats:
    """Return the sums up to every look: (looks, runs, terms)."""
    return np.cumsum(terms(counts.n_c, counts.k_c, counts.n_b, counts.k_b, ratio), axis=0)


def _constant(sums: Floats, alpha: float) -> Floats:
    """Return r of every run from its variance at the end of the burn-in, (looks, runs); 0 before."""
    ready = sums[..., 0] >= BURN_IN
    first = ready & (np.cumsum(ready, axis=0) == 1)
    at_end = np.where(first, variance(sums), 0.0).cumsum(axis=0)
    return precision(at_end * (BEST_LOOKS / BURN_IN), alpha)
