"""Commands that act on a rollout: promote, abort, pause, resume, retry."""

from __future__ import annotations

import getpass
import platform
from typing import Annotated

import typer

from controller.cli.options import Directory, Namespace, Rollout, Server, fail


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (promote, abort, pause, resume, retry):
        app.command()(command)


def promote(
    name: Rollout,
    full: Annotated[
        bool, typer.Option("--full", help="All the way to 100%, whatever the evidence says.")
    ] = False,
    namespace: Namespace = None,
    server: Server = None,
    directory: Directory = None,
) -> None:
    """Approve the step that waits, or skip the rest of this one."""
    _act(name, "promote-full" if full else "promote", namespace, server, directory)


def abort(
    name: Rollout, namespace: Namespace = None, server: Server = None, directory: Directory = None
) -> None:
    """Roll back now: all traffic to the control."""
    _act(name, "abort", namespace, server, directory)


def pause(
    name: Rollout, namespace: Namespace = None, server: Server = None, directory: Directory = None
) -> None:
    """Hold the present weights; proven harm still rolls back."""
    _act(name, "pause", namespace, server, directory)


def resume(
    name: Rollout, namespace: Namespace = None, server: Server = None, directory: Directory = None
) -> None:
    """Go on after a pause."""
    _act(name, "resume", namespace, server, directory)


def retry(
    name: Rollout, namespace: Namespace = None, server: Server = None, directory: Directory = None
) -> None:
    """Start a new run of the same candidate."""
    _act(name, "retry", namespace, server, directory)


def _act(name: str, verb: str, namespace: str | None, server: str | None, directory: Directory) -> None:
    from controller.cli.client import ApiError, connect, locate

    client = connect(server, directory)
    try:
        place = locate(client, name, namespace)
        client.post("v1", "rollouts", *place, "actions", body={"verb": verb, "actor": _actor()})
    except ApiError as error:
        fail(str(error))
    key = "/".join(place)
    typer.echo(f"{key}: {verb} asked for; see `{client.program} status {key}`", err=True)


def _actor() -> str:
    """Return who asks, for the history: user@host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{platform.node()}"[:128]
