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
    from analysis.longform import LongTable
    from analysis.tabular import CountTable, Settings

_AUTO = "auto"


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
    margin: Annotated[
        str | None,
        typer.Option(
            help="Also test whether the candidate is Safe: not worse than this, as 50% or 0.5 (of the odds;"
            " with edges, of the time), or as the odds ratio itself, 1.5."
        ),
    ] = None,
    dispersion: Annotated[
        str,
        typer.Option(
            metavar="NUMBER|auto",
            help="Clustering of events, by which evidence is divided; auto measures it on the control's series.",
        ),
    ] = "1",
    assume: Annotated[
        float | None,
        typer.Option(
            help="With --dispersion auto: the least dispersion where there is no history; 1 without."
        ),
    ] = None,
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

    Each FILE is CSV. Its header is interval,control_total,control_events,candidate_total,candidate_events, or
    in long form interval,variant,series,total,events with the variants control, history and any candidates;
    and edge, for latencies: requests slower than it are the events. Exit status 2: a file or an option is
    wrong, and nothing is judged.
    """
    from analysis.longform_judge import judge_all
    from analysis.tabular import Settings

    try:
        measure, stated = _dispersion(dispersion, assume)
        settings = Settings(
            alpha=alpha,
            null_odds_ratio=null_odds_ratio,
            odds_ratios=_ratios(odds_ratios),
            dispersion=stated,
            restart=restart,
            planned_looks=planned_looks,
            margin=None if margin is None else _margin(margin),
        )
        tables = [_table(file, settings, measure=measure) for file in files]
    except ValueError as error:
        fail(str(error), 2)
    for file, found in zip(files, judge_all(tables, settings, measure=measure), strict=True):
        if output is Format.JSON:
            typer.echo(json.dumps({"file": name(file), **found.as_dict()}, allow_nan=False))
        else:
            for sentence in found.sentences():
                typer.echo(one_line(f"{name(file)}: {sentence}"))


def _number(option: str, text: str, allowed: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} must be {allowed}, not {text[:40]!r}") from None


def _dispersion(text: str, assume: float | None) -> tuple[bool, float]:
    """Return whether the dispersion is measured, and the one that was stated."""
    if text == _AUTO:
        return True, 1.0 if assume is None else assume
    if assume is not None:
        raise ValueError(f"--assume goes with --dispersion {_AUTO} only")
    return False, _number("--dispersion", text, f"a number from 1 or {_AUTO}")


def _ratios(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    return tuple(_number("--odds-ratios", part, "numbers with commas between") for part in text.split(","))


def _margin(text: str) -> float:
    """Return a margin as a fraction: 50%, 0.5 and the odds ratio 1.5 are the same."""
    allowed = "a percentage such as 50%, a fraction below 1 such as 0.5, or an odds ratio above 1 such as 1.5"
    value = _number("--margin", text.removesuffix("%"), allowed)
    if text.endswith("%"):
        value /= 100
    elif value >= 1:
        value -= 1
    if not value > 0:
        raise ValueError(f"--margin must be {allowed}, not {text[:40]!r}")
    return value


def _table(file: Path, settings: Settings, *, measure: bool) -> CountTable | LongTable:
    """Return the table in a file. Raises ValueError, with the file's name and one line of words."""
    from analysis.longform import LongTable, parse_any
    from analysis.table_text import TableError
    from analysis.tabular import check_margin

    try:
        table = parse_any(read(file, "row"))
        if measure and not isinstance(table, LongTable):
            raise TableError(f"--dispersion {_AUTO} needs the long form, where the control has its series")
        pairs = table.candidates.values() if isinstance(table, LongTable) else [table]
        for pair in pairs if settings.margin is not None else ():
            check_margin(pair)
    except TableError as error:
        raise ValueError(f"{name(file)}: {error}") from error
    return table
