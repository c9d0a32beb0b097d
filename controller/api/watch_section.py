"""The part of the report's page on the watch after a promotion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller import numbers
from controller.api.markup import Markup, tag

if TYPE_CHECKING:
    from controller.api.aftermath import WatchReport, WatchRow

HEADINGS = ("Metric", "In the rollout", "Since the promotion", "Alarm above", "Evidence")


def watch_section(watch: WatchReport) -> Markup:
    """Return a table of what was watched, with every alarm in words, and what was left out."""
    head = tag("tr", *(tag("th", heading, scope="col") for heading in HEADINGS))
    rows = [part for row in watch.metrics for part in _metric(row)]
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    notes = [tag("p", words, class_="note") for words in (watch.over, *watch.left_out) if words]
    return tag(
        "section",
        tag("h2", "After the promotion"),
        tag("p", watch.sentence, class_="note"),
        tag("div", table, class_="scroll"),
        *notes,
    )


def _metric(row: WatchRow) -> list[Markup]:
    edge = None if row.edge is None else tag("small", f"over {numbers.number(row.edge)}")
    counts = tag("small", f"{row.events:,} of {row.requests:,}")
    cells = tag(
        "tr",
        tag("td", tag("strong", row.name), edge),
        tag("td", numbers.percent(row.rollout)),
        tag("td", numbers.percent(row.share), counts),
        tag("td", numbers.percent(row.limit)),
        tag("td", numbers.number(row.evidence), tag("small", f"of {numbers.number(row.bound)}")),
        class_="more" if row.alarm else None,
    )
    if row.alarm is None:
        return [cells]
    return [cells, tag("tr", tag("td", row.alarm, colspan=len(HEADINGS), class_="sentence"))]
