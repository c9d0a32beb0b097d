"""The judge: many runs at once take in their new intervals, and each run's evidence is read as a verdict.

    evidence = fresh(design)
    [evidence] = advance([(design, evidence, intervals)])
    verdict(design, evidence).kind          # Harmful, Safe, Undecided, NoData or Invalid

Guarantees, as far as the assumptions in docs/statistics.md hold: over the life of a run, at any number of
looks and under any change of weights, a harmless candidate is called Harmful with probability at most
`false_rollback`, all metrics together; a candidate beyond the margin of a metric is called Safe with
probability at most `false_promote`.

Evidence does not depend on how intervals are cut into looks, nor on which runs advance together: the result
is the same bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.design import Design, Interval, MetricDesign
from analysis.evidence import Evidence, MetricEvidence, fresh
from analysis.guardrail import Place, advance_metrics
from analysis.mending import mended
from analysis.srm import log_evidence, log_increments
from analysis.verdict import MetricVerdict, RunVerdict, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.design import Layout
    from analysis.evidence import Singles

__all__ = [
    "Design",
    "Evidence",
    "Interval",
    "MetricDesign",
    "MetricVerdict",
    "RunVerdict",
    "advance",
    "fresh",
    "verdict",
]


def advance(batch: Sequence[tuple[Design, Evidence, Sequence[Interval]]]) -> list[Evidence]:
    """Return each run's evidence with its intervals taken in, oldest first; runs may have different numbers.

    Raises ValueError when an interval does not end after the last one taken in, or a table has another number
    of edges than the design.
    """
    results = [evidence for _, evidence, _ in batch]
    for step in range(max((len(intervals) for _, _, intervals in batch), default=0)):
        active = [run for run, (_, _, intervals) in enumerate(batch) if step < len(intervals)]
        looks = [_Look(batch[run][0], results[run], batch[run][2][step]) for run in active]
        for run, evidence in zip(active, _advance_looks(looks), strict=True):
            results[run] = evidence
    return results


class _Look(NamedTuple):
    """One run about to take in one interval."""

    design: Design
    evidence: Evidence
    interval: Interval


def _advance_looks(looks: Sequence[_Look]) -> list[Evidence]:
    """Return the evidence of several runs after one interval each."""
    groups: dict[Layout, list[tuple[int, int]]] = {}
    for run, look in enumerate(looks):
        if look.evidence.end is not None and look.interval.end <= look.evidence.end:
            raise ValueError(f"the interval that ended at {look.interval.end} is not newer than the evidence")
        for m, metric in enumerate(look.design.metrics):
            groups.setdefault(metric.layout, []).append((run, m))
    metrics: list[list[MetricEvidence]] = [list(look.evidence.metrics) for look in looks]
    for layout, places in groups.items():
        own = [_place(looks[run], m, metrics[run][m]) for run, m in places]
        for (run, m), advanced in zip(places, advance_metrics(layout, own), strict=True):
            metrics[run][m] = advanced
    splits = _advance_splits(looks)
    return [_assemble(*parts) for parts in zip(looks, metrics, splits, strict=True)]


def _place(look: _Look, metric: int, old: MetricEvidence) -> Place:
    return Place(look.design, look.design.metrics[metric], look.interval, look.evidence.looks + 1, old)


class _Split(NamedTuple):
    """The test of the split after an interval."""

    log_likelihood: Singles
    log_e: float
    requests: tuple[int, int, float]


def _advance_splits(looks: Sequence[_Look]) -> list[_Split]:
    """Return every run's test of the split after one interval."""
    requests = np.array([look.interval.requests or (0, 0) for look in looks], dtype=np.float64)
    share = np.array([look.interval.intended for look in looks])
    increments = log_increments(requests[:, 0], requests[:, 1], share)
    sums = np.array([look.evidence.srm for look in looks]).astype(np.float64) + increments
    splits = []
    for look, row, log_e in zip(looks, sums, log_evidence(sums).tolist(), strict=True):
        control, candidate, expected = look.evidence.requests
        more = look.interval.requests if 0 < look.interval.intended < 1 else None
        b, c = more or (0, 0)
        total = (control + b, candidate + c, expected + (b + c) * look.interval.intended)
        splits.append(_Split(row.astype(np.float32), log_e, total))
    return splits


def _assemble(look: _Look, metrics: Sequence[MetricEvidence], split: _Split) -> Evidence:
    """Return a run's evidence from that of its parts."""
    old = look.evidence
    log_e = _log_mean([metric.log_e for metric in metrics])
    crosses = old.crossed_at is None and log_e >= -math.log(look.design.false_rollback)
    new = replace(
        old,
        metrics=tuple(metrics),
        srm=split.log_likelihood,
        requests=split.requests,
        looks=old.looks + 1,
        end=look.interval.end,
        log_e=log_e,
        peak=max(old.peak, log_e),
        srm_peak=max(old.srm_peak, split.log_e),
        crossed_at=look.interval.end if crosses else old.crossed_at,
        blame=max(range(len(metrics)), key=lambda m: metrics[m].log_e) if crosses else old.blame,
        inconsistent=look.interval.inconsistent,
    )
    return mended(look.design, old, look.interval, new)


def _log_mean(log_values: Sequence[float]) -> float:
    """Return ln of the plain average: equal shares of alpha for all metrics."""
    top = max(log_values)
    return top + math.log(sum(math.exp(value - top) for value in log_values) / len(log_values))
