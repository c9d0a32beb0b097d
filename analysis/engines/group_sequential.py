"""Group-sequential tests: bounds for a planned number of looks, by numerical integration.

With information fractions 0 < t_1 < .. < t_K = 1 and z-values Z_k, the scores B_k = Z_k sqrt(t_k) are sums of
independent normal steps of variance t_k - t_{k-1}. The density of B_k among the paths that have not crossed
is carried from look to look (Armitage, McPherson & Rowe 1969, JRSS A 132:235-244), on Gauss-Legendre points
between the bounds; crossing probabilities are good to about 1e-8.

These bounds hold for the looks that were planned: a rollout that is paused, extended or looked at more often
leaves them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analysis.hypergeometric import Floats

_FAR = 9.0
"""Standard deviations that count as infinite."""


class _Paths(NamedTuple):
    """Those not stopped yet: points of B, and the probability at each (density times weight)."""

    points: Floats
    mass: Floats
    fraction: float


_START = _Paths(np.zeros(1), np.ones(1), 0.0)


def _beyond(paths: _Paths, fraction: float, bound: float, *, two_sided: bool) -> float:
    """Return the probability of crossing the bound on z at the next look."""
    step = math.sqrt(fraction - paths.fraction)
    edge = bound * math.sqrt(fraction)
    chance = ndtr((paths.points - edge) / step)
    if two_sided:
        chance = chance + ndtr((-edge - paths.points) / step)
    return float(chance @ paths.mass)


def _survive(paths: _Paths, fraction: float, bound: float, *, two_sided: bool) -> _Paths:
    """Return the paths that are still within the bound after the next look."""
    step, scale = math.sqrt(fraction - paths.fraction), math.sqrt(fraction)
    top = min(bound, _FAR) * scale
    bottom = -top if two_sided else -_FAR * scale
    nodes, weights = _legendre(24 + math.ceil(3 * (top - bottom) / step))
    points = bottom + (nodes + 1) / 2 * (top - bottom)
    kernel = np.exp(-0.5 * ((points[:, None] - paths.points) / step) ** 2) / (step * math.sqrt(2 * math.pi))
    return _Paths(points, (kernel @ paths.mass) * weights * (top - bottom) / 2, fraction)


@lru_cache(maxsize=64)
def _legendre(count: int) -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(count)


def crossing_probabilities(
    bounds: Sequence[float], fractions: Sequence[float], *, two_sided: bool = True
) -> list[float]:
    """Return the chance of first crossing at each look under the null, for bounds on z."""
    paths, chances = _START, []
    for bound, fraction in zip(bounds, fractions, strict=True):
        chances.append(_beyond(paths, fraction, bound, two_sided=two_sided))
        paths = _survive(paths, fraction, bound, two_sided=two_sided)
    return chances


def repeated_error(looks: int, alpha: float) -> float:
    """Return the chance that a two-sided z-test at `alpha` rejects a true null at any of so many looks."""
    bound = float(ndtri(1 - alpha / 2))
    return sum(crossing_probabilities([bound] * looks, equally_spaced(looks)))


def equally_spaced(looks: int) -> list[float]:
    """Return the information fractions 1/K, 2/K, .., 1."""
    return [(look + 1) / looks for look in range(looks)]


def pocock_bound(looks: int, alpha: float) -> float:
    """Return the constant two-sided bound on z (Pocock 1977, Biometrika 64:191-199)."""

    def excess(bound: float) -> float:
        return sum(crossing_probabilities([bound] * looks, equally_spaced(looks))) - alpha

    return float(brentq(excess, 0.1, _FAR, xtol=1e-9))


def obrien_fleming_spending(fraction: float, alpha: float) -> float:
    """Return the one-sided alpha spent, like O'Brien & Fleming (Lan & DeMets 1983, Biometrika 70:659-663)."""
    return 2 * float(ndtr(ndtri(alpha / 2) / math.sqrt(fraction)))


def pocock_spending(fraction: float, alpha: float) -> float:
    """Return the one-sided alpha spent, like Pocock (Lan & DeMets 1983)."""
    return alpha * math.log1p((math.e - 1) * fraction)


def power_spending(exponent: float) -> Callable[[float, float], float]:
    """Return the spending alpha t^exponent (Kim & DeMets 1987, Biometrika 74:149-154); Spotify takes 2."""
    return lambda fraction, alpha: alpha * fraction**exponent


def spending_bounds(
    fractions: Sequence[float],
    spending: Callable[[float, float], float],
    alpha: float,
    *,
    two_sided: bool = True,
) -> list[float]:
    """Return the bounds on z that spend alpha over the looks as `spending(fraction, alpha of one side)` says.

    Two-sided bounds are symmetric, each side with half of alpha.
    """
    sides = 2 if two_sided else 1
    paths, spent, bounds = _START, 0.0, []
    for fraction in fractions:
        target = sides * spending(fraction, alpha / sides)
        bound = _next_bound(paths, fraction, target - spent, two_sided=two_sided)
        paths = _survive(paths, fraction, bound, two_sided=two_sided)
        spent = target
        bounds.append(bound)
    return bounds


def _next_bound(paths: _Paths, fraction: float, share: float, *, two_sided: bool) -> float:
    """Return the bound that is crossed next with probability `share`."""

    def excess(bound: float) -> float:
        return _beyond(paths, fraction, bound, two_sided=two_sided) - share

    return float(brentq(excess, -_FAR, _FAR, xtol=1e-10)) if excess(_FAR) < 0 else _FAR
