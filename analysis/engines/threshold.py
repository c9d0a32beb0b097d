"""The fixed limit, as Flagger and Argo Rollouts run it: some failed checks roll back.

A check is one interval: it fails when more than `limit` of the candidate's requests are events. Argo's
`failureLimit` counts failed checks over the whole analysis, its `consecutiveErrorLimit` and many set-ups of
Flagger count them in a row. An interval without requests of the candidate is no check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.engines.engine import Rates, Readings, conclude, each, nothing_safe, shares

if TYPE_CHECKING:
    from analysis.engines.engine import Flags
    from analysis.hypergeometric import Floats, Ints

_LACKS = (
    "It states no error rate: how often a harmless candidate is rolled back depends on traffic and limit.",
    "It does not look at the control: an incident that both versions share rolls the candidate back.",
    "A candidate that is worse but below the limit passes.",
)


@dataclass(frozen=True, slots=True)
class Threshold:
    """So many failed checks roll back: in all, or in a row if `consecutive`. Safe after as many checks."""

    name: str = "threshold"
    limit: float = 0.01
    checks: int = 5
    consecutive: bool = False
    lacks: tuple[str, ...] = _LACKS

    def looks(self, tables: Ints, errors: Rates) -> Readings:
        """Return the readings; the statistic is the number of failed checks. No error rate has any say."""
        counts = each(tables)
        checked = counts.n_c > 0
        failed = checked & (shares(counts)[1] > self.limit)
        number = _in_a_row(failed, checked) if self.consecutive else np.cumsum(failed, axis=0, dtype=float)
        safe = nothing_safe(tables)
        if errors.margin is not None:
            safe = np.cumsum(checked, axis=0) >= self.checks
        return conclude(number >= self.checks, safe, number, self.checks)


def _in_a_row(failed: Flags, checked: Flags) -> Floats:
    """Return how many checks have failed since the last one that passed."""
    number = np.cumsum(failed, axis=0)
    passed = checked & ~failed
    return (number - np.maximum.accumulate(np.where(passed, number, 0), axis=0)).astype(np.float64)
