"""The wire to the keeper, and what can go wrong with the data plane.

    DataPlaneError                what should run does not; the message is meant for the user
    +-- PortTakenError            another process listens on a port that is needed (processes.py)
    +-- MissingBinaryError        no Envoy or no Prometheus on this machine (programs.py)
    +-- KeeperError               the keeper does not start, answer or end
        +-- NoKeeperError         there is none

The requests and replies are described in `keeper.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING, Any

from controller.standalone.keeper import PROTOCOL, start_time
from controller.standalone.layout import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.standalone.layout import Layout

ANSWER_TIMEOUT_S = 5.0
ANSWER_BYTES = 1 << 20


class DataPlaneError(Exception):
    """What should run does not; the message is meant for the user."""


class KeeperError(DataPlaneError):
    """The keeper does not start, answer or end."""


class NoKeeperError(KeeperError):
    """No keeper runs for this folder."""


async def ask(
    layout: Layout, request: Mapping[str, Any], *, within: float = ANSWER_TIMEOUT_S
) -> dict[str, Any]:
    """Send one request and return the keeper's answer, at the latest after `within` seconds.

    NoKeeperError when none runs, KeeperError when it does not answer, refuses or speaks another version.
    """
    whose = f"the keeper of {layout.root}"
    try:
        line = await asyncio.wait_for(_exchange(layout, json.dumps(request).encode() + b"\n"), within)
    except (FileNotFoundError, ConnectionError) as error:  # also one that is just ending: it resets
        raise NoKeeperError(f"nothing runs for {layout.root}") from error
    except TimeoutError as error:
        pid = keeper_pid(layout)
        raise KeeperError(f"{whose} (pid {pid}) does not answer: `penstock down` ends it") from error
    if not line:
        raise NoKeeperError(f"{whose} ended instead of answering")
    answer: dict[str, Any] = json.loads(line)
    if not answer["ok"]:
        raise KeeperError(f"{whose} refused: {answer['error']}")
    if answer.get("protocol", PROTOCOL) != PROTOCOL:
        raise KeeperError(f"{whose} is of another version of Penstock: `penstock down` ends it")
    return answer


async def _exchange(layout: Layout, request: bytes) -> bytes:
    folder = os.open(layout.state, os.O_PATH | os.O_DIRECTORY)
    try:  # AF_UNIX allows 107 bytes; through the descriptor the address of any folder is short
        address = f"/proc/self/fd/{folder}/{layout.socket.name}"
        reader, writer = await asyncio.open_unix_connection(address, limit=ANSWER_BYTES)
    finally:
        os.close(folder)
    try:
        writer.write(request)
        return await reader.readline()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def keeper_pid(layout: Layout) -> int | None:
    """Return the pid of the keeper that wrote keeper.json, when that very process still lives."""
    table = read_json(layout.keeper)
    if table is None or start_time(table["pid"]) != table["startTime"]:
        return None
    return int(table["pid"])


def kill_keeper(layout: Layout) -> None:
    """End a keeper that does not listen to reason; the kernel ends its children."""
    pid = keeper_pid(layout)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
