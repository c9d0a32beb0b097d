"""The e-process that the judge runs on: a wager against "the odds ratio is at most w0" (or at least w0).

One 2x2 table per interval, candidate against concurrent control, conditional on the table's margins, so that
whatever both arms share (load, incidents, the split itself) cancels. Per odds ratio w and interval i

    l_i(w) = [ln P(k_i | w) - ln P(k_i | w0)] / phi,        L_t(w) = sum_{i<=t} l_i(w)

with P of `analysis.hypergeometric` and the dispersion phi >= 1. For w > w0, exp L_t(w) is an e-process for
the composite null "the odds ratio is at most w0 in every interval", for w < w0 for "at least w0": the
likelihood ratio is monotone in k, so its expectation is largest at w0 itself, where it is 1 (phi = 1). With
phi > 1 each factor is a power below 1 of such a ratio, so under the null its expectation is at most 1 too
(Jensen); that this suffices for clustered events is an approximation (docs/statistics.md).

Averages of e-processes are e-processes, whatever their dependence: over odds ratios, over latency edges, over
metrics, and over the time at which a regression may have begun. The last is the restart half (after Shin,
Ramdas & Rinaldo, "E-detectors", 2024, with a bound for the whole run): with weights w_t = 1/T for T planned
looks and 0 later,

    R_t = (R_{t-1} + w_t) exp l_t,    E_restart = R_t + 1 - sum_{s<=t} w_s,    E = (exp L_t + E_restart) / 2

By Ville's inequality the chance that E ever reaches 1/alpha under the null is at most alpha. All values are
logarithms: e-values beyond exp(700) are ordinary.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats

ERROR_ODDS_RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
LATENCY_ODDS_RATIOS = (1.1, *ERROR_ODDS_RATIOS)
_SAFE_DIVISORS = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_ON_EQUAL = 0.8
LARGEST = 1e300
"""Reported e-values end here; their logarithms do not."""


def harm_odds_ratios(null: float, *, latency: bool) -> tuple[float, ...]:
    """Return the alternatives to "at most `null`": the defaults above it, else multiples of it."""
    defaults = LATENCY_ODDS_RATIOS if latency else ERROR_ODDS_RATIOS
    return tuple(w for w in defaults if w > null) or tuple(null * w for w in defaults)


def safe_odds_ratios(null: float) -> tuple[float, ...]:
    """Return the alternatives to "at least `null`": 1 if it lies below, then fractions of `null`."""
    fractions = tuple(null / divisor for divisor in _SAFE_DIVISORS)
    return (1.0, *fractions) if null > 1 else fractions


def safe_log_prior(null: float) -> Floats:
    """Return the log-weights of `safe_odds_ratios(null)`: most on 1, which a good candidate is close to."""
    count = len(_SAFE_DIVISORS)
    shares = [_ON_EQUAL] + [(1 - _ON_EQUAL) / count] * count if null > 1 else [1 / count] * count
    return np.log(shares)


def log_sum_exp(values: Floats, axis: int = -1) -> Floats:
    """Return ln sum exp(values) along an axis; a sum of nothing but ln 0 is ln 0."""
    top = np.max(values, axis=axis, keepdims=True)
    base = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(values - base).sum(axis=axis)) + base.squeeze(axis))


def restart_log_weight(look: int, planned: int) -> float:
    """Return ln w_t of look t = 1, 2, ..: 1/T up to the planned number T, then ln 0."""
    return -math.log(planned) if look <= planned else -math.inf


def restart_log_rest(looks: int, planned: int) -> float:
    """Return ln(1 - sum w) after so many looks: what has not been wagered yet."""
    return math.log((planned - looks) / planned) if looks < planned else -math.inf


def advance_restart(log_restart: Floats, log_weight: Floats | float, increment: Floats) -> Floats:
    """Return ln R_t from ln R_{t-1}, ln w_t and l_t."""
    return np.asarray(np.logaddexp(log_restart, log_weight) + increment)


def log_harm(log_start: Floats, log_restart: Floats, log_rest: Floats | float) -> Floats:
    """Return ln E, averaged over both halves and the last axis (odds ratios, of all edges)."""
    rest = np.broadcast_to(np.asarray(log_rest), log_start.shape)
    halves = np.stack([log_start, log_restart, rest], axis=-1)
    flat = halves.reshape(*log_start.shape[:-1], -1)
    return np.asarray(log_sum_exp(flat) - math.log(2 * log_start.shape[-1]))


def log_mean(log_values: Floats) -> Floats:
    """Return the logarithm of the plain average over the last axis."""
    return np.asarray(log_sum_exp(log_values) - math.log(log_values.shape[-1]))


def e_value(log_e: float) -> float:
    """Return exp(log_e), cut off at `LARGEST` so that it can be stored as a number."""
    return math.exp(log_e) if log_e < math.log(LARGEST) else LARGEST


def mixture_path(increments: Floats, planned: int | None) -> Floats:
    """Return ln E after each of n intervals, from increments with a column per edge and odds ratio.

    The plain average over the columns; with `planned` looks the restart half joins in, with None there is
    only the half that starts at 0.
    """
    start = np.cumsum(increments, axis=0)
    if planned is None:
        return log_mean(start)
    log_restart = np.full(increments.shape[1], -math.inf)
    path = np.zeros(len(increments))
    for step, increment in enumerate(increments):
        log_restart = advance_restart(log_restart, restart_log_weight(step + 1, planned), increment)
        path[step] = log_harm(start[step], log_restart, restart_log_rest(step + 1, planned))
    return path
