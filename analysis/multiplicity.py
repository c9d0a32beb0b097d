"""Many e-values at once: one verdict over all of them, names for those to blame, and lists with few mistakes.

- One verdict: the weighted average of e-values is an e-value, whatever their dependence (Vovk & Wang 2021,
  "E-values: calibration, combination and applications", arXiv 1912.06116, section 3). Weights are fixed
  before the data.
- Names: element m is rejected when E_m >= 1 / (alpha u_m), weighted Bonferroni; the chance of rejecting any
  true null is at most alpha. Since u_m E_m is a part of the average, whoever is named has also decided the
  verdict.
- Lists: e-BH, for reports over many metrics or rollouts, bounds the expected share of mistakes among the
  rejected.

E-values are given and returned as logarithms: those beyond exp(700) are ordinary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.boundaries import log_threshold
from analysis.eprocess import log_sum_exp

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from analysis.hypergeometric import Floats

_NEAR_ONE = 1e-3
"""Up to this -ln p the calibrator is computed from its series, for the sake of the digits."""
_ROUNDING = 1e-9
"""By which a sum of weights may miss 1."""


@dataclass(frozen=True)
class Combined:
    """What several weighted e-values say together."""

    log_e: float
    """ln of their weighted average: one e-value for "all nulls are true"."""
    blame: int
    """The element with the largest weighted e-value, most of the evidence there is."""
    named: tuple[int, ...]
    """The elements that are rejected on their own, at the same alpha for all together."""


def log_weighted_average(log_e: ArrayLike, weights: ArrayLike) -> Floats:
    """Return ln sum_m u_m E_m over the last axis, for positive weights u_m that sum to 1, else ValueError."""
    return log_sum_exp(np.asarray(log_e, dtype=np.float64) + np.log(_checked(weights)))


def log_thresholds(weights: ArrayLike, alpha: float) -> Floats:
    """Return ln(1 / (alpha u_m)), which ln E_m has to reach for element m to be rejected on its own.

    Weighted Bonferroni: P(any true null is ever rejected) <= alpha. Weights as `log_weighted_average`;
    ValueError unless 0 < alpha < 1.
    """
    return log_threshold(alpha) - np.log(_checked(weights))


def combine(log_e: ArrayLike, weights: ArrayLike, alpha: float) -> Combined:
    """Return the verdict over all elements, who is to blame for it and who is rejected on his own.

    `log_e` and `weights` have one element each; errors as `log_thresholds`. Whether the verdict is a
    rejection is whether `log_e` of the result reaches ln(1 / alpha); it may do so without any name.
    """
    logs = np.asarray(log_e, dtype=np.float64)
    named = np.flatnonzero(logs >= log_thresholds(weights, alpha))
    return Combined(
        log_e=float(log_weighted_average(logs, weights)),
        blame=int(np.argmax(logs + np.log(_checked(weights)))),
        named=tuple(named.tolist()),
    )


def e_bh(log_e: ArrayLike, alpha: float) -> tuple[int, ...]:
    """Return which of m nulls the e-BH procedure rejects, as rising indices.

    With e_[k] the k-th largest e-value, the k^ largest are rejected, k^ = max{k: k e_[k] / m >= 1 / alpha}.
    The expected share of true nulls among the rejected is at most alpha, whatever the dependence (Wang &
    Ramdas 2022, arXiv 2009.02824, section 4). ValueError unless 0 < alpha < 1.
    """
    logs = np.asarray(log_e, dtype=np.float64)
    order = np.argsort(-logs, kind="stable")
    ranks = np.arange(1, logs.size + 1)
    enough = np.flatnonzero(logs[order] >= log_threshold(alpha) + np.log(logs.size / ranks))
    rejected = order[: enough[-1] + 1] if enough.size else order[:0]
    return tuple(sorted(rejected.tolist()))


def p_to_log_e(p: ArrayLike) -> Floats:
    """Return ln of the e-value that a p-value is worth: (1 - p + p ln p) / (p ln^2 p), infinite at p = 0.

    The average of the calibrators k p^(k - 1) over k in (0, 1) (Vovk & Wang 2021, section 2). For a p-value
    that holds at one look, so is the e-value. ValueError unless 0 <= p <= 1.
    """
    values = np.asarray(p, dtype=np.float64)
    if np.any(~((values >= 0) & (values <= 1))):
        raise ValueError(f"p-values lie between 0 and 1: {p!r}")
    with np.errstate(divide="ignore", invalid="ignore"):
        x = -np.log(values)
        exact = x + np.log(-np.expm1(-x) - x * np.exp(-x)) - 2 * np.log(x)
    series = np.log(0.5 + x / 6 + x**2 / 24 + x**3 / 120)
    return np.asarray(np.where(values == 0, np.inf, np.where(x < _NEAR_ONE, series, exact)))


def e_to_p(log_e: ArrayLike) -> Floats:
    """Return min(1, 1 / E), the p-value that an e-value is worth (Markov's inequality; Vovk & Wang 2021)."""
    return np.asarray(np.exp(-np.maximum(log_e, 0.0)))


def _checked(weights: ArrayLike) -> Floats:
    shares = np.asarray(weights, dtype=np.float64)
    if np.any(shares <= 0) or abs(float(shares.sum()) - 1) > _ROUNDING:
        raise ValueError(f"weights must be positive and sum to 1: {weights!r}")
    return shares
