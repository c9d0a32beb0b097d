"""What a report assumes and promises, for somebody who has never heard of an e-value. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller import numbers

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Assumption:
    """A short title and the explanation."""

    title: str
    text: str


def assumptions(policy: Json, verdict: Json, *, looks: int) -> tuple[Assumption, ...]:
    """Return what the report's reader has to know about how the decision came about."""
    spec = policy.get("spec") or {}
    decision, metrics = spec.get("decision") or {}, spec.get("metrics") or []
    return (
        *_engine(verdict),
        Assumption("Looking often is allowed", _peeking(decision, looks)),
        Assumption("Evidence", _evidence(decision)),
        Assumption(
            "Rolling back by mistake", _false_rollback(decision, len(verdict.get("metrics") or metrics))
        ),
        Assumption("Promoting by mistake", _false_promote(decision, metrics)),
        Assumption("Same moment, same conditions", _CONCURRENT),
        Assumption("Odds ratio", _odds(decision)),
        *_latency(verdict),
        *_means(verdict),
        *_edges(verdict),
        Assumption("Independent requests", _dispersion(metrics, verdict)),
        *_left_out(decision, metrics),
        Assumption("The split is checked", _SPLIT),
        Assumption("Method", _METHOD),
    )


def _engine(verdict: Json) -> tuple[Assumption, ...]:
    """Return what has to be known of an engine that the policy names; nothing without one."""
    engine = verdict.get("engine")
    if not engine:
        return ()
    text = (
        f"The policy names {engine['name']} to judge error rates. What is said below of mistakes holds for "
        "the other metrics only, and the evidence shown for error rates is there to compare with. "
        f"{' '.join(engine['lacks'])}"
    )
    return (Assumption(f"Error rates are judged by {engine['name']}", text),)


_CONCURRENT = (
    "Control and candidate are compared only within the same interval. What hits both at once (a busy hour, "
    "a slow database) cancels out, and changing the weights does not distort the comparison."
)
_SPLIT = (
    "The share of requests that the candidate really got is tested against the share that was wanted. If "
    "they do not agree, the traffic is not what it seems, and no other number is trusted."
)
_METHOD = (
    "Per interval, the number of events on the candidate is compared with what chance would give, given all "
    "events and requests of that interval (Fisher's noncentral hypergeometric likelihood), averaged over a "
    "set of odds ratios fixed before the run. For harm, half of the bet is on harm from the start and half "
    "on harm that begins later."
)
_SLOW = (
    "A latency metric counts, for each edge of the histogram, the requests that took longer. The evidence of "
    "harm is averaged over the edges, so a slow tail and a general slowdown are both seen. A margin is a "
    "factor of the time itself: the candidate's requests over the longer time are compared with the "
    "control's over the shorter one. Between edges nothing is known, so a margin smaller than the distance "
    "of two edges is shown only as far as the edges allow."
)
_MEANS = (
    "Of a mean, sum and count are known per interval but not how much values vary within it. So each "
    "interval gives one difference, and how much these vary from interval to interval is the noise. Its "
    "evidence is approximate for that reason, and begins with the eighth interval."
)
_VARYING = (
    "Events that come in clusters vary more than independent ones, so evidence is divided by how much more. "
    "Measured on the control, whose own series cannot differ by the candidate's fault:"
)
_BURSTS = (
    "One cause that makes many requests fail together (retry storms, a bad pod) then counts as many pieces "
    "of evidence and can roll back a harmless candidate more often than stated; raise the metric's "
    "dispersion if yours come in bursts."
)


def _peeking(decision: Json, looks: int) -> str:
    interval, deadline = decision.get("interval", "10s"), decision.get("deadline", "2h")
    times = f"{looks:,} time{'' if looks == 1 else 's'}"
    return (
        f"The judge looked {times}, every {interval}, with a deadline of {deadline}. The error rates "
        "below hold for all looks together, so a decision may be taken at any of them."
    )


def _bound(decision: Json) -> str:
    """Return what the evidence of harm must reach: 1 divided by the chance of a mistake."""
    return numbers.number(100 / float(decision.get("falseRollback", "1%").removesuffix("%")))


def _evidence(decision: Json) -> str:
    return (
        "An e-value is the money of a bettor who starts with 1 and bets, at fair odds, that the candidate is "
        "worse (or, for promotion, that it is not worse than the margin). If the bettor is wrong, 100 is "
        "reached with a chance of at most 1 in 100, however long the game goes on. Harm is called at "
        f"{_bound(decision)}."
    )


