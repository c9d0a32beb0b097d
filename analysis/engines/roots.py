"""The root finder of R's `uniroot` for many falling functions at once, step by step the same.

Brent, "Algorithms for Minimization without Derivatives" (1973), chapter 4 (zeroin). Where a function is a
staircase, its answer depends on the steps it takes, so these follow R's exactly, with R's default tolerance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.engines.engine import Flags
    from analysis.hypergeometric import Floats, Ints

ACCURACY = 1e-4
_EPSILON = np.finfo(float).eps
_STEPS = 1000


class _Brackets(NamedTuple):
    """Per function: best point b, the one before it a, and c, with the root between b and c; values there."""

    a: Floats
    b: Floats
    c: Floats
    fa: Floats
    fb: Floats
    fc: Floats

    def ordered(self) -> _Brackets:
        """Return the same with b the better one of b and c."""
        a, b, c, fa, fb, fc = self
        swap = np.abs(fc) < np.abs(fb)
        return _Brackets(
            np.where(swap, b, a),
            np.where(swap, c, b),
            np.where(swap, b, c),
            np.where(swap, fb, fa),
            np.where(swap, fc, fb),
            np.where(swap, fb, fc),
        )

    def only(self, wanted: Flags | Ints) -> _Brackets:
        """Return those of the wanted functions."""
        return _Brackets(*(values[wanted] for values in self))

    def moved(self, b: Floats, fb: Floats) -> _Brackets:
        """Return the brackets around a new best point."""
        same_side = ((fb > 0) & (self.fc > 0)) | ((fb < 0) & (self.fc < 0))
        c, fc = np.where(same_side, self.b, self.c), np.where(same_side, self.fb, self.fc)
        return _Brackets(self.b, b, c, self.fb, fb, fc)


def falling_roots(function: Callable[[Floats, Ints], Floats], low: Floats, high: Floats) -> Floats:
    """Return a root of each of n functions between its `low` and `high`, or the end that is nearest to one.

    `function(at, which)` returns the values of the functions with the numbers `which`.
    """
    every = np.arange(low.size)
    at_low, at_high = function(low, every), function(high, every)
    roots = np.where(at_low <= 0, low, high)
    rows = np.flatnonzero((at_low > 0) & (at_high < 0))
    now = _Brackets(low, high, low, at_low, at_high, at_low).only(rows)
    for _ in range(_STEPS):
        previous = now.b - now.a
        now = now.ordered()
        least = 2 * _EPSILON * np.abs(now.b) + ACCURACY / 2
        open_ = np.asarray((np.abs(now.c - now.b) / 2 > least) & (now.fb != 0), dtype=np.bool_)
        roots[rows[~open_]] = now.b[~open_]
        if not open_.any():
            break
        rows, now = rows[open_], now.only(open_)
        b = now.b + _step(now, previous[open_], least[open_])
        now = now.moved(b, function(b, rows))
    return roots


def _step(now: _Brackets, previous: Floats, least: Floats) -> Floats:
    """Return the next step from b: interpolated where that is safe, else half of the bracket."""
    half = (now.c - now.b) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        s, u, v = now.fb / now.fa, now.fa / now.fc, now.fb / now.fc
        secant = now.a == now.c
        p = 2 * half * s
        p = np.where(secant, p, p * u * (u - v) - s * (now.b - now.a) * (v - 1))
        q = np.where(secant, 1 - s, (u - 1) * (v - 1) * (s - 1))
        q = np.where(p > 0, -q, q)
        p = np.abs(p)
        near = (p < 1.5 * half * q - np.abs(least * q) / 2) & (p < np.abs(previous * q / 2))
        trusted = (np.abs(previous) >= least) & (np.abs(now.fa) > np.abs(now.fb))
        step = np.where(trusted & near, p / q, half)
    return np.where(np.abs(step) < least, np.copysign(least, step), step)
