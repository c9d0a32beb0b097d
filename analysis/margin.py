"""The proof that a latency margin is kept, for many runs at once: every pair of edges has to pass.

A pair compares the control above edge j with the candidate above edge k >= (1 + margin) j. By the control's
share of requests above edge j, with t the design's `tail` (1 % unless the policy says otherwise):

    t to 99 %     null: the candidate's odds above k are at least the control's above j (conditional
                  e-process)
    below t       the tail, where the control has too little to compare with; null: at least t of the
                  candidate's requests are above k. Bernoulli likelihood ratio against fixed smaller shares,
                  a function of the totals alone:  prod (p/t)^k ((1-p)/(1-t))^(n-k)
                  (Ramdas, Gruenwald, Vovk & Shafer 2023, arXiv 2210.01948, test martingales)
    above 99 %    tells nothing, and is left out

The evidence is the smallest e-value of the pairs that count (intersection-union): for a pair that is beyond
its null, a false claim has at most the chance `false_promote`. A pair whose control share lies at t itself
can be judged in both ways in turn; for it the chance is at most twice that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from analysis.eprocess import log_mean, log_sum_exp, safe_log_prior

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analysis.design import Layout
    from analysis.hypergeometric import Floats, Ints

BULK = 0.99
"""An edge that more of the control's requests are above is no news."""
_FEWER = np.array([2.0, 4.0, 10.0, 100.0])
"""What the share of the tail is divided by, for the alternatives."""


def control_shares(layout: Layout, counts: Ints) -> Floats:
    """Return the control's share of requests above the near edge of each pair: (runs, pairs).

    `counts` is (runs, 2, 1 + edges): control and candidate; requests, then requests above each edge.
    """
    near = [1 + edge for edge, _ in layout.pairs]
    return np.asarray(counts[:, 0, near] / np.maximum(counts[:, 0, :1], 1))


def comparable(layout: Layout, shares: Floats) -> NDArray[np.bool_]:
    """Tell for which control shares the candidate is compared with the control itself."""
    return (shares >= layout.tail) & (shares <= BULK)


def log_e_safe(
    layout: Layout, counts: Ints, pairs: Floats, dispersion: Floats, before: Floats | float = 0.0
) -> Floats:
    """Return ln of the e-value against "slower than the margin", per run; ln 0 where no pair tells of it.

    `pairs` is (runs, pairs, alternatives): the conditional log-likelihood ratios, already divided by phi;
    `dispersion` (runs, edges) the largest phi so far; `before` what each pair had proven before it had to
    begin anew (`analysis.mending`).
    """
    if not layout.pairs:
        return np.full(len(counts), -math.inf)
    per_pair = log_e_of_pairs(layout, counts, pairs, dispersion) - before
    telling = control_shares(layout, counts) <= BULK
    smallest = np.where(telling, per_pair, math.inf).min(axis=1)
    return np.where(telling.any(axis=1), smallest, -math.inf)


def log_e_of_pairs(layout: Layout, counts: Ints, pairs: Floats, dispersion: Floats) -> Floats:
    """Return ln of the e-value of each pair, (runs, pairs)."""
    bulk = log_sum_exp(pairs + safe_log_prior(1.0))
    compared = comparable(layout, control_shares(layout, counts))
    return np.where(compared, bulk, _log_tail(layout, counts, dispersion))


def _log_tail(layout: Layout, counts: Ints, dispersion: Floats) -> Floats:
    """Return ln of the e-value against "at least `tail` of the candidate's requests are above edge k"."""
    far = np.array([edge for _, edge in layout.pairs])
    slow = counts[:, 1, 1 + far].astype(np.float64)[:, :, None]
    fast = counts[:, 1, 0].astype(np.float64)[:, None, None] - slow
    shares = layout.tail / _FEWER
    more, less = np.log(shares / layout.tail), np.log((1 - shares) / (1 - layout.tail))
    return log_mean((slow * more + fast * less) / np.maximum(dispersion[:, far, None], 1.0))
