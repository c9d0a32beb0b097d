"""What every look needs of many runs at once: the kind of each verdict, and the numbers that are drawn of it.

A verdict in numbers and words costs half a millisecond a run, most of it for the ends of confidence sequences
and for sentences that nobody reads while a run merely holds. Tests hold that both always agree.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.confidence import confidence_bounds, mantel_haenszel
from analysis.eprocess import e_value, log_mean
from analysis.evidence import parts
from analysis.margin import log_e_safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.design import Design, Layout, MetricDesign
    from analysis.evidence import Evidence, MetricEvidence, Part, Singles
    from analysis.hypergeometric import Floats, Ints
    from analysis.verdict import Kind


class MetricGlance(NamedTuple):
    """One metric: the fewest requests that a version had, and ln E against its margin where there is one.

    `lane` is the edge with most evidence of harm (`analysis.verdict.MetricVerdict.worst_edge`), `odds_ratio`
    the one there, and `likelihood` what its confidence sequence is made of (`odds_ratio_interval`). A mean
    has none of these.
    """

    fewest: int
    log_e_safe: float | None
    lane: int
    odds_ratio: float | None
    likelihood: Singles


class Glance(NamedTuple):
    """One run."""

    kind: Kind
    metrics: tuple[MetricGlance, ...]


def glances(runs: Sequence[tuple[Design, Evidence]]) -> list[Glance]:
    """Return what a look needs of every run."""
    together: dict[Layout, list[tuple[MetricDesign, MetricEvidence]]] = defaultdict(list)
    for design, evidence in runs:
        for metric, own in zip(design.metrics, evidence.metrics, strict=True):
            together[own.layout].append((metric, own))
    found = {
        layout: iter(_of_layout(members[0][0], [own for _, own in members]))
        for layout, members in together.items()
    }
    result = []
    for design, evidence in runs:
        metrics = tuple(next(found[own.layout]) for own in evidence.metrics)
        result.append(Glance(_kind(design, evidence, metrics), metrics))
    return result


def odds_ratio_interval(likelihood: Singles, alpha: float) -> tuple[float, float | None]:
    """Return the confidence sequence for an odds ratio from a glance's likelihood."""
    return confidence_bounds(likelihood.astype(np.float64), alpha)


def worst_lanes(layout: Layout, start: Floats, counts: Ints) -> list[int]:
    """Return, per run, the edge with most evidence of harm since the start (else the only lane).

    While there is none at any edge, it is the edge that splits all requests most evenly: it tells most.
    `start` is (runs, lanes, alternatives), `counts` (runs, 2, 1 + lanes).
    """
    if layout.lanes == 1:
        return [0] * len(counts)
    gains = log_mean(start)
    both = counts.sum(axis=1)
    evenness = np.abs(both[:, :1] - 2 * both[:, 1:])
    worst = np.where(gains.max(axis=1) > 0, gains.argmax(axis=1), evenness.argmin(axis=1))
    lanes: list[int] = worst.tolist()
    return lanes


def _of_layout(metric: MetricDesign, metrics: Sequence[MetricEvidence]) -> list[MetricGlance]:
    """Return the glances of metrics of one layout, which is that of `metric`."""
    layout = metric.layout
    where = parts(layout)
    counts, singles = np.array([own.counts for own in metrics]), np.array([own.singles for own in metrics])
    start, likelihood, common = (
        _part(singles, where[name]) for name in ("start", "likelihood", "mantel_haenszel")
    )
    lanes = worst_lanes(layout, start.astype(np.float64), counts)
    fewest, rows = counts[:, :, 0].min(axis=1).tolist(), np.arange(len(metrics))
    ratios = [None if layout.mean else mantel_haenszel(*sums) for sums in common[rows, lanes].tolist()]
    safe = _safe(metric, metrics, counts, singles)
    each = zip(fewest, safe, lanes, ratios, likelihood[rows, lanes], strict=True)
    return [MetricGlance(*known) for known in each]


def _part(singles: Singles, part: Part) -> Singles:
    """Return one of the sums of all metrics, in its shape."""
    return singles[:, part.columns].reshape(len(singles), *part.shape)


def _safe(
    metric: MetricDesign, metrics: Sequence[MetricEvidence], counts: Ints, singles: Singles
) -> Sequence[float | None]:
    """Return ln of the e-value against "worse than the margin", or None where nothing tells of it."""
    if not metric.edges:
        return [own.log_safe if metric.needs_proof else None for own in metrics]
    where = parts(metric.layout)
    pairs, dispersion = (_part(singles, where[name]).astype(np.float64) for name in ("pairs", "dispersion"))
    found = log_e_safe(metric.layout, counts, pairs, dispersion).tolist()
    return [log_e if math.isfinite(log_e) else None for log_e in found]


def _kind(design: Design, evidence: Evidence, metrics: Sequence[MetricGlance]) -> Kind:
    """Return what `analysis.verdict.verdict` concludes."""
    if evidence.inconsistent or e_value(evidence.srm_peak) >= 1 / design.srm_alpha:
        return "Invalid"
    if all(metric.fewest == 0 for metric in metrics):
        return "NoData"
    bound = math.log(len(design.metrics) / design.false_rollback)
    judged = [0 < metric.fewest >= design.min_samples for metric in metrics]
    for position, own in enumerate(evidence.metrics):
        if judged[position] and (own.peak >= bound or evidence.blame == position):
            return "Harmful"
    needed = -math.log(design.false_promote)
    required = [
        enough and metric.log_e_safe is not None and metric.log_e_safe >= needed
        for wanted, metric, enough in zip(design.metrics, metrics, judged, strict=True)
        if wanted.needs_proof
    ]
    return "Safe" if required and all(required) else "Undecided"
