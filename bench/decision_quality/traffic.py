"""The traffic of a case as arrays: every rule sees the same counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import ndtr

from analysis.design import Design, MetricDesign
from analysis.dispersion import calibrate
from analysis.draws import exceedances
from analysis.simulate import Streams
from bench.decision_quality.cases import HISTORY_SECONDS, RPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.hypergeometric import Floats, Ints
    from analysis.simulate import Behaviour
    from bench.decision_quality.cases import Case, Slowness

EDGES = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000)
"""Istio's bucket edges in milliseconds, as far as anything happens there."""
MEDIAN, SIGMA = 80.0, 0.8
_LEAST, _MOST, _ABOVE = 0.002, 0.98, 2
_ERRORS = Design((MetricDesign("errors", "proportion"),), 0.05, 0.05, 180, 0)


class Traffic(NamedTuple):
    """Tables (looks, runs, 2, 1 + lanes): control and candidate; requests, then events per lane.

    `dispersions`: by length of the history, what `analysis.dispersion` finds in it, (runs,).
    """

    tables: Ints
    dispersions: dict[str, Floats]


def errors(case: Case, behaviour: Behaviour, runs: int, seed: Sequence[int]) -> Traffic:
    """Return requests and errors."""
    streams = Streams(_ERRORS, behaviour, runs, seed)
    dispersions = _dispersions(streams, case) if case.calibrated else {}
    share = np.full(runs, case.share)
    tables = np.empty((case.looks, runs, 2, 2), dtype=np.int64)
    for table in tables:
        requests, (events,) = streams.counts(share, case.seconds)
        table[..., 0], table[..., 1:] = requests, events
    return Traffic(tables, dispersions)


def _dispersions(streams: Streams, case: Case) -> dict[str, Floats]:
    """Return the dispersions found in the past of two series, of the candidate's share and of the rest."""
    longest = max(HISTORY_SECONDS.values())
    totals, (events,) = streams.history(longest, case.seconds, (1 - case.share, case.share))
    return {
        name: np.array(
            [
                calibrate(
                    n[-seconds // case.seconds :], k[-seconds // case.seconds :], share=case.share
                ).dispersion
                for n, k in zip(totals, events, strict=True)
            ]
        )
        for name, seconds in HISTORY_SECONDS.items()
    }


def latency(case: Case, harm: Slowness, runs: int, seed: Sequence[int]) -> Traffic:
    """Return requests, and those slower than each of `EDGES`."""
    dice = np.random.default_rng(list(seed))
    above = np.stack([_shares_above(), _shares_above(harm)], axis=1)[..., None]
    every = dice.poisson(RPS * case.seconds, (case.looks, runs))
    tables = np.empty((case.looks, runs, 2, 1 + len(EDGES)), dtype=np.int64)
    tables[..., 1, 0] = dice.binomial(every, case.share)
    tables[..., 0, 0] = every - tables[..., 1, 0]
    for table in tables:
        table[..., 1:] = exceedances(dice, table[..., 0].T, np.broadcast_to(above, (*above.shape[:2], runs)))
    return Traffic(tables, {})


def _shares_above(harm: Slowness | None = None) -> Floats:
    """Return the share of requests slower than each edge."""
    edges = np.array(EDGES, dtype=np.float64)
    if harm is None:
        return _tail(edges, MEDIAN)
    usual, delayed = (_tail(each, MEDIAN * harm.factor) for each in (edges, edges - 1000 * harm.seconds))
    return np.asarray((1 - harm.share) * usual + harm.share * delayed)


def _tail(edges: Floats, median: float) -> Floats:
    return np.asarray(ndtr(np.log(median / np.maximum(edges, 1e-300)) / SIGMA))


def history(seed: int) -> Ints:
    """Return the counts of an hour of the control before the run: requests, then those above each edge."""
    dice = np.random.default_rng([seed, 0])
    requests = dice.poisson(RPS * HISTORY_SECONDS["1 h"], (1, 1))
    slower = exceedances(dice, requests, _shares_above()[:, None, None])
    return np.concatenate([requests[0], slower[0, 0]])


def registered(past: Ints) -> list[int]:
    """Return the positions of the edges to judge: 0.2 to 98 % of the requests exceed them; and two above."""
    shares = past[1:] / past[0]
    within = np.flatnonzero((shares >= _LEAST) & (shares <= _MOST))
    return list(range(within[0], min(within[-1] + 1 + _ABOVE, len(EDGES))))
