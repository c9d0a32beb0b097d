"""Verdicts in sentences, for people: what was seen, what it proves and what is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.design import Design, MetricDesign
    from analysis.mending import Episode
    from analysis.verdict import MetricVerdict, SplitVerdict

_SHORT_UNITS = {"milliseconds": " ms", "seconds": " s", "microseconds": " us"}


def percent(share: float | None) -> str:
    """Return a share with three significant digits, as `3.1%`; `none` without one."""
    return "none" if share is None else f"{100 * share:.3g}%"


def effect(odds_ratio: float | None, interval: tuple[float, float | None], level: float) -> str:
    """Return an odds ratio and its confidence sequence, as `odds ratio 3.2, 99% sequence 1.6 to 6.5`."""
    low, high = interval
    ratio = "undefined" if odds_ratio is None else f"{odds_ratio:.3g}"
    upper = "unbounded" if high is None else f"{high:.3g}"
    return f"odds ratio {ratio}, {100 * level:.4g}% sequence {low:.3g} to {upper}"


def points(share: float) -> str:
    """Return a difference of shares in percentage points, with three significant digits."""
    return f"{100 * share:.3g}"


def seen(metric: MetricDesign, found: MetricVerdict, level: float) -> str:
    """Return what both versions did, and how large the effect is, with its confidence sequence."""
    if metric.kind == "mean":
        unit = _SHORT_UNITS.get(metric.unit, "")
        values = (f"{arm.mean:.3g}{unit}" for arm in (found.candidate, found.control))
        return f"{' against '.join(values)} ({_relative(found, level)})"
    size = effect(found.odds_ratio, found.interval, level)
    if metric.higher_is_better:
        size = f"of the opposite: {size}"
    if metric.margin_points is not None:
        size = f"{_points_worse(found, level)}; {size}"
    return f"{percent(found.candidate.rate)} against {percent(found.control.rate)} ({size})"


def metric_sentence(
    design: Design, metric: MetricDesign, found: MetricVerdict, run_peak: float, since: int | None = None
) -> str:
    """Return the verdict on one metric as a sentence; `run_peak` is the run's largest e-value.

    `since`: when a wrong split was right again, from which on safety is proven anew (unix seconds).
    """
    if found.kind == "Invalid":
        return f"{metric.name}: its counters are inconsistent"
    if found.kind == "NoData":
        silent = [name for name, arm in _arms(found) if not arm]
        return f"{metric.name}: no requests of the {' and the '.join(silent)}"
    fewest = min(found.control.total, found.candidate.total)
    if fewest < design.min_samples:
        return f"{metric.name}: too few samples: {fewest} of {design.min_samples}"
    claim = _claim(metric, found, run_peak, 1 / design.false_rollback)
    if since is not None and found.e_safe is not None and found.kind != "Harmful":
        claim = f"{claim}, counted anew since {moment(since)}"
    return f"{_subject(metric, found)} {seen(metric, found, 1 - design.false_rollback)}: {claim}"


def split_sentence(srm: SplitVerdict) -> str:
    """Return the verdict on the split of the traffic."""
    return (
        f"the candidate had {percent(srm.observed)} of {srm.requests} requests instead of "
        f"{percent(srm.intended)}: the split is not the intended one, "
        f"e = {srm.e_max:.3g} over bound {srm.bound:.4g}; once it is right again, the run goes on by itself"
    )


def mended_sentence(episode: Episode) -> str:
    """Return when the split was wrong, and what follows from that now that it is right again."""
    began, ended = episode
    return (
        f"the split was not the intended one from {moment(began)} to {moment(ended or began)}; "
        "it is right again, and safety is proven anew since then"
    )


def moment(at: int) -> str:
    """Return a time in unix seconds as `2026-11-23 06:30:00 UTC`."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _relative(found: MetricVerdict, level: float) -> str:
    """Return the difference of two means and its confidence sequence, as `-3.6%, 99% sequence -6% to -1%`."""
    low, high = found.difference_interval or (None, None)
    ends = "unbounded" if low is None and high is None else f"{_signed(low)} to {_signed(high)}"
    return f"{_signed(found.difference)}, {100 * level:.4g}% sequence {ends}"


def _signed(share: float | None) -> str:
    return "unbounded" if share is None else f"{100 * share:+.3g}%"


def _points_worse(found: MetricVerdict, level: float) -> str:
    """Return the difference in points, as `0.12 points worse, 99% sequence -0.1 to 0.4`; + is worse."""
    sign = -1 if found.higher_is_better else 1
    low, high = sorted(sign * (end or 0.0) for end in found.difference_interval or (-1.0, 1.0))
    worse = sign * (found.difference or 0.0)
    word = "worse" if worse >= 0 else "better"
    ends = f"{points(low)} to {points(high)}"
    return f"{points(abs(worse))} points {word}, {100 * level:.4g}% sequence {ends}"


def _arms(found: MetricVerdict) -> list[tuple[str, int]]:
    return [("control", found.control.total), ("candidate", found.candidate.total)]


def _subject(metric: MetricDesign, found: MetricVerdict) -> str:
    if found.worst_edge is None:
        return metric.name
    return f"{metric.name} over {found.worst_edge:g}{_SHORT_UNITS.get(metric.unit, '')}"


def _claim(metric: MetricDesign, found: MetricVerdict, run_peak: float, run_bound: float) -> str:
    if found.kind == "Harmful":
        beyond = f" beyond the tolerance of {percent(metric.tolerance)}" if metric.tolerance else ""
        alone = found.e_harm_max >= found.bound_harm
        e, bound = (found.e_harm_max, found.bound_harm) if alone else (run_peak, run_bound)
        company = "" if alone else " with the other metrics"
        return f"harm{beyond} is proven, e = {e:.3g} over bound {bound:.4g}{company}"
    margin, needed = _margin(metric, found), f"{found.bound_safe:.4g}"
    if found.kind == "Safe":
        return f"not worse than {margin}, e = {found.e_safe:.3g} over bound {needed}"
    if found.silence and metric.kind == "mean":
        return found.silence
    harm = f"harm is not proven, e = {found.e_harm:.3g} of {found.bound_harm:.4g}"
    if not metric.needs_proof:
        return harm
    if found.silence:
        return f"{harm}; of the margin of {margin}, {found.silence}"
    if found.e_safe is None:
        return f"{harm}; no edge tells of the margin of {percent(metric.margin)}"
    return f"{harm}; nor is the margin of {margin}, e = {found.e_safe:.3g} of {needed}"


def _margin(metric: MetricDesign, found: MetricVerdict) -> str:
    if metric.margin_points is not None:
        return f"{points(metric.margin_points)} points"
    asked = percent(metric.margin)
    if found.proven_margin is None or metric.margin is None or found.proven_margin <= metric.margin * 1.001:
        return asked
    return f"{percent(found.proven_margin)} (asked for {asked}; the edges lie no closer)"
