"""How large the effect is where it is no odds ratio: of a mean, and in percentage points."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from analysis.mean_guardrail import mean_sums
from analysis.means import FEWEST, FEWEST_EFFECTIVE, relative_difference
from analysis.risk_difference import BURN_IN, TERMS, bounds, difference

if TYPE_CHECKING:
    from analysis.design import Design, Layout
    from analysis.evidence import MetricEvidence
    from analysis.means import MeanSums

Ends = tuple[float | None, float | None]


class Difference(NamedTuple):
    """The candidate's value less the control's.

    Of a mean as a fraction of the control's, of a proportion as a difference of the shares. An end of the
    confidence sequence `interval` is None where it is unbounded. `silence` says why there is no evidence yet.
    """

    estimate: float | None = None
    interval: Ends | None = None
    silence: str = ""


NONE = Difference()


def difference_of(design: Design, layout: Layout, own: MetricEvidence) -> Difference:
    """Return the effect of a mean or of a proportion with a margin in points, else nothing."""
    if layout.mean is not None:
        return _of_mean(design, own)
    return NONE if layout.points is None else _in_points(design, layout, own)


def _of_mean(design: Design, own: MetricEvidence) -> Difference:
    sums = mean_sums(own.moments[None])
    found = relative_difference(
        sums,
        alpha=design.false_rollback,
        planned_looks=design.planned_looks,
        dispersion=max(1.0, float(own.dispersion[0])),
    )
    estimate, low, high = (float(each[0]) for each in found)
    silence = _silence(sums, estimate) if math.isinf(low) and math.isinf(high) else ""
    return Difference(_finite(estimate), (_finite(low), _finite(high)), silence)


def _silence(sums: MeanSums, estimate: float) -> str:
    """Return why nothing is said of a mean whose sequence is unbounded on both sides; empty if it is wide."""
    intervals = int(sums.intervals[0])
    if intervals < FEWEST:
        return f"nothing is said before {FEWEST} intervals with both versions, this is {intervals}"
    if math.isnan(estimate):
        return "the control's mean is not above 0, so that there is no percentage of it"
    if sums.first[0, 0] ** 2 < FEWEST_EFFECTIVE * sums.second[0, 0, 0]:
        return (
            f"most of the weight is on fewer than {FEWEST_EFFECTIVE:g} intervals, since shares have changed"
        )
    return ""


def _in_points(design: Design, layout: Layout, own: MetricEvidence) -> Difference:
    """Return the difference of the shares of the events that are counted."""
    sums, r = own.moments[:TERMS], own.moments[TERMS]
    dispersion = max(1.0, float(own.dispersion[0]))
    low, high = (float(end) for end in bounds(sums, design.false_rollback, r, dispersion))
    estimate, interval = _finite(float(difference(sums))), (low, high)
    if layout.mirrored and estimate is not None:
        estimate, interval = -estimate, (-high, -low)
    intervals = int(sums[0])
    words = f"nothing is said before {BURN_IN} intervals with both versions, this is {intervals}"
    return Difference(estimate, interval, words if intervals < BURN_IN else "")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
