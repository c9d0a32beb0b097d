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
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK = 256
"""Rows of a block of short sums."""
_WIDTHS = (1, 8, 16, 32, 64, 128, 256, 512)
"""Short sums are padded to one of these widths; a sum of one term is no news."""
_LARGEST_EXPONENT = 650.0
"""Short sums work on plain numbers: w^j must stay far from overflow (exp(709)) and underflow."""
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
    is_short = (length - 1) * widest <= _LARGEST_EXPONENT
    for shorter, width in pairwise(_WIDTHS):
        rows = np.flatnonzero(is_short & (length > shorter) & (length <= width))
        for start in range(0, rows.size, _BLOCK):
            block = rows[start : start + _BLOCK]
            result[block] = _short_sums(tables[block], low[block], length[block], log_w, width)
    for row in np.flatnonzero((length > 1) & ~(is_short & (length <= _WIDTHS[-1]))):
        result[row] = _long_sums(tables[row], log_w)
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


def _short_sums(tables: Ints, low: Ints, length: Ints, log_w: Floats, width: int) -> Floats:
    """Return the rows of at most `_BLOCK` tables whose sums have at most `width` terms."""
    size = len(tables)
    padded = np.zeros((_BLOCK, 6))
    padded[:, 5] = 1
    padded[:size, :4], padded[:size, 4], padded[:size, 5] = tables, low, length
    n_c, k_c, n_b, all_events, low_, length_ = (column[:, None] for column in padded.T)
    step = np.arange(width - 1)
    j = low_ + step
    inside = step < length_ - 1
    up = np.where(inside, (n_c - j) * (all_events - j), 1.0)
    down = np.where(inside, (j + 1) * (n_b - all_events + j + 1), 1.0)
    log_terms = np.zeros((_BLOCK, width))
    np.cumsum(np.where(inside, np.log(up / down), -np.inf), axis=1, out=log_terms[:, 1:])
    terms = np.exp(log_terms - log_terms.max(axis=1, keepdims=True))
    powers = np.exp(np.minimum(np.arange(width)[:, None] * log_w, _LARGEST_EXPONENT))
    log_sums = np.log(terms @ powers) - np.log(terms.sum(axis=1, keepdims=True))
    return np.asarray(((k_c - low_) * log_w - log_sums)[:size])


def _long_sums(table: Ints, log_w: Floats) -> Floats:
    """Return the row of one table, of any size."""
    n_c, k_c, n_b, all_events = (float(x) for x in table)
    theta = np.append(log_w, 0.0)
    w = np.exp(theta)
    b = w * (n_c + all_events) + n_b - all_events
    mode = 2 * w * n_c * all_events / (b + np.sqrt(b * b - 4 * (w - 1) * w * n_c * all_events))
    low, high = max(0.0, all_events - n_b), min(n_c, all_events)
    mode = np.clip(np.floor(mode), low, high)
    cells = (mode, n_c - mode, all_events - mode, n_b - all_events + mode)
    deviation = 1 / np.sqrt(sum(1 / (cell + 0.5) for cell in cells))
    stride = np.maximum(1.0, np.ceil((9 * deviation + 25) / _REACH))
    j = mode[:, None] + stride[:, None] * np.arange(-_REACH, _REACH + 1)
    inside = (j >= low) & (j <= high)
    shift = (j - k_c) * theta[:, None]
    log_terms = np.where(
        inside, _log_coefficients(np.clip(j, low, high), n_c, n_b, all_events) + shift, -np.inf
    )
    top = log_terms.max(axis=1)
    log_sums = top + np.log(np.exp(log_terms - top[:, None]).sum(axis=1) * stride)
    return np.asarray(log_sums[-1] - log_sums[:-1])


def _log_coefficients(j: Floats, n_c: float, n_b: float, all_events: float) -> Floats:
    """Return ln C(n_c, j) C(n_b, K - j), up to a constant, as deviances.

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


def _deviance(x: Floats, mean: float) -> Floats:
    """Return x ln(x / mean) + mean - x, for x >= 0 and a positive mean."""
    u = (x - mean) / mean
    near = np.clip(u, -0.5, 0.5)
    far = x * np.log(np.maximum(x, 1) / mean) - (x - mean)
    return np.where(np.abs(u) < 0.5, mean * ((1 + near) * np.log1p(near) - near), far)


_SMALL_RESTS = np.array([math.lgamma(x + 1) - (x * math.log(x) - x if x else 0.0) for x in range(_SMALL)])


def _stirling_rest(x: Floats) -> Floats:
    """Return ln x! - (x ln x - x), for whole x >= 0."""
    y = np.maximum(x, _SMALL)
    square = y * y
    series = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / square) / square) / square) / y
    small = _SMALL_RESTS[np.minimum(x, _SMALL - 1).astype(np.int64)]
    return np.where(x < _SMALL, small, 0.5 * np.log(2 * math.pi * y) + series)
