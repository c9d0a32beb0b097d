"""The t-mixture: an anytime-valid test of a coefficient of a regression with unknown variance.

With n units and p coefficients, let t be the estimate over its standard error, nu = n - p and
r = phi / (phi + n). Wagering on effects drawn from a normal distribution, phi times as precise as one unit,

    ln e = ln(r) / 2 + (nu + 1) / 2 [ln(1 + t^2 / nu) - ln(1 + r t^2 / nu)]

(Lindon, Ham, Tingley & Bojinov, arXiv 2210.08589). Exact for normal errors of equal variance; with standard
errors that are robust to unequal ones (HC1), it holds for large n.

The one-sided mixture draws from the upper half: it is the two-sided one, times twice the chance that a draw
from the posterior, Student's t with nu + 1 degrees of freedom, is above 0. It is an e-value for "at most 0",
since larger effects make larger values.
"""

from __future__ import annotations

import math

from scipy.special import stdtr

_ITERATIONS = 60
_SMALLEST = 1e-280


def log_t_mixture(t: float, n: int, p: int, phi: float) -> float:
    """Return ln e of the two-sided mixture, for n > p units."""
    nu, r = n - p, phi / (phi + n)
    gain = math.log1p(t * t / nu) - math.log1p(r * t * t / nu)
    return math.log(r) / 2 + (nu + 1) / 2 * gain


def log_one_sided_t_mixture(t: float, n: int, p: int, phi: float) -> float:
    """Return ln e of the mixture over effects above 0, for n > p units."""
    nu, r = n - p, phi / (phi + n)
    posterior = t * math.sqrt((1 - r) * (nu + 1) / (nu + r * t * t))
    return log_t_mixture(t, n, p, phi) + math.log(2) + _log_student(posterior, nu + 1)


def _log_student(x: float, nu: int) -> float:
    """Return ln P(T <= x) for Student's t with nu > 1 degrees of freedom.

    Where the probability is too small for a float, far below 0, a bound that is close there: the density is
    integrated with u / |x| >= 1 as a factor.
    """
    chance = float(stdtr(nu, x))
    if chance > _SMALLEST:
        return math.log(chance)
    log_density = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(nu * math.pi) / 2
    return log_density + math.log(nu / (nu - 1) / -x) - (nu - 1) / 2 * math.log1p(x * x / nu)


def squared_t_width(n: int, p: int, phi: float, alpha: float) -> float:
    """Return (half-width / standard error)^2 of the confidence sequence; infinite while it is unbounded."""
    nu, r = n - p, phi / (phi + n)
    log_d = (math.log(r) + 2 * math.log(alpha)) / (nu + 1)
    d = math.exp(log_d)
    return nu * -math.expm1(log_d) / (d - r) if d > r else math.inf


def best_phi(n: int, p: int, alpha: float) -> float:
    """Return the phi with which the confidence sequence is narrowest at n units.

    Where the derivative of `squared_t_width` is 0, phi = n d / ((1 - d) (nu + 1)), solved by iteration.
    """
    nu, phi = n - p, 1.0
    for _ in range(_ITERATIONS):
        log_d = (math.log(phi / (phi + n)) + 2 * math.log(alpha)) / (nu + 1)
        phi = n * math.exp(log_d) / (-math.expm1(log_d) * (nu + 1))
    return phi
