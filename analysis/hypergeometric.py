"""How likely a 2x2 table is under an odds ratio, for many tables and many odds ratios at once.

Given all margins of a table, its one free number has Fisher's noncentral hypergeometric distribution:

    P(k | w) = C(n_c, k) C(n_b, K - k) w^k / Z(w),    Z(w) = sum_j C(n_c, j) C(n_b, K - j) w^j

n_c, k: requests and events of the candidate; n_b: requests of the control; K: events of both. The sum has
min(n_c, n_b, K, n - K) + 1 terms. Two ways to sum, both exact to about 1e-12:

- short sums, in blocks: the coefficients from the ratios of neighbours, then one matrix product with the
  powers of w. Blocks have a fixed shape, so that a table has the same result, bit for bit, in any company.
- long sums: per odds ratio, 133 points around the mode, in steps of up to a quarter of a standard deviation.
  Stepping is no approximation to speak of: the distribution is one of a sum of independent indicators (its
  generating function has only real roots: Vatutin & Mikhailov 1982), so |phi(t)| <= exp(-2 var sin^2(t/2))
  bounds the aliasing of a sum with step s by exp(-2 var sin^2(pi/s)), below 1e-17 for the steps used here.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK = 256
"""Rows of a block of short sums."""
_WIDTHS = (1, 8, 16, 32, 64, 128, 256, 400)
"""Short sums are padded to one of these widths; a sum of one term is no news."""
_LARGEST_EXPONENT = 650.0
"""Short sums work on plain numbers: powers of w, from the middle on, stay far from over- and underflow."""
_LOST = 700.0
"""Terms below exp(-745) are 0: no loss to a sum that exceeds the largest power of w by exp(-700)."""
_LONG_BLOCK = 64
"""Tables of long sums that are worked on at once."""
_REACH = 66
"""Points on each side of the mode of a long sum."""
_SMALL = 16
"""Below this, logarithms of factorials come from a table; above, from Stirling's series."""


def log_likelihood_ratios(
    candidate_total: ArrayLike,
    candidate_events: ArrayLike,
    control_total: ArrayLike,
    control_events: ArrayLike,
    odds_ratios: ArrayLike,
) -> Floats:
    """Return ln P(k | w) - ln P(k | 1) for each of n tables (rows) and m odds ratios (columns).

    A table without events, with nothing but events, or with an empty arm says nothing: its row is exactly 0.
    The counts are arrays of n whole numbers, events at most the totals (not checked); odds ratios are
    positive.
    """
    tables = _columns(candidate_total, candidate_events, control_total, control_events)
    log_w = np.log(np.asarray(odds_ratios, dtype=np.float64))
    result = np.zeros((len(tables), log_w.size))
    low, length = _support(tables)
    widest = float(np.abs(log_w).max(initial=0.0))
    long = length > 1
    for shorter, width in pairwise(_WIDTHS):
        if (width - 1) / 2 * widest > _LARGEST_EXPONENT:
            break
        rows = np.flatnonzero((length > shorter) & (length <= width))
        for start in range(0, rows.size, _BLOCK):
            block = rows[start : start + _BLOCK]
            result[block], long[block] = _short_sums(tables[block], low[block], length[block], log_w, width)
    rows = np.flatnonzero(long)
    for start in range(0, rows.size, _LONG_BLOCK):
        block = rows[start : start + _LONG_BLOCK]
        result[block] = _long_sums(tables[block], log_w)
    return result


def _columns(*counts: ArrayLike) -> Ints:
    """Return the counts as the columns n_c, k_c, n_b, K of one array."""
    n_c, k_c, n_b, k_b = np.broadcast_arrays(*(np.atleast_1d(np.asarray(c, dtype=np.int64)) for c in counts))
    return np.stack([n_c, k_c, n_b, k_c + k_b], axis=1)


def _support(tables: Ints) -> tuple[Ints, Ints]:
    """Return the least possible number of events of the candidate, and how many numbers are possible."""
    n_c, _, n_b, all_events = tables.T
    low = np.maximum(0, all_events - n_b)
    return low, np.minimum(n_c, all_events) - low + 1


