"""What Penstock is to reach, and whether it does.

A goal is met when the value less two of its Monte Carlo errors is not above it: what chance alone explains is
no miss.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench.decision_quality.cases import (
    ALPHA,
    EFFECTS,
    LATE,
    LATENCY,
    PROMOTION,
    all_cases,
    error_group,
)
from bench.decision_quality.rules import ASSUMED, CALIBRATED, PENSTOCK
from bench.decision_quality.speed import METRIC, SPEED

if TYPE_CHECKING:
    from bench.decision_quality.figures import Figure, Row

_FIVE, _TEN = error_group(10, 0.05, 0.005), error_group(10, 0.10, 0.01)
_RATIO = 1.35
_MEDIANS = {
    f"{_FIVE} / x2": 230.0,
    f"{_FIVE} / x3": 85.0,
    f"{_FIVE} / x5": 40.0,
    f"{_TEN} / x1.5": 240.0,
    f"{_TEN} / x2": 75.0,
    f"{_TEN} / x3": 30.0,
    f"{LATENCY} / +10 %": 60.0,
    f"{LATENCY} / +20 %": 20.0,
    f"{LATENCY} / 2 % of requests +1 s": 20.0,
    f"{LATENCY} / 1 % time out after 10 s": 20.0,
    f"{LATE} / x2": 110.0,
    f"{LATE} / x3": 60.0,
    f"{PROMOTION} / margin 1.5 / harmless, canary 10%": 165.0,
    f"{PROMOTION} / margin 2 / harmless, canary 10%": 60.0,
}
_SHARED = ("independent", "sinusoid", "sinusoid + x10 incident")
"""Here no calibration is needed: requests are independent, given what both versions share."""

Key = tuple[str, str, "Figure"]


def _goals() -> dict[Key, float]:
    """Return the goals by case, engine and figure."""
    goals: dict[Key, float] = {(case, PENSTOCK, "median seconds"): goal for case, goal in _MEDIANS.items()}
    for case in all_cases():
        if case.measure == "false promotion":
            goals[case.name, PENSTOCK, "false promotions"] = ALPHA
        elif case.measure == "false rollback":
            goals[case.name, CALIBRATED if case.calibrated else PENSTOCK, "false rollbacks"] = ALPHA
            if case.column in _SHARED:
                goals[case.name, ASSUMED, "false rollbacks"] = ALPHA
    for group in (_FIVE, _TEN):
        for effect in EFFECTS:
            goals[f"{group} / x{effect:g}", PENSTOCK, "median by that of the oracle"] = _RATIO
    return goals | {(SPEED, PENSTOCK, "CPU seconds"): 1.0, (METRIC, PENSTOCK, "bytes"): 2000.0}


GOALS = _goals()


def judged(row: Row) -> Row:
    """Return the row with its goal, if there is one, and whether it is met."""
    goal = GOALS.get((row.case, row.engine, row.figure))
    if goal is None:
        return row
    return replace(row, goal=goal, met=row.value is not None and row.value - 2 * (row.error or 0) <= goal)
