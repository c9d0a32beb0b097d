"""The report of a run as data: the decision first, then its evidence, then what was assumed.

Pure: a run as the history keeps it (`ports.History.run`) goes in, a Report comes out, the same for the API,
the page and the terminal. Times are unix seconds, shares and rates fractions of 1, weights per cent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from controller import numbers
from controller.api.aftermath import WatchReport, watch_report
from controller.api.assumptions import Assumption, assumptions
from controller.api.quantiles import QuantileRow, quantile_rows
from controller.metric_view import MetricView, metric_views
from controller.view import policy_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]
T = TypeVar("T")
MAX_POINTS = 600
"""The most points of a plotted line; a longer run is thinned evenly, its last look is always kept."""
OUTCOMES = {"Promoted": "Promoted", "RolledBack": "Rolled back", "Superseded": "Superseded"}
TONES = {"Promoted": "good", "RolledBack": "bad"}


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A metric's line in the table: the verdict, the counts behind it, and what the policy asked."""

    view: MetricView
    kind: str
    """proportion, histogram (latency) or mean."""
    margin: str | None
    """As in the policy; None for a guardrail that is no condition of promotion."""
    proven_margin: float | None
    """For latency: the margin that the histogram's edges can show, as a fraction; at least the one asked."""
    margin_odds_ratio: float | None
    """The margin as an odds ratio; None where it is not one (latency, means, percentage points)."""
    margin_difference: float | None
    """The margin as a difference of means in per cent, in the direction of harm; None where it is none."""
    tolerance_odds_ratio: float
    worst_edge: float | None
    """For latency: the edge with most evidence of harm; events, rates and odds ratio are those above it."""
    control_events: int | None
    control_total: int | None
    candidate_events: int | None
    candidate_total: int | None
    unit: str | None = None
    """For latency: that of the edges and quantiles."""
    quantiles: tuple[QuantileRow, ...] = ()
    """For latency: p50, p95 and p99 of both versions over the whole run; a picture, which decides nothing."""


@dataclass(frozen=True, slots=True)
class Look:
    """The evidence on the whole run after one look."""

    at: float
    candidate_weight: int
    e_rollback: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class MetricLook:
    """The evidence on one metric after one look."""

    at: float
    effect: float | None
    """The odds ratio; of a mean the difference in per cent of the control's."""
    low: float | None
    high: float | None
    e_share: float | None
    e_safe: float | None


@dataclass(frozen=True, slots=True)
class Share:
    """The candidate's share of the requests of one interval."""

    end: float
    intended: float
    observed: float
    requests: int


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A decision with its reason."""

    at: float | None
    action: str
    reason: str
    message: str
    weights: dict[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a person needs to agree or disagree with the decision."""

    run: str
    policy: str
    number: int
    control: str
    candidate: str
    outcome: str
    """Promoted, RolledBack, Superseded, or In progress."""
    tone: str
    """good, bad or neutral."""
    headline: str
    sentence: str
    """The judge's last verdict."""
    reasons: tuple[str, ...]
    started_at: float | None
    ended_at: float | None
    """When it was decided; None while it goes on."""
    last_look_at: float | None
    bound_rollback: float | None
    requests: int
    metrics: tuple[MetricRow, ...]
    looks: tuple[Look, ...]
    series: dict[str, tuple[MetricLook, ...]]
    shares: tuple[Share, ...]
    srm: Json
    """The test of the observed split against the intended one, as the judge gives it."""
    decisions: tuple[DecisionRow, ...]
    watch: WatchReport | None
    assumptions: tuple[Assumption, ...]
    policy_yaml: str

    @property
    def seconds(self) -> float | None:
        """How long the run took, or has taken until its last look."""
        end = self.ended_at or self.last_look_at
        return None if end is None or self.started_at is None else end - self.started_at


