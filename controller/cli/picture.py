"""A picture of tried rollouts as SVG: for each effect how the runs ended, and when. Pure.

Drawn like the plots of the report, but with its style inside, so that the file stands by itself. Error bars
reach two standard errors to either side. Times are drawn as a line from the 10 % to the 90 % quantile, a
thick one between the quartiles, and a mark at the median.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.api.markup import Markup, join, tag
from controller.api.scales import Linear, Time
from controller.distribution import quantile
from controller.endings import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.api.scales import Scale
    from controller.endings import Outcome, Result

_LEFT, _GAP, _RIGHT, _TOP, _BOTTOM = 84.0, 56.0, 28.0, 74.0, 30.0
_PANEL, _ROW, _LINE = 360.0, 58.0, 15.0
_WORDS = {"promoted": "promoted", "rolledBack": "rolled back", "held": "held"}
_STYLE = """
svg { background: #fbfbf9; font-family: system-ui, sans-serif }
text { font-size: 12px; fill: #5c6670 } .title { font-size: 14px; font-weight: 600; fill: #1a1d21 }
.grid { stroke: #e3e5e8 } .axis { stroke: #5c6670 } .effect { font-size: 13px; fill: #1a1d21 }
line.promoted { stroke: #15803d } line.rolledBack { stroke: #c02b1d } line.held { stroke: #4b5563 }
circle.promoted, rect.promoted, text.promoted { fill: #15803d }
circle.rolledBack, rect.rolledBack, text.rolledBack { fill: #c02b1d }
circle.held, rect.held, text.held { fill: #4b5563 }
.bar { stroke-width: 1.5 } .middle { stroke-width: 6; stroke-opacity: .45 }
"""


def picture(title: str, results: Sequence[Result]) -> str:
    """Return an SVG file with a row per result."""
    late = [quantile(found, 90) for each in results for o in OUTCOMES if (found := each.times(o))]
    shares, times = Linear(0, 100, "%"), Time(max(late, default=60.0))
    first, second = _LEFT, _LEFT + _PANEL + _GAP
    bottom = _TOP + _ROW * len(results)
    width, height = second + _PANEL + _RIGHT, bottom + _BOTTOM
    return tag(
        "svg",
        tag("title", title),
        tag("style", Markup(_STYLE)),
        tag("text", title, x=14, y=24, class_="title"),
        _legend(width - _RIGHT),
        _axis(shares, first, bottom, "share of the runs, ± two standard errors"),
        _axis(times, second, bottom, "time to the decision"),
        *(_row(each, _TOP + _ROW * at, shares, times) for at, each in enumerate(results)),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
    )


def _legend(right: float) -> Markup:
    words = zip(OUTCOMES, (right - 120, right - 40, right), strict=True)
    return join(*(tag("text", _WORDS[each], x=x, y=24, class_=each, text_anchor="end") for each, x in words))


def _axis(scale: Scale, left: float, bottom: float, words: str) -> Markup:
    """Draw the grid of a panel with its numbers below and what it shows above."""
    parts = [tag("text", words, x=left + _PANEL, y=46, text_anchor="end")]
    for value, label in scale.ticks():
        x = left + scale.at(value) * _PANEL
        parts.append(tag("line", x1=x, x2=x, y1=_TOP - 12, y2=bottom, class_="grid"))
        parts.append(tag("text", label, x=x, y=bottom + 18, text_anchor="middle"))
    parts.append(tag("line", x1=left, x2=left + _PANEL, y1=bottom, y2=bottom, class_="axis"))
    return join(*parts)


def _row(result: Result, top: float, shares: Linear, times: Time) -> Markup:
    """Draw one effect: three shares to the left, the times of both decisions to the right."""
    name = "identical" if result.effect == 1 else f"x{result.effect:g}"
    parts = [tag("text", name, x=_LEFT - 12, y=top + _LINE + 4, class_="effect", text_anchor="end")]
    for line, outcome in enumerate(OUTCOMES):
        y = top + _LINE * line
        parts.append(_share(result, outcome, y, shares))
        parts.append(_times(result.times(outcome), outcome, y, times))
    return join(*parts)


def _share(result: Result, outcome: Outcome, y: float, scale: Linear) -> Markup:
    share = result.share(outcome)
    low, at, high = (
        _LEFT + scale.at(100 * value) * _PANEL
        for value in (share.share - 2 * share.error, share.share, share.share + 2 * share.error)
    )
    return join(
        tag("line", x1=low, x2=high, y1=y, y2=y, class_=f"bar {outcome}"),
        tag("circle", cx=at, cy=y, r=4, class_=outcome),
    )


def _times(found: Sequence[float], outcome: Outcome, y: float, scale: Time) -> Markup:
    if not found:
        return Markup()
    left = _LEFT + _PANEL + _GAP
    low, first, middle, third, high = (
        left + scale.at(quantile(found, part)) * _PANEL for part in (10, 25, 50, 75, 90)
    )
    return join(
        tag("line", x1=low, x2=high, y1=y, y2=y, class_=f"bar {outcome}"),
        tag("line", x1=first, x2=third, y1=y, y2=y, class_=f"middle {outcome}"),
        tag("rect", x=middle - 1.5, y=y - 5, width=3, height=10, class_=outcome),
    )
