"""What an e-process wins beyond its bound is of no use: get it back before it is won.

A test that stops at E >= A = 1/alpha has no use for more than A. So before each interval the whole bet may be
multiplied by the largest b >= 1 for which the truncated value is still fair,

    sum_k P0(k) min(b E(k), A) = sum_k P0(k) E(k)

where E(k) is what the e-process would be worth if the candidate had k of the interval's events, and P0 the
distribution of k at the null (Fisher's noncentral hypergeometric; given the table's margins nothing in it is
unknown). The truncated process is a supermartingale wherever the plain one is, so Ville's inequality holds
unchanged, and it reaches A sooner. E(k) is monotone, so a null in which the candidate is better (worse, for a
proof of safety) than at its border is covered as for the plain process.

Fischer & Ramdas, "Improving the (approximate) sequential probability ratio test by avoiding overshoot" (2024,
arXiv 2410.16076), proposition on truncated test martingales; here for a mixture and a known conditional null.

With a dispersion phi > 1 the plain process is worth less than a fair one under P0; b restores only what the
truncation takes under P0. Counts that vary more than P0 are truncated more often than that, so b is too small
then, which is the safe side. Where an interval has so many events that P0 does not fit the window, b is 1.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.hypergeometric import log_coefficients

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats, Ints

Flags: TypeAlias = NDArray[np.bool_]

_WIDTHS = (1, 16, 32, 64, 128, 256)
"""Windows have one of these widths, so that a run has the same result, bit for bit, in any company."""
_LARGEST = 600.0
"""Logarithms of a bet in units of the bound end here."""
_REACH = 9.0
"""Standard deviations of k that a window reaches to each side, plus a dozen."""


class Bets(NamedTuple):
    """Bets of n runs after an interval, as functions of k: ln of a bet is `level + slope * (k - k_c)`.

    `level`, `slope`: (n, bets); `cash`: (n,) ln of what does not depend on k; `bound`: (n,) ln A.
    """

    level: Floats
    slope: Floats
    cash: Floats
    bound: Floats


def log_boosts(tables: Ints, null: float, bets: Bets) -> Floats:
    """Return ln b of every run, (n,). `tables` has the columns n_c, k_c, n_b, k_b of the interval.

    `null` is the odds ratio at the border of the null. A table that says nothing has b = 1.
    """
    result = np.zeros(len(tables))
    n_c, _, n_b, k_b = tables.T
    every = tables[:, 1] + k_b
    first, length = _window(n_c, n_b, every, null)
    telling = (every > 0) & (every < n_c + n_b) & (n_c > 0) & (n_b > 0)
    for shorter, width in pairwise(_WIDTHS):
        rows = np.flatnonzero(telling & (length > shorter) & (length <= width))
        if rows.size:
            k = first[rows, None] + np.arange(width)
            inside = np.arange(width) < length[rows, None]
            chance = _chance(tables[rows], np.where(inside, k, first[rows, None]), null, inside)
            worth = _worth(Bets(*(column[rows] for column in bets)), k - tables[rows, 1:2])
            result[rows] = _solve(chance, worth)
    return result


def _window(n_c: Ints, n_b: Ints, every: Ints, null: float) -> tuple[Ints, Ints]:
    """Return the first k and the number of k that matter."""
    share = null * n_c / np.maximum(null * n_c + n_b, 1.0)
    middle, reach = every * share, _REACH * np.sqrt(every * share * (1 - share)) + 12
    low, high = np.maximum(0, every - n_b), np.minimum(n_c, every)
    first = np.maximum(low, np.floor(middle - reach).astype(np.int64))
    last = np.minimum(high, np.ceil(middle + reach).astype(np.int64))
    return first, last - first + 1


def _chance(tables: Ints, k: Ints, null: float, inside: Flags) -> Floats:
    """Return P0 at every k of a window, (n, width); 0 where it is not inside the support."""
    n_c, k_c, n_b, k_b = (column[:, None].astype(np.float64) for column in tables.T)
    log_chance = log_coefficients(k.astype(np.float64), n_c, n_b, k_c + k_b) + k * np.log(null)
    log_chance = np.where(inside, log_chance, -np.inf)
    chance = np.exp(log_chance - log_chance.max(axis=1, keepdims=True))
    return np.asarray(chance / chance.sum(axis=1, keepdims=True))


def _worth(bets: Bets, more: Ints) -> Floats:
    """Return E in units of the bound, (n, width), with `more` events of the candidate than it had."""
    worth = np.exp(np.minimum(bets.cash - bets.bound, 0.0))[:, None] * np.ones(more.shape[1])
    for bet in range(bets.level.shape[1]):
        log_bet = (bets.level[:, bet] - bets.bound)[:, None] + bets.slope[:, bet, None] * more
        worth += np.exp(np.minimum(log_bet, _LARGEST))
    return worth


def _solve(chance: Floats, worth: Floats) -> Floats:
    """Return ln b with sum chance min(b worth, 1) = sum chance worth; `worth` is monotone in k.

    If the outcomes after j are truncated, b_j = (sum chance worth - P(after j)) / sum_{<=j} chance worth; j
    is right when b_j worth is below 1 up to j and not after it.
    """
    falling = worth[:, :1] > worth[:, -1:]
    chance, worth = (np.where(falling, each[:, ::-1], each) for each in (chance, worth))
    parts = chance * worth
    fair = np.minimum(parts.sum(axis=1, keepdims=True), 1.0)
    kept = np.cumsum(parts, axis=1)
    lost = 1 - np.cumsum(chance, axis=1)
    factor = (fair - np.maximum(lost, 0.0)) / np.maximum(kept, 1e-300)
    following = np.concatenate([worth[:, 1:], np.full((len(worth), 1), np.inf)], axis=1)
    right = (factor * worth < 1) & (factor * following >= 1) & (chance > 0)
    at = right.argmax(axis=1)
    rows = np.arange(len(worth))
    return np.where(right.any(axis=1), np.log(np.maximum(factor[rows, at], 1.0)), 0.0)
