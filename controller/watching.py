"""The watch over a promoted version: what is known of it, kept so small that every look stores it. Pure.

A watch is laid down at the promotion, from the evidence of the rollout and the policy of that moment; later
edits of its tolerance and rate of false alarms count from the next promotion. A metric has one alarm: after
it the evidence goes on, but nobody is told again. Times are unix seconds.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from analysis.eprocess import e_value
from analysis.tables import Table
from analysis.watch import advance, limits, log_evidence, start
from analysis.words import percent
from controller import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.design import Interval, MetricDesign
    from analysis.evidence import MetricEvidence
    from analysis.tables import Arm
    from controller.dossier import Dossier
    from policies.model import Watch as Wanted

_UNITS = {"milliseconds": " ms", "seconds": " s", "microseconds": " us"}


@dataclass(slots=True)
class Counted:
    """Requests since `since`, and the events among them per lane."""

    since: float
    requests: int
    events: list[int]

    def add(self, requests: int, events: Sequence[int]) -> None:
        """Add an interval."""
        self.requests += requests
        self.events = [a + b for a, b in zip(self.events, events, strict=True)]


@dataclass(slots=True)
class MetricWatch:
    """One metric; lists have an element per lane (an edge, or the only one of a proportion)."""

    name: str
    unit: str
    edges: list[float]
    mirrored: bool
    """Whether the events that are counted are the good outcome, and their absence is watched."""
    rollout: list[float]
    """Shares of events in the rollout."""
    limit: list[float]
    """Shares up to which nothing is wrong."""
    dispersion: list[float]
    log_m: list[list[float]]
    """ln M per lane and odds ratio (`analysis.watch`)."""
    all: Counted
    recent: Counted
    """Since the evidence was last below 1: about since when something is wrong, if something is."""
    alarm: dict[str, Any] | None = None
    """`at` and `sentence` of the alarm."""

    def take(self, began: float, arm: Arm) -> None:
        """Take in the interval that began then."""
        bad = [arm.total - k for k in arm.events] if self.mirrored else list(arm.events)
        if self.log_evidence <= 0:
            self.recent = Counted(began, 0, [0] * len(bad))
        for counted in (self.all, self.recent):
            counted.add(arm.total, bad)
        shares = np.array(self.limit), np.array(self.dispersion)
        now = advance(np.array(self.log_m), np.array(arm.total), np.array(bad), *shares)
        self.log_m = now.tolist()

    @property
    def log_evidence(self) -> float:
        """The logarithm of M now."""
        return float(log_evidence(np.array(self.log_m)))

    @property
    def worst(self) -> int:
        """The lane with most evidence; without any, the first."""
        return int(np.array(self.log_m).max(axis=1).argmax())

    def facts(self, bound: float) -> dict[str, Any]:
        """Return the numbers at the worst lane as JSON values."""
        lane = self.worst
        return {
            "name": self.name,
            "edge": self.edges[lane] if self.edges else None,
            "requests": self.all.requests,
            "events": self.all.events[lane],
            "share": self.all.events[lane] / self.all.requests if self.all.requests else None,
            "rollout": self.rollout[lane],
            "limit": self.limit[lane],
            "evidence": e_value(self.log_evidence),
            "bound": bound,
            "alarm": self.alarm,
        }


@dataclass(slots=True)
class Watch:
    """A watch; `step` is the length of its intervals, `cursor` the end of the last one taken in."""

    run: str
    step: int
    cursor: int
    bound: float
    """What M has to reach: as many looks go by on average before a false alarm."""
    every: str
    """The same as a length of time, as the policy has it."""
    tolerance: str
    metrics: list[MetricWatch]
    left_out: list[str]
    """Metrics that are not watched, and why."""
    kept: dict[str, Any] = field(default_factory=dict)
    """The evidence of the rollout, which the history keeps beside the watch."""
    advanced: bool = False
    """Whether there is something new for the history."""
    behind: bool = False
    """Whether intervals that are long over have not been read yet."""

    def take(self, intervals: Sequence[Interval]) -> None:
        """Take in what the promoted version did, oldest first; without requests nothing changes."""
        for interval in intervals:
            for metric in self.metrics:
                table = interval.tables.get(metric.name)
                if isinstance(table, Table) and table.candidate.total:
                    metric.take(interval.end - self.step, table.candidate)
                    self._alarm(metric, interval.end)
            self.cursor, self.advanced = max(self.cursor, interval.end), True

    def _alarm(self, metric: MetricWatch, at: int) -> None:
        if metric.alarm is None and metric.log_evidence >= math.log(self.bound):
            metric.alarm = {"at": at, "sentence": self._sentence(metric)}

    def _sentence(self, metric: MetricWatch) -> str:
        lane, recent = metric.worst, metric.recent
        edge = f" over {metric.edges[lane]:g}{_UNITS.get(metric.unit, '')}" if metric.edges else ""
        seen, limit = percent(recent.events[lane] / recent.requests), percent(metric.limit[lane])
        e, bound = numbers.number(e_value(metric.log_evidence)), numbers.number(self.bound)
        return (
            f"{metric.name}{edge}: {seen} of {recent.requests} requests since "
            f"{numbers.instant(recent.since)}, at most {limit} were to be expected "
            f"({percent(metric.rollout[lane])} in the rollout, what its size leaves open, and a tolerance of "
            f"{self.tolerance}): e = {e} over bound {bound}, one false alarm in {self.every} on average"
        )

    @property
    def alarms(self) -> dict[str, str]:
        """The sentence of every alarm so far, by metric."""
        return {metric.name: metric.alarm["sentence"] for metric in self.metrics if metric.alarm}

    def stored(self) -> dict[str, Any]:
        """Return the evidence of the rollout and the state of the watch as they go to the history."""
        state = {key: value for key, value in asdict(self).items() if key not in _PASSING}
        return {**self.kept, "watch": state}

    @classmethod
    def restored(cls, kept: Mapping[str, Any]) -> Self | None:
        """Return the watch that `stored` wrote, or None when there is none."""
        state = dict(kept.get("watch") or {})
        if not state:
            return None
        metrics = [
            MetricWatch(**{**each, "all": Counted(**each["all"]), "recent": Counted(**each["recent"])})
            for each in state.pop("metrics")
        ]
        rest = {key: value for key, value in kept.items() if key != "watch"}
        return cls(**state, metrics=metrics, kept=rest)

    def facts(self) -> dict[str, Any]:
        """Return what a person wants to know of it, as JSON values."""
        return {
            "lookedUntil": self.cursor,
            "bound": self.bound,
            "falseAlarmEvery": self.every,
            "tolerance": self.tolerance,
            "leftOut": list(self.left_out),
            "metrics": [metric.facts(self.bound) for metric in self.metrics],
        }


_PASSING = {"kept", "advanced", "behind"}


def begin(dossier: Dossier, wanted: Wanted, step: int) -> Watch:
    """Return the watch over the candidate of a run that is being promoted."""
    left_out, metrics = [], []
    for metric, own in zip(dossier.design.metrics, dossier.evidence.metrics, strict=True):
        if metric.kind == "mean":
            left_out.append(f"{metric.name}: means are not watched")
        elif not own.counts[1, 0]:
            left_out.append(f"{metric.name}: it had no requests in the rollout to compare with")
        else:
            metrics.append(_metric(metric, own, wanted.tolerance.fraction, dossier.cursor))
    return Watch(
        run=dossier.run,
        step=step,
        cursor=dossier.cursor,
        bound=max(1.0, wanted.false_alarm_every.seconds / step),
        every=str(wanted.false_alarm_every),
        tolerance=str(wanted.tolerance),
        metrics=metrics,
        left_out=left_out,
        kept=dossier.stored(),
    )


def _metric(design: MetricDesign, evidence: MetricEvidence, tolerance: float, at: int) -> MetricWatch:
    requests, *events = evidence.counts[1].tolist()
    dispersion = [max(1.0, phi) for phi in evidence.dispersion.tolist()]
    return MetricWatch(
        name=design.name,
        unit=design.unit,
        edges=list(design.edges),
        mirrored=design.higher_is_better,
        rollout=[k / requests for k in events],
        limit=limits(requests, events, dispersion, tolerance).tolist(),
        dispersion=dispersion,
        log_m=start(len(events)).tolist(),
        all=Counted(at, 0, [0] * len(events)),
        recent=Counted(at, 0, [0] * len(events)),
    )
