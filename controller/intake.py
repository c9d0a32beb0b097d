"""What the judge gets of a run's intervals: without those to be left out, with the dispersion of each. Pure.

After a change of weights the policy may want some time left out: all of it (`warmUp`: cold caches), or that
of one metric (`labelDelay`: until labels of both versions are of the same ages). The tables of an interval
that is not wholly after it are left out, of both versions; its requests still count for the split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from controller.calibration import folded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.design import Interval
    from controller.calibration import Calibration, Row
    from controller.status import Run
    from policies.model import RolloutPolicy

Rows = dict[str, "Row"]
"""One interval of the control: per metric its series."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Intervals as they are judged, what is recorded of the control's series in each, what is known then."""

    intervals: Sequence[Interval]
    series: Sequence[Rows]
    calibration: Calibration | None


def settling_seconds(policy: RolloutPolicy) -> dict[str, float]:
    """Return how long after a change of weights each metric is left out, by name."""
    warm_up = policy.spec.decision.warm_up.seconds
    return {
        metric.name or metric.template: max(warm_up, metric.label_delay.seconds)
        for metric in policy.spec.metrics
    }


def screened(policy: RolloutPolicy, run: Run, interval: Interval) -> Interval:
    """Return an interval without the tables that are to be left out."""
    delays = settling_seconds(policy)
    if run.step_started_at is None or not any(delays.values()):
        return interval
    after = interval.end - policy.spec.decision.interval.seconds - run.step_started_at
    tables = {name: table if after >= delays[name] else None for name, table in interval.tables.items()}
    return replace(interval, tables=tables)


def taken_in(
    policy: RolloutPolicy,
    run: Run,
    calibration: Calibration | None,
    intervals: Sequence[Interval],
    series: Sequence[Mapping[str, Mapping[str, Sequence[int]]]],
) -> Intake:
    """Return a run's intervals as they are judged, oldest first.

    `series`: per interval and metric, what each series of the control counted; empty when nobody asks.
    """
    delayed = any(settling_seconds(policy).values())
    kept = [screened(policy, run, interval) for interval in intervals] if delayed else [*intervals]
    if calibration is None:
        return Intake(kept, [{} for _ in kept], None)
    judged, recorded = [], []
    for interval, row in zip(kept, series, strict=True):
        judged.append(replace(interval, dispersion=measured(policy, calibration, run.candidate_weight)))
        counted = {name: folded(each) for name, each in row.items() if interval.tables.get(name) is not None}
        calibration, learnt = calibration.after(counted), calibration.open
        recorded.append({name: counted[name] for name in counted if name in learnt})
    return Intake(judged, recorded, calibration)


def measured(policy: RolloutPolicy, calibration: Calibration, weight: int) -> dict[str, tuple[float, ...]]:
    """Return by what the evidence of each metric is divided, where the policy wants that measured."""
    auto = {each.name or each.template for each in policy.spec.metrics if each.dispersion.measured}
    return {name: lanes for name, lanes in calibration.at(weight).items() if name in auto}
