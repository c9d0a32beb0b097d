"""The pictures of a report: which lines and limits each one shows, and how it is told in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller import numbers
from controller.api.markup import Markup, tag
from controller.api.plots import Band, Line, Mark, Plot, Point, Rule, svg
from controller.api.scales import Linear, Log, Time, log_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.api.report import MetricRow, Report

STYLES = ("s0", "s1", "s2", "s3", "s4", "s5")
LABEL = 16
"""Characters of a label that fit beside a plot."""


def figures(report: Report) -> list[Markup]:
    """Return the figures of a report; none when there is nothing to draw yet."""
    if report.started_at is None or not report.looks:
        return []
    picture = _Picture(report, report.started_at)
    plots = [picture.weights(), picture.harm(), picture.safety(), picture.share()]
    plots += [picture.effect(row, style) for row, style in picture.styled()]
    return [_figure(plot) for plot in plots if plot is not None]


def _figure(plot: Plot) -> Markup:
    caption = tag("figcaption", tag("h3", plot.title), tag("p", plot.description))
    return tag("figure", caption, svg(plot))


def _short(name: str) -> str:
    return name if len(name) <= LABEL else f"{name[: LABEL - 1]}…"


class _Picture:
    """One report on one time axis."""

    def __init__(self, report: Report, start: float) -> None:
        self._report, self._start = report, start
        last = max(report.looks[-1].at, report.ended_at or 0.0)
        self._length = max(last - start, 1.0)
        self._x = Time(self._length * 1.02)

    def _since(self, at: float) -> float:
        return at - self._start

    def styled(self) -> list[tuple[MetricRow, str]]:
        """Return each metric with its colour."""
        return [(row, STYLES[index % len(STYLES)]) for index, row in enumerate(self._report.metrics)]

    def _marks(self) -> list[Mark]:
        """Return where the weights moved, and the end in the colour of the outcome."""
        report = self._report
        steps = [Mark(self._since(row.at), "step") for row in report.decisions if row.at is not None]
        end = [Mark(self._since(report.ended_at), report.tone)] if report.ended_at is not None else []
        return [*steps, *end]

    def weights(self) -> Plot:
        report = self._report
        points: list[Point] = [
            (self._since(row.at), row.weights.get(report.candidate, 0))
            for row in report.decisions
            if row.at is not None and row.weights
        ] or [(self._since(look.at), look.candidate_weight) for look in report.looks]
        points.append((self._x.high, points[-1][1]))
        other: list[Point] = [(at, 100 - (weight or 0)) for at, weight in points]
        return Plot(
            "Weights",
            "Per cent of the requests that each version was meant to get.",
            self._x,
            Linear(0, 100, "%"),
            lines=(
                Line(_short(report.control), other, "quiet wanted", step=True),
                Line(_short(report.candidate), points, "s0", step=True),
            ),
            marks=self._marks(),
        )

    def harm(self) -> Plot:
        report, bound = self._report, self._report.bound_rollback
        total = [(self._since(look.at), look.e_rollback) for look in report.looks]
        lines = [
            Line(_short(row.view.name), self._values(row, "e_share"), style) for row, style in self.styled()
        ]
        lines = [*(lines if len(lines) > 1 else []), Line("all together", total, "total")]
        return Plot(
            "Evidence of harm",
            "The run is rolled back when the evidence of all metrics together reaches the bound.",
            self._x,
            _evidence_scale(lines, bound),
            lines=lines,
            rules=() if bound is None else (Rule(bound, f"bound {numbers.number(bound)}", "bad"),),
            marks=self._marks(),
        )

    def safety(self) -> Plot | None:
        rows = [(row, style) for row, style in self.styled() if row.margin]
        if not rows:
            return None
        lines = [Line(_short(row.view.name), self._values(row, "e_safe"), style) for row, style in rows]
        bound = rows[0][0].view.bound_safe
        return Plot(
            "Evidence of safety",
            "Promotion needs every line above the bound: no worse than its margin.",
            self._x,
            _evidence_scale(lines, bound),
            lines=lines,
            rules=() if bound is None else (Rule(bound, f"bound {numbers.number(bound)}", "good"),),
            marks=self._marks(),
        )

    def effect(self, row: MetricRow, style: str) -> Plot | None:
        looks = [look for look in self._report.series[row.view.name] if look.odds_ratio is not None]
        if not looks:
            return None
        rules = [Rule(1.0, "no difference", "quiet")]
        where = ", at the edge with most evidence of harm" if row.worst_edge is not None else ""
        for value, word, tone in (
            (row.margin_odds_ratio, "margin", "good"),
            (row.tolerance_odds_ratio, "tolerance", "bad"),
        ):
            if value is not None and value > 1:
                rules.append(Rule(value, f"{word} {numbers.number(value)}", tone))
        ratios = [look.odds_ratio for look in looks]
        wide = [end for look in looks for end in (look.low, look.high)]
        known = log_scale(ratios, include=[0.5, 2.0, *(rule.value for rule in rules)], least=0.05, most=20.0)
        return Plot(
            f"Effect on {row.view.name}",
            f"Odds ratio of the candidate to the control, with the range that holds at every moment{where}.",
            self._x,
            log_scale(wide, include=[known.low, known.high], least=0.2, most=5.0),
            lines=(Line("odds ratio", [(self._since(k.at), k.odds_ratio) for k in looks], style),),
            bands=(Band([(self._since(k.at), k.low, k.high) for k in looks], style),),
            rules=rules,
            marks=self._marks(),
        )

    def share(self) -> Plot | None:
        shares = self._report.shares
        if not shares:
            return None
        most = max(max(share.observed, share.intended) for share in shares)
        return Plot(
            "Share of the requests",
            f"What the candidate got in each interval, and what it was meant to get.{self._split()}",
            self._x,
            Linear(0, min(100.0, max(1.0, 115 * most)), "%"),
            lines=(
                Line("wanted", [(self._since(s.end), 100 * s.intended) for s in shares], "wanted", step=True),
                Line("observed", [(self._since(s.end), 100 * s.observed) for s in shares], "s0"),
            ),
            marks=self._marks(),
        )

    def _split(self) -> str:
        """Return how the test of the split stands, as a further sentence."""
        srm = self._report.srm
        if srm.get("e_max") is None:
            return ""
        evidence = f"{numbers.number(srm['e_max'])} of {numbers.number(srm.get('bound'))}"
        return f" Evidence of another split: {evidence}."

    def _values(self, row: MetricRow, field: str) -> list[Point]:
        return [(self._since(look.at), getattr(look, field)) for look in self._report.series[row.view.name]]


def _evidence_scale(lines: Sequence[Line], bound: float | None) -> Log:
    values = [value for line in lines for _, value in line.points]
    return log_scale(values, include=[0.5, 2.0, *([bound] if bound else [])], least=1e-3, most=1e6)