def _false_rollback(decision: Json, metrics: int) -> str:
    rate, bound = decision.get("falseRollback", "1%"), _bound(decision)
    shared = f" and all {metrics} metrics together; each metric holds an equal part" if metrics > 1 else ""
    return (
        f"A harmless candidate is rolled back with a chance of at most {rate}, over the whole run{shared}. "
        f"The evidence of harm must reach {bound} (1 divided by {rate})."
    )


def _false_promote(decision: Json, metrics: list[Json]) -> str:
    rate = decision.get("falsePromote", "5%")
    margins = [f"{_name(metric)} ({asked})" for metric in metrics if (asked := _margin(metric))]
    return (
        f"A candidate that is worse than a margin is promoted by the evidence with a chance of at most "
        f"{rate}. Every metric with a margin must be shown to stay within it: "
        f"{', '.join(margins) or 'none has one'}."
    )


def _margin(metric: Json) -> str:
    """Return a metric's margin in words; empty without one."""
    points = str(metric.get("marginPoints") or "").removesuffix("%")
    return f"{points} percentage points" if points else str(metric.get("margin") or "")


def _odds(decision: Json) -> str:
    rate = decision.get("falseRollback", "1%")
    return (
        "The odds of an event (failed to not failed) of the candidate, divided by those of the control, over "
        "all intervals. 1 means no difference, 2 about twice as many errors while errors are rare. The range "
        f"beside it misses the truth at any moment of the run with a chance of at most {rate}."
    )


def _latency(verdict: Json) -> tuple[Assumption, ...]:
    found = any(metric.get("worst_edge") is not None for metric in verdict.get("metrics") or ())
    return (Assumption("Latency", _SLOW),) if found else ()


def _means(verdict: Json) -> tuple[Assumption, ...]:
    found = any(metric.get("measure") == "mean" for metric in verdict.get("metrics") or ())
    return (Assumption("Means", _MEANS),) if found else ()


def _edges(verdict: Json) -> tuple[Assumption, ...]:
    chosen = verdict.get("edges") or {}
    words = "; ".join(
        f"{name}: {', '.join(f'{edge:g}' for edge in each['judged'])} ({each['why']})"
        for name, each in chosen.items()
    )
    text = f"Before the first look, and for the whole run, these edges were chosen: {words}."
    return (Assumption("Edges", text),) if chosen else ()


def _dispersion(metrics: list[Json], verdict: Json) -> str:
    measured = {**dict.fromkeys(map(_name, _automatic(metrics))), **(verdict.get("dispersion") or {})}
    fixed = {_name(metric): metric["dispersion"] for metric in metrics if _name(metric) not in measured}
    clustered = [f"{name}: {factor}" for name, factor in fixed.items() if factor != "1"]
    parts = []
    if measured:
        found = "; ".join(f"{name}: {_measured(known)}" for name, known in measured.items())
        parts.append(f"{_VARYING} {found}.")
    if clustered:
        known = f"the evidence is divided by their size ({', '.join(clustered)})"
        parts.append(f"Events are assumed to come in clusters, and {known}.")
    if len(clustered) < len(fixed):
        which = "For the other metrics the" if parts else "The"
        parts.append(f"{which} outcomes of requests are assumed to be independent (dispersion 1). {_BURSTS}")
    return " ".join(parts)


def _automatic(metrics: list[Json]) -> list[Json]:
    return [metric for metric in metrics if metric.get("dispersion", "auto") == "auto"]


def _measured(known: Json | None) -> str:
    """Return a measured dispersion in words."""
    if not known:
        return "not measured yet, so the policy's `assume` holds"
    return f"{numbers.number(known['dispersion'])} ({known['method']}: {known['restsOn']})"


def _left_out(decision: Json, metrics: list[Json]) -> tuple[Assumption, ...]:
    """Return what is not judged after a change of weights."""
    warm_up = decision.get("warmUp", "0s")
    times = [f"{warm_up} of all metrics"] if warm_up != "0s" else []
    times += [f"{metric['labelDelay']} of {_name(metric)}" for metric in metrics if _late(metric)]
    text = (
        f"After each change of weights, what was counted for {' and '.join(times)} is left out of the "
        "evidence, of both versions; it still counts for the split."
    )
    return (Assumption("Left out", text),) if times else ()


def _late(metric: Json) -> bool:
    return str(metric.get("labelDelay", "0s")) != "0s"


def _name(metric: Json) -> str:
    return str(metric.get("name") or metric.get("template"))
