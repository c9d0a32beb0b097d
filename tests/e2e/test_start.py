"""What keeps `penstock up` from starting is one clear line, and leaves nothing behind and nothing broken."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from controller.standalone.listening import pick_port
from tests.support import mesh
from tests.support.processes import of_folder
from tests.support.standalone import Standalone, penstock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.real

SQUATTER = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1])), reuse_port=True):
    print("here", flush=True)
    sys.stdin.read()
"""
"""Would share the port with whoever else wants to, as Envoy does by default."""


@contextlib.asynccontextmanager
async def taken(port: int) -> AsyncIterator[int]:
    """Let another process listen on a port; yields its pid."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SQUATTER, str(port),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"here\n"
        yield process.pid
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.parametrize("which", ["api", "traffic"])
async def test_a_taken_port_is_named_with_its_holder_and_nothing_is_left(tmp_path: Path, which: str) -> None:
    async with Standalone(tmp_path, start=False) as stack:
        port = {"api": stack.api_port, "traffic": stack.traffic_port}[which]
        async with taken(port) as pid:
            done = await penstock(
                "up", stack.folder, "--api-port", str(stack.api_port),
                "--publish", f"8080={stack.traffic_port}",
            )  # fmt: skip
        assert (done.status, done.out) == (1, "")
        [line] = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert f"port {port}" in line
        assert f"(pid {pid})" in line
        assert "Traceback" not in done.err
        assert of_folder(stack.folder) == {}


async def test_a_second_up_is_told_who_runs_and_a_failed_restart_costs_no_request(tmp_path: Path) -> None:
    async with Standalone(tmp_path) as stack:
        run, pids = await stack.under_way(), await stack.pids()
        second = await penstock("up", stack.folder)
        assert second.status == 1
        assert "error: a controller already runs" in second.err
        assert f"pid {stack.controller_pid}" in second.err
        await stack.flowing()
        assert await stack.run() == run
        # the controller is gone, and its next start fails: what carries traffic is not touched
        await stack.stop(signal.SIGKILL)
        async with taken(stack.api_port):
            failed = await penstock("up", stack.folder, "--api-port", str(stack.api_port))
        assert failed.status == 1
        assert f"port {stack.api_port}" in failed.err
        await stack.flowing()
        assert await stack.pids() == pids
        await stack.up()
        await stack.abort()
        assert stack.load.lost == {}


async def test_a_port_that_is_taken_when_a_service_comes_later_is_said_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    async with Standalone(tmp_path) as stack:
        run, port = await stack.under_way(), pick_port()
        async with taken(port):
            stack.write("late.yaml", mesh.entry("late", ports=((port, "HTTP"),), endpoints=[(9, "v1")]))
            await stack.eventually(lambda: trouble(stack, str(port)), "word of the taken port")
            await stack.flowing()
            assert await stack.run() == run
            (stack.folder / "late.yaml").unlink()
        await stack.eventually(lambda: ready(stack), "the end of the trouble")
        await stack.abort()
        assert stack.load.lost == {}


async def trouble(stack: Standalone, word: str) -> bool:
    async with stack.session.get("/readyz") as answer:
        return answer.status == 503 and word in (await answer.json())["parts"]["envoy"]


async def ready(stack: Standalone) -> bool:
    async with stack.session.get("/readyz") as answer:
        return answer.status == 200
