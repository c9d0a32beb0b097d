"""Kayenta's judge as an engine: run again at every look, on one point per interval so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.engines.engine import Rates, Readings, conclude, each, nothing_safe, shares
from analysis.engines.kayenta import QUANTILE, TOLERANCE, is_high, mean_ratio, shift_at

if TYPE_CHECKING:
    from analysis.hypergeometric import Ints

LEAST_POINTS, ENOUGH_POINTS = 5, 50
"""Points before a series is judged here, and before a pass is taken for one (Kayenta's own advice)."""


@dataclass(frozen=True, slots=True)
class MannWhitney:
    """The judge of one metric, in percent of requests.

    An interval without requests counts as 0, as with Kayenta's default. `tolerance` is the allowed increase
    of the mean; the error rates have no say. After High a run is not judged again.
    """

    name: str = "mannWhitney"
    lacks: tuple[str, ...] = (
        "Its confidence is fixed at 98 % for one look, whatever error rate is asked for; it is repeated.",
        "An interval with three requests weighs as much as one with thirty thousand.",
        "Rare errors pass: it needs about 50 points per metric, and events in most of them.",
        "Rates that wander from interval to interval make it roll back harmless candidates.",
        "A pass is no proof of safety, only that no harm was seen.",
    )

    def looks(self, tables: Ints, errors: Rates) -> Readings:
        """Return the readings: the lower end of the shift, and a quarter of the estimate."""
        return self.looks_since(tables, errors, 0)

    def looks_since(self, tables: Ints, errors: Rates, since: int) -> Readings:
        """Return the readings from look number `since` on, as if no run had been High before."""
        control, candidate = (100 * rate for rate in shares(each(tables)))
        harmful = np.zeros(control.shape, dtype=bool)
        statistic, bound = np.zeros((2, *control.shape))
        judged = np.arange(control.shape[1])
        for look in range(max(since, LEAST_POINTS - 1), len(control)):
            statistic[look], bound[look] = statistic[look - 1], bound[look - 1]
            x, y = candidate[: look + 1, judged].T, control[: look + 1, judged].T
            low, estimate = shift_at(x, y, QUANTILE), shift_at(x, y, 0.0)
            high = is_high(low, estimate, mean_ratio(x, y), 1 + errors.tolerance)
            statistic[look, judged], bound[look, judged] = low, TOLERANCE * np.abs(estimate)
            harmful[look, judged] = high
            judged = judged[~high]
        safe = nothing_safe(tables)
        if errors.margin is not None:
            safe[ENOUGH_POINTS - 1 :] = True
        return conclude(harmful[since:], safe[since:], statistic[since:], bound[since:])
