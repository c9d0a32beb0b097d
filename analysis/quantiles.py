"""Quantiles of latencies from histogram buckets, with bands that hold at all looks together.

A bucket edge e is a point where the empirical distribution is known exactly: F^(e) = 1 - above / total, with
the requests `above` that took longer. A quantile q is then bracketed by edges: above the largest edge where
F^ is below q by more than a radius, at or below the smallest one where F^ exceeds q by as much.

- `quantile_band`: one radius for all quantiles, the Dvoretzky-Kiefer-Wolfowitz inequality made uniform over
  time. The whole curve is covered, but the ends are not seen: above q = 1 - radius there is no upper edge.
- `quantile_intervals`: a radius for each of a few quantiles named beforehand. Much narrower in the tail.

Source: Howard & Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm
identification" (2022, arXiv 1906.09712). Both assume independent requests with one distribution; a night and
a day in one histogram, or requests in clusters, are neither. They are for the picture; decisions compare
intervals (`analysis.eprocess`). For a pair of curves that hold together, give each half of alpha. A
dispersion phi can be taken into account by dividing all counts by it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from analysis.boundaries import beta_binomial, log_threshold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from analysis.hypergeometric import Floats

Bracket: TypeAlias = "tuple[float, float | None]"
"""The quantile is greater than the first (0: unknown) and at most the second (None: unknown)."""

GROWTH = 0.85
"""A of the radius for all quantiles; any above 1 / sqrt 2 would do, this one is the authors' choice."""
_SCHEMAS = range(-4, 9)
"""The exponential schemas of Prometheus."""
_ROUNDING = 1e-6
"""By which ln of a mixture may miss its threshold on the bound found."""


def band_radius(total: float, alpha: float, *, t_min: float = 1.0) -> float:
    """Return r with P(at some total >= t_min, somewhere: |F^ - F| >= r(total)) <= alpha.

    r = A sqrt((ln(1 + ln(total / t_min)) + C) / total) with A = 0.85 and the least C for which theorem 2 of
    Howard & Ramdas (2022) gives alpha; infinite before t_min. ValueError unless t_min >= 1 and 0 < alpha < 1.
    """
    if t_min < 1:
        raise ValueError(f"t_min {t_min} must be at least 1")
    constant = _band_constant(alpha)
    if total < t_min:
        return math.inf
    return GROWTH * math.sqrt((math.log1p(math.log(total / t_min)) + constant) / total)


def quantile_radii(q: float, total: float, alpha: float, t_opt: float) -> tuple[float, float]:
    """Return how far F^ may lie below and above F at the quantile q, at all totals but with chance alpha.

    The two-sided beta-binomial bound at variance q (1 - q) total, divided by total: g = 1 - q, h = q
    downwards, g = q, h = 1 - q upwards; about tightest at `t_opt` requests (Howard & Ramdas 2022, theorem 1).
    Infinite while so few requests are no evidence. ValueError unless 0 < q < 1, total > 0, t_opt > 0 and 0 <
    alpha < 1.
    """
    if not 0 < q < 1 or total <= 0:
        raise ValueError(f"the quantile {q} must lie between 0 and 1, the total {total} be positive")
    threshold, variance = log_threshold(alpha), q * (1 - q)
    radii = []
    for g in (1 - q, q):
        mixture = beta_binomial(variance * t_opt, g, 1 - g, one_sided=False)
        bound = float(mixture.bound(variance * total, alpha))
        is_evidence = mixture.log_value(bound, variance * total) > threshold - _ROUNDING
        radii.append(bound / total if is_evidence else math.inf)
    return radii[0], radii[1]


def quantile_band(
    edges: ArrayLike, counts_above: ArrayLike, total: float, alpha: float, quantiles: Sequence[float]
) -> list[Bracket]:
    """Return a bracket per quantile, in the units of the edges, from one cumulative histogram.

    All quantiles, drawn or not, are bracketed at all totals together with probability 1 - alpha
    (`band_radius`). `edges` rise; `counts_above` has the number of requests, of `total`, that took longer
    than each. ValueError for counts that are not such, or an alpha outside (0, 1).
    """
    known, empirical = _distribution(edges, counts_above, total, quantiles)
    radius = band_radius(total, alpha)
    return [_bracket(known, empirical, q - radius, q + radius) for q in quantiles]


