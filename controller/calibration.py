"""By what a run's evidence is divided: a dispersion per metric and edge, assumed or measured. Pure.

An hour of the control's past, of several series or of one, is enough: what it shows holds for the whole run.
With less, the policy's assumption is the least, until the control's own intervals of the run make an hour.
They are looked at rarely: each time when they have become a quarter more.

Guarantees: the dispersion of an interval is known before the interval, and follows from the intervals that
were taken in before it, however they were cut into looks. `Calibration.from_dict(to_dict())` with the rows of
the intervals is the same calibration.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from analysis.dispersion import LEAST_BLOCKS, calibrate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from analysis.hypergeometric import Ints

ENOUGH_SECONDS = 3600.0
"""So long a past of the control is enough to go by what it shows alone."""
MOST_SERIES = 32
"""So many series are told apart while running; of more, several are counted as one."""
_GROWTH = 4
"""The control is looked at again when it has 1 / this more intervals."""

Method = Literal["assumed", "history", "running"]
Row = dict[str, tuple[int, ...]]
"""One interval of one metric of the control: per series its requests, then the events of each lane."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the control's series showed: per weight of the candidate (per cent) the dispersion of each lane.

    A weight at which they tell too little is left out. `by` is the method of `analysis.dispersion`.
    """

    lanes: Mapping[int, tuple[float, ...]]
    by: str
    intervals: int
    series: int
    rests_on: str
    enough: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, exact."""
        return {**asdict(self), "lanes": {str(weight): list(each) for weight, each in self.lanes.items()}}

    def only(self, lanes: Sequence[int]) -> Measured:
        """Return what is known of some lanes, by position."""
        fewer = {weight: tuple(each[lane] for lane in lanes) for weight, each in self.lanes.items()}
        return replace(self, lanes=fewer)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return what `to_dict` wrote."""
        return cls(**{**data, "lanes": {int(weight): tuple(each) for weight, each in data["lanes"].items()}})


def measure(totals: Ints, events: Ints, weights: Iterable[int], step: int) -> Measured | None:
    """Return what series show, or None when they tell nothing at any of the weights.

    `totals`: (intervals, series), `events`: (intervals, series, lanes), as in `analysis.dispersion`;
    `weights`: the candidate's shares in per cent; `step`: the seconds of an interval.
    """
    found = {weight: calibrate(totals, events, share=weight / 100) for weight in weights if 0 < weight < 100}
    told = {weight: each for weight, each in found.items() if each.method != "none"}
    if not told:
        return None
    widest = max(told.values(), key=lambda each: each.groups)
    busy = int((totals.sum(axis=1) > 0).sum())
    return Measured(
        lanes={weight: each.lanes for weight, each in told.items()},
        by=widest.method,
        intervals=widest.intervals,
        series=widest.series,
        rests_on=widest.rests_on,
        enough=busy * step >= ENOUGH_SECONDS,
    )


class SeriesCounts(NamedTuple):
    """The control's intervals so far: `counts` is (intervals, series, 1 + lanes), requests first."""

    series: tuple[str, ...]
    counts: Ints

    @classmethod
    def nothing(cls, lanes: int) -> Self:
        """Return no intervals."""
        return cls((), np.zeros((0, 0, 1 + lanes), dtype=np.int64))

    def with_row(self, row: Mapping[str, Sequence[int]]) -> SeriesCounts:
        """Return these intervals and one more."""
        names = tuple(dict.fromkeys([*self.series, *row]))
        intervals, series, numbers = self.counts.shape
        wider = np.zeros((intervals + 1, len(names), numbers), dtype=np.int64)
        wider[:intervals, :series] = self.counts
        for name, counted in row.items():
            wider[intervals, names.index(name)] = counted
        return SeriesCounts(names, wider)