def report(run: Mapping[str, Any]) -> Report:
    """Return the report of a run as `ports.History.run` gives it; what is missing in it is left out."""
    policy, verdict = _policy(run), _verdict(run)
    ticks = [tick for tick in run.get("ticks") or () if tick.get("at") is not None]
    control, candidate = str(run.get("control") or "control"), str(run.get("candidate") or "candidate")
    outcome = str(run.get("outcome") or "In progress")
    started, ended = numbers.unix(run.get("startedAt")), numbers.unix(run.get("endedAt"))
    metrics = _metric_rows(verdict, policy, run.get("latencies") or {})
    shares = _shares(run.get("intervals") or (), ticks, candidate)
    looks = tuple(_look(tick, candidate) for tick in _thinned(ticks))
    decisions = tuple(_decision(row) for row in run.get("decisions") or ())
    last = ticks[-1]["at"] if ticks else None
    length = numbers.length((ended or last or 0) - started) if started and (ended or last) else None
    return Report(
        run=str(run.get("id") or ""),
        policy=policy_key(run),
        number=int(run.get("number") or 0),
        control=control,
        candidate=candidate,
        outcome=outcome,
        tone=TONES.get(outcome, "neutral"),
        headline=_headline(run, outcome, candidate, length, verdict),
        sentence=verdict.get("sentence") or "",
        reasons=tuple(verdict.get("reasons") or ()),
        started_at=started,
        ended_at=ended,
        last_look_at=last,
        bound_rollback=verdict.get("bound_rollback"),
        requests=sum(share.requests for share in shares),
        metrics=metrics,
        looks=looks,
        series={row.view.name: _series(_thinned(ticks), row.view.name) for row in metrics},
        shares=tuple(_thinned(shares)),
        srm=verdict.get("srm") or {},
        decisions=decisions,
        watch=watch_report(run.get("watch")),
        assumptions=assumptions(policy, verdict, looks=len(ticks)),
        policy_yaml=yaml.safe_dump(policy, sort_keys=False, allow_unicode=True) if policy else "",
    )


def _policy(run: Mapping[str, Any]) -> Json:
    """Return the policy as it was recorded with the run; empty when it was not."""
    found = run.get("policy")
    return found if isinstance(found, dict) else {}


def _verdict(run: Mapping[str, Any]) -> Json:
    """Return the last verdict that says anything."""
    found = [tick["verdict"] for tick in run.get("ticks") or () if tick.get("verdict")]
    return found[-1] if found else dict(run.get("verdict") or {})


def _headline(run: Mapping[str, Any], outcome: str, candidate: str, length: str | None, verdict: Json) -> str:
    decided = outcome in OUTCOMES
    why = (run.get("message") if decided else None) or verdict.get("sentence") or "nothing is known yet"
    took = f" {'after' if decided else 'for'} {length}" if length else ""
    if decided:
        return f"{OUTCOMES[outcome]} {candidate}{took}: {why}"
    share = (run.get("weights") or {}).get(candidate)
    place = "" if share is None else f" with {share}% of the requests for {candidate}"
    return f"{outcome}{took}{place}: {why}"


def _metric_rows(verdict: Json, policy: Json, latencies: Json) -> tuple[MetricRow, ...]:
    asked = {
        metric.get("name") or metric.get("template"): metric
        for metric in (policy.get("spec") or {}).get("metrics") or ()
    }
    rows = [
        _metric_row(view, raw, asked.get(view.name) or {})
        for view, raw in zip(metric_views(verdict), verdict.get("metrics") or (), strict=True)
    ]
    bound = verdict.get("bound_rollback")
    return tuple(
        _with_quantiles(row, raw, latencies.get(row.view.name), bound)
        for row, raw in zip(rows, verdict.get("metrics") or (), strict=True)
    )


def _with_quantiles(row: MetricRow, raw: Json, latency: Json | None, bound: float | None) -> MetricRow:
    if latency is None or not bound:
        return row
    dispersion = max(1.0, raw.get("dispersion") or 1.0)
    quantiles = quantile_rows(latency, alpha=1 / bound, dispersion=dispersion)
    return replace(row, unit=latency["unit"], quantiles=quantiles)