def _short_sums(
    tables: Ints, low: Ints, length: Ints, log_w: Floats, width: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the rows of at most `_BLOCK` tables whose sums have at most `width` terms, and which to redo."""
    columns = (*tables.T, low, length)
    n_c, k_c, n_b, all_events, low_, length_ = (column[:, None].astype(np.float64) for column in columns)
    terms = np.zeros((_BLOCK, width))
    own = terms[: len(tables)]
    step = np.arange(width - 1, dtype=np.float64)
    beyond = step >= length_ - 1
    ratios = (n_c - low_ - step) * (all_events - low_ - step)
    ratios /= (low_ + 1 + step) * (n_b - all_events + low_ + 1 + step)
    np.copyto(ratios, 1.0, where=beyond)  # not 0: logarithms and powers of it take five times as long
    np.cumsum(np.log(ratios), axis=1, out=own[:, 1:])
    np.exp(own - own.max(axis=1, keepdims=True), out=own)
    np.copyto(own[:, 1:], 0.0, where=beyond)
    middle = (width - 1) / 2
    with np.errstate(divide="ignore"):
        log_sums = np.log((terms @ _powers(log_w.tobytes(), width))[: len(tables)])
    lost = np.any(log_sums < middle * np.abs(log_w) - _LOST, axis=1)
    rows = (k_c - low_ - middle) * log_w - log_sums + np.log(own.sum(axis=1, keepdims=True))
    return rows, lost


@lru_cache(maxsize=64)
def _powers(log_w: bytes, width: int) -> Floats:
    """Return the powers of the odds ratios, of which the logarithms are given, from the middle on."""
    exponents = np.arange(width)[:, None] - (width - 1) / 2
    powers = np.exp(exponents * np.frombuffer(log_w))
    powers.flags.writeable = False
    return powers


def _long_sums(tables: Ints, log_w: Floats) -> Floats:
    """Return the rows of tables of any size: (tables, odds ratios)."""
    n_c, k_c, n_b, every = (column[:, None] for column in tables.T.astype(np.float64))
    theta = np.append(log_w, 0.0)
    w = np.exp(theta)
    b = w * (n_c + every) + n_b - every
    mode = 2 * w * n_c * every / (b + np.sqrt(b * b - 4 * (w - 1) * w * n_c * every))
    low, high = np.maximum(0.0, every - n_b), np.minimum(n_c, every)
    mode = np.clip(np.floor(mode), low, high)
    cells = (mode, n_c - mode, every - mode, n_b - every + mode)
    deviation = 1 / np.sqrt(sum(1 / (cell + 0.5) for cell in cells))
    stride = np.maximum(1.0, np.ceil((9 * deviation + 25) / _REACH))
    j = mode[..., None] + stride[..., None] * np.arange(-_REACH, _REACH + 1)
    low, high, k_c = low[..., None], high[..., None], k_c[..., None]
    margins = (n_c[..., None], n_b[..., None], every[..., None])
    shift = (j - k_c) * theta[:, None]
    inside = (j >= low) & (j <= high)
    log_terms = np.where(inside, log_coefficients(np.clip(j, low, high), *margins) + shift, -np.inf)
    top = log_terms.max(axis=-1)
    log_sums = top + np.log(np.exp(log_terms - top[..., None]).sum(axis=-1) * stride)
    return np.asarray(log_sums[:, -1:] - log_sums[:, :-1])


def log_coefficients(j: Floats, n_c: Floats, n_b: Floats, all_events: Floats) -> Floats:
    """Return ln C(n_c, j) C(n_b, K - j), up to a constant per table, as deviances.

    All are arrays of floats that broadcast together; j lies within the support, K > 0 and n > K.

    Loader, "Fast and accurate computation of binomial probabilities" (2000): they are small where the
    likelihood is large, so little cancels.
    """
    n = n_c + n_b
    cells = (
        (j, n_c * all_events / n),
        (n_c - j, n_c * (n - all_events) / n),
        (all_events - j, n_b * all_events / n),
        (n_b - all_events + j, n_b * (n - all_events) / n),
    )
    return -sum((_stirling_rest(x) + _deviance(x, mean) for x, mean in cells), np.zeros_like(j))


def _deviance(x: Floats, mean: Floats) -> Floats:
    """Return x ln(x / mean) + mean - x, for x >= 0 and a positive mean."""
    u = (x - mean) / mean
    far = np.abs(u) >= 0.5
    near = np.clip(u, -0.5, 0.5)
    result = mean * ((1 + near) * np.log1p(near) - near)
    if far.any():
        np.copyto(result, x * np.log(np.maximum(x, 1) / mean) - (x - mean), where=far)
    return np.asarray(result)


_SMALL_RESTS = np.array([math.lgamma(x + 1) - (x * math.log(x) - x if x else 0.0) for x in range(_SMALL)])


def _stirling_rest(x: Floats) -> Floats:
    """Return ln x! - (x ln x - x), for whole x >= 0."""
    small = x < _SMALL
    if small.all():
        return np.asarray(_SMALL_RESTS[x.astype(np.int64)])
    y = np.maximum(x, _SMALL)
    square = y * y
    series = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / square) / square) / square) / y
    result = 0.5 * np.log(2 * math.pi * y) + series
    if small.any():
        np.copyto(result, _SMALL_RESTS[np.minimum(x, _SMALL - 1).astype(np.int64)], where=small)
    return np.asarray(result)
