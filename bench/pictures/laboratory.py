"""Made-up traffic, judged: what all pictures and the table of damages start from.

200 requests per second, 10 % of them to the candidate, 1 % errors, a look every 10 s for 30 minutes, unless
a behaviour says otherwise. Harm is looked for at 5 % over the whole run, safety within a margin of 50 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.dispersion import calibrate
from analysis.judge import Design, Interval, MetricDesign, advance, fresh
from analysis.simulate import Streams
from analysis.tables import Arm, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analysis.hypergeometric import Floats, Ints
    from analysis.simulate import Behaviour

LOOKS, SECONDS, SHARE, ALPHA, MARGIN = 180, 10.0, 0.1, 0.05, 0.5
HISTORY = 2160
"""Intervals of six hours."""
_NAME = "errors"


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judge said of many runs: all (looks, runs), or per run the first look (LOOKS: never)."""

    log_e: Floats
    harmful: Ints
    safe: Ints
    split_broken: Ints


def errors_design(dispersion: float = 1.0, alpha: float = ALPHA, looks: int = LOOKS) -> Design:
    """Return the design of one error metric with a margin."""
    metric = MetricDesign(_NAME, "proportion", margin=MARGIN, dispersion=dispersion)
    return Design((metric,), alpha, 0.05, planned_looks=looks, min_samples=0)


def streams(behaviour: Behaviour, runs: int, seed: int) -> Streams:
    """Return the traffic of one error metric."""
    return Streams(errors_design(), behaviour, runs, (seed,))


def counts(source: Streams, runs: int, looks: int = LOOKS, share: float = SHARE) -> Ints:
    """Return (looks, runs, 4) counts: requests and errors of the control, then of the candidate."""
    rows = []
    for _ in range(looks):
        requests, events = source.counts(np.full(runs, share), SECONDS)
        rows.append(np.stack([requests, events[0][..., 0]], axis=2).reshape(runs, 4))
    return np.stack(rows)


def measured(source: Streams, intervals: int = HISTORY) -> Floats:
    """Return each run's dispersion (runs,), calibrated from so many intervals of its control's past."""
    totals, events = source.history(intervals * SECONDS, SECONDS)
    found = [calibrate(*run, share=SHARE).dispersion for run in zip(totals, events[0], strict=True)]
    return np.array(found)


def judge(tables: Ints, dispersion: Floats | float = 1.0, alpha: float = ALPHA) -> Judged:
    """Return what the judge says of runs with these counts; `dispersion` is one number, or one per run."""
    looks, runs = tables.shape[:2]
    designs = [errors_design(phi, alpha) for phi in np.broadcast_to(dispersion, runs).tolist()]
    states, seen = [fresh(design) for design in designs], []
    for look in range(looks):
        new = [_interval(look, *row) for row in tables[look].tolist()]
        states = advance([(d, s, [i]) for d, s, i in zip(designs, states, new, strict=True)])
        seen.append([(s.log_e, s.peak, s.metrics[0].safe_peak, s.srm_peak) for s in states])
    log_e, peak, safe_peak, split_peak = np.moveaxis(np.array(seen), -1, 0)
    return Judged(
        log_e=log_e,
        harmful=first(peak >= -math.log(alpha)),
        safe=first(safe_peak >= -math.log(designs[0].false_promote)),
        split_broken=first(split_peak >= -math.log(designs[0].srm_alpha)),
    )


def first(reached: NDArray[np.bool_]) -> Ints:
    """Return per run the first look (from 0) at which something is so; the number of looks for never."""
    return np.where(reached.any(axis=0), reached.argmax(axis=0), len(reached))


def seconds(look: Floats | Ints | int) -> Floats:
    """Return the time from the start at which a look's interval has ended."""
    return (np.asarray(look, dtype=np.float64) + 1) * SECONDS


def _interval(look: int, n_b: int, k_b: int, n_c: int, k_c: int) -> Interval:
    return Interval(look, SHARE, {_NAME: Table(look, Arm(n_b, (k_b,)), Arm(n_c, (k_c,)))}, (n_b, n_c))
