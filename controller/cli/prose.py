"""The report of a run as plain text, for terminals, tickets and mails. Pure."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from controller import numbers, shown
from controller.cli.line import clean
from controller.cli.render import table

if TYPE_CHECKING:
    from controller.api.aftermath import WatchReport
    from controller.api.report import DecisionRow, MetricRow, Report

WIDTH = 100


def prose(report: Report) -> str:
    """Return the report as text: the decision, the metrics, the decisions on the way, the assumptions."""
    lines = [
        *_wrapped(report.headline),
        "",
        f"Run        {clean(report.run)} (run {report.number} of {clean(report.policy)})",
        f"Compared   {clean(report.candidate)} with {clean(report.control)}, {report.requests:,} requests",
        f"Started    {numbers.instant(report.started_at)}",
        f"Decided    {numbers.instant(report.ended_at)}",
        "",
        *table(
            ("METRIC", "CONTROL", "CANDIDATE", "EFFECT", "RANGE", "MARGIN", "HARM", "SAFE", "VERDICT"),
            _metrics(report),
        ),
        "",
        *(line for row in report.metrics if row.view.sentence for line in _wrapped(f"- {row.view.sentence}")),
        *(line for row in report.metrics for line in _gaps(row)),
        *_split(report),
        "",
        *(line for row in report.decisions for line in _wrapped(_decision(row, report.started_at))),
        "",
        *(_watch(report.watch) if report.watch else ()),
        *(line for item in report.assumptions for line in _wrapped(f"{item.title}: {item.text}")),
    ]
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(clean(text), WIDTH, subsequent_indent="  ") or [""]


def _watch(watch: WatchReport) -> list[str]:
    """Return what the watch after the promotion found, and an empty line."""
    told = [*(row.alarm for row in watch.metrics if row.alarm), watch.over, *watch.left_out]
    lines = _wrapped(f"After the promotion: {watch.sentence}")
    return [*lines, *(line for words in told if words for line in _wrapped(f"- {words}")), ""]


def _metrics(report: Report) -> list[list[str]]:
    return [
        [
            row.view.name,
            shown.control(row.view),
            shown.candidate(row.view),
            shown.effect(row.view),
            shown.span(row.view),
            row.margin or numbers.MISSING,
            _evidence(row.view.e_harm, row.view.bound_harm),
            _safety(row),
            row.view.verdict,
        ]
        for row in report.metrics
    ]


def _gaps(row: MetricRow) -> list[str]:
    """Return what could not be measured of a metric, if anything."""
    lost = row.view.coverage.words if row.view.coverage else ""
    return _wrapped(f"- {row.view.name}: {lost}") if lost else []


def _split(report: Report) -> list[str]:
    """Return when the split was wrong, if it ever was, and since when safety is proven anew."""
    told = shown.wrong_split(report.srm)
    return _wrapped(f"- {told}") if told else []


def _safety(row: MetricRow) -> str:
    return _evidence(row.view.e_safe, row.view.bound_safe) if row.margin else numbers.MISSING


def _evidence(value: float | None, bound: float | None) -> str:
    return f"{numbers.number(value)} of {numbers.number(bound)}"


def _decision(row: DecisionRow, start: float | None) -> str:
    since = numbers.length(None if row.at is None or start is None else row.at - start)
    return f"- after {since}: {row.action} ({row.reason}), {numbers.weights(row.weights)}: {row.message}"
