"""Error rates judged by another engine, where the policy names one (`decision.engine`). Pure.

The engine gets every interval that the judge gets, as it was counted. It decides on proportions only;
latency, means and margins in points keep the sequential judge, each with its share of the error rate. The
split, broken counters, silence and too few samples outrank an engine as they outrank the judge, and the
e-values in a verdict stay the sequential judge's: to compare with.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from analysis.engines.engine import Rates, Stepwise
from analysis.engines.registry import engines
from analysis.tables import Arm, Table
from analysis.verdict import conclude
from analysis.words import metric_sentence, seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from analysis.design import Design, Interval, MetricDesign
    from analysis.evidence import Evidence
    from analysis.verdict import Kind, MetricVerdict, RunVerdict

SEQUENTIAL = "sequential"
"""The judge itself, which is no engine."""
_KEPT = {"NoData", "Invalid"}
_CLAIMS = {"Harmful": "harm is found", "Safe": "it is not worse than the margin"}
Row = tuple[int, int, int, int]
"""An interval: requests and events of the control, then of the candidate."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the engine concludes of a metric: `harmful` once `statistic` has passed `bound`."""

    harmful: bool
    safe: bool
    statistic: float
    bound: float

    def as_dict(self) -> dict[str, Any]:
        """Return the reading as JSON values; numbers that are none are None."""
        shown = {name: getattr(self, name) for name in ("statistic", "bound")}
        finite = {name: value if math.isfinite(value) else None for name, value in shown.items()}
        return {"harmful": self.harmful, "safe": self.safe, **finite}