def quantile_intervals(
    edges: ArrayLike,
    counts_above: ArrayLike,
    total: float,
    alpha: float,
    quantiles: Sequence[float],
    *,
    t_opt: float,
) -> list[Bracket]:
    """Return a bracket per quantile as `quantile_band`, all of them together with probability 1 - alpha.

    Each has an equal share of alpha (Bonferroni) and its own `quantile_radii`, so the list and `t_opt` have
    to be fixed before the data. Without requests everything is unknown.
    """
    known, empirical = _distribution(edges, counts_above, total, quantiles)
    if total == 0:
        return [(0.0, None)] * len(quantiles)
    brackets = []
    for q in quantiles:
        below, above = quantile_radii(q, total, alpha / len(quantiles), t_opt)
        brackets.append(_bracket(known, empirical, q - below, q + above))
    return brackets


def native_buckets(
    schema: int, offset: int, counts: Sequence[float], *, zero_count: float = 0
) -> tuple[Floats, Floats, float]:
    """Return edges, counts above each edge and the total of a native (exponential) Prometheus histogram.

    Bucket i of a schema holds the values in (2^((i - 1) 2^-schema), 2^(i 2^-schema)]; `counts` has those of
    the buckets from `offset` on, not cumulative, without gaps. The zero bucket lies below all edges; negative
    values are not for latencies. (Prometheus, "Native Histograms", exponential schemas.) Edges are in the
    unit of the values: one more than there are buckets. ValueError for a schema outside -4..8.
    """
    if schema not in _SCHEMAS:
        raise ValueError(f"schema {schema} is not exponential: -4 to 8 are")
    edges = np.exp2((offset - 1 + np.arange(len(counts) + 1)) * 2.0**-schema)
    above = np.append(np.cumsum(np.asarray(counts, dtype=np.float64)[::-1])[::-1], 0.0)
    return edges, above, float(above[0]) + zero_count


def _distribution(
    edges: ArrayLike, counts_above: ArrayLike, total: float, quantiles: Sequence[float]
) -> tuple[Floats, Floats]:
    """Return edges and F^ there (0 without requests); ValueError for counts or quantiles that cannot be."""
    if not all(0 < q < 1 for q in quantiles):
        raise ValueError(f"quantiles must lie between 0 and 1: {quantiles}")
    known, above = np.asarray(edges, dtype=np.float64), np.asarray(counts_above, dtype=np.float64)
    if known.shape != above.shape or not np.all(np.isfinite(known)) or np.any(np.diff(known) <= 0):
        raise ValueError("edges must be finite and rise, with one count each")
    if np.any(np.diff(above) > 0) or np.any((above < 0) | (above > total)):
        raise ValueError(f"counts above rising edges must fall, from {total} at most to 0 at least")
    return known, 1 - above / total if total else np.zeros_like(above)


def _bracket(edges: Floats, empirical: Floats, low: float, high: float) -> Bracket:
    """Return the largest edge where F^ < low (0: none) and the smallest where F^ >= high (None: none)."""
    under, over = edges[empirical < low], edges[empirical >= high]
    return (float(under[-1]) if under.size else 0.0), (float(over[0]) if over.size else None)


@lru_cache(maxsize=64)
def _band_constant(alpha: float) -> float:
    """Return the least C whose bound on the error, minimised over eta, is alpha (theorem 2's formula)."""
    target = -log_threshold(alpha)
    most = 4 * math.log(1612 / alpha)
    return _root(lambda c: target - _log_band_error(c), 1.0, most)


def _log_band_error(c: float) -> float:
    """Return ln of min over eta > 1 of 4 exp(-y C) (1 + 1 / ((y - 1) ln eta)).

    y = (2 / eta) (A - sqrt(2 (eta - 1) / C))^2 has to exceed 1, which bounds eta from above.
    """

    def exponent(eta: float) -> float:
        return 2 / eta * (GROWTH - math.sqrt(2 * (eta - 1) / c)) ** 2

    def log_error(eta: float) -> float:
        y = exponent(eta)
        return math.log(4) - y * c + math.log1p(1 / ((y - 1) * math.log(eta)))

    def slack(eta: float) -> float:
        return math.sqrt(eta / 2) + math.sqrt(2 * (eta - 1) / c) - GROWTH

    largest = _root(slack, 1.0, 2 * GROWTH**2)
    inside = (largest - 1) * 1e-9
    return _least(log_error, 1 + inside, largest - inside)


# scipy.optimize does both, but loading it takes as much memory as a hundred rollouts, and half a second.


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising function crosses zero, by halving."""
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return high


def _least(function: Callable[[float], float], low: float, high: float) -> float:
    """Return the least value of a function that first falls and then rises, by the golden section."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > 1e-9:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return min(at_left, at_right)
