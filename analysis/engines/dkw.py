"""Latency by confidence bands on whole distributions, as Netflix describes it for canaries.

Lindon, Sanden & Shirikian (KDD 2022, arXiv 2205.14762): each arm's share of requests above every time is
known within a radius, at all looks together; the candidate is slower when its lower band lies above the
control's upper one anywhere. The radius is Howard & Ramdas' (Bernoulli 28(3) 2022, arXiv 1906.09712):

    sup |F_n - F| <= 0.85 sqrt((ln ln(e n) + 0.8 ln(1612 / alpha)) / n)    for all n >= 1, chance 1 - alpha
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from analysis.engines.engine import Flags
    from analysis.hypergeometric import Floats, Ints

LACKS = (
    "What only few requests see (time-outs, a slow tail) is narrower than the bands: found late or never.",
    "It takes requests as independent, and adds up all intervals.",
)


def radius(requests: ArrayLike, alpha: float) -> Floats:
    """Return the radius of the band after so many requests; 1 or more says nothing."""
    n = np.maximum(np.asarray(requests, dtype=np.float64), 1.0)
    return np.asarray(0.85 * np.sqrt((np.log1p(np.log(n)) + 0.8 * np.log(1612 / alpha)) / n))


def slower(tables: Ints, alpha: float) -> Flags:
    """Tell of every run at every look whether the candidate is proven slower at some edge.

    `tables` is (looks, runs, 2, 1 + edges), per interval: control and candidate; requests, then those slower
    than each edge. Each arm has half of alpha.
    """
    sums = np.cumsum(tables, axis=0).astype(np.float64)
    requests = sums[..., :1]
    above = sums[..., 1:] / np.maximum(requests, 1.0)
    reach = radius(requests[..., 0], alpha / 2).sum(axis=-1)
    crossed = (above[..., 1, :] - above[..., 0, :]).max(axis=-1) > reach
    return np.asarray(np.logical_or.accumulate(crossed, axis=0))
