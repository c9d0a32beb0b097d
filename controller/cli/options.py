"""Options that several commands share, and how a command fails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from controller.cli.line import one_line

Table = Literal["table", "wide", "json", "yaml", "name"]

Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NS", help="Namespace; without it, all."),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", envvar="PENSTOCK_SERVER", help="Address of the controller's API."
    ),
]
Directory = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="Folder of the controller (default: $PENSTOCK_DIR, or the nearest upwards with .penstock).",
    ),
]
Rollout = Annotated[str, typer.Argument(metavar="NAME", help="A rollout: NAME or NAMESPACE/NAME.")]


def fail(message: str, status: int = 1) -> NoReturn:
    """End the command with one line on stderr."""
    typer.echo(f"error: {one_line(message)}", err=True)
    raise typer.Exit(status)
