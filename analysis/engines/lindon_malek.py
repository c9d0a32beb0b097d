"""Lindon & Malek's test of counts (NeurIPS 2022, arXiv 2011.03567), as Netflix describes it for canaries.

Given that an event happened, it is the candidate's with probability rho, the candidate's share of the
traffic, if the rates are equal. With a Beta(100 rho, 100 (1 - rho)) mixture over that probability

    B = Beta(a + k_c, b + k_b) / Beta(a, b) / (rho^k_c (1 - rho)^k_b),    a = 100 rho, b = 100 (1 - rho)

is a martingale under the null for a fixed rho. Here rho is the share of the requests so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaln

from analysis.engines.engine import CLUSTERS, Counts, Rates, Readings, conclude_e, so_far

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats, Ints

CONCENTRATION = 100.0


@dataclass(frozen=True, slots=True)
class LindonMalek:
    """The Dirichlet mixture on totals; what it finds counts as harm when the candidate is the worse one."""

    name: str = "lindonMalek"
    lacks: tuple[str, ...] = (
        "Its bound holds for one split only: when the weights change, the time of day can look like harm.",
        CLUSTERS,
    )

    def looks(self, tables: Ints, errors: Rates) -> Readings:
        """Return the readings; the statistic is B where the candidate is worse, else 0."""
        counts = so_far(tables)
        harm = _directed(counts, 1 + errors.tolerance, sign=1)
        safe = None if errors.margin is None else _directed(counts, 1 + errors.margin, sign=-1)
        return conclude_e(harm, safe, errors)


def _directed(counts: Counts, ratio: float, *, sign: int) -> Floats:
    """Return ln B against "`ratio` times the control's rate" where the candidate is beyond it, else ln 0."""
    rho = ratio * counts.n_c / np.maximum(ratio * counts.n_c + counts.n_b, 1)
    known = counts.both
    log_b = log_bayes_factor(counts.k_c, counts.k_b, np.where(known, rho, 0.5))
    beyond = sign * (counts.k_c * (1 - rho) - counts.k_b * rho) > 0
    return np.where(known & beyond, log_b, -np.inf)


def log_bayes_factor(k_c: Floats, k_b: Floats, rho: Floats) -> Floats:
    """Return ln B of the events of candidate and control, for a share rho between 0 and 1."""
    a, b = CONCENTRATION * rho, CONCENTRATION * (1 - rho)
    null = k_c * np.log(rho) + k_b * np.log1p(-rho)
    return np.asarray(betaln(a + k_c, b + k_b) - betaln(a, b) - null)
