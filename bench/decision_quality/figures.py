"""From the looks at which runs were stopped to figures with their Monte Carlo errors."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.decision_quality.cases import HORIZON
from bench.decision_quality.rules import ORACLE, PENSTOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.hypergeometric import Floats
    from bench.decision_quality.cases import Case
    from bench.decision_quality.rules import Stops

Figure = Literal[
    "false rollbacks",
    "found",
    "median seconds",
    "median by that of the oracle",
    "promoted",
    "false promotions",
    "median dispersion",
    "CPU seconds",
    "bytes",
]
RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. A median beyond the horizon has the value None; `met` is None where there is no goal.

    `error` is one Monte Carlo standard error.
    """

    case: str
    engine: str
    figure: Figure
    value: float | None
    error: float | None
    goal: float | None = None
    met: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return asdict(self)


def rows(case: Case, stops: Stops) -> Iterator[Row]:
    """Return the figures of a case, rule by rule."""
    for engine, looks in stops.looks.items():
        match case.measure:
            case "false rollback":
                yield _share(case, engine, "false rollbacks", looks)
            case "false promotion":
                yield _share(case, engine, "false promotions", looks)
            case "promotion":
                yield _share(case, engine, "promoted", looks)
                yield _median(case, engine, looks)
            case "detection":
                after = since_onset(looks, case.onset)
                yield _share(case, engine, "found", after)
                yield _median(case, engine, after)
    if {PENSTOCK, ORACLE} <= stops.looks.keys():
        yield _ratio(case, *(since_onset(stops.looks[each], case.onset) for each in (PENSTOCK, ORACLE)))
    for engine, dispersion in stops.dispersions.items():
        value, error = middle(dispersion)
        yield Row(case.name, engine, "median dispersion", value, error)


def since_onset(looks: Floats, onset: int) -> Floats:
    """Return the looks since harm began. A run that was stopped before cannot find it any more: infinite."""
    return np.where(looks > onset, looks - onset, np.inf)


def _share(case: Case, engine: str, figure: Figure, looks: Floats) -> Row:
    stopped, runs = int(np.isfinite(looks).sum()), len(looks)
    return Row(case.name, engine, figure, stopped / runs, share_error(stopped, runs))


def share_error(stopped: int, runs: int) -> float:
    """Return the standard error of a share, not 0 for none or all: that of one more and one less."""
    share = (stopped + 1) / (runs + 2)
    return math.sqrt(share * (1 - share) / (runs + 2))


def _median(case: Case, engine: str, looks: Floats) -> Row:
    value, error = middle(looks * case.seconds)
    return Row(case.name, engine, "median seconds", value, error)


def middle(values: Floats) -> tuple[float | None, float | None]:
    """Return the median and its error, None if it is infinite.

    The error is half the distance of the order statistics one standard deviation (sqrt(n) / 2 ranks) below
    and above the middle; infinite ones count as the horizon.
    """
    ordered = np.sort(values)
    value = float(np.median(ordered))
    if not math.isfinite(value):
        return None, None
    reach, last = math.sqrt(len(ordered)) / 2, len(ordered) - 1
    low, high = (ordered[round(min(max(last / 2 + side * reach, 0), last))] for side in (-1, 1))
    return value, float((high if math.isfinite(high) else HORIZON) - low) / 2


def _ratio(case: Case, looks: Floats, best: Floats) -> Row:
    """Return the quotient of the medians; its error is that of resampled runs."""
    value = _quotient(looks, best)
    dice = np.random.default_rng(len(looks))
    drawn = dice.integers(len(looks), size=(RESAMPLES, len(looks)))
    again = [_quotient(looks[runs], best[runs]) for runs in drawn]
    known = value is not None and None not in again
    error = float(np.std(np.array(again, dtype=np.float64))) if known else None
    return Row(case.name, PENSTOCK, "median by that of the oracle", value, error)


def _quotient(above: Floats, below: Floats) -> float | None:
    upper, lower = float(np.median(above)), float(np.median(below))
    return upper / lower if math.isfinite(upper) and math.isfinite(lower) else None
