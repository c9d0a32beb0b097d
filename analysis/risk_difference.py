"""The difference of risks in percentage points, stratified by interval, with a confidence sequence.

Interval i with rates p_c, p_b has the weight w = n_c n_b / n and the difference d = p_c - p_b; the estimate
is the Cochran-Mantel-Haenszel one, sum w d / sum w. Against the null "the difference is m", S = sum w (d - m)
is a sum of martingale differences, and with its variance V the one-sided normal mixture

    M = 2 sqrt(r / (V + r)) exp(S^2 / 2 (V + r)) Phi(S / sqrt(V + r))

is at large counts an e-process (Howard, Ramdas, McAuliffe & Sekhon 2021, arXiv 1810.08240, proposition 6;
with an estimated V: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, arXiv 2103.06476, theorem 2.8). So
the error rates are approximate: nothing is claimed before `BURN_IN` intervals. For exact ones, at some price
in time, see `analysis.engines.two_by_two`.

V is the largest of four, so that no single way to be too small makes a false claim:

- robust: from the scatter of the w d themselves, which shows clusters and correlation between requests
- hypergeometric: from the margins of the tables, as if the rates were equal
- binomial: from the events of each arm
- null: what the control's rate p and the null's p + m let expect; a candidate that was lucky, so that both
  its rate and its scatter are small, does not shrink it

Scatter is learnt slowly: with clustered events the last three are to be multiplied by a dispersion that is
known from elsewhere. All of it follows from sums over intervals (`terms`), which can be kept and added.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr

if TYPE_CHECKING:
    from analysis.confidence import Counts
    from analysis.hypergeometric import Floats

BURN_IN = 8
"""Intervals with requests in both arms before anything is claimed."""
TERMS = 11
"""How many sums are kept."""
_HALVINGS = 50


def terms(n_c: Counts, k_c: Counts, n_b: Counts, k_b: Counts, ratio: float = 1.0) -> Floats:
    """Return what an interval adds to the sums: (.., TERMS); zeros when an arm has no requests.

    In order: 1; w; w d; w^2; w^2 d; w^2 d^2; the hypergeometric and the binomial variance of w d; w p_b;
    w^2 / n_c; w^2 / n_b. With a `ratio` r other than 1 the difference is p_c - r p_b, and the last three are
    w r p_b, w^2 / n_c and r w^2 / n_b.
    """
    n_c, k_c, n_b, k_b = (np.asarray(x, dtype=np.float64) for x in (n_c, k_c, n_b, k_b))
    both = (n_c > 0) & (n_b > 0)
    size_c, size_b = np.maximum(n_c, 1), np.maximum(n_b, 1)
    n, events = size_c + size_b, k_c + k_b
    w = size_c * size_b / n
    base = ratio * k_b / size_b
    d = k_c / size_c - base
    hypergeometric = size_c * size_b * events * (n - events) / (n**2 * (n - 1))
    binomial = _variance(size_c, k_c) + ratio**2 * _variance(size_b, k_b)
    columns = (
        np.ones_like(w), w, w * d, w**2, w**2 * d, w**2 * d**2,
        hypergeometric, w**2 * binomial, w * base, w**2 / size_c, ratio * w**2 / size_b,
    )  # fmt: skip
    return np.where(both[..., None], np.stack(columns, axis=-1), 0.0)


def _variance(n: Floats, k: Floats) -> Floats:
    """Return the unbiased variance of k / n."""
    return np.asarray(k * (n - k) / (n**2 * np.maximum(n - 1, 1)))


def difference(sums: Floats) -> Floats:
    """Return the stratified difference of risks, nan where there is none."""
    w, wd = sums[..., 1], sums[..., 2]
    return np.divide(wd, w, out=np.full_like(w, np.nan), where=w > 0)


def variance(sums: Floats, null: Floats | float = 0.0, dispersion: Floats | float = 1.0) -> Floats:
    """Return V for the null difference(s), of the shape of the sums but for their last axis."""
    number, w, wd, w2, w2d, w2d2, hypergeometric, binomial, base, per_c, per_b = np.moveaxis(sums, -1, 0)
    weight = np.where(w > 0, w, 1.0)
    mean = wd / weight
    scatter = np.maximum(w2d2 - 2 * mean * w2d + mean**2 * w2, 0.0)
    robust = scatter * number / np.maximum(number - 1, 1)
    null = np.clip(null, -1.0, 1.0)
    control = np.clip(base / weight, np.maximum(0.0, -null), np.minimum(1.0, 1.0 - null))
    candidate = control + null
    expected = candidate * (1 - candidate) * per_c + control * (1 - control) * per_b
    counted = np.maximum.reduce([hypergeometric, binomial, expected])
    return np.asarray(np.maximum(robust, dispersion * counted))


def precision(best_at: Floats | float, alpha: float) -> Floats:
    """Return the r with which the one-sided bound is about tightest when V is `best_at`.

    Howard et al. (2021), equation 24, with alpha doubled for one side. It has to be fixed before the evidence
    that it is used on; at the end of the burn-in is early enough.
    """
    log = -2 * math.log(min(2 * alpha, 0.5))
    return np.asarray(np.asarray(best_at) / (log + math.log(1 + log)))


def log_e_above(
    sums: Floats, null: Floats | float, r: Floats | float, dispersion: Floats | float = 1.0
) -> Floats:
    """Return ln of the e-value against "the difference is at most `null`"; 0 within the burn-in."""
    return _log_e(sums, null, r, dispersion, sign=1)


def log_e_below(
    sums: Floats, null: Floats | float, r: Floats | float, dispersion: Floats | float = 1.0
) -> Floats:
    """Return ln of the e-value against "the difference is at least `null`": a proof of the margin."""
    return _log_e(sums, null, r, dispersion, sign=-1)


def _log_e(
    sums: Floats, null: Floats | float, r: Floats | float, dispersion: Floats | float, *, sign: int
) -> Floats:
    distance = sign * (sums[..., 2] - null * sums[..., 1])
    spread = variance(sums, null, dispersion)
    known = (sums[..., 0] >= BURN_IN) & (spread > 0) & (np.asarray(r) > 0)
    prior = np.where(known, r, 1.0)
    total = np.where(known, spread, 0.0) + prior
    size = distance / np.sqrt(total)
    log_e = math.log(2) + 0.5 * np.log(prior / total) + 0.5 * size**2 + log_ndtr(size)
    return np.where(known, log_e, 0.0)


def bounds(
    sums: Floats, alpha: float, r: Floats | float, dispersion: Floats | float = 1.0
) -> tuple[Floats, Floats]:
    """Return a confidence sequence for the difference: at all looks together with chance 1 - alpha.

    The ends are where the one-sided e-values reach 2 / alpha: close to RD -+ sqrt((V + r) ln((V + r) / (r
    alpha^2))) / sum w. Within the burn-in they are -1 and 1.
    """
    return _bound(sums, alpha, r, dispersion, sign=1), _bound(sums, alpha, r, dispersion, sign=-1)


def _bound(sums: Floats, alpha: float, r: Floats | float, dispersion: Floats | float, *, sign: int) -> Floats:
    """Return the lower (sign 1) or upper (-1) end: between the estimate and -sign, by bisection."""
    inside = np.nan_to_num(difference(sums), nan=-sign)
    outside = np.full_like(inside, -float(sign))
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        excluded = _log_e(sums, middle, r, dispersion, sign=sign) >= math.log(2 / alpha)
        inside, outside = np.where(excluded, inside, middle), np.where(excluded, middle, outside)
    return outside
