"""What every look needs of many runs at once: the kind of each verdict, and the numbers that are drawn of it.

A verdict in numbers and words costs half a millisecond a run, most of it for the ends of confidence sequences
and for sentences that nobody reads while a run merely holds. Tests hold that both always agree.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.confidence import confidence_bounds
from analysis.eprocess import log_mean
from analysis.evidence import Kept, part_of
from analysis.margin import log_e_safe
from analysis.mending import log_e_safe as log_e_safe_since
from analysis.srm import is_rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.design import Design, Layout
    from analysis.evidence import Evidence, MetricEvidence, Singles
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


class SeenMetric(NamedTuple):
    """One metric of many runs, all of one layout: `MetricGlance` as arrays over the runs."""

    log_e: Floats
    """ln of the e-value for harm."""
    log_e_safe: Floats
    """nan stands for None."""
    fewest: Ints
    lane: Ints
    odds_ratio: Floats
    """nan stands for None."""
    likelihood: Singles
    """(runs, nodes)"""

    def cut(self) -> list[MetricGlance]:
        """Return the glance at each run."""
        fewest, lanes = self.fewest.tolist(), self.lane.tolist()
        safe, ratios = _or_none(self.log_e_safe), _or_none(self.odds_ratio)
        return [
            MetricGlance(*each) for each in zip(fewest, safe, lanes, ratios, self.likelihood, strict=True)
        ]


def glances(runs: Sequence[tuple[Design, Evidence]]) -> list[Glance]:
    """Return what a look needs of every run."""
    together: dict[Layout, list[MetricEvidence]] = defaultdict(list)
    for _, evidence in runs:
        for own in evidence.metrics:
            together[own.layout].append(own)
    found = {layout: iter(see(layout, Kept.of(metrics)).cut()) for layout, metrics in together.items()}
    result = []
    for design, evidence in runs:
        metrics = _anew(design, evidence, tuple(next(found[own.layout]) for own in evidence.metrics))
        result.append(Glance(_kind(design, evidence, metrics), metrics))
    return result


def _anew(design: Design, evidence: Evidence, metrics: tuple[MetricGlance, ...]) -> tuple[MetricGlance, ...]:
    """Return the metrics with what is proven since the split was right again, if it ever was wrong."""
    if evidence.mending is None:
        return metrics
    everything = zip(design.metrics, evidence.metrics, evidence.mending.proven_before, metrics, strict=True)
    return tuple(
        metric._replace(log_e_safe=log_e_safe_since(wanted, own, before))
        for wanted, own, before, metric in everything
    )


def see(layout: Layout, kept: Kept) -> SeenMetric:
    """Return what a look needs of metrics of one layout."""
    start, likelihood, common = (
        part_of(layout, kept.singles, name) for name in ("start", "likelihood", "mantel_haenszel")
    )
    lanes = worst_lanes(layout, start.astype(np.float64), kept.counts)
    rows = np.arange(len(lanes))
    numerator, denominator = common[rows, lanes].astype(np.float64).T
    return SeenMetric(
        log_e=kept.log_e,
        log_e_safe=_log_e_safe(layout, kept),
        fewest=kept.counts[:, :, 0].min(axis=1),
        lane=lanes,
        odds_ratio=_ratios(numerator, denominator),
        likelihood=likelihood[rows, lanes],
    )


def odds_ratio_interval(likelihood: Singles, alpha: float) -> tuple[float, float | None]:
    """Return the confidence sequence for an odds ratio from a glance's likelihood."""
    return confidence_bounds(likelihood.astype(np.float64), alpha)


def worst_lanes(layout: Layout, start: Floats, counts: Ints) -> Ints:
    """Return, per run, the edge with most evidence of harm since the start (else the only lane).

    While there is none at any edge, it is the edge that splits all requests most evenly: it tells most.
    `start` is (runs, lanes, alternatives), `counts` (runs, 2, 1 + lanes).
    """
    if layout.lanes == 1:
        return np.zeros(len(counts), dtype=np.int64)
    gains = log_mean(start)
    both = counts.sum(axis=1)
    evenness = np.abs(both[:, :1] - 2 * both[:, 1:])
    return np.asarray(np.where(gains.max(axis=1) > 0, gains.argmax(axis=1), evenness.argmin(axis=1)))


def _log_e_safe(layout: Layout, kept: Kept) -> Floats:
    """Return ln of the e-value against "worse than the margin", nan where nothing tells of it."""
    own_sums = layout.safe_null is not None or layout.points is not None
    if own_sums or (layout.mean is not None and layout.mean.margin is not None):
        return kept.log_safe
    pairs, dispersion = (
        part_of(layout, kept.singles, name).astype(np.float64) for name in ("pairs", "dispersion")
    )
    found = log_e_safe(layout, kept.counts, pairs, dispersion)
    return np.where(np.isfinite(found), found, math.nan)


def _ratios(numerator: Floats, denominator: Floats) -> Floats:
    """Return the common odds ratios (`analysis.confidence.mantel_haenszel`), nan where there is none."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, math.nan), where=denominator > 0)


def _or_none(values: Floats) -> list[float | None]:
    """Return numbers, None in the place of nan."""
    return [None if math.isnan(value) else value for value in values.tolist()]


def _kind(design: Design, evidence: Evidence, metrics: Sequence[MetricGlance]) -> Kind:
    """Return what `analysis.verdict.verdict` concludes."""
    if evidence.inconsistent or is_rejected(evidence.srm_peak, design.srm_alpha):
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
