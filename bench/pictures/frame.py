"""A plot of the report as a picture of its own: with a title, words for both axes, and its style inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller import numbers
from controller.api.markup import Markup, tag
from controller.api.plots import HEIGHT, LEFT, RIGHT, WIDTH, svg
from controller.api.scales import Log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.api.plots import Plot
    from controller.api.scales import Tick

_HEAD, _FOOT, _SCALE = 38.0, 20.0, 1.35
_STYLE = """
svg { background: #fbfbf9; font-family: system-ui, sans-serif }
text { font-size: 11px; fill: #5c6670 } .title { font-size: 14px; font-weight: 600; fill: #1a1d21 }
.grid { stroke: #e3e5e8 } .axis { stroke: #5c6670 } .label { font-weight: 600 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
.band { fill-opacity: .16 } .rule { stroke-width: 1.4; stroke-dasharray: 6 4; stroke: #5c6670 }
.mark { stroke: #e3e5e8 }
.line.good { stroke: #15803d } .band.good, text.good { fill: #15803d }
.line.bad { stroke: #c02b1d } .band.bad, text.bad { fill: #c02b1d }
.line.third { stroke: #b45309 } .band.third, text.third { fill: #b45309 }
.line.control { stroke: #1d4ed8 } .band.control, text.control { fill: #1d4ed8 }
.line.quiet { stroke: #9aa4ae; stroke-width: 1.4 } text.quiet { fill: #5c6670; font-weight: 400 }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """A plot with words for what goes up and what goes to the right."""

    plot: Plot
    up: str
    across: str


@dataclass(frozen=True, slots=True)
class Marked(Log):
    """Equal factors are equal lengths, with ticks at given values only."""

    values: tuple[float, ...] = ()
    suffix: str = ""

    def ticks(self) -> list[Tick]:
        """Return the given values."""
        return [(value, f"{numbers.number(value)}{self.suffix}") for value in self.values]


def picture(title: str, panels: Sequence[Panel]) -> str:
    """Return an SVG file with the panels below each other."""
    height = 26 + len(panels) * (HEIGHT + _HEAD)
    return tag(
        "svg",
        tag("title", title),
        tag("style", Markup(_STYLE)),
        tag("text", title, x=14, y=24, class_="title"),
        *(_panel(panel, 26 + (HEIGHT + _HEAD) * at) for at, panel in enumerate(panels)),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        width=WIDTH * _SCALE,
        height=height * _SCALE,
        role="img",
    )


def _panel(panel: Panel, top: float) -> Markup:
    return tag(
        "svg",
        tag("text", panel.up, x=14, y=18),
        tag("svg", svg(panel.plot), x=0, y=_FOOT, width=WIDTH, height=HEIGHT),
        tag("text", panel.across, x=(LEFT + WIDTH - RIGHT) / 2, y=_FOOT + HEIGHT + 7, text_anchor="middle"),
        x=0,
        y=top,
        width=WIDTH,
        height=HEIGHT + _HEAD,
    )
