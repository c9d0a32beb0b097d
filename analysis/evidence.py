"""All that the judge remembers of a run: sums, so small that they are stored with every look, and exact.

`from_dict(design, to_dict(evidence))` is the same evidence bit for bit: floats travel as base64 of their
bytes. Sums are rounded to single precision after every interval, so that a metric with eight edges takes less
than 2 kB as JSON; the rounding moves an e-value by some millionths. Only the few sums of a mean and of a
margin in points, from which variances are taken as differences, stay in double precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.mending import Mending
from analysis.packing import pack, pack_exact, unpack, unpack_exact
from analysis.srm import LOG_TILTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.design import Design, Layout, MetricDesign
    from analysis.hypergeometric import Floats, Ints

_VERSION = 2
_MENDED = 3
"""The version of evidence with `mending`, which an older Penstock must not read as if there were none."""
Singles: TypeAlias = NDArray[np.float32]


class MetricEvidence(NamedTuple):
    """The sums of one metric. Lanes, columns and pairs are those of its `analysis.design.Layout`."""

    layout: Layout
    counts: Ints
    """(2, 1 + lanes): control and candidate; requests, then events per lane."""
    singles: Singles
    """All sums in single precision, one after the other; `parts` says where each is."""
    moments: Floats
    """(moments,): the sums of a mean (`analysis.mean_guardrail`) or of a margin in points (`.points`)."""
    log_boost: tuple[float, float]
    """ln of what was got back of the overshoot (`analysis.overshoot`): of the bet on harm, and on safety."""
    log_e: float
    """ln of the e-value for harm now."""
    peak: float
    """Its largest value so far."""
    log_safe: float
    """ln of the e-value against the margin now, unless it is one of latency; 0 without a margin."""
    safe_peak: float
    """Its largest value so far."""
    last_data: int | None
    """End of the last interval with requests in both arms."""

    def part(self, name: str) -> Singles:
        """Return one of the sums, in its shape."""
        where = parts(self.layout)[name]
        return self.singles[where.columns].reshape(where.shape)

    @property
    def likelihood(self) -> Singles:
        """(lanes, nodes): ln P(k | w) - ln P(k | 1) at the nodes, summed and divided by the dispersion."""
        return self.part("likelihood")

    @property
    def start(self) -> Singles:
        """(lanes, alternatives): ln P(k | w) - ln P(k | null), likewise: L of the bet from the start."""
        return self.part("start")

    @property
    def restart(self) -> Singles:
        """(lanes, alternatives): ln R of the bets on a later start."""
        return self.part("restart")

    @property
    def safe(self) -> Singles:
        """(1, alternatives) for a proportion with a margin, else (0, alternatives): L against the margin."""
        return self.part("safe")

    @property
    def pairs(self) -> Singles:
        """(pairs, alternatives): the same for the pairs of edges of a latency margin."""
        return self.part("pairs")

    @property
    def mantel_haenszel(self) -> Singles:
        """(lanes, 2): both sums of the common odds ratio."""
        return self.part("mantel_haenszel")

    @property
    def dispersion(self) -> Singles:
        """(lanes,): the largest dispersion by which an interval was divided; 0 at first."""
        return self.part("dispersion")


NEVER = np.iinfo(np.int64).min
"""Stands for None in arrays of times."""


class Kept(NamedTuple):
    """The sums of one metric of many runs, all of one layout: `MetricEvidence` as arrays over the runs."""

    counts: Ints
    singles: Singles
    moments: Floats
    log_boost: Floats
    """(runs, 2)"""
    log_e: Floats
    peak: Floats
    log_safe: Floats
    safe_peak: Floats
    last_data: Ints
    """`NEVER` where there is none."""

    @classmethod
    def of(cls, metrics: Sequence[MetricEvidence]) -> Kept:
        """Return the arrays of the sums of some runs."""
        _, counts, singles, moments, boosts, *scalars, times = zip(*metrics, strict=True)
        last_data = [NEVER if time is None else time for time in times]
        return cls(*map(np.array, (counts, singles, moments, boosts, *scalars, last_data)))

    @classmethod
    def none(cls, layout: Layout) -> Kept:
        """Return the arrays of no runs."""
        return cls._make(column[:0] for column in cls.of([_fresh_metric(layout)]))

    def cut(self, layout: Layout) -> list[MetricEvidence]:
        """Return the sums of each run; none of them holds on to the arrays of all."""
        boosts = map(tuple, self.log_boost.tolist())
        scalars = (column.tolist() for column in self[4:8])
        times = [None if each == NEVER else each for each in self.last_data.tolist()]
        arrays = ([row.copy() for row in column] for column in self[:3])
        return [MetricEvidence(layout, *each) for each in zip(*arrays, boosts, *scalars, times, strict=True)]


class Part(NamedTuple):
    """Where one of the sums is among the singles, and its shape."""

    columns: slice
    shape: tuple[int, ...]


@lru_cache(maxsize=4096)
def parts(layout: Layout) -> Mapping[str, Part]:
    """Return where each sum in single precision is, in order."""
    alternatives = layout.harm.stop - layout.harm.start
    shapes = {
        "likelihood": (layout.lanes, layout.nodes),
        "start": (layout.lanes, alternatives),
        "restart": (layout.lanes, alternatives),
        "safe": (int(layout.safe_null is not None), layout.safe.stop - layout.safe.start),
        "pairs": (len(layout.pairs), layout.pair_odds_ratios.size),
        "mantel_haenszel": (layout.lanes, 2),
        "dispersion": (layout.lanes,),
    }
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()]).tolist()
    starts = [0, *ends[:-1]]
    return {
        name: Part(slice(*columns), shape)
        for (name, shape), *columns in zip(shapes.items(), starts, ends, strict=True)
    }


def part_of(layout: Layout, singles: NDArray[Any], name: str) -> NDArray[Any]:
    """Return one of the sums of many runs from (runs, singles), each run's in its shape."""
    where = parts(layout)[name]
    return singles[:, where.columns].reshape(len(singles), *where.shape)


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """The sums of one run after `looks` intervals, the last of which ended at `end` (unix seconds)."""

    metrics: tuple[MetricEvidence, ...]
    srm: Singles
    """ln of the likelihood ratio of every tilt of the split."""
    requests: tuple[int, int, float]
    """Requests of control and candidate that were tested for the split, and the candidate's as intended."""
    looks: int = 0
    end: int | None = None
    log_e: float = 0.0
    """ln of the e-value for harm of the run now, averaged over its metrics."""
    peak: float = 0.0
    srm_peak: float = 0.0
    crossed_at: int | None = None
    """End of the interval in which harm was proven, and the metric (by position) that showed most of it."""
    blame: int | None = None
    inconsistent: tuple[str, ...] = ()
    """What could not be counted in the last interval."""
    mending: Mending | None = None
    """Of a split that was wrong; None while it never was."""

    def to_dict(self) -> dict[str, Any]:
        """Return the evidence as JSON values."""
        mended = {} if self.mending is None else {"mending": self.mending.to_dict()}
        return {
            "version": _MENDED if mended else _VERSION,
            "looks": self.looks,
            "end": self.end,
            "crossedAt": self.crossed_at,
            "blame": self.blame,
            "inconsistent": list(self.inconsistent),
            "requests": list(self.requests[:2]),
            "srm": pack(self.srm),
            "exact": pack_exact(self.requests[2], self.log_e, self.peak, self.srm_peak),
            "metrics": [_metric_to_dict(metric) for metric in self.metrics],
            **mended,
        }

    @classmethod
    def from_dict(cls, design: Design, data: Mapping[str, Any]) -> Evidence:
        """Return the evidence that `to_dict` wrote. Raises ValueError when it belongs to another design."""
        mended = data.get("mending")
        version = _MENDED if mended else _VERSION
        if data.get("version") != version or len(data["metrics"]) != len(design.metrics):
            raise ValueError("stored evidence does not belong to this design")
        srm = unpack(data["srm"], LOG_TILTS.size)
        expected, log_e, peak, srm_peak = unpack_exact(data["exact"], 4)
        return cls(
            metrics=tuple(map(_metric_from_dict, design.metrics, data["metrics"])),
            srm=srm,
            requests=(data["requests"][0], data["requests"][1], expected),
            looks=data["looks"],
            end=data["end"],
            log_e=log_e,
            peak=peak,
            srm_peak=srm_peak,
            crossed_at=data["crossedAt"],
            blame=data["blame"],
            inconsistent=tuple(data["inconsistent"]),
            mending=Mending.from_dict(design, mended) if mended else None,
        )


