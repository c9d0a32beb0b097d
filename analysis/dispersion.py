"""How much more do counts vary than those of independent requests? Measured where nothing differs: placebos.

Errors come in bursts, one slow node serves many requests: then counts vary more than the tables of
`analysis.eprocess` let expect, and evidence has to be divided by how much more. Control series (pods) tell:
some of them, of about the candidate's share of the requests, play the candidate against the rest. Over blocks
of s intervals

    phi_s = sum (sum_block (k - e))^2 / sum_block v,    e = n_c K / n,   v = n_c n_b K (n - K) / (n^2 (n - 1))

(the Cochran-Mantel-Haenszel terms) is 1 on average if requests are independent, with a standard error of
sqrt(2 / df) from df blocks. Noise that lasts shows at large s only, so several scales are looked at. The
dispersion is the largest phi_s that exceeds 1 by more than two standard errors, else 1.

It is a test and then a correction, so what is too weak to be seen is not corrected: `Calibration.seen` says
which dispersion would have been seen. By simulation (docs/statistics.md) six hours of history keep a
nominal 5 % for noise that lasts minutes; twenty minutes keep it for bursts, not for noise that lasts. The
quotient of quasi-likelihood: McCullagh & Nelder, "Generalized Linear Models" (1989), section 4.5.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats, Ints

SCALES = (1, 2, 3, 6, 12, 18, 30, 60, 90, 180, 360)
"""Lengths of blocks, in intervals."""
LEAST_BLOCKS = 12
"""Fewer blocks than this tell too little about a scale."""
_SIGNIFICANT = 2.0
"""Standard errors by which a scale must exceed 1."""
_LONGEST_IN_TIME = 6
"""Blocks up to so many intervals are compared with their successor when there is only one series."""
LEAST_EVENTS = 20.0
"""Events that are expected of the placebo in all, below which nothing is said."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The dispersion of one metric, and what it rests on.

    `lanes`: a value per edge of a histogram (one for a proportion), at least 1; `dispersion` is the largest.
    `method`: `placebo` (series against series), `time` (one series: neighbouring intervals) or `none` (too
    little data; then all values are 1 and mean nothing). `scale`: intervals of the blocks that showed the
    largest; `longest`: of the longest blocks that could be looked at; `seen`: the smallest dispersion that
    single intervals would have shown.
    """

    dispersion: float
    lanes: tuple[float, ...]
    method: Literal["placebo", "time", "none"]
    intervals: int
    series: int
    groups: int
    scale: int
    longest: int
    seen: float | None
    rests_on: str

    def as_dict(self) -> dict[str, Any]:
        """Return the calibration as JSON values."""
        return {**asdict(self), "lanes": list(self.lanes)}


class _Terms(NamedTuple):
    """Excess and variance per interval, placebo and lane: (intervals, placebos, lanes)."""

    excess: Floats
    variance: Floats


def calibrate(totals: Ints, events: Ints, *, share: float) -> Calibration:
    """Return the dispersion of the control's series.

    `totals`: (intervals, series) requests; `events`: (intervals, series, lanes) events among them; `share`:
    the candidate's share of the requests, which the placebos are to have. Intervals follow each other without
    gaps; one without requests is a row of zeros. Raises ValueError when shapes or shares make no sense.
    """
    if totals.ndim != 2 or events.shape[:2] != totals.shape or events.ndim != 3:
        raise ValueError("totals are (intervals, series), events (intervals, series, lanes)")
    if not 0 < share < 1:
        raise ValueError(f"the share must lie between 0 and 1, not {share:g}")
    present = totals.sum(axis=0) > 0
    totals, events = totals[:, present], events[:, present]
    intervals, series = totals.shape
    lanes = events.shape[2]
    if series > 1:
        groups = placebo_groups(totals.sum(axis=0), share)
        terms = _against_the_rest(_grouped(totals, groups), _grouped(events, groups))
        return _read(terms, "placebo", intervals, series, groups)
    if series == 1 and intervals >= 2 * LEAST_BLOCKS:
        return _in_time(totals[:, 0], events[:, 0])
    return _nothing(intervals, series, lanes)


def placebo_groups(requests: Ints, share: float) -> Ints:
    """Return which placebo each series belongs to: (series,), so that each has about `share` of the requests.

    Large series first, each to the group with fewest requests; there are at least two groups.
    """
    count = max(2, min(len(requests), round(1 / share)))
    load = np.zeros(count)
    groups = np.zeros(len(requests), dtype=np.int64)
    for series in np.argsort(-requests, kind="stable"):
        groups[series] = int(np.argmin(load))
        load[groups[series]] += float(requests[series])
    return groups


def _grouped(counts: Ints, groups: Ints) -> Ints:
    """Return counts summed over the series of each group, (intervals, groups, ...)."""
    summed = np.zeros((counts.shape[0], int(groups.max()) + 1, *counts.shape[2:]), dtype=np.int64)
    for group in range(summed.shape[1]):
        summed[:, group] = counts[:, groups == group].sum(axis=1)
    return summed


def _against_the_rest(totals: Ints, events: Ints) -> _Terms:
    """Return the terms of each group against all others."""
    all_total, all_events = totals.sum(axis=1, keepdims=True), events.sum(axis=1, keepdims=True)
    return _terms(totals[..., None], events, (all_total - totals)[..., None], all_events - events)


def _terms(n_c: Ints, k_c: Ints, n_b: Ints, k_b: Ints) -> _Terms:
    n = (n_c + n_b).astype(np.float64)
    every = (k_c + k_b).astype(np.float64)
    safe = np.maximum(n, 2.0)
    variance = n_c * (n_b / safe) * (every / safe) * (n - every) / (safe - 1)
    return _Terms(k_c - n_c * (every / safe), variance)


def _in_time(totals: Ints, events: Ints) -> Calibration:
    """Return the calibration from one series: each block of intervals against the next.

    What changes slowly is no clustering, but looks like it here; so only short blocks are compared.
    """
    length = len(totals) // 2 * 2
    first, second = slice(0, length, 2), slice(1, length, 2)
    terms = _terms(
        totals[first, None, None], events[first, None], totals[second, None, None], events[second, None]
    )
    return _read(terms, "time", len(totals), 1, np.zeros(1, dtype=np.int64))


def _read(
    terms: _Terms, method: Literal["placebo", "time"], intervals: int, series: int, groups: Ints
) -> Calibration:
    """Return the largest significant ratio over the scales, per lane."""
    placebos, lanes = terms.excess.shape[1:]
    best, at = np.ones(lanes), np.ones(lanes, dtype=np.int64)
    enough = terms.variance.sum(axis=(0, 1)) / placebos >= LEAST_EVENTS
    longest, seen = 0, None
    for scale in SCALES:
        blocks = len(terms.excess) // scale
        if blocks < LEAST_BLOCKS or (method == "time" and scale > _LONGEST_IN_TIME):
            break
        error = math.sqrt(2 / (blocks * max(1, placebos - 1)))
        ratio = _ratio(terms, scale, blocks)
        better = enough & (ratio > 1 + _SIGNIFICANT * error) & (ratio > best)
        best, at = np.where(better, ratio, best), np.where(better, scale, at)
        longest, seen = scale, 1 + _SIGNIFICANT * error if seen is None else seen
    if not longest or not enough.any():
        return _nothing(intervals, series, lanes)
    worst = int(np.argmax(best))
    return Calibration(
        dispersion=float(best[worst]), lanes=tuple(best.tolist()), method=method, intervals=intervals,
        series=series, groups=len(np.unique(groups)), scale=int(at[worst]), longest=longest, seen=seen,
        rests_on=_words(method, intervals, series, len(np.unique(groups)), longest),
    )  # fmt: skip


def _ratio(terms: _Terms, scale: int, blocks: int) -> Floats:
    """Return phi_s per lane, over all placebos."""
    placebos, lanes = terms.excess.shape[1:]
    shape = (blocks, scale, placebos, lanes)
    excess = terms.excess[: blocks * scale].reshape(shape).sum(axis=1)
    variance = terms.variance[: blocks * scale].sum(axis=(0, 1))
    squares = (excess**2).sum(axis=(0, 1))
    return np.asarray(np.divide(squares, variance, out=np.ones(lanes), where=variance > 0))


def _nothing(intervals: int, series: int, lanes: int) -> Calibration:
    words = f"too little: {intervals} intervals of {series} series of the control"
    return Calibration(1.0, (1.0,) * lanes, "none", intervals, series, 0, 1, 0, None, words)


def _words(method: str, intervals: int, series: int, groups: int, longest: int) -> str:
    if method == "time":
        return (
            f"{intervals} intervals of the control's only series, each compared with the next; noise that "
            f"lasts longer than {longest} intervals is not seen"
        )
    return (
        f"{intervals} intervals of {series} series of the control in {groups} placebo groups, over blocks of "
        f"up to {longest} intervals"
    )
