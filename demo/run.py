"""What all demos have in common: three rollouts, their right decisions, and how a run of them ends."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.stack import DemoError, Service
from demo.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from demo.stack import Stack

ROOT = Path(__file__).resolve().parent.parent
SUMMARY = ROOT / "demo-summary.json"
REPORTS = ROOT / "demo-reports"

SERVICES = (
    Service("good", ("promoted",), ()),
    Service("errors", ("rolled-back",), ("--error-rate", "0.03")),
    Service("slow-tail", ("rolled-back",), ("--slow-share", "0.02", "--slow-ms", "1000")),
)


def parse(command: str, description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line of a demo."""
    parser = argparse.ArgumentParser(prog=command, description=description)
    parser.add_argument("--aa", action="store_true", help="all candidates are identical to their control")
    parser.add_argument("--rate", type=float, default=150.0, help="requests per second and service")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for all decisions")
    parser.add_argument("--summary", type=Path, default=SUMMARY)
    parser.add_argument("--reports", type=Path, default=REPORTS)
    parser.add_argument("--exit", action="store_true", help="do not keep serving on a terminal")
    return parser.parse_args(argv)


def run(options: argparse.Namespace, stack: Callable[[Path, tuple[Service, ...]], Stack]) -> int:
    """Run a demo on the stack that is made of a folder and the services; return the exit status."""
    return asyncio.run(_cancellable(options, stack))


async def _cancellable(
    options: argparse.Namespace, stack: Callable[[Path, tuple[Service, ...]], Stack]
) -> int:
    """Run the demo so that SIGINT and SIGTERM end it in order: nothing it started stays behind."""
    task = asyncio.create_task(_demo(options, stack))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return 130
    except DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


async def _demo(options: argparse.Namespace, stack: Callable[[Path, tuple[Service, ...]], Stack]) -> int:
    wanted = tuple(each.harmless() for each in SERVICES) if options.aa else SERVICES
    folder = Path(tempfile.mkdtemp(prefix="penstock-demo-"))
    began = time.monotonic()
    try:
        async with stack(folder, wanted) as running:
            watcher = Watcher(running.url, [each.name for each in wanted])
            rollouts = await watcher.until_decided(options.timeout)
            summary = [watcher.summarise(rollouts[each.name]) for each in wanted]
            _write_summary(options.summary, summary)
            await watcher.save_reports(summary, options.reports)
            right = all(row["decision"] in each.right for row, each in zip(summary, wanted, strict=True))
            took = time.monotonic() - began
            watcher.show_result(summary, right=right, seconds=took, reports=options.reports)
            if sys.stdout.isatty() and not options.exit:
                await _serve_on(running.url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if right else 1


def _write_summary(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the decisions as JSON."""
    path.write_text(json.dumps({"rollouts": rows}, indent=2) + "\n")


async def _serve_on(url: str) -> None:
    """Keep everything up until Ctrl-C."""
    print(f"\nTraffic and reports go on: {url}   (Ctrl-C ends it)")
    await asyncio.Event().wait()
