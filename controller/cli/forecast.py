"""Expected times to a decision for `penstock plan`, from `analysis.power`, as rows of a table. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.power import HARMS, Expected, Traffic, time_to_promote, time_to_rollback
from controller import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import Metric, MetricTemplate, RolloutPolicy

_YEAR = 365 * 86400.0
HEADER = ("METRIC", "WEIGHT", *(f"HARM x{harm:g}" for harm in HARMS), "SAFE")


def forecast(
    policy: RolloutPolicy, templates: Mapping[str, MetricTemplate], *, rps: float, baseline: float
) -> list[list[str]]:
    """Return, per proportion metric and step, how long harm of some sizes and safety take to be proven.

    `rps` is requests per second in all, `baseline` the control's share of events. ValueError: out of range.
    """
    canary = policy.spec.strategy.canary
    weights = [step.weight for step in canary.steps if step.weight < 100] if canary else []
    return [
        _row(policy, metric, weight, Traffic(rps, weight / 100, baseline, metric.assumed_dispersion))
        for metric in policy.spec.metrics
        if templates[metric.template].spec.kind == "proportion"
        for weight in weights
    ]


def _row(policy: RolloutPolicy, metric: Metric, weight: int, traffic: Traffic) -> list[str]:
    decision = policy.spec.decision
    alpha, tolerance = decision.false_rollback.fraction / len(policy.spec.metrics), metric.tolerance.fraction
    harms = [
        _words(time_to_rollback(traffic, harm, alpha, tolerance)) if harm > 1 + tolerance else "tolerated"
        for harm in HARMS
    ]
    margin = metric.margin.fraction if metric.margin else 0.0
    safe = time_to_promote(traffic, margin, decision.false_promote.fraction) if margin else None
    return [metric.name or metric.template, f"{weight}%", *harms, _words(safe) if safe else numbers.MISSING]


def _words(expected: Expected) -> str:
    if expected.shortest > _YEAR:
        return "over a year"
    return f"{numbers.length(expected.shortest)} to {numbers.length(expected.longest)}"
