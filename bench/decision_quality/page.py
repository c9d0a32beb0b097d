"""The results as a page of tables, written from the rows alone."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from bench.decision_quality.cases import HORIZON
from bench.decision_quality.prose import INTRODUCTION, NOTES, WHY
from bench.decision_quality.rules import PENSTOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.decision_quality.figures import Figure, Row
    from bench.decision_quality.run import Sizes

_SHARES: tuple[Figure, ...] = ("false rollbacks", "false promotions", "found", "promoted")


def render(rows: Sequence[Row], sizes: Sizes, *, seed: int) -> str:
    """Return the page in Markdown."""
    medians, chances, kayenta = (f"{each:,}" for each in sizes)
    goals = [row.met for row in rows if row.goal is not None]
    reached = f"Of {len(goals)} goals {sum(map(bool, goals))} are met: [the list](#goals)."
    text = [
        INTRODUCTION.format(
            seed=seed, runs=sizes.medians, medians=medians, chances=chances, kayenta=kayenta, goals=reached
        )
    ]
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.case.split(" / ")[0]].append(row)
    for group, those in groups.items():
        text += [f"## {group}\n", *(words for start, words in NOTES.items() if group.startswith(start))]
        text.append(_plain(those) if group == "Speed" else _table(those))
    return "\n".join([*text, _goals(rows)])


def _table(rows: Iterable[Row]) -> str:
    """Return one line per rule (and variant), one column per kind of traffic."""
    cells: defaultdict[str, dict[str, list[Row]]] = defaultdict(dict)
    columns: dict[str, None] = {}
    for row in rows:
        if row.figure == "median by that of the oracle":
            continue
        _, *variant, column = row.case.split(" / ")
        columns[column] = None
        cells[", ".join([row.engine, *variant])].setdefault(column, []).append(row)
    head = [f"| rule | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines = [
        "| "
        + " | ".join(
            _bold(name, [name, *(_cell(own[column]) if column in own else "–" for column in columns)])
        )
        + " |"
        for name, own in sorted(cells.items(), key=lambda each: not each[0].startswith(PENSTOCK))
    ]
    return "\n".join([*head, *lines]) + "\n"


def _plain(rows: Iterable[Row]) -> str:
    """Return a line per figure."""
    lines = [f"| {row.case.split(' / ')[1]} | **{_value(row)}** |" for row in rows]
    return "\n".join(["| what | figure |", "|---|---|", *lines]) + "\n"


def _bold(name: str, cells: list[str]) -> list[str]:
    return [f"**{cell}**" for cell in cells] if name.startswith(PENSTOCK) else cells


def _cell(rows: Sequence[Row]) -> str:
    """Return the figures of one rule in one kind of traffic."""
    chance = any(row.figure.startswith("false") for row in rows)
    figures = [_value(row, error=chance) for row in rows if row.figure != "median dispersion"]
    dispersions = [
        f"(phi {row.value:.1f})" for row in rows if row.figure == "median dispersion" and row.value
    ]
    return " ".join([" / ".join(figures), *dispersions])


def _value(row: Row, *, error: bool = True) -> str:
    """Return a figure in its unit, with its error."""
    if row.value is None:
        return f"> {HORIZON} s"
    wide = f" ± {_number(row, row.error)}" if error and row.error else ""
    return _number(row, row.value) + wide


def _number(row: Row, value: float) -> str:
    if row.figure in _SHARES:
        return f"{100 * value:.1f} %".replace("100.0", "100")
    match row.figure:
        case "median seconds":
            return f"{value:.0f} s"
        case "bytes":
            return f"{value:,.0f} bytes"
        case "CPU seconds":
            return f"{value:.2f} s"
    return f"{value:.2f}"


def _goals(rows: Sequence[Row]) -> str:
    """Return the goals with what was reached, and for those that were missed why."""
    those = [row for row in rows if row.goal is not None]
    missed = [row for row in those if not row.met]
    text = [
        "## Goals\n",
        "A goal is met when the value, less two standard errors of the simulation, is not above it.\n",
        "| case | rule | figure | value | goal | met |",
        "|---|---|---|---|---|---|",
        *map(_goal, those),
    ]
    if missed:
        figures = dict.fromkeys(row.figure for row in missed)
        text += ["\n## What was missed, and why\n", *(f"- {name}: {WHY[name]}" for name in figures)]
    return "\n".join(text) + "\n"


def _goal(row: Row) -> str:
    goal = _number(row, row.goal or 0.0)
    within = row.met and row.value is not None and row.value > (row.goal or 0.0)
    met = "within two errors" if within else "yes" if row.met else "**no**"
    return f"| {row.case} | {row.engine} | {row.figure} | {_value(row)} | {goal} | {met} |"
