"""Turner, Ly & Grünwald's e-process for two proportions, with any linear null.

Per block of n_b requests of the control and n_c of the candidate, with plug-in rates t_b, t_c from earlier
blocks only (posterior means, `PRIOR` pseudo-events and as many pseudo-successes per arm):

    e = p(k_b | t_b) p(k_c | t_c) / (p(k_b | x_b) p(k_c | x_c))

where (x_b, x_c) is the point of the null that is closest in information, min n_b KL(t_b || x_b) + n_c
KL(t_c || x_c). For a convex null that makes E[e] <= 1 on all of it ("Generic E-variables for exact sequential
k-sample tests that allow for optional stopping", JSPI 230 (2024) 106116, arXiv 2106.02693, theorem 1;
other nulls: Turner & Grünwald, arXiv 2203.09785). The control's rate may differ from block to block.

The nulls here have the edge x_c = slope x_b + shift: a slope for margins that are ratios, a shift for
absolute ones. Where the plug-in itself lies in the null, e = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import xlogy

from analysis.engines.engine import CLUSTERS, Counts, Rates, Readings, conclude_e, each

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats, Ints

PRIOR = 0.18
"""Pseudo-events per arm, the default of R's safestats."""
_HALVINGS = 60


class Edge(NamedTuple):
    """The edge of a null: candidate = slope * control + shift, with slope > 0 and -1 < shift < 1."""

    slope: float = 1.0
    shift: float = 0.0


class PlugIn(NamedTuple):
    """Rates of control and candidate as expected before each block."""

    control: Floats
    candidate: Floats


def plug_in(blocks: Counts, prior: tuple[float, float] = (PRIOR, PRIOR)) -> PlugIn:
    """Return the posterior means before every block, (blocks, runs); `prior`: of control and candidate."""
    means = (
        (before(k) + pseudo) / (before(n) + 2 * pseudo)
        for n, k, pseudo in ((blocks.n_b, blocks.k_b, prior[0]), (blocks.n_c, blocks.k_c, prior[1]))
    )
    return PlugIn(*means)


def before(values: Floats) -> Floats:
    """Return the sums of all earlier rows."""
    return np.cumsum(values, axis=0) - values


def projection(blocks: Counts, plugged: PlugIn, edge: Edge) -> PlugIn:
    """Return the point of the edge closest to the plug-in (reverse information projection), per block.

    The sum of divergences is convex in x_b, so the root of its derivative is bisected, within the part of the
    edge whose rates lie between 0 and 1.
    """
    slope, shift = edge
    low = np.full_like(blocks.n_b, max(0.0, -shift / slope))
    high = np.full_like(blocks.n_b, min(1.0, (1 - shift) / slope))
    for _ in range(_HALVINGS):
        x = (low + high) / 2
        y = slope * x + shift
        rise = blocks.n_b * (x - plugged.control) * y * (1 - y)
        rise += blocks.n_c * slope * (y - plugged.candidate) * x * (1 - x)
        low, high = np.where(rise < 0, x, low), np.where(rise < 0, high, x)
    x = (low + high) / 2
    return PlugIn(x, slope * x + shift)


def log_likelihood(blocks: Counts, rates: PlugIn) -> Floats:
    """Return ln of the probability of the events, up to a constant."""
    control = xlogy(blocks.k_b, rates.control) + xlogy(blocks.n_b - blocks.k_b, 1 - rates.control)
    candidate = xlogy(blocks.k_c, rates.candidate) + xlogy(blocks.n_c - blocks.k_c, 1 - rates.candidate)
    return np.asarray(control + candidate)


def log_e_equal(blocks: Counts, prior: tuple[float, float] = (PRIOR, PRIOR)) -> Floats:
    """Return ln of the two-sided e-process against "the rates are equal", after every block."""
    plugged = plug_in(blocks, prior)
    gain = log_likelihood(blocks, plugged) - log_likelihood(blocks, projection(blocks, plugged, Edge()))
    return np.asarray(np.cumsum(np.where(blocks.both, gain, 0.0), axis=0))


def log_e_above(blocks: Counts, edge: Edge) -> Floats:
    """Return ln of the e-process against "the candidate is at or below the edge", after every block."""
    return _log_e(blocks, edge, sign=1)


def log_e_below(blocks: Counts, edge: Edge) -> Floats:
    """Return ln of the e-process against "the candidate is at or above the edge", after every block.

    With `Edge(shift=0.005)` it is a proof that the candidate has at most half a percentage point more events.
    """
    return _log_e(blocks, edge, sign=-1)


def _log_e(blocks: Counts, edge: Edge, *, sign: int) -> Floats:
    """Return ln of the one-sided e-process; the blocks before both arms had requests are not wagered on."""
    plugged = plug_in(blocks)
    beyond = sign * (plugged.candidate - edge.slope * plugged.control - edge.shift) > 0
    beyond &= (before(blocks.n_b) > 0) & (before(blocks.n_c) > 0)
    gain = log_likelihood(blocks, plugged) - log_likelihood(blocks, projection(blocks, plugged, edge))
    return np.asarray(np.cumsum(np.where(beyond & blocks.both, gain, 0.0), axis=0))


@dataclass(frozen=True, slots=True)
class Turner:
    """The one-sided e-process with a ratio of rates as its null; intervals are the blocks."""

    name: str = "turner"
    lacks: tuple[str, ...] = (CLUSTERS,)

    def looks(self, tables: Ints, errors: Rates) -> Readings:
        """Return the readings; the statistic is the e-value."""
        blocks = each(tables)
        harm = log_e_above(blocks, Edge(1 + errors.tolerance))
        safe = None if errors.margin is None else log_e_below(blocks, Edge(1 + errors.margin))
        return conclude_e(harm, safe, errors)
