"""`penstock status`: one rollout as a tree, once or live, with an exit status that scripts can use."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controller.cli.options import Directory, Namespace, Rollout, Server, fail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.tree import Tree

    from controller.view import RolloutView

PERIOD = 1.0
"""Seconds between looks of --watch."""
PATIENCE = 60.0
"""Seconds for which --watch bears a stalled rollout, since many stalls pass (Prometheus restarts)."""
PLAIN_WIDTH = 160
"""Columns when nobody says how wide the output is."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("status")(status)


def status(
    name: Rollout,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it until the run is over.")] = False,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop watching after this, e.g. 10m.")
    ] = None,
    output: Annotated[
        Literal["tree", "json", "yaml"], typer.Option("--output", "-o", help="How to print it.")
    ] = "tree",
    namespace: Namespace = None,
    server: Server = None,
    directory: Directory = None,
) -> None:
    """Show a rollout: variants, steps, evidence and events.

    Exit status: 0 promoted, or nothing to do; 1 rolled back, stalled, or no answer; 3 in progress;
    4 paused or waiting for approval.
    """
    from controller.cli.client import ApiError, connect, locate
    from controller.view import RolloutView

    seconds = _seconds(timeout)
    client = connect(server, directory)
    try:
        place = locate(client, name, namespace)

        def read() -> RolloutView:
            return client.get(RolloutView, "v1", "rollouts", *place)

        view = _follow(read, seconds, quiet=output != "tree") if watch else read()
    except ApiError as error:
        fail(str(error))
    if output != "tree":
        _emit(view, output)
    elif not watch:
        _console().print(_tree(view))
    raise typer.Exit(view.exit_code)


def _seconds(timeout: str | None) -> float | None:
    if timeout is None:
        return None
    from policies.units import Duration

    try:
        return Duration.parse(timeout).seconds
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from error


def _emit(view: RolloutView, output: str) -> None:
    from dataclasses import asdict

    from controller.cli.show import emit

    emit(asdict(view), output)


def _console() -> Console:
    from rich.console import Console

    plain = not sys.stdout.isatty()
    return Console(width=PLAIN_WIDTH if plain else None, highlight=False)


def _tree(view: RolloutView) -> Tree:
    from controller.cli import render

    return render.tree(view, now=time.time())


def _follow(read: Callable[[], RolloutView], timeout: float | None, *, quiet: bool) -> RolloutView:
    """Show a rollout until it is over or the time is; return how it stood last."""
    if quiet:
        return list(_looks(read, timeout))[-1]
    if not sys.stdout.isatty():
        return _log(_looks(read, timeout))
    from rich.live import Live

    with Live(console=_console(), auto_refresh=False) as live:
        for view in _looks(read, timeout):
            live.update(_tree(view), refresh=True)
    return view


def _looks(read: Callable[[], RolloutView], timeout: float | None) -> Iterator[RolloutView]:
    """Yield the rollout again and again; end with the run, with a stall that lasts, or with the time."""
    start = time.monotonic()
    stalled: float | None = None
    while True:
        view, now = read(), time.monotonic()
        yield view
        stalled = (stalled or now) if view.state == "Stalled" else None
        if view.finished and (stalled is None or now - stalled >= PATIENCE):
            return
        if timeout is not None and now - start >= timeout:
            typer.echo(f"still {view.state} after {timeout:g} s", err=True)
            return
        time.sleep(PERIOD)


def _log(looks: Iterator[RolloutView]) -> RolloutView:
    """Print a line for each change, for logs; return the last look."""
    last = ""
    for view in looks:
        line = f"{view.key}  {view.state}  {view.summary}"
        if line != last:
            typer.echo(f"{time.strftime('%H:%M:%S')}  {line}")
        last = line
    return view
