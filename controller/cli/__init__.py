"""The command line: `penstock`.

Data goes to stdout, messages to stderr. Exit status: 0 done, 1 failed, 2 wrong usage; `penstock status` says
more with its own. Every command's module imports what is heavy inside its functions, so that each command
starts as fast as its own work allows.
"""

from __future__ import annotations

import os
import sys

import typer

from controller.cli import act, judge, lint, offline, replay, report, run, show, simulate, status, up, weights
from controller.threads import use_one_thread

app = typer.Typer(
    name="penstock",
    help="Rollouts for Istio, judged by tests whose error rates hold however often one looks.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
    no_args_is_help=True,
)

for module in (up, run, show, status, act, report, offline, simulate, replay, lint, weights, judge):
    module.register(app)


def main() -> None:
    """Run `penstock`; a reader who has gone away (`| head`) and Ctrl-C end it quietly."""
    use_one_thread()
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
