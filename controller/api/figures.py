"""The pictures of a report: which lines and limits each one shows, and how it is told in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller import numbers, shown
from controller.api.markup import Markup, tag
from controller.api.plots import Band, Line, Mark, Plot, Point, Rule, svg
from controller.api.quantiles import QUANTILES
from controller.api.scales import Linear, Log, Names, Time, log_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.api.report import MetricLook, MetricRow, Report

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


def quantile_figures(report: Report) -> list[Markup]:
    """Return a figure for each latency metric with counts."""
    return [_figure(_quantiles(report, row)) for row in report.metrics if row.quantiles]


def _quantiles(report: Report, row: MetricRow) -> Plot:
    sure = numbers.percent(None if not report.bound_rollback else 1 - 1 / report.bound_rollback)
    edges = [edge for each in row.quantiles for edge in (*each.estimate, each.low, each.high) if edge]
    bands, lines = [], []
    for role, name, style, left in (
        ("control", report.control, "s1", 0.14),
        ("candidate", report.candidate, "s0", 0.54),
    ):
        own = [each for each in row.quantiles if each.role == role]
        points: list[Point] = []
        for place, each in enumerate(own):
            ends = place + left, place + left + 0.32
            bands.append(Band([(end, each.low, each.high) for end in ends], style))
            points += [*((end, each.estimate[1]) for end in ends), (ends[1], None)]
        lines.append(Line(_short(name), points, style))
    return Plot(
        f"Quantiles of {row.view.name}",
        f"In {row.unit}, over all requests of the run; {_short(report.control)} is on the left. A line is "
        f"the bucket edge that the quantile of the counted requests lies at or next below; all the true ones "
        f"lie in their areas, at every moment, with {sure} confidence.",
        Names(tuple(f"p{100 * quantile:g}" for quantile in QUANTILES)),
        log_scale(edges, include=[min(edges), max(edges)], least=min(edges), most=max(edges)),
        lines=lines,
        bands=bands,
    )


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
        looks = [look for look in self._report.series[row.view.name] if look.effect is not None]
        if not looks:
            return None
        if row.kind == "mean":
            return self._difference(row, style, looks)
        rules = [Rule(1.0, "no difference", "quiet")]
        where = ", at the edge with most evidence of harm" if row.worst_edge is not None else ""
        for value, word, tone in (
            (row.margin_odds_ratio, "margin", "good"),
            (row.tolerance_odds_ratio, "tolerance", "bad"),
        ):
            if value is not None and value > 1:
                rules.append(Rule(value, f"{word} {numbers.number(value)}", tone))
        ratios = [look.effect for look in looks]
        wide = [end for look in looks for end in (look.low, look.high)]
        known = log_scale(ratios, include=[0.5, 2.0, *(rule.value for rule in rules)], least=0.05, most=20.0)
        return Plot(
            f"Effect on {row.view.name}",
            f"Odds ratio of the candidate to the control, with the range that holds at every moment{where}.",
            self._x,
            log_scale(wide, include=[known.low, known.high], least=0.2, most=5.0),
            lines=(Line("odds ratio", [(self._since(k.at), k.effect) for k in looks], style),),
            bands=(Band([(self._since(k.at), k.low, k.high) for k in looks], style),),
            rules=rules,
            marks=self._marks(),
        )

    def _difference(self, row: MetricRow, style: str, looks: Sequence[MetricLook]) -> Plot:
        """Return the picture of a mean; where the range is wider than the picture it goes on beyond it."""
        rules = [Rule(0.0, "no difference", "quiet")]
        if row.margin_difference is not None:
            rules.append(
                Rule(row.margin_difference, f"margin {shown.signed(row.margin_difference / 100)}", "good")
            )
        last = looks[-1]
        ends = [abs(end) for end in (last.effect, last.low, last.high) if end is not None]
        reach = 1.5 * max(1e-3, *ends, *(abs(rule.value) for rule in rules))
        return Plot(
            f"Effect on {row.view.name}",
            "The candidate's mean less the control's, in per cent of it, with the range that holds at every "
            "moment.",
            self._x,
            Linear(-reach, reach, "%"),
            lines=(Line("difference", [(self._since(k.at), k.effect) for k in looks], style),),
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
        return " ".join(("", f"Evidence of another split: {evidence}.", shown.wrong_split(srm))).rstrip()

    def _values(self, row: MetricRow, field: str) -> list[Point]:
        return [(self._since(look.at), getattr(look, field)) for look in self._report.series[row.view.name]]


def _evidence_scale(lines: Sequence[Line], bound: float | None) -> Log:
    values = [value for line in lines for _, value in line.points]
    return log_scale(values, include=[0.5, 2.0, *([bound] if bound else [])], least=1e-3, most=1e6)
