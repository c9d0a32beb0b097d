"""`penstock get`: rollouts, runs and events as tables or data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from controller.cli.options import Directory, Namespace, Server, Table, fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.cli.client import Client
    from controller.view import RolloutView

Kind = Literal["rollouts", "rollout", "runs", "run", "events", "event"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("get")(get)


def get(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = "rollouts",
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this rollout; for run: a run id.")
    ] = None,
    output: Annotated[Table, typer.Option("--output", "-o", help="How to print it.")] = "table",
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many runs or events.")] = 50,
    namespace: Namespace = None,
    server: Server = None,
    directory: Directory = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow one rollout (`status NAME --watch`).")
    ] = False,
) -> None:
    """List rollouts, runs or events.

    -o json and yaml give a rollout as its RolloutPolicy object with status, as kubectl does.
    """
    from controller.cli.client import ApiError, connect

    if watch:
        _watch(kind, name, output, namespace, server, directory)
        return
    client = connect(server, directory)
    show = {"rollout": _rollouts, "run": _runs, "event": _events}[kind.removesuffix("s")]
    try:
        show(client, name, namespace, output, limit)
    except ApiError as error:
        fail(str(error))


def _watch(
    kind: str, name: str | None, output: str, namespace: str | None, server: str | None, directory: Directory
) -> None:
    """Follow the one rollout that is named."""
    from controller.cli.status import status

    if not kind.startswith("rollout") or name is None or output != "table":
        fail("--watch follows one rollout as a tree: get rollout NAME --watch", 2)
    status(name, True, None, "tree", namespace, server, directory)


def emit(data: Any, output: str) -> None:
    """Print data as JSON or YAML."""
    if output == "json":
        typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    import yaml

    typer.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)


def _rollouts(client: Client, name: str | None, namespace: str | None, output: str, _limit: int) -> None:
    from controller.cli import render
    from controller.cli.client import rollout
    from controller.view import RolloutView

    if name:
        views = [rollout(client, name, namespace)]
    else:
        objects = "true" if output in {"json", "yaml"} else None
        views = client.pages(RolloutView, "v1", "rollouts", namespace=namespace, objects=objects)
    if output in {"json", "yaml"}:
        emit(views[0].object if name else _list(views), output)
    elif output == "name":
        _lines([view.key for view in views])
    else:
        _lines(render.rollouts(views, wide=output == "wide", now=_now()))


def _list(views: Sequence[RolloutView]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": [view.object for view in views]}


def _runs(client: Client, name: str | None, namespace: str | None, output: str, limit: int) -> None:
    from controller.cli import render
    from controller.cli.client import locate
    from controller.view import RunSummary

    if name and "." in name:
        emit(client.get(dict[str, Any], "v1", "runs", name), "yaml" if output == "yaml" else "json")
        return
    policy = "/".join(locate(client, name, namespace)) if name else None
    runs = client.items(RunSummary, "v1", "runs", policy=policy, limit=limit)
    chosen = [run for run in runs if namespace in {None, run.policy.partition("/")[0]}]
    if output in {"json", "yaml"}:
        emit(_plain(chosen), output)
    elif output == "name":
        _lines([run.id for run in chosen])
    else:
        _lines(render.runs(chosen, wide=output == "wide", now=_now()))


def _events(client: Client, name: str | None, namespace: str | None, output: str, limit: int) -> None:
    from controller.cli import render
    from controller.cli.client import locate
    from controller.view import EventView

    place = locate(client, name, namespace) if name else (namespace, None)
    events = client.items(EventView, "v1", "events", namespace=place[0], name=place[1], limit=limit)
    if output in {"json", "yaml"}:
        emit(_plain(events), output)
    elif output == "name":
        _lines([event.reason for event in events])
    else:
        _lines(render.events(events, wide=output == "wide", now=_now()))


def _plain(items: Sequence[Any]) -> dict[str, Any]:
    from dataclasses import asdict

    return {"items": [asdict(item) for item in items]}


def _lines(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(line)


def _now() -> float:
    import time

    return time.time()
