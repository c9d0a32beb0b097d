"""What the control's past says before a run is judged: its dispersion, and which edges are worth it. Pure.

Read once, when the run starts, and fixed for the run: what is judged must not depend on what it shows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.power import Traffic, time_to_rollback
from controller import numbers
from controller.calibration import Calibration, MetricCalibration, SeriesCounts, measure
from controller.past import Question

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.design import Design, MetricDesign
    from analysis.hypergeometric import Ints
    from controller.calibration import Measured
    from controller.filing import ArmKey
    from controller.past import MetricPast, Past
    from policies.model import MetricTemplate, RolloutPolicy

HISTORY_SECONDS = 6 * 3600.0
"""How far back is read."""
FEWEST, MOST = 0.002, 0.98
"""Edges are judged that between these shares of the control's requests exceed, and the next two above."""
_ABOVE = 2
EDGES = "0.2% to 98% of the control's requests before the run took longer, and the next two edges"
LARGEST_EFFECT = 5.0
"""Harm of this size should be found within the deadline."""


def measured_metrics(policy: RolloutPolicy, design: Design) -> tuple[MetricDesign, ...]:
    """Return the metrics whose dispersion the policy wants measured."""
    auto = {each.name or each.template for each in policy.spec.metrics if each.dispersion.measured}
    return tuple(each for each in design.metrics if each.name in auto and each.kind != "mean")


def weights_of(policy: RolloutPolicy) -> tuple[int, ...]:
    """Return the candidate's shares in per cent at which something is compared."""
    canary = policy.spec.strategy.canary
    steps = canary.steps if canary else ()
    return tuple(sorted({step.weight for step in steps if step.weight < 100}))


def question_of(
    policy: RolloutPolicy, design: Design, templates: Mapping[str, MetricTemplate], arm: ArmKey, began: float
) -> Question:
    """Return what to read for a run that began then (unix seconds); `templates`: by metric."""
    step, own = int(policy.spec.decision.interval.seconds), measured_metrics(policy, design)
    end = int(began // step) * step
    return Question(
        design=replace(design, metrics=own),
        read_by={metric.name: templates[metric.name] for metric in own},
        arm=arm,
        start=end - int(HISTORY_SECONDS // step) * step,
        end=end,
        step=step,
    )


def calibration_of(own: Sequence[MetricDesign], past: Past, weights: Sequence[int]) -> Calibration:
    """Return the calibration that a past gives; metrics of which it tells too little go by the assumption."""
    metrics = {}
    for metric in own:
        totals, events = _known(past.metrics[metric.name])
        found = measure(totals, events, weights, past.step)
        metrics[metric.name] = _metric(metric, found)
    longest = max(int((_known(each)[0].sum(axis=1) > 0).sum()) for each in past.metrics.values())
    why = f"only {numbers.length(longest * past.step)} of the control's past are known"
    return Calibration(past.step, tuple(weights), metrics, why if longest else "the control has no past")


def uncalibrated(question: Question, weights: Sequence[int], why: str) -> Calibration:
    """Return the calibration while the past cannot be read."""
    metrics = {metric.name: _metric(metric, None) for metric in question.design.metrics}
    return Calibration(question.step, tuple(weights), metrics, why, failed=True)


def _metric(metric: MetricDesign, history: Measured | None) -> MetricCalibration:
    lanes = metric.layout.lanes
    return MetricCalibration(metric.dispersion, lanes, history, control=SeriesCounts.nothing(lanes))


def _known(metric: MetricPast) -> tuple[Ints, Ints]:
    """Return totals and events from the first interval that is known to the last."""
    known = np.flatnonzero(metric.known)
    span = slice(known[0], known[-1] + 1) if known.size else slice(0, 0)
    return metric.totals[span], metric.events[span]


def telling_edges(metric: MetricDesign, past: MetricPast) -> tuple[float, ...]:
    """Return the edges that requests of the control tell of, and the next two above."""
    totals, events = _known(past)
    if not totals.sum():
        return metric.edges
    shares = events.sum(axis=(0, 1)) / totals.sum()
    first = int((shares > MOST).sum())
    last = int((shares >= FEWEST).sum()) - 1
    return metric.edges[first : last + 1 + _ABOVE] or metric.edges


def choose_edges(
    policy: RolloutPolicy, design: Design, calibration: Calibration, past: Past
) -> dict[str, tuple[float, ...]]:
    """Return the edges to judge instead of all, per histogram whose edges the policy does not list."""
    listed = {each.name or each.template for each in policy.spec.metrics if each.edges}
    chosen = {
        metric.name: telling_edges(metric, past.metrics[metric.name])
        for metric in design.metrics
        if metric.kind == "histogram"
        and metric.name not in listed
        and metric.name in calibration.metrics
        and calibration.metrics[metric.name].method == "history"
    }
    return {name: edges for name, edges in chosen.items() if len(edges) < len(_edges(design, name))}


def _edges(design: Design, name: str) -> tuple[float, ...]:
    return next(metric.edges for metric in design.metrics if metric.name == name)


def with_edges(design: Design, edges: Mapping[str, Sequence[float]]) -> Design:
    """Return the design with only these edges, per metric."""
    metrics = (
        replace(metric, edges=tuple(edges[metric.name])) if metric.name in edges else metric
        for metric in design.metrics
    )
    return replace(design, metrics=tuple(metrics))


def at_edges(calibration: Calibration, design: Design, edges: Mapping[str, Sequence[float]]) -> Calibration:
    """Return the calibration of `design` with only the lanes of these edges."""
    metrics = dict(calibration.metrics)
    for name, chosen in edges.items():
        lanes = [_edges(design, name).index(edge) for edge in chosen]
        metrics[name] = metrics[name].only(lanes)
    return replace(calibration, metrics=metrics)


def too_noisy(policy: RolloutPolicy, design: Design, calibration: Calibration, past: Past) -> list[str]:
    """Return, in a sentence per metric, where not even five-fold harm can be found within the deadline.

    By the control's past traffic, at the first step (`analysis.power`); only of what was measured.
    """
    found = []
    for metric in design.metrics:
        known = calibration.metrics.get(metric.name)
        if known is None or known.history is None:
            continue
        weight, deadline = calibration.weights[0], policy.spec.decision.deadline
        seconds = _fastest(design, past.metrics[metric.name], known.at(weight), weight / 100, past.step)
        if seconds is not None and seconds > deadline.seconds:
            found.append(
                f"{metric.name}: its events vary {numbers.number(max(known.at(weight)))} times as much as "
                f"independent ones, so even x{LARGEST_EFFECT:g} harm takes about {numbers.length(seconds)} "
                f"to show at {weight}% of the requests; the deadline is {deadline}"
            )
    return found


def _fastest(
    design: Design, past: MetricPast, lanes: Sequence[float], share: float, step: int
) -> float | None:
    """Return the least seconds in which the largest harm is expected to show, over the lanes with events."""
    totals, events = _known(past)
    requests, seconds = int(totals.sum()), len(totals) * step
    alpha = design.false_rollback / len(design.metrics)
    traffic = [
        Traffic(requests / seconds, share, k / requests, phi)
        for k, phi in zip(events.sum(axis=(0, 1)).tolist(), lanes, strict=True)
        if 0 < k < requests
    ]
    times = [time_to_rollback(each, LARGEST_EFFECT, alpha).shortest for each in traffic]
    return min(times, default=None)
