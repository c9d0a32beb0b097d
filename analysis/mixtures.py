"""Mixtures over the size of an effect: the e-values and confidence sequences of means, with known and unknown
variance, and the sequence of a ratio.

Normal mixture (Howard, Ramdas, McAuliffe & Sekhon 2021, arXiv 1810.08240): a sum s with variance v is wagered
on effects drawn from a normal distribution, whose precision r is fixed beforehand.

t-mixture (Lindon, Ham, Tingley & Bojinov, arXiv 2210.08589): the same for a coefficient of a regression with
unknown variance; t is its estimate over its standard error, nu = n - p, and r = phi / (phi + n)

    ln e = ln(r) / 2 + (nu + 1) / 2 [ln(1 + t^2 / nu) - ln(1 + r t^2 / nu)]

One-sided mixtures draw from the upper half: the two-sided one, times twice the chance that a draw from the
posterior is above 0. They are e-processes for "at most 0" as well, since larger effects make larger values.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erfcx, log_ndtr, stdtr

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats

_ITERATIONS = 60


def mixture_precision(v_opt: float, alpha: float) -> float:
    """Return the r for which the two-sided normal mixture is about narrowest at variance `v_opt`.

    For the one-sided mixture alpha is twice as large. Howard et al. 2021, section 3.5.
    """
    budget = -2 * math.log(alpha)
    return v_opt / (budget + math.log1p(budget))


def log_one_sided_mixture(q: Floats, information: Floats) -> Floats:
    """Return ln of 2 sqrt(r / (v + r)) exp(q^2 / 2) Phi(q), q = s / sqrt(v + r), `information` v / r."""
    below, above = np.minimum(q, 0.0), np.maximum(q, 0.0)
    tail = np.log(erfcx(-below / math.sqrt(2))) + above**2 / 2 + log_ndtr(above) + math.log(2)
    return np.asarray(tail - np.log1p(information) / 2)


def log_t_mixture(t: float, n: int, p: int, phi: float) -> float:
    """Return ln e of the two-sided t-mixture for n units and p coefficients."""
    nu, r = n - p, phi / (phi + n)
    gain = math.log1p(t * t / nu) - math.log1p(r * t * t / nu)
    return math.log(r) / 2 + (nu + 1) / 2 * gain


def log_one_sided_t_mixture(t: float, n: int, p: int, phi: float) -> float:
    """Return ln e of the t-mixture over effects above 0."""
    nu, r = n - p, phi / (phi + n)
    posterior = t * math.sqrt((1 - r) * (nu + 1) / (nu + r * t * t))
    chance = max(float(stdtr(nu + 1, posterior)), math.ulp(0.0))
    return log_t_mixture(t, n, p, phi) + math.log(2 * chance)


def squared_t_width(n: int, p: int, phi: float, alpha: float) -> float:
    """Return (half-width / standard error)^2 of the t-mixture's sequence; infinite while it is unbounded."""
    nu, r = n - p, phi / (phi + n)
    log_d = (math.log(r) + 2 * math.log(alpha)) / (nu + 1)
    d = math.exp(log_d)
    return nu * -math.expm1(log_d) / (d - r) if d > r else math.inf


def best_phi(n: int, p: int, alpha: float) -> float:
    """Return the phi for which the t-mixture's sequence is narrowest at n units.

    Where the derivative of `squared_t_width` is 0, phi = n d / ((1 - d) (nu + 1)), solved by iteration.
    """
    nu, phi = n - p, 1.0
    for _ in range(_ITERATIONS):
        log_d = (math.log(phi / (phi + n)) + 2 * math.log(alpha)) / (nu + 1)
        phi = n * math.exp(log_d) / (-math.expm1(log_d) * (nu + 1))
    return phi


def ratio_bounds(
    top: Floats, bottom: Floats, top_top: Floats, top_bottom: Floats, bottom_bottom: Floats
) -> tuple[Floats, Floats]:
    """Return the ends of {rho: (top - rho bottom)^2 <= variance of (top - rho bottom)} (Fieller 1954).

    The variances are already multiplied by the squared width of the sequence. The set is unbounded where
    the bottom is not clearly apart from 0.
    """
    a = bottom**2 - bottom_bottom
    b = top * bottom - top_bottom
    c = top**2 - top_top
    root = np.sqrt(np.maximum(b**2 - a * c, 0.0))
    bounded = a > 0
    divisor = np.where(bounded, a, 1.0)
    return (
        np.where(bounded, (b - root) / divisor, -math.inf),
        np.where(bounded, (b + root) / divisor, math.inf),
    )
