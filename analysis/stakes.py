"""How the judge of a run spreads its bet on harm: over odds ratios, and over the time at which it may begin.

    E = c sum_g s_g exp L_t(w_g) + (1 - c) [sum_g r_g R_t(w_g) + 1 - sum_{s<=t} w_s],    c = START

with L_t, R_t and w_t of `analysis.eprocess`. Any spread that is fixed in advance gives the same guarantee: an
average of e-processes is one. The spread decides only how soon harm of which size is found. This one was
chosen by simulation (docs/decision-quality.md); `analysis.eprocess.mixture_path` is the plain one, all odds
ratios alike and half of it for later. What is broken from the start tends to be broken badly, so half of the
bet on errors from the start is on 5; what develops later does so from small beginnings.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.eprocess import log_sum_exp, restart_log_rest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.hypergeometric import Floats

START = 0.77
"""The part of the bet that is on harm from the start; the rest is spread over the planned looks."""
_ERRORS = {1.25: (4, 6), 1.5: (18, 20), 2.0: (13, 40), 3.0: (15, 20), 5.0: (46, 10), 10.0: (4, 4)}
_LATENCY = {1.1: (24, 24), 1.25: (24, 24), 1.5: (16, 16), 2.5: (12, 12), 5.0: (12, 12), 20.0: (12, 12)}
"""Odds ratio: per cent of the bet from the start, and of the later bets."""


class Stakes(NamedTuple):
    """Odds ratios, and ln of the parts of the whole bet that are on each: from the start, and later."""

    odds_ratios: tuple[float, ...]
    start: Floats
    later: Floats


@lru_cache
def harm_stakes(null: float, *, latency: bool) -> Stakes:
    """Return the bets on harm beyond `null`: the odds ratios above it, or multiples of it if none is."""
    spread = _LATENCY if latency else _ERRORS
    above = {w: parts for w, parts in spread.items() if w > null}
    chosen = above or {null * w: parts for w, parts in spread.items()}
    start, later = np.array(list(chosen.values()), dtype=np.float64).T
    parts = (START * start / start.sum(), (1 - START) * later / later.sum())
    return Stakes(tuple(chosen), *map(np.log, parts))


def log_bets(stakes: Stakes, log_start: Floats, log_restart: Floats) -> Floats:
    """Return ln of what every bet has become, (..., lanes, 2 x odds ratios); lanes share the bet alike."""
    bets = np.concatenate([log_start + stakes.start, log_restart + stakes.later], axis=-1)
    return np.asarray(bets - math.log(bets.shape[-2]))


def log_cash(looks: Sequence[tuple[int, int]]) -> Floats:
    """Return ln of what has not been bet yet, for runs after (look, planned) looks."""
    return np.array([restart_log_rest(*each) for each in looks]) + math.log(1 - START)


def log_worth(bets: Floats, cash: Floats) -> Floats:
    """Return ln E from the bets (runs, lanes, bets) and the cash (runs,)."""
    flat = bets.reshape(len(bets), math.prod(bets.shape[1:]))
    return log_sum_exp(np.concatenate([flat, cash[:, None]], axis=1))
