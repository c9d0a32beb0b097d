"""What is shown of one metric: numbers of its verdict, as command line, API and report print them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.judgement import interval_of

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CoverageView:
    """How many intervals a metric was owed, and how many could not be measured."""

    intervals: int
    lost: int
    longest_gap: int
    """In intervals."""
    resets: int = 0
    """How often a process began to count from 0 again."""

    @property
    def words(self) -> str:
        """What a person should know of it, in words; empty when all is well."""
        words = []
        if self.lost:
            words.append(f"{self.lost} of {self.intervals} intervals could not be measured")
        if self.longest_gap > 1:
            words.append(f"the longest gap is {self.longest_gap}")
        if self.resets:
            words.append(f"counters began again from 0 {self.resets} times")
        return "; ".join(words).replace(" 1 times", " once")


@dataclass(frozen=True, slots=True)
class MetricView:
    """The verdict on one metric. Evidence is an e-value; a bound is what it must reach."""

    name: str
    verdict: str
    sentence: str
    e_harm: float | None
    e_share: float | None
    """Its part of the evidence of the whole run; the parts of all metrics add up to it."""
    bound_harm: float | None
    """What it has to reach alone."""
    e_safe: float | None
    bound_safe: float | None
    odds_ratio: float | None
    interval: tuple[float | None, float | None] | None
    control_rate: float | None
    candidate_rate: float | None
    measure: str = "proportion"
    """proportion, histogram or mean; a mean has no odds ratio and no rates, but the next four."""
    control_mean: float | None = None
    candidate_mean: float | None = None
    difference: float | None = None
    """The candidate's value less the control's: of a mean as a fraction of it, else of the shares."""
    difference_interval: tuple[float | None, float | None] | None = None
    coverage: CoverageView | None = None
    """None where it was not counted."""
    dispersion: float | None = None
    """By what the evidence was divided, at most."""
    dispersion_rests_on: str = ""
    """What the present dispersion rests on, in words, where it is measured."""


def metric_views(verdict: Json) -> tuple[MetricView, ...]:
    """Return the metrics of a run's verdict as `RunVerdict.as_dict()` gives it, or `Judgement.brief`."""
    coverage, dispersion = verdict.get("coverage") or {}, verdict.get("dispersion") or {}
    return tuple(
        _metric(each, coverage.get(each.get("name")), dispersion.get(each.get("name")) or {})
        for each in verdict.get("metrics") or ()
    )


def _metric(metric: Json, coverage: Json | None, dispersion: Json) -> MetricView:
    low, high = metric.get("interval") or (interval_of(metric) if "likelihood" in metric else (None, None))
    control, candidate = metric.get("control") or {}, metric.get("candidate") or {}
    ends = metric.get("difference_interval")
    return MetricView(
        name=str(metric.get("name")),
        verdict=str(metric.get("kind") or "Undecided"),
        sentence=metric.get("sentence") or "",
        e_harm=metric.get("e_harm"),
        e_share=metric.get("e_share"),
        bound_harm=metric.get("bound_harm"),
        e_safe=metric.get("e_safe"),
        bound_safe=metric.get("bound_safe"),
        odds_ratio=metric.get("odds_ratio"),
        interval=None if low is None and high is None else (low, high),
        control_rate=control.get("rate"),
        candidate_rate=candidate.get("rate"),
        measure=metric.get("measure") or ("proportion" if metric.get("worst_edge") is None else "histogram"),
        control_mean=control.get("mean"),
        candidate_mean=candidate.get("mean"),
        difference=metric.get("difference"),
        difference_interval=(ends[0], ends[1]) if ends else None,
        coverage=CoverageView(**coverage) if coverage else None,
        dispersion=metric.get("dispersion"),
        dispersion_rests_on=dispersion.get("restsOn") or "",
    )