@dataclass(frozen=True, slots=True)
class MetricCalibration:
    """One metric: what is assumed, and what was measured before and while running.

    `looked`: how many intervals of the run the control had when it was last looked at.
    """

    assumed: float
    lanes: int
    history: Measured | None = None
    running: Measured | None = None
    looked: int = 0
    control: SeriesCounts = field(default_factory=lambda: SeriesCounts.nothing(1), compare=False)

    @property
    def settled(self) -> bool:
        """Whether enough is known, so that the run's own intervals add nothing any more."""
        return any(each is not None and each.enough for each in (self.history, self.running))

    @property
    def method(self) -> Method:
        """What the dispersion rests on most."""
        if self.history is not None and self.history.enough:
            return "history"
        return "assumed" if self.running is None else "running"

    def at(self, weight: int) -> tuple[float, ...]:
        """Return the dispersion of each lane while the candidate has `weight` per cent of the requests."""
        found = [each.lanes[_nearest(each, weight)] for each in (self.history, self.running) if each]
        least = (1.0 if self.settled else self.assumed,) * self.lanes
        return tuple(max(values) for values in zip(least, *found, strict=True))

    def rests_on(self, why: str) -> str:
        """Return in words what it rests on; `why` there is no more history."""
        known = [
            (measured, when)
            for measured, when in ((self.history, "before the run"), (self.running, "while running"))
            if measured is not None
        ]
        for measured, when in known:
            if measured.enough:
                return f"{measured.rests_on}, {when}"
        seen = [f"measured {when}: {measured.rests_on}" for measured, when in known]
        return "; ".join([f"at least `assume` of the policy, since {why}", *seen])

    def after(self, row: Mapping[str, Sequence[int]], weights: Sequence[int], step: int) -> MetricCalibration:
        """Return what is known after one more interval of the control."""
        control = self.control.with_row(row)
        count = len(control.counts)
        if count < max(LEAST_BLOCKS, self.looked + 1 + self.looked // _GROWTH):
            return replace(self, control=control)
        found = measure(control.counts[..., 0], control.counts[..., 1:], weights, step)
        kept = SeriesCounts.nothing(self.lanes) if found and found.enough else control
        return replace(self, running=found or self.running, looked=count, control=kept)

    def only(self, lanes: Sequence[int]) -> MetricCalibration:
        """Return what is known of some lanes, by position, before any interval of the run."""
        history = self.history.only(lanes) if self.history else None
        nothing = SeriesCounts.nothing(len(lanes))
        return replace(self, lanes=len(lanes), history=history, control=nothing)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, exact; without the control's intervals, which are in the history."""
        return {
            "assumed": self.assumed,
            "lanes": self.lanes,
            "looked": self.looked,
            "history": self.history.to_dict() if self.history else None,
            "running": self.running.to_dict() if self.running else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return what `to_dict` wrote."""
        history, running = (
            Measured.from_dict(data[key]) if data[key] else None for key in ("history", "running")
        )
        nothing = SeriesCounts.nothing(data["lanes"])
        return cls(data["assumed"], data["lanes"], history, running, data["looked"], nothing)


def _nearest(measured: Measured, weight: int) -> int:
    """Return the weight that was looked at and is nearest; the smaller of two."""
    return min(measured.lanes, key=lambda each: (abs(each - weight), each))


@dataclass(frozen=True, slots=True)
class Calibration:
    """All metrics of a run whose dispersion is to be measured, for candidates of `weights` per cent.

    `why` says in words why there is no more history; `failed` that it could not be read.
    """

    step: int
    weights: tuple[int, ...]
    metrics: Mapping[str, MetricCalibration]
    why: str = ""
    failed: bool = False

    @property
    def open(self) -> tuple[str, ...]:
        """The metrics of which the control's intervals are still looked at."""
        return tuple(name for name, metric in self.metrics.items() if not metric.settled)

    def with_past(self, other: Calibration) -> Calibration:
        """Return the calibration with a past that came late; what was measured while running stays."""
        metrics = {
            name: replace(metric, history=other.metrics[name].history) if name in other.metrics else metric
            for name, metric in self.metrics.items()
        }
        return replace(self, metrics=metrics, why=other.why, failed=False)

    def at(self, weight: int) -> dict[str, tuple[float, ...]]:
        """Return the dispersion of every lane by metric, as `analysis.design.Interval` takes it."""
        return {name: metric.at(weight) for name, metric in self.metrics.items()}

    def after(self, rows: Mapping[str, Mapping[str, Sequence[int]]]) -> Calibration:
        """Return what is known after one more interval; `rows`: per metric the control's series."""
        if not self.open:
            return self
        grown = {
            name: metric.after(rows[name], self.weights, self.step)
            if rows.get(name) and not metric.settled
            else metric
            for name, metric in self.metrics.items()
        }
        return replace(self, metrics=grown)

    def remembering(self, rows: Iterable[Mapping[str, Any]]) -> Calibration:
        """Return the calibration with the control's intervals of the run, from the history's rows."""
        control = {name: metric.control for name, metric in self.metrics.items() if not metric.settled}
        for row in rows:
            if row["metric"] in control and row.get("series"):
                control[row["metric"]] = control[row["metric"]].with_row(row["series"])
        grown = {name: replace(self.metrics[name], control=rows) for name, rows in control.items()}
        return replace(self, metrics={**self.metrics, **grown})

    def as_dict(self, weight: int) -> dict[str, Any]:
        """Return JSON values for people and scripts: per metric what holds at this weight, and why."""
        return {name: self._told(metric, weight) for name, metric in self.metrics.items()}

    def _told(self, metric: MetricCalibration, weight: int) -> dict[str, Any]:
        lanes = metric.at(weight)
        measured = metric.history if metric.method == "history" else metric.running or metric.history
        return {
            "dispersion": max(lanes),
            "lanes": list(lanes),
            "method": metric.method,
            "measuredBy": measured.by if measured else None,
            "intervals": measured.intervals if measured else 0,
            "series": measured.series if measured else 0,
            "restsOn": metric.rests_on(self.why),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, exact."""
        return {
            "step": self.step,
            "weights": list(self.weights),
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "why": self.why,
            "failed": self.failed,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return what `to_dict` wrote; `remembering` gives it the intervals of the run."""
        metrics = {name: MetricCalibration.from_dict(each) for name, each in data["metrics"].items()}
        return cls(data["step"], tuple(data["weights"]), metrics, data["why"], data["failed"])


def folded(row: Mapping[str, Sequence[int]]) -> Row:
    """Return a row with at most `MOST_SERIES` series, so that its record stays small.

    Series are put together by their names, the same ones each time.
    """
    if len(row) <= MOST_SERIES:
        return {name: tuple(numbers) for name, numbers in row.items()}
    together: dict[str, list[Sequence[int]]] = defaultdict(list)
    for name, numbers in row.items():
        together[f"group-{zlib.crc32(name.encode()) % MOST_SERIES}"].append(numbers)
    return {name: tuple(map(sum, zip(*rows, strict=True))) for name, rows in sorted(together.items())}
