"""What a run counted, as rows of the history: the tables of each interval, the latencies of all. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.tables import MeanArm
from controller.ports import Finite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.design import Design
    from analysis.evidence import Evidence
    from analysis.judge import Interval
    from analysis.tables import Arm
    from controller.calibration import Row

SHARE_TEMPLATE = "istio-request-share"


def latencies(design: Design, evidence: Evidence) -> dict[str, Any]:
    """Return per histogram its unit, edges and counts: of a version, all requests, then those above each."""
    return {
        metric.name: {
            "unit": metric.unit,
            "edges": list(metric.edges),
            "control": known.counts[0].tolist(),
            "candidate": known.counts[1].tolist(),
        }
        for metric, known in zip(design.metrics, evidence.metrics, strict=True)
        if metric.kind == "histogram"
    }


def tabulate(interval: Interval, series: Mapping[str, Row]) -> list[dict[str, Any]]:
    """Return an interval as rows for the history; `series`: per metric the control's, where they matter.

    The row of the split is always there, with all that is not a table (`controller.replay`).
    """
    rows = [
        row_of(name, interval.end, _counted(table.control), _counted(table.candidate))
        for name, table in interval.tables.items()
        if table is not None
    ]
    for row in rows:
        if row["metric"] in series:
            row["series"] = {name: list(each) for name, each in series[row["metric"]].items()}
    split = split_row(interval.end, interval.intended, interval.requests or (0, 0), interval.dispersion)
    if interval.inconsistent:
        split["inconsistent"] = list(interval.inconsistent)
    return [*rows, split]


def row_of(metric: str, end: int, control: Mapping[str, Any], candidate: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one metric showed in an interval, as the history has it."""
    return Finite(metric=metric, end=end, control=control, candidate=candidate)


def split_row(
    end: int, intended: float, requests: Sequence[int], dispersion: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Return how the requests of an interval were split, and by what its evidence was divided, likewise."""
    control, candidate = requests
    split = Finite(
        metric=SHARE_TEMPLATE, end=end, intended=intended,
        control={"total": control, "events": []}, candidate={"total": candidate, "events": []},
    )  # fmt: skip
    if dispersion:
        split["dispersion"] = {name: list(lanes) for name, lanes in dispersion.items()}
    return split


def _counted(arm: Arm | MeanArm) -> dict[str, Any]:
    """Return what one version did; of a mean, the sum of what was observed."""
    if isinstance(arm, MeanArm):
        return {"total": arm.total, "sum": arm.sum}
    return {"total": arm.total, "events": list(arm.events)}
