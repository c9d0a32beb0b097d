"""Confidence sequences: intervals that contain the truth at all looks together with probability 1 - alpha.

Each inverts a family of e-processes, one per value of the parameter: the values that are not rejected remain.

| for                                | function                                    | holds                |
|------------------------------------|---------------------------------------------|----------------------|
| a proportion                       | `bernoulli_interval`, `bernoulli_sequence`  | exactly              |
| shares of a total, rates of events | `share_interval`, `log_rate_ratio_interval` | exactly              |
| a mean of anything                 | `asymptotic_radius`                         | for large samples    |
| an average treatment effect        | `treatment_effect`                          | for bounded outcomes |

All assume independent units; requests that fail in clusters are none.

`bernoulli_sequence`, `share_interval` and `log_rate_ratio_interval` have one shape. With a prior on a share p
and the likelihood M_t of the data under it, the e-process against "the share is p" is M_t / (p^s (1 - p)^f),
so the sequence is {p: s ln p + f ln(1 - p) >= ln M_t + ln alpha}, an interval whose ends are found by
bisection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from analysis.boundaries import (
    GammaExponential,
    TwoSidedNormal,
    best_r,
    beta_binomial,
    bisect,
    log_threshold,
)
from analysis.srm import dirichlet_multinomial_log_bayes_factor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from analysis.hypergeometric import Floats

_TINY = 1e-12
"""A proportion that cannot be told from 0 or, subtracted, from 1."""


def anytime_p_values(log_e: ArrayLike) -> Floats:
    """Return p_t = min(1, 1 / max_{s<=t} E_s) after each look (first axis), from ln E.

    P(p_t ever falls to alpha or below) <= alpha under the null (Ville's inequality).
    """
    largest = np.maximum.accumulate(np.asarray(log_e, dtype=np.float64))
    return np.asarray(np.exp(-np.maximum(largest, 0.0)))


def bernoulli_interval(
    successes: float, trials: float, alpha: float, t_opt: float, *, alpha_opt: float = 0.05
) -> tuple[float, float]:
    """Return the proportions that the two-sided beta-binomial mixture does not reject, after so many trials.

    The mixture against p has g = p, h = 1 - p and its prior centred on p, about tightest after `t_opt` trials
    (Howard et al. 2021, proposition 6). For trials that succeed with chance p whatever came before.
    ValueError unless 0 <= successes <= trials, trials > 0, t_opt > 0 and 0 < alpha < 1.
    """
    if not 0 <= successes <= trials or trials <= 0:
        raise ValueError(f"{successes} successes in {trials} trials")
    rate, threshold = successes / trials, log_threshold(alpha)

    def is_rejected(p: Floats | float) -> bool:
        chance = float(p)
        variance = chance * (1 - chance)
        mixture = beta_binomial(variance * t_opt, chance, 1 - chance, one_sided=False, alpha_opt=alpha_opt)
        return float(mixture.log_value((rate - chance) * trials, variance * trials)) > threshold

    low, high = 0.0, 1.0
    if rate > _TINY and is_rejected(_TINY):
        low = float(bisect(is_rejected, np.asarray(_TINY), np.asarray(rate)))
    if rate < 1 - _TINY and is_rejected(1 - _TINY):
        high = float(bisect(lambda p: not is_rejected(p), np.asarray(rate), np.asarray(1 - _TINY)))
    return low, high


def bernoulli_sequence(
    successes: ArrayLike, trials: ArrayLike, alpha: float, *, prior: tuple[float, float] = (1.0, 1.0)
) -> tuple[Floats, Floats]:
    """Return low and high after each look, from cumulative counts, with a Beta prior on the proportion.

    M_t = B(a + s, b + f) / B(a, b) with prior (a, b) for successes and failures (Robbins 1970; Howard et al.
    2021, proposition 6). The running intersection is taken over the looks given: what one look has excluded
    stays excluded. It is empty, low > high, only if the assumption is broken or with probability alpha.
    """
    s = np.asarray(successes, dtype=np.float64)
    f = np.asarray(trials, dtype=np.float64) - s
    a, b = prior
    low, high = _ends(s, f, special.betaln(a + s, b + f) - special.betaln(a, b) - log_threshold(alpha))
    return np.maximum.accumulate(low), np.minimum.accumulate(high)


def multinomial_p_values(
    counts: Sequence[Sequence[int]], shares: Sequence[float], *, concentration: float = 100
) -> Floats:
    """Return the anytime p-value of "each event falls to arm g with chance shares[g]", after each look.

    `counts` has a row of cumulative counts per look. Dirichlet(concentration * shares) mixture (Lindon &
    Malek 2022, arXiv 2011.03567, section 3). Errors as `dirichlet_multinomial_log_bayes_factor`.
    """
    return anytime_p_values(
        [dirichlet_multinomial_log_bayes_factor(row, shares, concentration) for row in counts]
    )


def share_interval(
    counts: Sequence[int], arm: int, shares: Sequence[float], alpha: float, *, concentration: float = 100
) -> tuple[float, float]:
    """Return low and high of the chance that an event falls to `arm`, whatever the chances of the others.

    The confidence sequence for all chances together (Lindon & Malek 2022, section 3), projected on one: the
    others are at their likeliest, in proportion to their counts. `shares` centre the prior.
    """
    total, own = sum(counts), counts[arm]
    others = [count for index, count in enumerate(counts) if index != arm]
    level = _log_marginal(counts, shares, concentration) - log_threshold(alpha)
    rest = sum(float(special.xlogy(count, count / max(total - own, 1))) for count in others)
    low, high = _ends(own, total - own, level - rest)
    return float(low), float(high)


def log_rate_ratio_interval(
    counts: Sequence[int],
    shares: Sequence[float],
    alpha: float,
    *,
    arms: tuple[int, int] = (1, 0),
    concentration: float = 100,
) -> tuple[float, float]:
    """Return low and high of ln(rate of the first of `arms` / rate of the second), infinite if unbounded.

    Events of arm g come as a Poisson process of intensity shares[g] exp(delta_g) lambda(t), so an event falls
    to g with a chance proportional to shares[g] exp(delta_g), whatever lambda (Lindon & Malek 2022, on
    time-inhomogeneous Poisson processes). `shares` are the constant shares of traffic. Projected on
    delta_one - delta_two as in `share_interval`.
    """
    one, two = arms
    pair, total = counts[one] + counts[two], sum(counts)
    others = [pair, *(count for index, count in enumerate(counts) if index not in arms)]
    level = _log_marginal(counts, shares, concentration) - log_threshold(alpha)
    rest = sum(float(special.xlogy(count, count / max(total, 1))) for count in others)
    # both ends as chances near 0: a chance near 1 has too few digits for its logit
    low, high = _least(counts[one], counts[two], level - rest), _least(counts[two], counts[one], level - rest)
    offset = math.log(shares[one] / shares[two])
    return float(special.logit(low)) - offset, -float(special.logit(high)) - offset


def asymptotic_r2(t_opt: float, alpha: float) -> float:
    """Return the r^2 that makes `asymptotic_radius` about smallest at sample size `t_opt`.

    r^2 = (-W_{-1}(-alpha^2 exp(alpha^2 - 1)) - 1) / t_opt (Waudby-Smith et al. 2024, arXiv 2103.06476,
    appendix on tuning). The usual approximation, (-2 ln alpha + ln(1 - 2 ln alpha)) / t_opt, is 1 / `best_r`.
    ValueError unless t_opt > 0 and 0 < alpha < 1.
    """
    if t_opt <= 0 or not 0 < alpha < 1:
        raise ValueError(f"t_opt {t_opt} must be positive and alpha {alpha} between 0 and 1")
    branch = special.lambertw(-(alpha**2) * math.exp(alpha**2 - 1), -1).real
    return float(-branch - 1) / t_opt


def asymptotic_radius(count: ArrayLike, deviation: ArrayLike, r2: float, alpha: float) -> Floats:
    """Return the half-width of the asymptotic confidence sequence for a mean, in the units of `deviation`.

    sd sqrt(2 (t r2 + 1) / (t^2 r2) ln(sqrt(t r2 + 1) / alpha)) with the standard deviation of the t
    independent values so far (Waudby-Smith et al. 2024, theorem 2.2): the normal mixture with r = 1 / r2 and
    v = t. For sums S_t with a consistent estimate V_t of their variance it is `TwoSidedNormal(r).bound(V_t,
    alpha)`.
    """
    sizes = np.asarray(count, dtype=np.float64)
    return np.asarray(np.asarray(deviation) * TwoSidedNormal(1 / r2).bound(sizes, alpha) / sizes)


@dataclass(frozen=True)
class EffectSequence:
    """What is known of an average treatment effect after each of n units (arrays of n)."""

    estimate: Floats
    low: Floats
    high: Floats
    p_value: Floats
    """Against "the effect is at most 0", valid whenever one stops; its running minimum is so too."""


def treatment_effect(
    outcomes: ArrayLike,
    treated: ArrayLike,
    propensity: float,
    *,
    t_opt: float,
    outcome_variance: float,
    support: tuple[float, float] = (0.0, 1.0),
    alpha: float = 0.05,
) -> EffectSequence:
    """Return the average effect of treatment on units that were treated at random, one after the other.

    Inverse propensity weights around predictions (Howard et al. 2021, on average treatment effects): with the
    means m1, m0 of earlier treated and untreated units, m the one of the unit's own arm, and w = 1 /
    propensity if treated, else -1 / (1 - propensity),

        X = m1 - m0 + w (outcome - m),    S_t = sum X,    V_t = sum (X - m1 + m0)^2

    S_t / t is the estimate. S_t less its mean is sub-exponential with variance V_t and scale 2 (width of the
    support) / min(propensity, 1 - propensity): the gamma-exponential mixture bounds it, with alpha / 2 on
    each side, about tightest after `t_opt` units whose outcomes have the variance `outcome_variance`.

    `outcomes`, within `support`, and `treated`, 0 or 1, have one element per unit; else ValueError.
    """
    y, z = np.asarray(outcomes, dtype=np.float64), np.asarray(treated, dtype=np.float64)
    width = support[1] - support[0]
    if y.size == 0 or y.shape != z.shape or np.any((y < support[0]) | (y > support[1]) | (z * z != z)):
        raise ValueError("each unit needs an outcome within the support and a treatment of 0 or 1")
    if not 0 < propensity < 1:
        raise ValueError(f"the propensity {propensity} must lie between 0 and 1")
    if_treated, if_not = _predictions(y, z, support), _predictions(y, 1 - z, support)
    effect = if_treated - if_not
    weight = (z - propensity) / (propensity * (1 - propensity))
    surprise = weight * (y - np.where(z == 1, if_treated, if_not))
    total, variance = np.cumsum(effect + surprise), np.cumsum(surprise**2)
    v_opt = t_opt * outcome_variance / (propensity * (1 - propensity))
    scale = 2 * width / min(propensity, 1 - propensity)
    mixture = GammaExponential(best_r(v_opt, alpha / 2, one_sided=True), scale)
    units = np.arange(1, y.size + 1)
    radius = mixture.bound(variance, alpha / 2) / units
    return EffectSequence(
        estimate=total / units,
        low=np.maximum(total / units - radius, -width),
        high=np.minimum(total / units + radius, width),
        p_value=np.exp(-np.maximum(mixture.log_value(total, variance), 0.0)),
    )


def _predictions(outcomes: Floats, selected: Floats, support: tuple[float, float]) -> Floats:
    """Return the mean of the selected outcomes before each unit.

    While there are none: the centre of the support for the first unit, its lower end for others, as the
    authors have it. Any guess from the past is valid; it only costs width.
    """
    number = np.cumsum(selected)
    means = np.where(number > 0, np.cumsum(outcomes * selected) / np.maximum(number, 1.0), support[0])
    return np.concatenate([[sum(support) / 2], means[:-1]])


def _log_marginal(counts: Sequence[int], shares: Sequence[float], concentration: float) -> float:
    """Return ln of the Dirichlet-multinomial likelihood of one order of the events."""
    under_null = sum(count * math.log(share) for count, share in zip(counts, shares, strict=True))
    return dirichlet_multinomial_log_bayes_factor(counts, shares, concentration) + under_null


def _ends(successes: ArrayLike, failures: ArrayLike, level: ArrayLike) -> tuple[Floats, Floats]:
    """Return the ends of {p: successes ln p + failures ln(1 - p) >= level}, element by element."""
    return _least(successes, failures, level), 1 - _least(failures, successes, level)


def _least(successes: ArrayLike, failures: ArrayLike, level: ArrayLike) -> Floats:
    s, f = np.asarray(successes, dtype=np.float64), np.asarray(failures, dtype=np.float64)
    enough = np.asarray(level, dtype=np.float64)
    best = np.asarray(s / np.maximum(s + f, 1.0))

    def is_outside(p: Floats) -> NDArray[np.bool_]:
        return np.asarray(special.xlogy(s, p) + special.xlog1py(f, -p) < enough)

    return np.where(s > 0, bisect(is_outside, np.zeros_like(best), best), 0.0)
