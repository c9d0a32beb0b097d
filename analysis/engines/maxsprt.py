"""MaxSPRT for Poisson counts: critical values of the maximised likelihood ratio, exactly.

With c events where mu were expected, the statistic is LLR = mu - c + c ln(c / mu) for c > mu, else 0; harm is
signalled when it reaches the critical value before mu reaches T, from `least` events on (Kulldorff, Davis,
Kolczak, Lewis, Lieu & Platt 2011, Sequential Analysis 30:58-78). The c-th event signals if it comes before a
time t_c; so the chance of a signal follows from the distribution of the count just before t_1, t_2, .., step
by step. "Fast" here is bought with a fixed end: T has to be known before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln, xlogy

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats


def log_likelihood_ratio(events: float, expected: float) -> float:
    """Return the maximised LLR against a rate of at most the expected one."""
    return expected - events + events * math.log(events / expected) if events > expected else 0.0


def signal_probability(critical: float, end: float, least: int = 1) -> float:
    """Return the chance that a process at the expected rate ever signals, until `end` events are expected."""
    chances, now, events = np.ones(1), 0.0, least
    while (time := _latest(events, critical)) < end:
        chances = _after(chances, time - now)[:events]
        now, events = time, events + 1
    # at the end all remaining times lie beyond it, so that `events` of them signal there
    return 1.0 - float(_after(chances, end - now)[:events].sum())


def critical_value(end: float, alpha: float, least: int = 1) -> float:
    """Return the value at which a process at the expected rate signals with chance alpha until `end`."""
    return float(
        brentq(lambda critical: signal_probability(critical, end, least) - alpha, 0.5, 30, xtol=1e-10)
    )


def _latest(events: int, critical: float) -> float:
    """Return the expected number below which so many events signal."""
    return float(
        brentq(lambda mu: log_likelihood_ratio(events, mu) - critical, events * 1e-300, events, xtol=1e-14)
    )


def _after(chances: Floats, mean: float) -> Floats:
    """Return the distribution of the count after a Poisson number of further events."""
    more = np.arange(len(chances) + 1 + math.ceil(mean + 12 * math.sqrt(mean) + 12))
    return np.convolve(chances, np.exp(xlogy(more, mean) - mean - gammaln(more + 1)))
