"""`kubectl penstock`: Penstock's commands for the rollouts of a cluster.

kubectl runs whatever is called `kubectl-penstock`; this is that program. It is `penstock` with another way to
the controller (`controller.cli.kubectl`), the verbs that users of other tools look for, and kubectl's habits:
its connection flags, and the context's namespace where none is named.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Annotated, Literal, cast
from urllib.parse import urlencode

import typer
from typer.core import TyperOption

from controller.cli import act, lint, offline, report, show, status
from controller.cli.options import Directory, Namespace, Rollout, Server, Table
from controller.cli.peers import Commands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer.core import TyperGroup

FLAGS = ("kubeconfig", "context", "cluster", "user", "as", "token")
"""kubectl's flags for a connection; they may stand anywhere after `kubectl penstock`."""
NAME = "kubectl penstock"
HELP = {"namespace": "Namespace; without it, the context's (-A: all)."}
Output = Annotated[Table, typer.Option("--output", "-o", help="How to print it.")]
Rollouts = Annotated[Literal["rollouts"], typer.Argument(metavar="rollouts", hidden=True)]
"""What `kubectl argo rollouts list` needs; here there is nothing else to list."""

app = typer.Typer(
    name=NAME,
    cls=Commands,
    help="Rollouts in this cluster. kubectl's "
    f"{', '.join(f'--{flag}' for flag in FLAGS)} may stand anywhere; -A means all namespaces; "
    "--service NAMESPACE/NAME is the controller's Service, if its labels do not tell.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


@app.command("list")
def list_(
    _kind: Rollouts = "rollouts", output: Output = "table", namespace: Namespace = None,
    server: Server = None, directory: Directory = None,
) -> None:  # fmt: skip
    """List rollouts: of the context's namespace, of -n NS, or all (-A)."""
    show.get("rollouts", None, output, 50, namespace, server, directory)


@app.command()
def watch(
    name: Rollout, namespace: Namespace = None, server: Server = None, directory: Directory = None
) -> None:
    """Follow a rollout until its run is over (`status --watch`)."""
    status.status(name, True, None, "tree", namespace, server, directory)


@app.command()
def history(
    name: Rollout, output: Output = "table", namespace: Namespace = None, server: Server = None,
    directory: Directory = None,
) -> None:  # fmt: skip
    """List the runs of a rollout, newest first (`get runs NAME`)."""
    show.get("runs", name, output, 50, namespace, server, directory)


for module in (show, status, act, report, offline, lint):
    module.register(app)


def server_of(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Take kubectl's flags out of a command line; return them as a `--server`, and the rest."""
    parser = argparse.ArgumentParser(prog="kubectl penstock", add_help=False, allow_abbrev=False)
    for name in FLAGS:
        parser.add_argument(f"--{name}")
    parser.add_argument("--service", default=os.environ.get("PENSTOCK_SERVICE"))
    parser.add_argument("-A", "--all-namespaces", dest="namespace", action="store_const", const="")
    found, rest = parser.parse_known_args(argv)
    given = {name: value for name, value in vars(found).items() if value is not None}
    return f"kubectl:?{urlencode(given)}", rest


def command() -> TyperGroup:
    """Return the program; what it shares with `penstock` is told as it is here: no server, one context."""
    found = cast("TyperGroup", typer.main.get_command(app))
    for option in (each for verb in found.commands.values() for each in verb.params):
        if isinstance(option, TyperOption):
            option.hidden = option.name in {"server", "directory"}
            option.help = HELP.get(option.name or "", option.help)
    return found


def main() -> None:
    """Run `kubectl penstock`; a reader who has gone away (`| head`) and Ctrl-C end it quietly."""
    os.environ["PENSTOCK_SERVER"], arguments = server_of(sys.argv[1:])
    try:
        command()(arguments, prog_name=NAME)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
