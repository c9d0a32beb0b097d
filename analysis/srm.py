"""Does the observed split follow the intended one? A sequential test of sample ratio mismatch (SRM).

**In the loop** the intended share rho_i of the candidate changes from step to step. Given the n_i requests of
interval i, the null says k_i ~ Binomial(n_i, rho_i). The alternative with tilt theta multiplies the odds of
going to the candidate by theta in every interval: p_i = theta rho_i / (1 - rho_i + theta rho_i). Then

    E_t = sum_g pi_g prod_{i<=t} (p_i / rho_i)^k_i ((1 - p_i) / (1 - rho_i))^(n_i - k_i)
        = sum_g pi_g exp sum_{i<=t} [k_i ln theta_g - n_i ln(1 - rho_i + theta_g rho_i)]

is a martingale under the null with E_0 = 1. Proof: rho_i is set before the interval and n_i may depend on all
that came before; given both, each factor is the ratio of two binomial probabilities, whose expectation under
the denominator is 1; a fixed mixture of martingales is one. So P(E ever reaches 1/alpha) <= alpha (Ville).

The tilts are spread evenly over ln |ln theta|, from 0.005 to ln 100: fine where a Dirichlet prior with
concentration 10000 has its mass (standard deviation of the log-odds 0.02 at an even split, 0.05 at 5 %) and
reaching far enough for a weight that was never applied.

**With constant weights** the Dirichlet form of Lindon & Malek (2022, arXiv 2011.03567), as in Optimizely's
and GrowthBook's sequential SRM tests, is given too.

Both assume that each request is routed on its own, as Envoy does. Sticky sessions, and clients that retry on
the version that failed, route several at once: mismatch is then claimed too often.

When a split that was rejected is right again, `analysis.mending` says; then this test begins anew.
"""

from __future__ import annotations

from math import lgamma, log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.eprocess import e_value, log_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.hypergeometric import Floats

_DISTANCES = np.geomspace(0.005, log(100), 18)
LOG_TILTS: Floats = np.concatenate([-_DISTANCES[::-1], _DISTANCES])
"""ln theta of every alternative."""
LOG_TILTS.flags.writeable = False


def cost(share: Floats | float, log_tilts: Floats) -> Floats:
    """Return what a tilt pays for a request: ln(1 - rho + theta rho), at the intended share(s) rho."""
    return np.log1p(share * np.expm1(log_tilts))


class Split(NamedTuple):
    """The candidate's intended share in some intervals, and what every tilt pays for a request."""

    share: Floats
    cost: Floats

    @classmethod
    def of(cls, share: Floats) -> Split:
        """Return what follows from the shares alone: (intervals, tilts)."""
        return cls(share, cost(share[:, None], LOG_TILTS))

    def log_increments(self, control: Floats, candidate: Floats) -> Floats:
        """Return, per interval (rows) and tilt (columns), ln of the factor of the martingale."""
        split = ((self.share > 0) & (self.share < 1))[:, None]
        factor = candidate[:, None] * LOG_TILTS - (control + candidate)[:, None] * self.cost
        return np.where(split, factor, 0.0)


def log_increments(control: Floats, candidate: Floats, share: Floats) -> Floats:
    """Return, per interval (rows) and tilt (columns), ln of the factor of the martingale.

    `control` and `candidate` are numbers of requests, `share` the intended share of the candidate. At a share
    of 0 or 1 nothing is split, and the row is 0.
    """
    return Split.of(share).log_increments(control, candidate)


def log_evidence(log_likelihood: Floats) -> Floats:
    """Return ln E from the summed increments, averaged over the tilts (last axis)."""
    return log_mean(log_likelihood)


def is_rejected(log_peak: float, alpha: float) -> bool:
    """Tell whether the split is shown to be another one, from ln of the largest E so far."""
    return e_value(log_peak) >= 1 / alpha


def dirichlet_multinomial_log_bayes_factor(
    counts: Sequence[int], shares: Sequence[float], concentration: float = 10_000
) -> float:
    """Return ln of the Bayes factor against "the counts follow the shares", for constant shares.

    Dirichlet(concentration * shares) mixture over the multinomial null, a martingale in the counts; Lindon &
    Malek (2022), section 3. Raises ValueError unless there is one positive share per count and they sum to 1.
    """
    if len(counts) != len(shares) or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares {shares} must be positive, sum to 1 and be as many as the counts {counts}")
    total = sum(counts)
    value = lgamma(concentration) - lgamma(concentration + total)
    for count, share in zip(counts, shares, strict=True):
        prior = concentration * share
        value += lgamma(prior + count) - lgamma(prior) - count * log(share)
    return value
