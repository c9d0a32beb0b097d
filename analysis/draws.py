"""Events among given requests, drawn at random: independent, in clusters, and times above edges.

Every function takes the dice first, so that the same dice give the same events. `requests` and `rate` are
(series, runs); a result has at most as many events as requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.hypergeometric import Floats, Ints

_LEAST_SIZE = 0.01
"""The smallest sum of the parameters of a beta: where so few requests cannot vary as much as asked for."""


def bursts(dice: np.random.Generator, requests: Ints, rate: Floats, size: float) -> Ints:
    """Return events in clusters of geometric size, `size` on average; `rate` is the share of all events."""
    clusters = dice.binomial(requests, rate / size)
    more = dice.negative_binomial(np.maximum(clusters, 1), 1 / size)
    return np.minimum(clusters + np.where(clusters > 0, more, 0), requests)


def beta_binomial(dice: np.random.Generator, requests: Ints, rate: Floats, phi: float) -> Ints:
    """Return events whose number varies `phi` times as much as that of independent ones.

    Each number is binomial with a share of its own from a beta distribution with mean `rate` and the sum of
    parameters (n - phi) / (phi - 1), which makes the variance phi n p (1 - p) (Skellam 1948, J. R. Stat.
    Soc. B 10).
    """
    size = np.maximum((requests - phi) / max(phi - 1, 1e-9), _LEAST_SIZE)
    share = dice.beta(size * rate, size * (1 - rate))
    return np.asarray(dice.binomial(requests, share))


def exceedances(dice: np.random.Generator, requests: Ints, above: Floats) -> Ints:
    """Return how many requests are above each edge, (runs, series, edges), by the shares `above`.

    `above` is (edges, series, runs), the shares above rising edges.
    """
    bins = np.concatenate([1 - above[:1], above[:-1] - above[1:], above[-1:]])
    counts = dice.multinomial(requests.T, np.maximum(bins, 0.0).T)
    return counts[..., ::-1].cumsum(axis=-1)[..., -2::-1]


def split(dice: np.random.Generator, requests: Ints, shares: Sequence[float]) -> Ints:
    """Return the requests of every run, (runs,), as those of several series with these shares."""
    if len(shares) == 1:
        return requests[None]
    return dice.multinomial(requests, shares).T
