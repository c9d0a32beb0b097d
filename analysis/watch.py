"""After promotion: whether events have become more frequent than they were in the rollout.

A lane is the events of a proportion, or the requests slower than one edge. Its null says that each request is
an event with a chance of at most p0, whatever came before; p0 is the most that the rollout leaves possible,
and worse by the tolerance (`limits`). Per interval with k events in n requests, and odds w times those of p0,

    L_n(w) = [(q / p0)^k ((1 - q) / (1 - p0))^(n - k)]^(1 / phi),    q / (1 - q) = w p0 / (1 - p0)

has a mean of at most 1 under the null (phi >= 1, the dispersion, only lowers it), so

    M_n(w) = (M_{n-1}(w) + 1) L_n(w),    M_0 = 0

is an e-detector, e-SR in Shin, Ramdas & Rinaldo, "E-detectors" (2024, arXiv 2203.03532, section 2), and so is
M_n, the average over lanes and w. Under the null the first look with M_n >= A comes after A looks or more on
average (the same, theorem on the average run length). There is no end to plan for and no budget to use up.

Not covered: what the versions no longer share. There is no control any more, so a busy hour in which
everything fails more often is an alarm too. And if the rollout's share was beyond its bound by bad luck
(`CONFIDENCE`), false alarms come sooner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.eprocess import log_sum_exp
from analysis.sequences import bernoulli_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.hypergeometric import Floats, Ints

WORSE = np.array([1.5, 2.0, 4.0])
"""Odds ratios against p0 that are looked for; M has an equal part on each."""
CONFIDENCE = 0.95
"""That no lane's share in the rollout was above its bound, whenever the rollout ended."""
_TYPICAL = 2_000.0
"""Requests for which the bound is about tightest; fixed, since the number in a rollout is not."""
_LARGEST = 1 - 1e-9


def limits(requests: int, events: Sequence[int], dispersion: Sequence[float], tolerance: float) -> Floats:
    """Return p0 per lane, (lanes,), from what the promoted version did in its rollout.

    The upper end of the interval for a proportion (`bernoulli_interval`), anytime-valid since a rollout ends
    when its evidence says so, with counts divided by the lane's dispersion; then its odds, 1 + `tolerance`
    times. All lanes hold together.
    ValueError when there were no requests.
    """
    alpha = (1 - CONFIDENCE) / len(events)
    upper = [
        bernoulli_interval(k / phi, requests / phi, alpha, _TYPICAL)[1]
        for k, phi in zip(events, dispersion, strict=True)
    ]
    share = np.minimum(upper, _LARGEST)
    odds = share / (1 - share) * (1 + tolerance)
    return np.asarray(np.minimum(odds / (1 + odds), _LARGEST))


def start(lanes: int) -> Floats:
    """Return ln M_0(w), (lanes, odds ratios)."""
    return np.full((lanes, WORSE.size), -np.inf)


def advance(log_m: Floats, requests: Ints, events: Ints, limit: Floats, dispersion: Floats) -> Floats:
    """Return ln M_n(w), (..., lanes, odds ratios), after an interval.

    `requests` is (...), `events` (..., lanes), `limit` (p0) and `dispersion` (lanes,).
    """
    p0 = limit[:, None]
    q = WORSE * p0 / (1 - p0 + WORSE * p0)
    k = np.asarray(events, dtype=np.float64)[..., None]
    n = np.asarray(requests, dtype=np.float64)[..., None, None]
    log_l = (k * np.log(q / p0) + (n - k) * (np.log1p(-q) - np.log1p(-p0))) / dispersion[:, None]
    return np.asarray(np.logaddexp(log_m, 0.0) + log_l)


def log_evidence(log_m: Floats) -> Floats:
    """Return ln M_n, (...): the average over lanes and odds ratios."""
    flat = log_m.reshape(*log_m.shape[:-2], -1)
    return np.asarray(log_sum_exp(flat) - np.log(flat.shape[-1]))
