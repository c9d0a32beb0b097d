"""The long-running parts of a controller's process: tasks, what to close after them, and how it ends."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

from controller.ports import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine


class Process:
    """Parts that are started in order and ended in the opposite one."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self._closers: list[Callable[[], Awaitable[Any]]] = []

    def run(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Start a part that should never end by itself."""
        self._tasks.append(asyncio.create_task(work, name=name))

    def closing(self, close: Callable[[], Awaitable[Any]]) -> None:
        """Have something closed when all tasks have ended; the last one first."""
        self._closers.append(close)

    async def ended(self) -> str:
        """Return "ok", or which parts have ended: for a health check."""
        ended = [task.get_name() for task in self._tasks if task.done()]
        return f"{', '.join(ended)} ended" if ended else "ok"

    async def until_signal(self) -> int:
        """Wait for SIGINT or SIGTERM, or for a part that fails, whose error is raised."""
        loop, received = asyncio.get_running_loop(), asyncio.Queue[int]()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, received.put_nowait, number)
        waiting = asyncio.create_task(received.get())
        done, _ = await asyncio.wait({waiting, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiting}:
            task.result()
        return waiting.result() if waiting in done else signal.SIGTERM

    async def close(self) -> None:
        """End all tasks, then close what there is to close."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for closer in reversed(self._closers):
            await closer()


async def attempt(work: Awaitable[Any]) -> str:
    """Return "ok", or in words why `work` cannot be done now: for a health check."""
    try:
        await work
    except UnavailableError as error:
        return str(error)
    return "ok"


def closing(close: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """Return a closer that waits for nothing."""

    async def closer() -> None:
        close()

    return closer
