"""Simulated runs that measure the dispersion, each on hours of traffic before it, as real ones do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.tables import Arm, Table
from controller.filing import ArmKey
from controller.past import MetricPast, Past
from controller.prior import (
    HISTORY_SECONDS,
    at_edges,
    calibration_of,
    choose_edges,
    measured_metrics,
    weights_of,
    with_edges,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.design import Design, Interval
    from analysis.hypergeometric import Floats
    from analysis.simulate import Behaviour, Streams
    from analysis.tables import MeanTable
    from controller.calibration import Calibration
    from policies.model import RolloutPolicy

_MOST_NUMBERS = 20_000_000
"""So many counts of pasts are held at once."""


def runs_at_once(policy: RolloutPolicy, design: Design, behaviour: Behaviour) -> int:
    """Return how many runs' pasts fit into memory."""
    intervals = HISTORY_SECONDS / policy.spec.decision.interval.seconds
    lanes = 1 + sum(metric.layout.lanes for metric in design.metrics)
    return max(1, int(_MOST_NUMBERS / (intervals * behaviour.pods[0] * lanes)))


class Calibrated:
    """Traffic of runs whose intervals bring the dispersion that was measured before; a `simulate.Traffic`.

    `designs` has the design of each run, with the edges that its past chose.
    """

    def __init__(self, policy: RolloutPolicy, design: Design, streams: Streams) -> None:
        self._streams, self._design = streams, design
        step = int(policy.spec.decision.interval.seconds)
        self.designs: list[Design] = []
        self._calibrations: list[Calibration] = []
        self._lanes: list[Mapping[str, Sequence[int]]] = []
        for past in _pasts(design, streams, step):
            calibration = calibration_of(measured_metrics(policy, design), past, weights_of(policy))
            edges = choose_edges(policy, design, calibration, past)
            self.designs.append(with_edges(design, edges))
            self._calibrations.append(at_edges(calibration, design, edges))
            self._lanes.append(_lanes(design, edges))

    def draw(self, share: Floats, seconds: float, end: int) -> list[Interval]:
        """Return the next interval of every run; `share`: (runs,), the candidate's share of requests."""
        intervals = self._streams.draw(share, seconds, end)
        return [self._as_judged(run, interval) for run, interval in enumerate(intervals)]

    def _as_judged(self, run: int, interval: Interval) -> Interval:
        lanes, tables = self._lanes[run], dict(interval.tables)
        for name, chosen in lanes.items():
            tables[name] = _only(tables[name], chosen)
        dispersion = self._calibrations[run].at(round(100 * interval.intended))
        return replace(interval, tables=tables, dispersion=dispersion)


def _pasts(design: Design, streams: Streams, step: int) -> list[Past]:
    """Return the past of each run."""
    totals, events = streams.history(HISTORY_SECONDS, step)
    runs, intervals, series = totals.shape
    names, known = tuple(f"pod-{pod}" for pod in range(series)), np.ones(intervals, dtype=np.bool_)
    return [
        Past(ArmKey("", "", None), 0, step, names, {
            metric.name: MetricPast(totals[run], own[run], known)
            for metric, own in zip(design.metrics, events, strict=True)
        })
        for run in range(runs)
    ]  # fmt: skip


def _lanes(design: Design, edges: Mapping[str, Sequence[float]]) -> dict[str, tuple[int, ...]]:
    """Return which lanes of each metric are kept, where not all are."""
    return {
        metric.name: tuple(metric.edges.index(edge) for edge in edges[metric.name])
        for metric in design.metrics
        if metric.name in edges
    }


def _only(table: Table | MeanTable | None, lanes: Sequence[int]) -> Table | MeanTable | None:
    if not isinstance(table, Table):
        return table
    arms = (
        Arm(arm.total, tuple(arm.events[lane] for lane in lanes)) for arm in (table.control, table.candidate)
    )
    return Table(table.end, *arms)
