"""Wald's sequential probability ratio test on events: its bounds and the events it takes.

Given that an event happened, it is the candidate's with probability rho if the rates are equal, and with q1 =
w rho / (w rho + 1 - rho) if the candidate's is w times as high (rare events). Wald (1945, Ann. Math. Statist.
16:117-186): accept one of both when the log-likelihood ratio leaves (B, A), A = ln((1 - beta) / alpha), B =
ln(beta / (1 - alpha)); neglecting the excess over the bounds, the expected numbers of events follow.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Plan(NamedTuple):
    """Wald's test for one share and one rate ratio.

    `q1`: the candidate's share of events if it is worse; `upper`, `lower`: bounds of the log-likelihood
    ratio; then the expected numbers of events under the null and the alternative.
    """

    q1: float
    upper: float
    lower: float
    events_if_equal: float
    events_if_worse: float


def plan(share: float, rate_ratio: float, alpha: float, beta: float) -> Plan:
    """Return the test. `share`, between 0 and 1, is the candidate's of the requests; the ratio is not 1."""
    q1 = rate_ratio * share / (rate_ratio * share + 1 - share)
    upper, lower = math.log((1 - beta) / alpha), math.log(beta / (1 - alpha))
    hit, miss = math.log(q1 / share), math.log((1 - q1) / (1 - share))
    drift_equal = share * hit + (1 - share) * miss
    drift_worse = q1 * hit + (1 - q1) * miss
    equal = (alpha * upper + (1 - alpha) * lower) / drift_equal
    worse = ((1 - beta) * upper + beta * lower) / drift_worse
    return Plan(q1, upper, lower, equal, worse)
