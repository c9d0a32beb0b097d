"""Plots over time as inline SVG: no scripts, no fonts, no colours of their own (the style sheet has those).

Every plot has a title and a description for those who do not see it, and names its lines at their ends, so
that nobody has to look up a legend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.api.markup import Markup, join, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.api.scales import Scale

WIDTH, HEIGHT = 560.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 112.0, 12.0, 28.0
LABEL_GAP = 15.0

Point = tuple[float, float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """Values over time; None interrupts the line. `step` keeps a value until the next one."""

    label: str
    points: Sequence[Point]
    style: str
    """A class of the style sheet: control, candidate, harm, safe, quiet or wanted."""
    step: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """The area between two values over time; an open side reaches the border."""

    points: Sequence[tuple[float, float | None, float | None]]
    style: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal line at a value that matters."""

    value: float
    label: str
    style: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at a moment that matters."""

    at: float
    style: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture: x is seconds since the start of the run."""

    title: str
    description: str
    x: Scale
    y: Scale
    lines: Sequence[Line] = ()
    bands: Sequence[Band] = ()
    rules: Sequence[Rule] = ()
    marks: Sequence[Mark] = ()


def svg(plot: Plot) -> Markup:
    """Return the plot as an `svg` element that fills its container."""
    return tag(
        "svg",
        tag("title", plot.title),
        tag("desc", plot.description),
        _grid(plot),
        *(_band(plot, band) for band in plot.bands),
        *(_mark(plot, mark) for mark in plot.marks),
        *(_rule(plot, rule) for rule in plot.rules),
        *(_line(plot, line) for line in plot.lines),
        _labels(plot),
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        class_="plot",
    )


def _x(plot: Plot, value: float) -> float:
    return LEFT + plot.x.at(value) * (WIDTH - LEFT - RIGHT)


def _y(plot: Plot, value: float) -> float:
    return HEIGHT - BOTTOM - plot.y.at(value) * (HEIGHT - TOP - BOTTOM)


def _grid(plot: Plot) -> Markup:
    parts = []
    for value, label in plot.y.ticks():
        y = _y(plot, value)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", label, x=LEFT - 8, y=y + 4, class_="tick", text_anchor="end"))
    for value, label in plot.x.ticks():
        x = _x(plot, value)
        parts.append(tag("line", x1=x, x2=x, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, class_="axis"))
        parts.append(tag("text", label, x=x, y=HEIGHT - BOTTOM + 18, class_="tick", text_anchor="middle"))
    y = HEIGHT - BOTTOM
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="axis"))
    return join(*parts)


def _band(plot: Plot, band: Band) -> Markup:
    low, high = HEIGHT - BOTTOM, TOP
    upper = [(_x(plot, x), high if top is None else _y(plot, top)) for x, _, top in band.points]
    lower = [(_x(plot, x), low if bottom is None else _y(plot, bottom)) for x, bottom, _ in band.points]
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])
    return tag("polygon", points=corners, class_=f"band {band.style}") if corners else Markup()


def _mark(plot: Plot, mark: Mark) -> Markup:
    x = _x(plot, mark.at)
    return tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_=f"mark {mark.style}")


def _rule(plot: Plot, rule: Rule) -> Markup:
    y = _y(plot, rule.value)
    return tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_=f"rule {rule.style}")


def _line(plot: Plot, line: Line) -> Markup:
    path, drawing, last = [], False, 0.0
    for at, value in line.points:
        if value is None:
            drawing = False
            continue
        x, y = _x(plot, at), _y(plot, value)
        if drawing and line.step:
            path.append(f"L{x:.1f} {last:.1f}")
        path.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}")
        drawing, last = True, y
    return tag("path", d="".join(path), class_=f"line {line.style}") if path else Markup()


def _labels(plot: Plot) -> Markup:
    """Name lines and rules at the right border, moved apart where they would overlap."""
    wanted = [(_y(plot, rule.value), rule.label, rule.style) for rule in plot.rules]
    for line in plot.lines:
        known = [value for _, value in line.points if value is not None]
        if known:
            wanted.append((_y(plot, known[-1]), line.label, line.style))
    placed = _apart([y for y, _, _ in sorted(wanted)])
    return join(
        *(
            tag("text", label, x=WIDTH - RIGHT + 8, y=y + 4, class_=f"label {style}")
            for y, (_, label, style) in zip(placed, sorted(wanted), strict=True)
        )
    )


def _apart(places: Sequence[float]) -> list[float]:
    """Return ascending places with at least `LABEL_GAP` between them, within the plot while there is room."""
    result: list[float] = []
    for place in places:
        result.append(max(place, result[-1] + LABEL_GAP) if result else place)
    border = HEIGHT - BOTTOM
    for index in reversed(range(len(result))):
        result[index] = min(result[index], border)
        border = result[index] - LABEL_GAP
    return result
