"""Penstock as it decides: the judge of the loop, interval by interval, on many runs at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.judge import Design, Interval, MetricDesign, advance, fresh
from analysis.tables import Arm, Table
from bench.decision_quality.cases import ALPHA

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats, Ints
    from analysis.judge import Evidence
    from bench.decision_quality.cases import Case


class Found(NamedTuple):
    """The look (1, 2, ..) at which a run was first called harmful, and safe; infinite for never: (runs,)."""

    harmful: Floats
    safe: Floats


def design(case: Case, edges: tuple[float, ...] = ()) -> Design:
    """Return how a rollout with one metric is judged: errors, or times in milliseconds with `edges`."""
    margin = None if case.margin is None else case.margin - 1
    metric = (
        MetricDesign("latency", "histogram", edges=edges, unit="milliseconds")
        if edges
        else MetricDesign("errors", "proportion", margin=margin)
    )
    return Design((metric,), ALPHA, ALPHA, case.looks, min_samples=0)


def judge(design: Design, tables: Ints, share: float, dispersion: Floats | None = None) -> Found:
    """Return what was found in the tables of `bench.decision_quality.traffic`.

    A run ends with the first proof of what it is watched for: of safety if there is a margin, else of harm.
    `dispersion`, (runs,), is that of all lanes.
    """
    runs, bound = tables.shape[1], -math.log(design.false_promote)
    [metric] = design.metrics
    found = Found(np.full(runs, np.inf), np.full(runs, np.inf))
    watched = found.harmful if metric.margin is None else found.safe
    known = (
        [()] * runs if dispersion is None else [(phi,) * metric.layout.lanes for phi in dispersion.tolist()]
    )
    running: dict[int, Evidence] = dict.fromkeys(range(runs), fresh(design))
    for look, table in enumerate(tables.tolist(), start=1):
        batch = [
            (design, state, [_interval(metric.name, look, share, table[run], known[run])])
            for run, state in running.items()
        ]
        running = dict(zip(running, advance(batch), strict=True))
        for run, state in running.items():
            if state.crossed_at == look:
                found.harmful[run] = look
            if metric.margin is not None and state.metrics[0].log_safe >= bound:
                found.safe[run] = look
        running = {run: state for run, state in running.items() if watched[run] > look}
    return found


def _interval(
    name: str, end: int, share: float, arms: list[list[int]], dispersion: tuple[float, ...]
) -> Interval:
    control, candidate = (Arm(arm[0], tuple(arm[1:])) for arm in arms)
    return Interval(
        end,
        share,
        {name: Table(end, control, candidate)},
        requests=(control.total, candidate.total),
        dispersion={name: dispersion} if dispersion else {},
    )
