"""Evidence read as a verdict, in numbers and words.

In order: Invalid (an assumption is broken), NoData, Harmful, Undecided (too few samples), Safe, Undecided. A
metric's e-value counts with its share u = 1 / (number of metrics); harm is proven when the sum of u E reached
1 / false_rollback at any look, and stays proven. Safety is read from the evidence of now.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analysis.confidence import confidence_bounds, mantel_haenszel
from analysis.effects import difference_of
from analysis.eprocess import e_value, log_mean
from analysis.glance import worst_lanes
from analysis.margin import comparable, control_shares
from analysis.mending import known, log_e_safe, proven_before
from analysis.words import mended_sentence, metric_sentence, split_sentence

if TYPE_CHECKING:
    from analysis.design import Design, MetricDesign
    from analysis.evidence import Evidence, MetricEvidence
    from analysis.mending import Episode

Kind = Literal["Harmful", "Safe", "Undecided", "NoData", "Invalid"]


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """What one version did since the start: requests, events (at the worst edge) and their ratio, if any.

    Of a mean: observations, no events, and the mean of all observations.
    """

    total: int
    events: int
    rate: float | None
    mean: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return _fields(self)


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """One metric, `measure` is what kind of number it is. E-values are cut off at 1e300.

    `e_harm` is against "no worse than tolerated", `e_harm_max` its largest value so far, `e_share` its part
    of the run's (u E), and `bound_harm` what it alone has to reach. `e_safe` is against "worse than the
    margin" (None without a margin or without an edge that tells), with `bound_safe`; after a wrong split by
    what came since it was right again. `odds_ratio` and
    `interval` (None: undefined, unbounded) are those at `worst_edge` for a histogram: the edge with most
    evidence of harm. `proven_margin` is, for a histogram, the margin that its edges can show; at least the
    one asked for. `dispersion` is the largest by which the evidence was divided.

    `difference` and `difference_interval` are those of `analysis.effects`, for a mean and for a margin in
    points; `silence` says why there is no evidence yet. With `higher_is_better` events are the good outcome,
    and the odds ratio is that of their absence.
    """

    name: str
    measure: Literal["proportion", "histogram", "mean"]
    higher_is_better: bool
    kind: Kind
    e_harm: float
    e_harm_max: float
    e_share: float
    bound_harm: float
    e_safe: float | None
    bound_safe: float
    odds_ratio: float | None
    interval: tuple[float, float | None]
    difference: float | None
    difference_interval: tuple[float | None, float | None] | None
    silence: str
    control: ArmSummary
    candidate: ArmSummary
    worst_edge: float | None
    proven_margin: float | None
    dispersion: float
    last_data: int | None
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return _fields(self)


@dataclass(frozen=True, slots=True)
class SplitVerdict:
    """Whether the observed split follows the intended one: the candidate's shares of all tested requests.

    When a wrong split is right again, all but `episodes` begins anew.
    """

    e: float
    e_max: float
    bound: float
    observed: float | None
    intended: float | None
    requests: int
    episodes: tuple[Episode, ...] = ()
    """When it was another one, oldest first, as far as is remembered; the last may go on."""

    @property
    def mismatch(self) -> bool:
        """Whether the split was proven to be another one, and not to be right again since."""
        return self.e_max >= self.bound

    @property
    def right_since(self) -> int | None:
        """When it was last proven to be right again; None while it is wrong, or if it never was."""
        return self.episodes[-1].ended if self.episodes else None

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values; `episodes` only if there were any."""
        told = {**_fields(self), "mismatch": self.mismatch}
        del told["episodes"]
        episodes = [each._asdict() for each in self.episodes]
        return {**told, "episodes": episodes} if episodes else told


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """A run. `blame` is the metric that showed most of a proven harm, `sentence` the first of `reasons`."""

    kind: Kind
    blame: str | None
    metrics: tuple[MetricVerdict, ...]
    srm: SplitVerdict
    e_rollback: float
    e_rollback_max: float
    bound_rollback: float
    bound_promote: float
    sentence: str
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return _fields(self)


def verdict(design: Design, evidence: Evidence) -> RunVerdict:
    """Return what the evidence says."""
    metrics = tuple(_metric_verdict(design, evidence, position) for position in range(len(design.metrics)))
    srm = _split_verdict(design, evidence)
    kind, reasons = conclude(design, evidence, metrics, srm)
    return RunVerdict(
        kind=kind,
        blame=None if evidence.blame is None else design.metrics[evidence.blame].name,
        metrics=metrics,
        srm=srm,
        e_rollback=e_value(evidence.log_e),
        e_rollback_max=e_value(evidence.peak),
        bound_rollback=1 / design.false_rollback,
        bound_promote=1 / design.false_promote,
        sentence=reasons[0],
        reasons=reasons,
    )


