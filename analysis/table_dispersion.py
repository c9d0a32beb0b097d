"""By what the evidence in a table is divided, as it was known at each interval.

Measured on the control's series by `analysis.dispersion`: once from the history before the run, or, where
that tells too little, again and again from the control's intervals so far. Then the largest value so far
counts, from the next interval on, for all evidence; until there is a first one, a cautious value. Without
that caution a third of the harmless candidates with errors in clusters were called harmful in the first 12
intervals (nominal: 5 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.dispersion import LEAST_BLOCKS, calibrate, placebo_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.dispersion import Calibration
    from analysis.hypergeometric import Floats
    from analysis.longform import LongTable, SeriesCounts

_GROWTH = 10
"""The control is looked at again when there is a tenth more of it: 30 times in 200 intervals."""


@dataclass(frozen=True, slots=True)
class Dispersion:
    """`path` is what was known at each interval, `value` the last of it.

    `method`: `given`; `placebo` (series against series); `time` (the only series against itself);
    `provisional` (too little for a calibration); `assumed` (there was nothing to measure). `rests_on` says in
    words on what.
    """

    value: float
    method: str
    rests_on: str
    path: Floats
    calibration: Calibration | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        measured = {} if self.calibration is None else {"calibration": self.calibration.as_dict()}
        return {
            "value": self.value,
            "method": self.method,
            "rests_on": self.rests_on,
            "path": self.path.tolist(),
            **measured,
        }

    def sentence(self) -> str:
        """Return it for people."""
        return f"dispersion {self.value:.3g}, {self.method}: {self.rests_on}"


def given(table: LongTable, value: float) -> Dispersion:
    """Return the dispersion that somebody stated."""
    return Dispersion(value, "given", "as stated, not measured", np.full(len(table.intervals), value))


def measured(table: LongTable, assumed: float) -> Dispersion:
    """Return the dispersion of the control's series; without history no less than `assumed`."""
    shares = _shares(table)
    found = _calibrated(table.history, shares[-1] if shares.size else 0.0)
    if found is None or found.method == "none":
        return _while_running(table.control, shares, assumed)
    path = np.full(len(shares), found.dispersion)
    return Dispersion(found.dispersion, found.method, f"{found.rests_on}, before the run", path, found)


def _shares(table: LongTable) -> Floats:
    """Return, over the intervals so far, the largest share that a candidate had of its own and the control's.

    Requests are no outcomes: the evidence is conditional on them, so the share may rest on the same interval.
    """
    counts = np.array([each.counts[..., ::2].max(axis=1) for each in table.candidates.values()])
    control, candidate = np.moveaxis(counts.cumsum(axis=1), -1, 0)
    return np.asarray((candidate / np.maximum(control + candidate, 1)).max(axis=0))


def _calibrated(counts: SeriesCounts, share: float) -> Calibration | None:
    """Return the calibration, or None when there is nothing to compare placebos of."""
    if not 0 < share < 1 or not counts.totals.any():
        return None
    return calibrate(counts.totals, counts.events, share=share)


def _while_running(control: SeriesCounts, shares: Floats, assumed: float) -> Dispersion:
    path = np.maximum(assumed, provisional(control, shares[-1] if shares.size else 0.0))
    best, last, since = assumed, None, None
    for look in _looks(len(shares)):
        found = _calibrated(control.until(look), shares[look - 1])
        if found is not None and found.method != "none":
            best = max(best, found.dispersion)
            path[look:] = best
            last, since = found, since or look
    value = float(path[-1]) if path.size else assumed
    if last is not None:
        words = f"{last.rests_on}, while running; set with caution for the first {since}"
        return Dispersion(value, last.method, words, path, last)
    series = int(control.totals.any(axis=0).sum())
    seen = f"the control's {len(shares)} intervals of {series} series"
    if series > 1:
        return Dispersion(value, "provisional", f"{seen} are too few for more than a cautious value", path)
    return Dispersion(value, "assumed", f"{seen} cannot tell, and there is no history that does", path)


def provisional(control: SeriesCounts, share: float) -> Floats:
    """Return a cautious dispersion after each interval, for when there is too little for a calibration.

    That is X2 / df of the placebos plus two standard errors, where Var(X2 / df) is about 2 / df + 1 / V for
    counts of variance V in all (the fourth moments of Poisson variables; V + 1 keeps it finite); at least 1,
    and 1 with a single series. Which series are a placebo rests on the requests of the whole run, the values
    on events until then only.
    """
    present = control.totals.sum(axis=0) > 0
    if present.sum() < 2 or not 0 < share < 1:
        return np.ones(len(control.totals))
    totals, events = control.totals[:, present], control.events[:, present]
    own = np.eye(len(present), dtype=np.int64)[placebo_groups(totals.sum(axis=0), share)]
    own = own[:, own.any(axis=0)]
    n, k = (totals @ own)[..., None], np.einsum("tsl,sg->tgl", events, own)
    every, all_events = n.sum(axis=1, keepdims=True), k.sum(axis=1, keepdims=True)
    size = np.maximum(every, 2).astype(np.float64)
    variance = n * ((every - n) / size) * (all_events / size) * ((every - all_events) / (size - 1))
    squares = ((k - n * (all_events / size)) ** 2).sum(axis=1).cumsum(axis=0)
    sums = variance.sum(axis=1).cumsum(axis=0)
    degrees = np.maximum(1, (every[:, 0] > 0).cumsum(axis=0) * (own.shape[1] - 1))
    ratio = np.divide(squares, sums, out=np.ones_like(sums), where=sums > 0)
    upper = ratio + 2 * np.sqrt(2 / degrees + 1 / (sums + 1))
    return np.asarray(np.maximum(1.0, upper).max(axis=1))


def _looks(intervals: int) -> Iterator[int]:
    """Yield after how many intervals the control is looked at, each time before the next one."""
    look = LEAST_BLOCKS
    while look < intervals:
        yield look
        look += 1 + look // _GROWTH
