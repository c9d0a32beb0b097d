"""Bayesian beta-binomial: the posterior chance that the candidate's rate is the larger one.

Uniform priors, so the posteriors are Beta(k + 1, n - k + 1), and P(p_c > r p_b) is the mean of
P(p_c > r p) over the control's posterior: a sum over Gauss-Legendre points in the logit of p, where that
posterior is nearly normal. Chances are good to about 1e-5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betainc, betaln, digamma, expit, polygamma

from analysis.engines.engine import (
    CLUSTERS,
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

_NO_ERROR_RATE = (
    "A posterior chance is no error rate: looked at repeatedly it passes 95 % in far more than 5 % of the "
    "runs with a harmless candidate."
)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(56)
_BELOW, _ABOVE = 11.0, 7.0
"""Standard deviations of the logit that are summed: its posterior leans to the left."""


@dataclass(frozen=True, slots=True)
class BayesBetaBinomial:
    """Rolls back when the candidate is worse with a posterior chance of 1 - `false_rollback`."""

    name: str = "bayesBetaBinomial"
    lacks: tuple[str, ...] = (_NO_ERROR_RATE, POOLING, CLUSTERS)

    def looks(self, tables: Ints, errors: Rates) -> Readings:
        """Return the readings; the statistic is the posterior chance that the candidate is worse."""
        counts = so_far(tables)
        p_b, p_c = shares(counts)
        statistic = probability_worse(counts, 1 + errors.tolerance)
        bound = 1 - errors.false_rollback
        # before a candidate has shown anything, its uniform prior alone is far worse than a good control
        harmful = counts.both & (p_c > (1 + errors.tolerance) * p_b) & (statistic > bound)
        safe = nothing_safe(tables)
        if errors.margin is not None:
            safe = probability_worse(counts, 1 + errors.margin) < errors.false_promote
        return conclude(harmful, safe & counts.both, statistic, bound)


def probability_worse(counts: Counts, ratio: float) -> Floats:
    """Return P(p_c > ratio p_b), of the shape of the counts."""
    rows = [_probability_worse(Counts(*row), ratio) for row in np.stack(counts, axis=1)]
    return np.stack(rows) if rows else np.zeros_like(counts.n_b)


def _probability_worse(counts: Counts, ratio: float) -> Floats:
    """Return the same for one look, (runs,)."""
    a, b = (x[:, None] + 1 for x in (counts.k_b, counts.n_b - counts.k_b))
    centre = digamma(a) - digamma(b)
    deviation = np.sqrt(polygamma(1, a) + polygamma(1, b))
    logit = centre + deviation * ((_NODES + 1) / 2 * (_BELOW + _ABOVE) - _BELOW)
    p = expit(logit)
    log_density = -a * np.log1p(np.exp(-logit)) - b * np.log1p(np.exp(logit)) - betaln(a, b)
    weight = np.exp(log_density) * deviation * _WEIGHTS * (_BELOW + _ABOVE) / 2
    k, rest = (x[:, None] + 1 for x in (counts.k_c, counts.n_c - counts.k_c))
    below = betainc(k, rest, np.minimum(ratio * p, 1.0))
    return np.asarray((weight * (1 - below)).sum(axis=1) / weight.sum(axis=1))
