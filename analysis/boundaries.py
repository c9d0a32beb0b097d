"""How far a sum may stray by chance, at all times together: time-uniform boundaries.

Let S_t be a sum with mean 0 under the null, and V_t its accumulated variance ("intrinsic time"). For each
kind of increment there is a family exp(lambda S_t - psi(lambda) V_t) of nonnegative supermartingales that
start at 1. A mixture over lambda is one too, and by Ville's inequality it ever reaches 1/alpha with a chance
of at most alpha. So with

    u(v) = the least s at which the mixture is 1/alpha          P(exists t: S_t >= u(V_t)) <= alpha

whatever the times at which one looks. `log_value` gives the logarithm of the mixture, which is an e-value;
`bound` gives u. Which mixture is right depends on the increments:

| class              | increments                                                                     |
|--------------------|--------------------------------------------------------------------------------|
| `TwoSidedNormal`   | sub-Gaussian in both directions; the bound is on the absolute value of S       |
| `OneSidedNormal`   | sub-Gaussian                                                                   |
| `GammaExponential` | sub-exponential with scale c: bounded ones, with V_t = sum (X - prediction)^2  |
| `GammaPoisson`     | sub-Poisson with scale c: at most c above their mean                           |
| `BetaBinomial`     | between -g and h; for Bernoulli(p): g = p, h = 1 - p, V_t = p (1 - p) t        |

Sources: Howard, Ramdas, McAuliffe & Sekhon, "Time-uniform Chernoff bounds via nonnegative supermartingales"
(2020, arXiv 1808.03204) for the families; the same, "Time-uniform, nonparametric, nonasymptotic confidence
sequences" (2021, arXiv 1810.08240), below "HRMS", for mixtures and stitching (propositions are numbered as
in the authors' own software).

Every mixture has a number r, in units of v, that says where its bound is tightest (`best_r`). It has to be
chosen before the data.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from analysis.hypergeometric import Floats

_HALVINGS = 64
_LEAST_SHARE = 1e-3
"""r of a beta-binomial mixture stays at least this share of g h."""


def best_r(v_opt: float, alpha_opt: float = 0.05, *, one_sided: bool) -> float:
    """Return the r with which a normal mixture's bound at level `alpha_opt` is about tightest at v = `v_opt`.

    r = v_opt / (L + ln(1 + L)) with L = 2 ln(1 / a); a = alpha_opt two-sided, 2 alpha_opt one-sided (HRMS,
    section 3, on tuning). Raises ValueError unless v_opt > 0 and 0 < a < 1.
    """
    a = 2 * alpha_opt if one_sided else alpha_opt
    if v_opt <= 0 or not 0 < a < 1:
        raise ValueError(f"v_opt {v_opt} must be positive and alpha_opt {alpha_opt} a small probability")
    doubled = -2 * math.log(a)
    return v_opt / (doubled + math.log1p(doubled))


def bisect(is_before: Callable[[Floats], NDArray[np.bool_] | bool], low: Floats, high: Floats) -> Floats:
    """Return, element by element, where `is_before` turns from true to false between `low` and `high`.

    It is not evaluated at the ends: where it is true all the way the answer is `high`, where nowhere, `low`.
    """
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        before = is_before(middle)
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    return np.asarray((low + high) / 2)


@dataclass(frozen=True)
class Mixture(ABC):
    """A mixture with its r > 0; ValueError for parameters that are not positive."""

    r: float

    def __post_init__(self) -> None:
        if not all(value > 0 for value in vars(self).values() if not isinstance(value, bool)):
            raise ValueError(f"the parameters must be positive: {self}")

    @abstractmethod
    def log_value(self, s: ArrayLike, v: ArrayLike) -> Floats:
        """Return ln of the mixture at sums s and variances v >= 0 (broadcast together)."""

    def bound(self, v: ArrayLike, alpha: float) -> Floats:
        """Return u(v) for each v > 0, in the units of s, by bisection. ValueError unless 0 < alpha < 1."""
        variance = np.asarray(v, dtype=np.float64)
        threshold = log_threshold(alpha)
        high = self._ceiling(variance, threshold)
        return bisect(lambda s: self.log_value(s, variance) < threshold, np.zeros_like(variance), high)

    def _ceiling(self, v: Floats, threshold: float) -> Floats:
        """Return sums at which the mixture is beyond the threshold, or which S cannot exceed."""
        high = np.maximum(v, 1.0)
        while np.any(self.log_value(high, v) < threshold):
            high = 2 * high
        return high


@dataclass(frozen=True)
class TwoSidedNormal(Mixture):
    """Normal mixture: sqrt(r / (v + r)) exp(s^2 / (2 (v + r))) (HRMS, proposition 4)."""

    def log_value(self, s: ArrayLike, v: ArrayLike) -> Floats:
        """Return ln of the mixture; it is even in s."""
        spread = np.asarray(v) + self.r
        return np.asarray(0.5 * np.log(self.r / spread) + np.square(s) / (2 * spread))

    def bound(self, v: ArrayLike, alpha: float) -> Floats:
        """Return sqrt((v + r) (ln(1 + v / r) + 2 ln(1 / alpha))), the bound on the absolute value of S."""
        variance = np.asarray(v, dtype=np.float64)
        logs = np.log1p(variance / self.r) + 2 * log_threshold(alpha)
        return np.asarray(np.sqrt((variance + self.r) * logs))


@dataclass(frozen=True)
class OneSidedNormal(Mixture):
    """Half normal: 2 sqrt(r / (v + r)) exp(s^2 / (2 (v + r))) Phi(s / sqrt(v + r)) (HRMS, proposition 5)."""

    def log_value(self, s: ArrayLike, v: ArrayLike) -> Floats:
        """Return ln of the mixture."""
        spread = np.asarray(v) + self.r
        normal = special.log_ndtr(np.asarray(s) / np.sqrt(spread))
        return np.asarray(0.5 * np.log(4 * self.r / spread) + np.square(s) / (2 * spread) + normal)


@dataclass(frozen=True)
class GammaExponential(Mixture):
    """Gamma mixture for sub-exponential sums with scale c > 0, in the units of s (HRMS, proposition 8).

    With q = r / c^2, a = (v + r) / c^2, x = (c s + v + r) / c^2 and P the regularised lower gamma function,

        q^q / (Gamma(q) P(q, q)) Gamma(a) P(a, x) x^-a exp(x - q)
    """

    c: float

    def log_value(self, s: ArrayLike, v: ArrayLike) -> Floats:
        """Return ln of the mixture; -inf where x <= 0, far below zero, which understates it."""
        q = self.r / self.c**2
        a = np.asarray(v) / self.c**2 + q
        x = np.asarray(s) / self.c + a
        inside = np.where(x > 0, x, 1.0)
        shape = special.gammaln(a) + _log(special.gammainc(a, inside)) - a * np.log(inside) + inside - q
        prior = q * math.log(q) - special.gammaln(q) - _log(special.gammainc(q, q))
        return np.asarray(np.where(x > 0, prior + shape, -np.inf))


@dataclass(frozen=True)
class GammaPoisson(Mixture):
    """Gamma mixture for sub-Poisson sums with scale c > 0, in the units of s (HRMS, proposition 9).

    With q = r / c^2, x = (v + r) / c^2, a = s / c + x and Q the regularised upper gamma function,

        q^q / (Gamma(q) Q(q, q)) Gamma(a) Q(a, x) x^-a exp(v / c^2)
    """

    c: float

    def log_value(self, s: ArrayLike, v: ArrayLike) -> Floats:
        """Return ln of the mixture; -inf where a <= 0, which a sub-Poisson sum does not reach."""
        q = self.r / self.c**2
        time = np.asarray(v) / self.c**2
        a = np.asarray(s) / self.c + time + q
        inside = np.where(a > 0, a, 1.0)
        tail = _log(special.gammaincc(inside, time + q))
        shape = special.gammaln(inside) + tail - inside * np.log(time + q) + time
        prior = q * math.log(q) - special.gammaln(q) - _log(special.gammaincc(q, q))
        return np.asarray(np.where(a > 0, prior + shape, -np.inf))


@dataclass(frozen=True)
class BetaBinomial(Mixture):
    """Beta mixture for sums whose increments lie between -g and h (HRMS, propositions 6 and 7).

    With b = (v - g s) / (g (g + h)) and a = (v + h s) / (h (g + h)), the failures and successes where the
    increments are Bernoulli's, and B_x the incomplete beta function, x = 1 two-sided, h / (g + h) one-sided:

        (a + b) ln(g + h) - a ln g - b ln h
        + ln B_x(r / (g (g + h)) + b, r / (h (g + h)) + a) - ln B_x(r / (g (g + h)), r / (h (g + h)))

    Two-sided, `bound` is for the upper direction; exchange g and h for the lower one. Both together err with
    chance alpha. Early on even the largest sum there can be, v / g, is no evidence: the bound is that sum
    then, and reaching it means nothing.
    """

    g: float
    h: float
    one_sided: bool

    def log_value(self, s: ArrayLike, v: ArrayLike) -> Floats:
        """Return ln of the mixture, for -v / h <= s <= v / g."""
        g, h, width = self.g, self.h, self.g + self.h
        below = np.asarray((np.asarray(v) - g * np.asarray(s)) / (g * width))
        above = np.asarray((np.asarray(v) + h * np.asarray(s)) / (h * width))
        q, p = self.r / (g * width), self.r / (h * width)
        power = (below + above) * math.log(width) - above * math.log(g) - below * math.log(h)
        return np.asarray(power + self._log_beta(q + below, p + above) - self._log_beta(q, p))

    def _log_beta(self, a: Floats | float, b: Floats | float) -> Floats:
        whole = special.betaln(a, b)
        if not self.one_sided:
            return np.asarray(whole)
        return np.asarray(whole + _log(special.betainc(a, b, self.h / (self.g + self.h))))

    def _ceiling(self, v: Floats, threshold: float) -> Floats:  # noqa: ARG002 - the sum itself ends here
        return v / self.g


def beta_binomial(
    v_opt: float, g: float, h: float, *, one_sided: bool, alpha_opt: float = 0.05
) -> BetaBinomial:
    """Return the beta-binomial mixture that is about tightest at v = `v_opt`, with r = best_r - g h.

    The prior alone accounts for a variance of g h. Errors as `best_r` and `Mixture`.
    """
    r = best_r(v_opt, alpha_opt, one_sided=one_sided) - g * h
    return BetaBinomial(max(r, _LEAST_SHARE * g * h), g, h, one_sided)


def poly_stitching_bound(
    v: ArrayLike, alpha: float, v_min: float, c: float = 0.0, *, s: float = 1.4, eta: float = 2.0
) -> Floats:
    """Return the polynomially stitched bound, which grows as sqrt(v ln ln v) (HRMS, theorem 1 and after it).

    With l = s ln ln(eta v / v_min) + ln(zeta(s) / (alpha ln^s eta)), k1 = (eta^(1/4) + eta^(-1/4)) / sqrt 2,
    k2 = (sqrt eta + 1) / 2:  u(v) = sqrt(k1^2 v l + (k2 c l)^2) + k2 c l,  for sub-gamma sums with scale c.
    Below v_min > 0 it is the value at v_min. ValueError unless v_min > 0, s > 1, eta > 1 and 0 < alpha < 1.
    """
    if v_min <= 0 or s <= 1 or eta <= 1:
        raise ValueError(f"v_min {v_min} must be positive, s {s} and eta {eta} above 1")
    time = np.maximum(v, v_min)
    constant = math.log(special.zeta(s)) - s * math.log(math.log(eta)) + log_threshold(alpha)
    ell = s * np.log(np.log(eta * time / v_min)) + constant
    k1_squared = (eta**0.25 + eta**-0.25) ** 2 / 2
    shift = (math.sqrt(eta) + 1) / 2 * c * ell
    return np.asarray(np.sqrt(k1_squared * time * ell + shift**2) + shift)


def log_threshold(alpha: float) -> float:
    """Return ln(1 / alpha), the logarithm of an e-value that is enough; ValueError unless 0 < alpha < 1."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha} must lie between 0 and 1")
    return -math.log(alpha)


def _log(values: ArrayLike) -> Floats:
    """Return the logarithm, -inf at 0: tail probabilities below 1e-308 count as nothing."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values))
