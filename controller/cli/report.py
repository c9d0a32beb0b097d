"""`penstock report`: why a run was decided as it was, as text, data or a page."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from controller.cli.options import Directory, Namespace, Server, fail

if TYPE_CHECKING:
    from controller.cli.client import Client


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("report")(report)


def report(
    name: Annotated[
        str, typer.Argument(metavar="NAME|RUN", help="A rollout (its last run), or the id of a run.")
    ],
    form: Annotated[
        Literal["text", "json", "html"], typer.Option("--format", "-o", help="How to write it.")
    ] = "text",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write it to this file.")
    ] = None,
    namespace: Namespace = None,
    server: Server = None,
    directory: Directory = None,
) -> None:
    """Tell how a run was decided: decision, evidence, assumptions."""
    from controller.cli.client import ApiError, connect

    client = connect(server, directory)
    try:
        run = _run(client, name, namespace)
        text = _written(client, run, form)
    except ApiError as error:
        fail(str(error))
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"cannot write {output}: {error.strerror}")
    typer.echo(f"wrote {output}", err=True)


def _run(client: Client, name: str, namespace: str | None) -> str:
    """Return the run that is meant: names have no dots, run ids do."""
    from controller.cli.client import ApiError, locate
    from controller.view import RunSummary

    if "." in name:
        return name
    place = locate(client, name, namespace)
    runs = client.items(RunSummary, "v1", "rollouts", *place, "runs", limit=1)
    if not runs:
        raise ApiError(f"{'/'.join(place)} has had no run yet")
    return runs[0].id


def _written(client: Client, run: str, form: str) -> str:
    if form == "html":
        return client.text("v1", "runs", run, "report.html")
    if form == "json":
        import json

        found = client.get(dict[str, Any], "v1", "runs", run, "report")
        return json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    from controller.api.report import Report
    from controller.cli.prose import prose

    return prose(client.get(Report, "v1", "runs", run, "report"))
