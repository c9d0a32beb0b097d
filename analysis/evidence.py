"""All that the judge remembers of a run: sums, so small that they are stored with every look, and exact.

`from_dict(design, to_dict(evidence))` is the same evidence bit for bit: floats travel as base64 of their
bytes.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from analysis.srm import LOG_TILTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.design import Design, Layout, MetricDesign
    from analysis.hypergeometric import Floats, Ints

_VERSION = 1


class MetricEvidence(NamedTuple):
    """The sums of one metric. Lanes, columns and pairs are those of its `analysis.design.Layout`."""

    counts: Ints
    """(2, 1 + lanes): control and candidate; requests, then events per lane."""
    likelihood: Floats
    """(lanes, odds ratios): ln P(k | w) - ln P(k | 1), summed and divided by the dispersion."""
    restart: Floats
    """(lanes, alternatives): ln R of the restart half."""
    pairs: Floats
    """(pairs, alternatives): as `likelihood`, for the latency margin."""
    mantel_haenszel: Floats
    """(lanes, 2): both sums of the common odds ratio."""
    log_e: float
    """ln of the e-value for harm now."""
    peak: float
    """Its largest value so far."""
    last_data: int | None
    """End of the last interval with requests in both arms."""


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """The sums of one run after `looks` intervals, the last of which ended at `end` (unix seconds)."""

    metrics: tuple[MetricEvidence, ...]
    srm: Floats
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

    def to_dict(self) -> dict[str, Any]:
        """Return the evidence as JSON values."""
        return {
            "version": _VERSION,
            "looks": self.looks,
            "end": self.end,
            "crossedAt": self.crossed_at,
            "blame": self.blame,
            "inconsistent": list(self.inconsistent),
            "requests": list(self.requests[:2]),
            "state": _pack(self.srm, [self.requests[2], self.log_e, self.peak, self.srm_peak]),
            "metrics": [_metric_to_dict(metric) for metric in self.metrics],
        }

    @classmethod
    def from_dict(cls, design: Design, data: Mapping[str, Any]) -> Evidence:
        """Return the evidence that `to_dict` wrote. Raises ValueError when it belongs to another design."""
        if data.get("version") != _VERSION or len(data["metrics"]) != len(design.metrics):
            raise ValueError("stored evidence does not belong to this design")
        srm, scalars = _unpack(data["state"], [(LOG_TILTS.size,), (4,)])
        expected, log_e, peak, srm_peak = scalars.tolist()
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
        )


def fresh(design: Design) -> Evidence:
    """Return the evidence of a run that has seen nothing."""
    return Evidence(
        metrics=tuple(_fresh_metric(metric.layout) for metric in design.metrics),
        srm=np.zeros(LOG_TILTS.size),
        requests=(0, 0, 0.0),
    )


def _fresh_metric(layout: Layout) -> MetricEvidence:
    likelihood, restart, pairs, mantel_haenszel = (np.zeros(shape) for shape in _shapes(layout))
    counts = np.zeros((2, 1 + layout.lanes), dtype=np.int64)
    return MetricEvidence(counts, likelihood, restart - math.inf, pairs, mantel_haenszel, 0.0, 0.0, None)


def _shapes(layout: Layout) -> list[tuple[int, ...]]:
    """Return the shapes of a metric's arrays of floats, in order."""
    return [
        (layout.lanes, layout.odds_ratios.size),
        (layout.lanes, layout.harm.stop - layout.harm.start),
        (len(layout.pairs), layout.pair_odds_ratios.size),
        (layout.lanes, 2),
    ]


def _metric_to_dict(metric: MetricEvidence) -> dict[str, Any]:
    arrays = (metric.likelihood, metric.restart, metric.pairs, metric.mantel_haenszel)
    state = _pack(*arrays, [metric.log_e, metric.peak])
    return {"counts": metric.counts.tolist(), "lastData": metric.last_data, "state": state}


def _metric_from_dict(design: MetricDesign, data: Mapping[str, Any]) -> MetricEvidence:
    *arrays, scalars = _unpack(data["state"], [*_shapes(design.layout), (2,)])
    likelihood, restart, pairs, mantel_haenszel = arrays
    counts = np.array(data["counts"], dtype=np.int64)
    log_e, peak = scalars.tolist()
    return MetricEvidence(counts, likelihood, restart, pairs, mantel_haenszel, log_e, peak, data["lastData"])


def _pack(*arrays: Floats | list[float]) -> str:
    flat = np.concatenate([np.ravel(array) for array in arrays])
    return base64.b64encode(flat.astype("<f8").tobytes()).decode("ascii")


def _unpack(text: str, shapes: list[tuple[int, ...]]) -> list[Floats]:
    flat = np.frombuffer(base64.b64decode(text), dtype="<f8").astype(np.float64)
    sizes = [math.prod(shape) for shape in shapes]
    if flat.size != sum(sizes):
        raise ValueError("stored evidence does not belong to this design")
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
