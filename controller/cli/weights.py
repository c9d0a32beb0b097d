"""`penstock weights`: the controller's weight edit by hand, on a file.

Nothing is written: the JSON Patch or the edited text goes to stdout. Every error is one line on stderr, with
exit status 2 and nothing on stdout.
"""

from __future__ import annotations

import json
import re
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from controller.cli.options import fail
from controller.cli.sources import name, read
from istio.route import RouteError


class _UsageError(Exception):
    """An argument that cannot be used."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("weights")(weights)


def weights(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File with the VirtualService, YAML or JSON; - is stdin.")
    ],
    weights: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SUBSET_OR_HOST=WEIGHT",
            help="Per cent for each destination; they sum to 100. HOST/SUBSET tells equal subsets apart.",
        ),
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option("--route", help="Route to edit: its name, or http[0], tls[0], tcp[0]. Repeatable."),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="patch|yaml", help="JSON Patch, or the edited text.")
    ] = "patch",
    virtual_service: Annotated[
        str | None,
        typer.Option(
            "--virtual-service", metavar="[NAMESPACE/]NAME", help="Which one, when there are several."
        ),
    ] = None,
) -> None:
    """Set weights in a VirtualService's file: print patch or text."""
    try:
        wanted = _parse(weights or [])
        if output not in {"patch", "yaml"}:
            raise _UsageError(f"-o must be patch or yaml, not {output!r}")
        result = _result(read(file), wanted, route or [], virtual_service, output)
    except (RouteError, _UsageError) as error:
        fail(f"{name(file)}: {error}", 2)
    typer.echo(result.encode(), nl=False)


def _result(
    text: str, wanted: dict[str, int], routes: list[str], virtual_service: str | None, output: str
) -> str:
    from istio.text import edit_text, find
    from istio.weights import edit

    if output == "yaml":
        return edit_text(text, wanted, routes, virtual_service)
    return json.dumps(edit(find(text, virtual_service), wanted, routes), indent=2) + "\n"


def _parse(arguments: list[str]) -> dict[str, int]:
    """Return key -> weight of arguments `KEY=WEIGHT`."""
    wanted: dict[str, int] = {}
    for argument in arguments:
        key, equals, weight = argument.partition("=")
        if not equals or not re.fullmatch(r"[^\s/]+(/[^\s/]+)?", key):
            raise _UsageError(f"{argument!r} must be SUBSET=WEIGHT, HOST=WEIGHT or HOST/SUBSET=WEIGHT")
        if not re.fullmatch(r"-?[0-9]{1,9}", weight):
            raise _UsageError(f"the weight of {key} must be a whole number from 0 to 100, not {weight!r}")
        if key in wanted:
            raise _UsageError(f"{key} is given twice")
        wanted[key] = int(weight)
    return wanted
