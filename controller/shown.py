"""A metric's numbers as reports show them: each version's value, how large the effect is, and its range.

What is shown of an effect is an odds ratio, or for a mean the difference in per cent of the control's. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from controller import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.metric_view import MetricView


def control(view: MetricView) -> str:
    """Return the control's value: a share of events, or a mean."""
    return _value(view, view.control_rate, view.control_mean)


def candidate(view: MetricView) -> str:
    """Return the candidate's value."""
    return _value(view, view.candidate_rate, view.candidate_mean)


def effect(view: MetricView) -> str:
    """Return the estimate of the effect."""
    return signed(view.difference) if view.measure == "mean" else numbers.number(view.odds_ratio)


def span(view: MetricView) -> str:
    """Return the range that contains the effect at all looks together."""
    if view.measure != "mean":
        return numbers.span(view.interval)
    low, high = view.difference_interval or (None, None)
    return numbers.MISSING if low is None and high is None else f"{signed(low)} to {signed(high)}"


def wrong_split(srm: Mapping[str, Any]) -> str:
    """Return when the observed split was not the intended one, as a sentence; empty if it never was."""
    times = [
        f"from {numbers.instant(each['began'])} "
        + ("until now" if each["ended"] is None else f"to {numbers.instant(each['ended'])}")
        for each in srm.get("episodes") or ()
    ]
    return f"The split was not the intended one {', '.join(times)}." if times else ""


def signed(share: float | None) -> str:
    """Return a difference as per cent with its sign: -0.036 is `-3.6%`."""
    if share is None:
        return numbers.MISSING
    return f"{'+' if share > 0 else ''}{numbers.number(100 * share)}%"


def _value(view: MetricView, rate: float | None, mean: float | None) -> str:
    return numbers.number(mean) if view.measure == "mean" else numbers.percent(rate)
