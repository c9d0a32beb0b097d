"""One controller per folder, and how the one there is gets ended: with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from controller.standalone import alone
from controller.standalone.alone import AlreadyRunningError, end_the_other, only_one

if TYPE_CHECKING:
    from controller.standalone.layout import Layout

HOLD = """
import signal, sys, time
from pathlib import Path
from controller.standalone.alone import only_one
from controller.standalone.layout import Layout
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with only_one(Layout(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(layout: Layout, kind: str = "polite") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(layout.root), kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def end(process: subprocess.Popen[str]) -> int:
    process.kill()
    assert process.stdout is not None
    process.stdout.close()
    return process.wait(60)


@pytest.mark.real
def test_a_second_controller_is_refused_and_names_the_first(layout: Layout) -> None:
    process = holder(layout)
    try:
        with pytest.raises(AlreadyRunningError, match=rf"pid {process.pid}\)"), only_one(layout):
            pytest.fail("there were two")
    finally:
        end(process)
    with only_one(layout):
        pass


@pytest.mark.real
@pytest.mark.parametrize(
    ("kind", "patience", "by"), [("polite", 600, signal.SIGTERM), ("deaf", 3, signal.SIGKILL)]
)
async def test_the_holder_of_the_lock_is_ended_and_nobody_else(
    layout: Layout, kind: str, patience: int, by: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint file may name a process of long ago, whose number somebody else has now."""
    monkeypatch.setattr(alone, "PATIENCE", patience)
    bystander = sleeper()
    layout.endpoint.write_text(f'{{"pid": {bystander.pid}}}')
    process = holder(layout, kind)
    try:
        assert await end_the_other(layout)
        assert await asyncio.to_thread(process.wait, 60) == -by
        assert bystander.poll() is None
    finally:
        end(process)
        bystander.kill()
        bystander.wait(60)


async def test_where_nothing_runs_nothing_is_ended(layout: Layout) -> None:
    assert not await end_the_other(layout)
    with only_one(layout):
        pass
    assert (layout.state / "controller.lock").read_text() == str(os.getpid())
    assert not await end_the_other(layout)
