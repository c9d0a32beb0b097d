"""How long until the evidence decides? Expected times from a closed form, before any traffic has moved.

Events are rare, so given that one happened it is the candidate's with probability

    s(w) = w rho / (w rho + 1 - rho)        (rho: the candidate's share, w: the odds ratio)

Against the null w0 the evidence grows per event by KL(s(w) || s(w0)), and per second by

    g = N p0 (w rho + 1 - rho) KL(s(w) || s(w0)) / phi

with N requests per second in all, p0 the control's share of events and phi the dispersion. For w0 = 1 that is
N p0 [w rho ln w - (w rho + 1 - rho) ln(w rho + 1 - rho)] / phi. The bound takes ln(1/alpha) if the mixture
bet on w alone, and up to ln 12 more for spreading the bet over odds ratios and halves. Medians in simulations
lie between; looks come at whole intervals on top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_SPREAD = 12
"""Six odds ratios and two halves share the bet."""
HARMS = (1.5, 2.0, 3.0, 5.0)
"""Odds ratios for which times are shown."""
_NEAR = 1e-4
"""Odds ratios closer than this (in logarithms) are compared by the leading term."""
_MOST = 1e9
"""Rates and dispersions lie between 1 / this and this."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What decides the speed. Raises ValueError when a number is out of range.

    `rps`: requests per second in all; `share`: the candidate's share of them; `baseline`: the control's share
    of events; `dispersion`: their clustering.
    """

    rps: float
    share: float
    baseline: float
    dispersion: float = 1.0

    def __post_init__(self) -> None:
        rates = 1 / _MOST <= self.rps <= _MOST and 1 <= self.dispersion <= _MOST
        if not (rates and 0 < self.share < 1 and 0 < self.baseline < 1):
            raise ValueError(
                f"rps must be positive and at most {_MOST:g}, shares between 0 and 1, dispersion at least 1"
            )


@dataclass(frozen=True, slots=True)
class Expected:
    """A range of seconds in which a decision is expected."""

    shortest: float
    longest: float


def growth(traffic: Traffic, odds_ratio: float, null: float) -> float:
    """Return g, the growth of the log-evidence against `null` per second when `odds_ratio` is true."""
    rho = traffic.share
    events = odds_ratio * rho + 1 - rho
    true, apart = odds_ratio * rho / events, math.log(null / odds_ratio)
    gain = math.log1p(true * math.expm1(apart)) - true * apart  # KL of two Bernoullis by their log-odds
    if abs(apart) < _NEAR:  # nothing of that difference would be left
        gain = true * (1 - true) * apart**2 / 2
    return traffic.rps * traffic.baseline * events * gain / traffic.dispersion


def time_to_rollback(traffic: Traffic, odds_ratio: float, alpha: float, tolerance: float = 0.0) -> Expected:
    """Return when harm of this size is expected to be proven. ValueError unless it exceeds the tolerance."""
    if odds_ratio <= 1 + tolerance:
        raise ValueError("no time is long enough: the odds ratio is tolerated")
    return _expected(growth(traffic, odds_ratio, 1 + tolerance), alpha, _SPREAD)


def time_to_promote(traffic: Traffic, margin: float, alpha: float) -> Expected:
    """Return when a candidate like the control is expected to be proven within the margin (0.25: 25 %).

    Half of that bet is on such a candidate. ValueError unless the margin is positive.
    """
    if margin <= 0:
        raise ValueError("no time is long enough: the margin is 0")
    return _expected(growth(traffic, 1.0, 1 + margin), alpha, 2)


def _expected(rate: float, alpha: float, spread: int) -> Expected:
    least = math.log(1 / alpha)
    return Expected(least / rate, (least + math.log(spread)) / rate)
