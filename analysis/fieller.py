"""A confidence set for the ratio of two means: the ratios that they do not exclude (Fieller 1954)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats


def ratio_bounds(
    top: Floats, bottom: Floats, *, top_top: Floats, top_bottom: Floats, bottom_bottom: Floats
) -> tuple[Floats, Floats]:
    """Return the ends of {rho: (top - rho bottom)^2 <= variance of (top - rho bottom)}.

    The variances are already multiplied by the squared width of the sequence. The set is unbounded where
    the bottom is not clearly apart from 0.
    """
    a = bottom**2 - bottom_bottom
    b = top * bottom - top_bottom
    c = top**2 - top_top
    bounded = a > 0
    root = np.sqrt(np.maximum(b**2 - a * c, 0.0))
    divisor = np.where(bounded, a, 1.0)
    return (
        np.where(bounded, (b - root) / divisor, -math.inf),
        np.where(bounded, (b + root) / divisor, math.inf),
    )