def fresh(design: Design) -> Evidence:
    """Return the evidence of a run that has seen nothing."""
    return Evidence(
        metrics=tuple(_fresh_metric(metric.layout) for metric in design.metrics),
        srm=np.zeros(LOG_TILTS.size, dtype=np.float32),
        requests=(0, 0, 0.0),
    )


def _fresh_metric(layout: Layout) -> MetricEvidence:
    where = parts(layout)
    singles = np.zeros(where["dispersion"].columns.stop, dtype=np.float32)
    singles[where["restart"].columns] = -math.inf
    counts = np.zeros((2, 1 + layout.lanes), dtype=np.int64)
    return MetricEvidence(
        layout, counts, singles, np.zeros(layout.moments), (0.0, 0.0), 0.0, 0.0, 0.0, 0.0, None
    )


def _metric_to_dict(metric: MetricEvidence) -> dict[str, Any]:
    exact = (*metric.log_boost, metric.log_e, metric.peak, metric.log_safe, metric.safe_peak)
    return {
        "counts": metric.counts.tolist(),
        "lastData": metric.last_data,
        "state": pack(metric.singles),
        "exact": pack_exact(*exact, *metric.moments.tolist()),
    }


def _metric_from_dict(design: MetricDesign, data: Mapping[str, Any]) -> MetricEvidence:
    layout = design.layout
    exact = unpack_exact(data["exact"], 6 + layout.moments)
    log_e, peak, log_safe, safe_peak = exact[2:6]
    return MetricEvidence(
        layout=layout,
        counts=np.array(data["counts"], dtype=np.int64),
        singles=unpack(data["state"], parts(layout)["dispersion"].columns.stop),
        moments=np.array(exact[6:]),
        log_boost=(exact[0], exact[1]),
        log_e=log_e,
        peak=peak,
        log_safe=log_safe,
        safe_peak=safe_peak,
        last_data=data["lastData"],
    )
