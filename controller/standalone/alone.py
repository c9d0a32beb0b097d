"""One controller per folder: a lock that the kernel lets go of however its holder ends."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from controller.standalone.layout import Layout

PATIENCE = 90
"""Tenths of a second until a controller that was asked to end is killed."""


class AlreadyRunningError(Exception):
    """Another controller runs for this folder."""


def _lock(layout: Layout) -> Path:
    return layout.state / "controller.lock"


@contextlib.contextmanager
def only_one(layout: Layout) -> Iterator[None]:
    """Be the only controller of a folder; AlreadyRunningError names the one there is."""
    with _lock(layout).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _holder(file) or "unknown"
            raise AlreadyRunningError(f"a controller already runs for {layout.root} (pid {pid})") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


async def end_the_other(layout: Layout) -> bool:
    """End the controller of a folder and wait until it has let go of it; False when there is none."""
    if not _lock(layout).exists():
        return False
    with _lock(layout).open("r") as file:
        for attempt in range(PATIENCE + 10):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # its holder wrote the file, so this pid is a living controller and nobody else
                with contextlib.suppress(ProcessLookupError):
                    if pid := _holder(file):
                        os.kill(pid, signal.SIGTERM if attempt < PATIENCE else signal.SIGKILL)
                await asyncio.sleep(0.1)
            else:
                return attempt > 0
    return True


def _holder(file: IO[str]) -> int | None:
    file.seek(0)
    text = file.read().strip()
    return int(text) if text.isdigit() else None