def _metric_row(view: MetricView, raw: Json, asked: Json) -> MetricRow:
    control, candidate = raw.get("control") or {}, raw.get("candidate") or {}
    margin, points = asked.get("margin"), asked.get("marginPoints")
    worse = -1 if raw.get("higher_is_better") else 1
    return MetricRow(
        view=view,
        kind=view.measure,
        margin=f"{points.removesuffix('%')} points" if points else margin,
        proven_margin=raw.get("proven_margin"),
        margin_odds_ratio=1 + _fraction(margin) if view.measure == "proportion" and margin else None,
        margin_difference=worse * 100 * _fraction(margin) if view.measure == "mean" and margin else None,
        tolerance_odds_ratio=1 + _fraction(asked.get("tolerance")),
        worst_edge=raw.get("worst_edge"),
        control_events=control.get("events"),
        control_total=control.get("total"),
        candidate_events=candidate.get("events"),
        candidate_total=candidate.get("total"),
    )


def _fraction(percent: str | None) -> float:
    """Return a percentage of the policy (already validated there) as a fraction; 0 when there is none."""
    return float(percent.removesuffix("%")) / 100 if percent else 0.0


def _look(tick: Json, candidate: str) -> Look:
    verdict = tick.get("verdict") or {}
    return Look(
        at=tick["at"],
        candidate_weight=(tick.get("weights") or {}).get(candidate) or 0,
        e_rollback=verdict.get("e_rollback"),
        verdict=verdict.get("kind") or "NoData",
    )


def _series(ticks: Sequence[Json], name: str) -> tuple[MetricLook, ...]:
    return tuple(
        MetricLook(tick["at"], *_effect(view), view.e_share, view.e_safe)
        for tick in ticks
        for view in metric_views(tick.get("verdict") or {})
        if view.name == name
    )


def _effect(view: MetricView) -> tuple[float | None, float | None, float | None]:
    """Return the estimate of the effect as it is drawn, and both ends of its range."""
    if view.measure != "mean":
        return view.odds_ratio, *(view.interval or (None, None))
    known = (view.difference, *(view.difference_interval or (None, None)))
    estimate, low, high = (None if share is None else 100 * share for share in known)
    return estimate, low, high


def _shares(intervals: Any, ticks: list[Json], candidate: str) -> tuple[Share, ...]:
    """Return one share per interval, from the rows that carry the intended share, else from the fullest."""
    rows: dict[float, Json] = {}
    for row in intervals:
        best = rows.get(row["end"])
        if best is None or _rank(row) > _rank(best):
            rows[row["end"]] = row
    return tuple(
        Share(
            end=end,
            intended=row["intended"] if "intended" in row else _intended(end, ticks, candidate),
            observed=row["candidate"]["total"] / _total(row),
            requests=_total(row),
        )
        for end, row in sorted(rows.items())
        if _total(row)
    )


def _rank(row: Json) -> tuple[bool, int]:
    return "intended" in row, _total(row)


def _total(row: Json) -> int:
    return int(row["control"]["total"] + row["candidate"]["total"])


def _intended(end: float, ticks: list[Json], candidate: str) -> float:
    """Return the share that was wanted while the interval ran: that of the look that consumed it."""
    weights = next((tick.get("weights") for tick in ticks if (tick.get("cursor") or 0) >= end), None)
    return ((weights or {}).get(candidate) or 0) / 100


def _decision(row: Json) -> DecisionRow:
    return DecisionRow(
        at=numbers.unix(row.get("at") or row.get("cursor")),
        action=row.get("action") or "",
        reason=row.get("reason") or "",
        message=row.get("message") or "",
        weights=dict(row.get("weights") or {}),
    )


def _thinned(items: Sequence[T]) -> Sequence[T]:
    """Return every n-th item, counted from the end, so that `MAX_POINTS` are left and the last one stays."""
    stride = -(-len(items) // MAX_POINTS) or 1
    return items[::-1][::stride][::-1]
