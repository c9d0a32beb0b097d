"""Options that several commands share, and how a command fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from controller.cli.line import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.api.hosts import Hosts

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
ApiHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--api-host",
        metavar="NAME",
        help="A name that the API answers to, such as an ingress's or *.example.com; may be given several "
        "times. Addresses, localhost and names in *.svc are always known. Without any, an API on a loopback "
        "address answers to no other name, and elsewhere to all.",
        envvar="PENSTOCK_API_HOSTS",
    ),
]
Rollout = Annotated[str, typer.Argument(metavar="NAME", help="A rollout: NAME or NAMESPACE/NAME.")]


def hosts(bound: str, names: Sequence[str] | None) -> Hosts:
    """Return to which names an API answers that is bound to an address."""
    from controller.api.hosts import Hosts

    try:
        return Hosts(bound, names or ())
    except ValueError as error:
        fail(f"--api-host: {error}", 2)


def fail(message: str, status: int = 1) -> NoReturn:
    """End the command with one line on stderr."""
    typer.echo(f"error: {one_line(message)}", err=True)
    raise typer.Exit(status)
