"""`penstock judge FILE...`: tables of counts, and rows of units, from anywhere."""

from __future__ import annotations

import json
from dataclasses import fields
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controller.cli.comparisons import (
    TableOptions,
    UnitOptions,
    has_tables,
    has_units,
    judge_inputs,
    read_input,
)
from controller.cli.line import one_line
from controller.cli.options import fail
from controller.cli.sources import name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.cli.comparisons import Input


class Format(StrEnum):
    """How verdicts are printed."""

    TEXT = "text"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("judge")(judge)


def judge(
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="CSV or Parquet, one per comparison; - is stdin.")
    ],
    alpha: Annotated[float, typer.Option(help="Chance of a false alarm over the life of each file.")] = 0.05,
    margin: Annotated[
        str | None,
        typer.Option(
            help="Also test whether the candidate is Safe, not worse than this. Tables: 50% or 0.5 (of the"
            " odds; with edges, of the time), or the odds ratio itself, 1.5. Units: 2% of the control's mean,"
            " or a number in the value's unit."
        ),
    ] = None,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="For people, or a line of JSON per file.")
    ] = (Format.TEXT),
    null_odds_ratio: Annotated[float, typer.Option(help="Odds ratio that is still tolerated.")] = 1.0,
    odds_ratios: Annotated[
        str | None,
        typer.Option(
            help="Alternatives, as 1.5,2,3: all above the null for harm, or all below it for safety."
            " Without it, 1.25 to 10, for latencies 1.1 too."
        ),
    ] = None,
    dispersion: Annotated[
        str,
        typer.Option(
            metavar="NUMBER|auto",
            help="Clustering of events, by which evidence is divided; auto measures the control's series.",
        ),
    ] = "1",
    assume: Annotated[
        float | None,
        typer.Option(
            help="With --dispersion auto: the least dispersion where there is no history; 1 without it."
        ),
    ] = None,
    restart: Annotated[
        bool,
        typer.Option(help="Spend half of the bet on a regression that begins later."),
    ] = True,
    planned_looks: Annotated[
        int | None,
        typer.Option(help="Intervals that were planned; without it, those in the table."),
    ] = None,
    tolerance: Annotated[
        str | None,
        typer.Option(help="Units: how much worse is no harm yet, given as the margin is."),
    ] = None,
    higher_is_better: Annotated[
        bool, typer.Option("--higher-is-better", help="Units: values are scores, not costs.")
    ] = False,
    age: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Units: compare labels of this age only, as 24h."),
    ] = None,
    unlabelled: Annotated[
        float | None,
        typer.Option(help="Units: what a row without a label of that age counts as."),
    ] = None,
    per_unit: Annotated[
        Literal["mean", "sum"],
        typer.Option(help="Units: what becomes of the rows of one unit."),
    ] = "mean",
    planned_units: Annotated[
        int,
        typer.Option(help="Units: number of both variants for which sequences are narrowest."),
    ] = 5000,
) -> None:
    """Judge counts or rows of units: whether the candidate is worse.

    The header of a FILE tells what it is. Tables: interval,control_total,control_events,candidate_total,
    candidate_events, or in long form interval,variant,series,total,events with the variants control, history
    and any candidates; and edge, for latencies: requests slower than it are the events. Units: variant,value
    and perhaps covariate,unit,exposed_at,labelled_at. Exit status 2: a file or an option is wrong, and
    nothing is judged.
    """
    of_tables = TableOptions(
        alpha, margin, null_odds_ratio, odds_ratios, dispersion, assume, restart, planned_looks
    )
    of_units = UnitOptions(
        alpha, margin, tolerance, higher_is_better, age, unlabelled, per_unit, planned_units
    )
    try:
        inputs = [read_input(file) for file in files]
        _check_use(ctx, inputs)
        verdicts = judge_inputs(files, inputs, of_tables, of_units)
    except ValueError as error:
        fail(str(error), 2)
    for file, found in zip(files, verdicts, strict=True):
        if output is Format.JSON:
            typer.echo(json.dumps({"file": name(file), **found.as_dict()}, allow_nan=False))
        else:
            for sentence in found.sentences():
                typer.echo(one_line(f"{name(file)}: {sentence}"))


def _check_use(ctx: typer.Context, inputs: Sequence[Input]) -> None:
    """Refuse options that were given and concern no file. Raises ValueError."""
    tables, units = ({field.name for field in fields(options)} for options in (TableOptions, UnitOptions))
    idle = {"tables of counts": set() if has_tables(inputs) else tables - units}
    idle["rows of units"] = set() if has_units(inputs) else units - tables
    for option in ctx.command.params:
        source = ctx.get_parameter_source(option.name or "")
        for kind, names in idle.items():
            if option.name in names and source is not None and source.name == "COMMANDLINE":
                raise ValueError(f"{option.opts[0]} concerns {kind}, and no file has any")