def conclude(
    design: Design, evidence: Evidence, metrics: tuple[MetricVerdict, ...], srm: SplitVerdict
) -> tuple[Kind, tuple[str, ...]]:
    """Return the run's verdict and its reasons, the deciding ones first."""
    everything = tuple(metric.sentence for metric in metrics)
    required = [m for m, wanted in zip(metrics, design.metrics, strict=True) if wanted.needs_proof]
    harmful = [m.sentence for m in metrics if m.kind == "Harmful"]
    waiting = [m.sentence for m in required if m.kind != "Safe"]
    kind: Kind
    if srm.mismatch:
        kind, first = "Invalid", [split_sentence(srm)]
    elif evidence.inconsistent:
        kind, first = "Invalid", [f"inconsistent counters: {words}" for words in evidence.inconsistent]
    elif all(m.kind == "NoData" for m in metrics):
        kind, first = "NoData", []
    elif harmful:
        kind, first = "Harmful", harmful
    else:
        kind, first = ("Safe" if required and not waiting else "Undecided"), waiting
    last = [] if srm.right_since is None else [mended_sentence(srm.episodes[-1])]
    return kind, (*first, *(words for words in everything if words not in first), *last)


def _metric_verdict(design: Design, evidence: Evidence, position: int) -> MetricVerdict:
    """Return the verdict on one metric."""
    metric, own = design.metrics[position], evidence.metrics[position]
    share = 1 / len(design.metrics)
    [lane] = worst_lanes(metric.layout, own.start[None].astype(np.float64), own.counts[None]).tolist()
    control, candidate = (_summary(metric, own, arm, lane) for arm in (0, 1))
    log_e = log_e_safe(metric, own, proven_before(evidence, position))
    odds_ratio, interval = _odds_ratio(design, metric, own, lane)
    effect = difference_of(design, metric.layout, own)
    wordless = MetricVerdict(
        name=metric.name,
        measure=metric.kind,
        higher_is_better=metric.higher_is_better,
        kind=_metric_kind(design, evidence, position, log_e),
        e_harm=e_value(own.log_e),
        e_harm_max=e_value(own.peak),
        e_share=e_value(own.log_e + math.log(share)),
        bound_harm=1 / (design.false_rollback * share),
        e_safe=None if log_e is None else e_value(log_e),
        bound_safe=1 / design.false_promote,
        odds_ratio=odds_ratio,
        interval=interval,
        difference=effect.estimate,
        difference_interval=effect.interval,
        silence=effect.silence,
        control=control,
        candidate=candidate,
        worst_edge=metric.edges[lane] if metric.edges else None,
        proven_margin=_proven_margin(metric, own),
        dispersion=max(1.0, float(own.dispersion.max())),
        last_data=own.last_data,
        sentence="",
    )
    since = evidence.mending.since if evidence.mending else None
    words = metric_sentence(design, metric, wordless, e_value(evidence.peak), since)
    return replace(wordless, sentence=words)


def _metric_kind(design: Design, evidence: Evidence, position: int, log_e: float | None) -> Kind:
    """Return what a metric's evidence amounts to."""
    metric, own = design.metrics[position], evidence.metrics[position]
    fewest = int(own.counts[:, 0].min())
    proven = own.peak >= math.log(len(design.metrics) / design.false_rollback)
    if any(words.split(":")[0] == metric.name for words in evidence.inconsistent):
        return "Invalid"
    if fewest == 0:
        return "NoData"
    if fewest < design.min_samples:
        return "Undecided"
    if proven or evidence.blame == position:
        return "Harmful"
    return "Safe" if log_e is not None and log_e >= -math.log(design.false_promote) else "Undecided"


def _odds_ratio(
    design: Design, metric: MetricDesign, own: MetricEvidence, lane: int
) -> tuple[float | None, tuple[float, float | None]]:
    """Return the odds ratio with its confidence sequence; a mean has none."""
    if metric.kind == "mean":
        return None, (0.0, None)
    bounds = confidence_bounds(own.likelihood[lane].astype(np.float64), design.false_rollback)
    return mantel_haenszel(*own.mantel_haenszel[lane].tolist()), bounds


def _proven_margin(metric: MetricDesign, own: MetricEvidence) -> float | None:
    """Return how much slower than the control a candidate may be that the telling edges call safe."""
    layout = metric.layout
    shares = control_shares(layout, own.counts[None])[0] if layout.pairs else np.zeros(0)
    pairs = [layout.pairs[pair] for pair in np.flatnonzero(comparable(layout, shares))]
    return max((metric.edges[far] / metric.edges[near] - 1 for near, far in pairs), default=None)


def _summary(metric: MetricDesign, own: MetricEvidence, arm: int, lane: int) -> ArmSummary:
    total, events = int(own.counts[arm, 0]), int(own.counts[arm, 1 + lane])
    if metric.kind == "mean":
        return ArmSummary(total, 0, None, float(own.moments[arm]) / total if total else None)
    events = total - events if metric.higher_is_better else events
    return ArmSummary(total, events, events / total if total else None)


def _split_verdict(design: Design, evidence: Evidence) -> SplitVerdict:
    control, candidate, expected = evidence.requests
    total = control + candidate
    wrong = known(design, evidence)
    return SplitVerdict(
        e=e_value(float(log_mean(evidence.srm.astype(np.float64)))),
        e_max=e_value(evidence.srm_peak),
        bound=1 / design.srm_alpha,
        observed=candidate / total if total else None,
        intended=expected / total if total else None,
        requests=total,
        episodes=wrong.episodes if wrong else (),
    )


def _as_dict(value: Any) -> Any:
    """Return a dataclass of numbers, words, tuples and the like as JSON values."""
    if isinstance(value, tuple):
        return [_as_dict(item) for item in value]
    if hasattr(value, "as_dict"):
        return value.as_dict()
    return value


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: _as_dict(getattr(value, field.name)) for field in fields(value)}
