"""The yardstick: Wald's test of the odds ratio that is true, which no engine without that knowledge can beat.

The likelihood ratio of Fisher's noncentral hypergeometric distribution at the true odds ratio and at the
null, multiplied over the intervals, rolls back when it reaches 1 / alpha (Wald 1945, Ann. Math. Statist.
16:117-186; without his lower bound, so that the error is at most alpha by Ville's inequality).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.engines.engine import CLUSTERS, Rates, Readings, conclude_e
from analysis.hypergeometric import log_likelihood_ratios

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats, Ints


@dataclass(frozen=True, slots=True)
class OracleSprt:
    """The likelihood ratio of the `odds_ratio` that is true, which somebody would have to know."""

    odds_ratio: float = 2.0
    name: str = "oracleSprt"
    lacks: tuple[str, ...] = (
        "It has to be told how large the harm is; harm of another size takes longer, or is never found.",
        CLUSTERS,
    )

    def looks(self, tables: Ints, errors: Rates) -> Readings:
        """Return the readings; the statistic is the likelihood ratio. Safe is a proof that both are equal."""
        harm = _log_ratio(tables, self.odds_ratio, 1 + errors.tolerance)
        safe = None if errors.margin is None else _log_ratio(tables, 1.0, 1 + errors.margin)
        return conclude_e(harm, safe, errors)


def _log_ratio(tables: Ints, odds_ratio: float, null: float) -> Floats:
    """Return ln P(tables | odds_ratio) - ln P(tables | null) up to each look: (looks, runs)."""
    n_b, k_b, n_c, k_c = (column.ravel() for column in np.moveaxis(np.asarray(tables), -1, 0))
    columns = log_likelihood_ratios(n_c, k_c, n_b, k_b, [odds_ratio, null])
    gain = (columns[:, 0] - columns[:, 1]).reshape(tables.shape[:2])
    return np.asarray(np.cumsum(gain, axis=0))
