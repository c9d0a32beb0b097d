"""How large is the effect? The common odds ratio (Mantel-Haenszel) and a confidence sequence for it.

The sequence inverts the e-process of `analysis.eprocess`: with one odds ratio common to all intervals, the
value w0 is excluded when a mixture of the alternatives 0.1 to 10, uniform in ln w, has 1/alpha times its
likelihood,

    C_t = {w0: ln of the mean of exp Lambda_t(w) over the mixture - Lambda_t(w0) < ln(1/alpha)}

where Lambda_t(w) = sum_i [ln P(k_i | w) - ln P(k_i | 1)] / phi. With probability 1 - alpha all C_t contain
it.

Lambda is kept at 31 odds ratios (21 for each edge of a histogram), evenly in ln w. Between them it is read
from polynomials of degree 5 through six neighbours: Lambda is a smooth concave function, and the error is
below 0.1 for a million events (a hundred thousand).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats, Ints

Counts: TypeAlias = "Floats | Ints"
_REACH = math.log(25)
_STENCIL = np.arange(-2, 4)
_POLYNOMIALS = np.linalg.inv(np.vander(_STENCIL.astype(np.float64), increasing=True))
_MIXTURE = math.log(10)
_DISTANCES = np.geomspace(1e-6, 2 * _REACH, 120)
_OFFSETS = np.concatenate([-_DISTANCES[::-1], [0.0], _DISTANCES])
_FRACTIONS = np.linspace(0, 1, 33)


@lru_cache
def nodes(count: int) -> Floats:
    """Return ln w at `count` nodes. Bounds beyond the outermost are reported as unbounded."""
    grid = np.linspace(-_REACH, _REACH, count)
    grid.flags.writeable = False
    return grid


NODES: Floats = nodes(31)
"""ln w where the likelihood of a proportion is kept."""
COARSE_NODES: Floats = nodes(21)
"""The same for each edge of a histogram."""


def _between(likelihood: Floats, x: Floats) -> Floats:
    """Return Lambda at any x = ln w within the nodes."""
    size = likelihood.size
    position = (x + _REACH) * ((size - 1) / (2 * _REACH))
    cell = np.minimum(np.maximum(position.astype(np.int64), 2), size - 4)
    powers = np.vander(position - cell, _STENCIL.size, increasing=True)
    around = likelihood[cell[:, None] + _STENCIL]
    return np.asarray(np.einsum("ij,ij->i", around, powers @ _POLYNOMIALS))


@lru_cache
def _search(count: int) -> tuple[Floats, Floats]:
    """Return where the peak is looked for, and how Lambda there follows from Lambda at the nodes."""
    points = np.linspace(-_REACH, _REACH, 6 * (count - 1) + 1)
    return points, np.array([_between(unit, points) for unit in np.eye(count)]).T


def mantel_haenszel(numerator: float, denominator: float) -> float | None:
    """Return the Mantel-Haenszel odds ratio from its two sums over intervals, or None when it is undefined.

    The sums are over k_c (n_b - k_b) / n and k_b (n_c - k_c) / n, with n = n_c + n_b (Mantel & Haenszel
    1959).
    """
    return numerator / denominator if denominator > 0 else None


def mantel_haenszel_terms(n_c: Counts, k_c: Counts, n_b: Counts, k_b: Counts) -> Floats:
    """Return each table's two terms of the Mantel-Haenszel sums (last axis); an empty table's are 0."""
    n = np.maximum(n_c + n_b, 1)
    return np.stack([k_c * (n_b - k_b) / n, k_b * (n_c - k_c) / n], axis=-1)


def confidence_bounds(likelihood: Floats, alpha: float) -> tuple[float, float | None]:
    """Return the ends of C_t from Lambda_t at `nodes`: low (0: unbounded) and high (None: unbounded)."""
    peak = _peak(likelihood)
    grid = _grid(peak)
    values = _between(likelihood, grid)
    threshold = _log_mixture(grid, values) + math.log(alpha)
    middle = int(np.searchsorted(grid, peak))
    below = np.flatnonzero(values <= threshold)
    left, right = below[below < middle][-1:], below[below >= middle][:1]
    outer, inner = np.concatenate([left, right]), np.concatenate([left + 1, right - 1])
    bounds = np.exp(_refine(likelihood, threshold, grid[outer], grid[inner])).tolist()
    return (bounds[0] if left.size else 0.0), (bounds[-1] if right.size else None)


def _peak(likelihood: Floats) -> float:
    """Return about where Lambda is largest: the vertex of a parabola through the best three points."""
    points, weights = _search(likelihood.size)
    values = weights @ likelihood
    best = min(max(int(np.argmax(values)), 1), points.size - 2)
    before, here, after = values[best - 1 : best + 2]
    bend = before - 2 * here + after
    shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return float(points[best] + min(max(shift, -1.0), 1.0) * (points[1] - points[0]))


def _grid(peak: float) -> Floats:
    """Return rising points over all nodes, finest at the peak and at the mixture's point next to it."""
    nearest = min(max(peak, -_MIXTURE), _MIXTURE)
    ends = [-_REACH, -_MIXTURE, _MIXTURE, _REACH]
    centres = [peak] if nearest == peak else [peak, nearest]
    points = np.concatenate([ends, *(centre + _OFFSETS for centre in centres)])
    return np.unique(np.minimum(np.maximum(points, -_REACH), _REACH))


def _log_mixture(grid: Floats, values: Floats) -> float:
    """Return ln of the mean of exp Lambda over ln w in [-ln 10, ln 10], by trapezoids."""
    inside = np.abs(grid) <= _MIXTURE
    top = float(values[inside].max())
    area = np.trapezoid(np.exp(values[inside] - top), grid[inside])
    return top + math.log(float(area) / (2 * _MIXTURE))


def _refine(likelihood: Floats, threshold: float, outer: Floats, inner: Floats) -> Floats:
    """Return, between each outer and inner point, the innermost of 33 points that is still outside C_t."""
    points = outer[:, None] + (inner - outer)[:, None] * _FRACTIONS
    inside = _between(likelihood, points.ravel()).reshape(points.shape) > threshold
    first = np.where(inside.any(axis=1), inside.argmax(axis=1), _FRACTIONS.size)
    return np.asarray(points[np.arange(outer.size), np.maximum(first - 1, 0)])
