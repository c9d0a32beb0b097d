"""Small real processes for the keeper's tests, and a look for any that were left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from controller.standalone.child import ChildSpec
from controller.standalone.listening import pick_port

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 90.0

SERVER = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")
"""

STARTER = """
import asyncio, json, signal, sys, time
from pathlib import Path
from controller.standalone.child import ChildSpec
from controller.standalone.layout import Layout
from controller.standalone.processes import DataPlaneProcesses

for number in (signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_DFL)  # a test run under nohup would pass on that they are ignored
specs = [ChildSpec.from_json(value) for value in json.loads(sys.argv[2])]
asyncio.run(DataPlaneProcesses(Layout(Path(sys.argv[1]))).ensure(specs))
print("up", flush=True)
time.sleep(600)
"""
"""A controller that brings up what it is told to and then only waits to be killed."""


def server(name: str = "server", port: int | None = None, revision: str = "") -> ChildSpec:
    """Return the spec of a process that answers every request with 200."""
    port = port or pick_port()
    return script(name, SERVER, str(port), port=port, revision=revision)


def script(name: str, code: str, *arguments: str, port: int, revision: str = "") -> ChildSpec:
    """Return the spec of a Python program."""
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-I", "-S", "-c", code, *arguments),
        ready_url=f"http://127.0.0.1:{port}/ready",
        ports={"web": port},
        revision=revision,
    )


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "the condition did not come to hold"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Tell whether a process runs; an ended one that nobody has looked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def of_folder(folder: Path) -> dict[int, str]:
    """Return pid and command line of every process that works in a folder or was started for it."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            cwd = str((process / "cwd").readlink())
        except OSError:
            continue
        if pid != os.getpid() and alive(pid) and (str(folder) in command or cwd.startswith(str(folder))):
            found[pid] = command
    return found


def end_all_of(folder: Path) -> dict[int, str]:
    """Kill what still works for a folder and return what outlived even that."""
    end = time.monotonic() + PATIENCE_S
    while (found := of_folder(folder)) and time.monotonic() < end:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    return found