@dataclass
class EngineRun:
    """What an engine has seen of a run, and what it concluded last."""

    name: str
    since: int = 0
    """Intervals that ended after this (unix seconds) count."""
    readings: dict[str, Reading] = field(default_factory=dict)
    tables: dict[str, list[Row]] = field(default_factory=dict)
    """Per metric all intervals, oldest first; the history has them too."""
    complete: bool = True
    """Whether the tables are all there, and need not come from the history first."""

    def take(self, design: Design, intervals: Sequence[Interval]) -> None:
        """Take in intervals, oldest first, and read the engine anew where there is something new."""
        for metric in judged(design):
            tables = (interval.tables.get(metric.name) for interval in intervals if interval.end > self.since)
            new = [
                _row(metric, table.control, table.candidate) for table in tables if isinstance(table, Table)
            ]
            if new:
                rows = self.tables.setdefault(metric.name, [])
                rows += new
                self._read(design, metric, rows, len(rows) - len(new))

    def _read(self, design: Design, metric: MetricDesign, rows: list[Row], since: int) -> None:
        """Read the engine at the rows from `since` on; for the first time when there are samples enough."""
        engine, before = engines[self.name], self.readings.get(metric.name)
        tables = np.array(rows)[:, None]
        if before is None:
            if tables[:, 0, ::2].sum(axis=0).min() < design.min_samples:
                return
            since = 0
        if not isinstance(engine, Stepwise):
            found = engine.looks(tables, _rates(design, metric))
        elif before is not None and before.harmful:
            return
        else:
            found = engine.looks_since(tables, _rates(design, metric), since)
        last = [each[-1, 0].item() for each in found]
        self.readings[metric.name] = Reading(*last)

    def stored(self) -> dict[str, Any]:
        """Return what the history keeps beside the intervals."""
        readings = {name: asdict(reading) for name, reading in self.readings.items()}
        return {"name": self.name, "since": self.since, "readings": readings}

    @classmethod
    def restored(cls, kept: Mapping[str, Any]) -> Self:
        """Return what `stored` wrote; its tables are to be refilled."""
        readings = {name: Reading(**each) for name, each in kept["readings"].items()}
        return cls(kept["name"], kept["since"], readings, complete=False)

    def refill(self, design: Design, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take the tables from the intervals of the history, oldest first."""
        metrics = {metric.name: metric for metric in judged(design)}
        self.tables = {name: [] for name in metrics}
        for row in rows:
            if row["metric"] in metrics and row["end"] > self.since:
                arms = (Arm(row[arm]["total"], tuple(row[arm]["events"])) for arm in ("control", "candidate"))
                self.tables[row["metric"]].append(_row(metrics[row["metric"]], *arms))
        self.complete = True

    def as_dict(self) -> dict[str, Any]:
        """Return engine and readings as JSON values, for the verdict's numbers."""
        readings = {name: reading.as_dict() for name, reading in self.readings.items()}
        return {"name": self.name, "lacks": list(engines[self.name].lacks), "metrics": readings}


def judged(design: Design) -> list[MetricDesign]:
    """Return the metrics that the engine of a design judges."""
    if design.engine == SEQUENTIAL:
        return []
    return [m for m in design.metrics if m.kind == "proportion" and m.margin_points is None]


def by_engine(design: Design, evidence: Evidence, found: RunVerdict, run: EngineRun) -> RunVerdict:
    """Return the judge's verdict with the engine's in its place, where the engine judges."""
    names = {metric.name for metric in judged(design)}
    metrics = tuple(
        _of_engine(design, wanted, metric, run) if metric.name in names else _alone(design, wanted, metric)
        for wanted, metric in zip(design.metrics, found.metrics, strict=True)
    )
    kind, reasons = conclude(design, evidence, metrics, found.srm)
    blame = next((metric.name for metric in metrics if metric.kind == "Harmful"), None)
    return replace(found, kind=kind, blame=blame, metrics=metrics, sentence=reasons[0], reasons=reasons)


def _of_engine(design: Design, wanted: MetricDesign, metric: MetricVerdict, run: EngineRun) -> MetricVerdict:
    """Return the engine's verdict on a metric. While it has none, the judge's does not stand in for it."""
    fewest = min(metric.control.total, metric.candidate.total)
    if metric.kind in _KEPT or fewest < design.min_samples:
        return metric
    what, reading = seen(wanted, metric, 1 - design.false_rollback), run.readings.get(metric.name)
    if reading is None:
        sentence = f"{metric.name} {what}: by {run.name}, too few samples to tell since it began"
        return replace(metric, kind="Undecided", sentence=sentence)
    kind: Kind = "Harmful" if reading.harmful else "Safe" if reading.safe else "Undecided"
    claim = _CLAIMS.get(kind, "neither harm nor safety is found")
    numbers = f"{reading.statistic:.3g} against a bound of {reading.bound:.3g}"
    return replace(metric, kind=kind, sentence=f"{metric.name} {what}: by {run.name}, {claim} ({numbers})")


def harm_found(design: Design, found: RunVerdict) -> str:
    """Return the harm of a verdict `by_engine`, in words; empty when there is none.

    When the split or the counters are not what they should be, that of an engine does not count: most engines
    add up intervals, and then it can come from the split.
    """
    doubtful = {metric.name for metric in judged(design)} if found.kind == "Invalid" else set()
    harmful = (m.sentence for m in found.metrics if m.kind == "Harmful" and m.name not in doubtful)
    return next(harmful, "")


def _alone(design: Design, wanted: MetricDesign, metric: MetricVerdict) -> MetricVerdict:
    """Return the verdict on a metric that keeps the judge: its own evidence counts, not that of others."""
    if metric.kind != "Harmful" or metric.e_harm_max >= metric.bound_harm:
        return metric
    safe = wanted.needs_proof and metric.e_safe is not None and metric.e_safe >= metric.bound_safe
    other = replace(metric, kind="Safe" if safe else "Undecided")
    return replace(other, sentence=metric_sentence(design, wanted, other, 0.0))


def _row(metric: MetricDesign, control: Arm, candidate: Arm) -> Row:
    """Return an interval as the engines take it: events are what is bad."""
    k_b, k_c = control.events[0], candidate.events[0]
    if metric.higher_is_better:
        k_b, k_c = control.total - k_b, candidate.total - k_c
    return control.total, k_b, candidate.total, k_c


def _rates(design: Design, metric: MetricDesign) -> Rates:
    share = design.false_rollback / len(design.metrics)
    return Rates(share, design.false_promote, metric.margin, metric.tolerance)
