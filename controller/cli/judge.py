"""`penstock judge FILE...`: tables of counts from anywhere, judged by the method of the loop."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.line import one_line
from controller.cli.options import fail
from controller.cli.sources import name, read

if TYPE_CHECKING:
    from analysis.tabular import CountTable


class Format(StrEnum):
    """How verdicts are printed."""

    TEXT = "text"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("judge")(judge)


def judge(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="CSV tables, one per comparison; - is stdin.")
    ],
    alpha: Annotated[float, typer.Option(help="Chance of a false alarm over the life of each table.")] = 0.05,
    null_odds_ratio: Annotated[float, typer.Option(help="Odds ratio that is still tolerated.")] = 1.0,
    odds_ratios: Annotated[
        str | None,
        typer.Option(
            help="Alternatives, as 1.5,2,3: all above the null for harm, or all below it for safety."
            " Without it, those of the loop."
        ),
    ] = None,
    dispersion: Annotated[
        float, typer.Option(help="Clustering of events, by which evidence is divided.")
    ] = 1.0,
    restart: Annotated[
        bool, typer.Option(help="Spend half of the bet on a regression that begins later.")
    ] = True,
    planned_looks: Annotated[
        int | None, typer.Option(help="Intervals that were planned; without it, those in the table.")
    ] = None,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="For people, or a line of JSON per file.")
    ] = (Format.TEXT),
) -> None:
    """Judge tables of counts: is the candidate worse than the control.

    Each FILE is CSV with the header interval,control_total,control_events,candidate_total,candidate_events
    and, for latencies, edge: requests slower than it are the events. Exit status 2: a file or an option is
    wrong, and nothing is judged.
    """
    from analysis.tabular import Settings, judge_table

    try:
        settings = Settings(alpha, null_odds_ratio, _ratios(odds_ratios), dispersion, restart, planned_looks)
        tables = [_table(file) for file in files]
    except ValueError as error:
        fail(str(error), 2)
    for file, table in zip(files, tables, strict=True):
        found = judge_table(table, settings)
        if output is Format.JSON:
            typer.echo(json.dumps({"file": name(file), **found.as_dict()}, allow_nan=False))
        else:
            typer.echo(one_line(f"{name(file)}: {found.sentence()}"))


def _ratios(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--odds-ratios must be numbers with commas between, not {text!r}") from None


def _table(file: Path) -> CountTable:
    """Return the table in a file. Raises ValueError, with the file's name and one line of words."""
    from analysis.tabular import TableError, parse

    try:
        return parse(read(file, "row"))
    except TableError as error:
        raise ValueError(f"{name(file)}: {error}") from error
