"""The report as one HTML page: readable on a screen, in the dark and on paper, with nothing to load.

It holds no scripts and no addresses, so a saved page says the same for ever.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from controller import numbers, shown
from controller.api.figures import figures, quantile_figures
from controller.api.markup import Markup, join, tag
from controller.api.report import OUTCOMES
from controller.api.watch_section import watch_section

if TYPE_CHECKING:
    from controller.api.report import MetricRow, Report

TONE = {"Harmful": "bad", "Invalid": "bad", "Safe": "good", "NoData": "wait"}
HEADINGS = (
    *("Metric", "Control", "Candidate", "Effect", "Margin"),
    *("Evidence of harm", "Evidence of safety", "Verdict"),
)
DECISION_HEADINGS = ("After", "Decision", "Why", "Weights")


def page(report: Report) -> str:
    """Return the page, encoded as text that begins with its doctype."""
    name = f"{report.policy}, run {report.number}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{report.outcome}: {name}"),
        tag("style", Markup(_style())),
    )
    body = tag(
        "main",
        tag("p", "Penstock · report of a rollout", class_="kicker"),
        tag("h1", name),
        _decision(report),
        _facts(report),
        _metrics(report),
        _plots(report),
        _quantiles(report),
        _decisions(report),
        watch_section(report.watch) if report.watch else None,
        _assumptions(report),
        _policy(report),
        tag("footer", f"Run {report.run}. The report is made from the recorded looks and decisions alone."),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', body), lang='en')}\n"


@cache
def _style() -> str:
    return resources.files("controller.api").joinpath("report.css").read_text("utf-8")


def _section(title: str, note: str, *content: Markup) -> Markup:
    return tag("section", tag("h2", title), tag("p", note, class_="note") if note else None, *content)


def _decision(report: Report) -> Markup:
    reasons = [tag("li", reason) for reason in report.reasons if reason not in report.headline]
    return tag(
        "div",
        tag("span", OUTCOMES.get(report.outcome, report.outcome), class_=f"chip {report.tone}"),
        tag("p", report.headline, class_="headline"),
        tag("ul", *reasons) if reasons else None,
        class_=f"decision {report.tone}",
    )


def _facts(report: Report) -> Markup:
    ended = ("Decided", report.ended_at) if report.ended_at else ("Last look", report.last_look_at)
    facts = (
        ("Control", report.control),
        ("Candidate", report.candidate),
        ("Started", numbers.instant(report.started_at)),
        (ended[0], numbers.instant(ended[1])),
        ("Took" if report.ended_at else "So far", numbers.length(report.seconds)),
        ("Requests counted", f"{report.requests:,}"),
    )
    return tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in facts), class_="facts")


def _metrics(report: Report) -> Markup:
    head = tag("tr", *(tag("th", heading, scope="col") for heading in HEADINGS))
    rows = [part for row in report.metrics for part in _metric(row)]
    return _section(
        "Metrics",
        "Evidence is shown with what it has to reach. Evidence of harm also adds up over the metrics.",
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="scroll"),
    )


def _metric(row: MetricRow) -> tuple[Markup, Markup]:
    view = row.view
    cells = tag(
        "tr",
        tag("td", tag("strong", view.name), _edge(row)),
        _value(row, shown.control(view), row.control_events, row.control_total),
        _value(row, shown.candidate(view), row.candidate_events, row.candidate_total),
        tag("td", shown.effect(view), tag("small", shown.span(view))),
        _margin(row),
        _evidence(view.e_harm, view.bound_harm),
        _evidence(view.e_safe, view.bound_safe if row.margin else None),
        tag("td", tag("span", view.verdict, class_=f"chip {TONE.get(view.verdict, 'neutral')}")),
        class_="more",
    )
    lost = view.coverage.words if view.coverage else ""
    told = f"{view.sentence} ({lost})" if lost else view.sentence
    return cells, tag("tr", tag("td", told, colspan=len(HEADINGS), class_="sentence"))


def _edge(row: MetricRow) -> Markup | None:
    return None if row.worst_edge is None else tag("small", f"over {numbers.number(row.worst_edge)}")


def _margin(row: MetricRow) -> Markup:
    """Return the margin; beside it what coarse histogram edges really show, where that is more."""
    if row.margin is None or row.proven_margin is None:
        return tag("td", row.margin or numbers.MISSING)
    return tag("td", row.margin, tag("small", f"edges show {numbers.percent(row.proven_margin)}"))


def _value(row: MetricRow, value: str, events: int | None, total: int | None) -> Markup:
    """Return what one version did, and what that rests on."""
    if total is None:
        return tag("td", value)
    counts = f"{numbers.MISSING if events is None else f'{events:,}'} of {total:,}"
    return tag("td", value, tag("small", f"{total:,} values" if row.kind == "mean" else counts))


def _evidence(value: float | None, bound: float | None) -> Markup:
    if bound is None:
        return tag("td", numbers.MISSING)
    return tag("td", numbers.number(value), tag("small", f"of {numbers.number(bound)}"))


def _plots(report: Report) -> Markup | None:
    drawn = figures(report)
    if not drawn:
        return None
    return _section("Over time", "Time runs from the start of the run.", tag("div", *drawn, class_="plots"))


def _quantiles(report: Report) -> Markup | None:
    drawn = quantile_figures(report)
    if not drawn:
        return None
    note = "A picture that decides nothing: the judge compares within each interval, at the edges themselves."
    return _section("Latency of the whole run", note, tag("div", *drawn, class_="plots"))


def _decisions(report: Report) -> Markup:
    rows = []
    for row in report.decisions:
        since = None if row.at is None or report.started_at is None else row.at - report.started_at
        rows.append(
            tag(
                "tr",
                tag("td", numbers.length(since), tag("small", numbers.instant(row.at)), class_="time"),
                tag("td", tag("strong", row.action), tag("small", row.reason)),
                tag("td", row.message),
                tag("td", numbers.weights(row.weights)),
            )
        )
    head = tag("tr", *(tag("th", heading, scope="col") for heading in DECISION_HEADINGS))
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    return _section("Decisions", "" if rows else "None yet.", tag("div", table, class_="scroll"))


def _assumptions(report: Report) -> Markup:
    items = [join(tag("dt", item.title), tag("dd", item.text)) for item in report.assumptions]
    return _section("What is assumed, and what the numbers mean", "", tag("dl", *items, class_="assumed"))


def _policy(report: Report) -> Markup | None:
    if not report.policy_yaml:
        return None
    return _section("The policy", "As it was during the run.", tag("pre", report.policy_yaml))
