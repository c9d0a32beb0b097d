"""The API's HTTP server, run inside the controller's event loop; it sleeps while nobody asks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from email.utils import formatdate
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BACKLOG = 128


class EmbeddedServer(uvicorn.Server):
    """Uvicorn that leaves the process's signals to the controller, and ends when it is cancelled."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signal."""
        yield

    async def main_loop(self) -> None:
        """Wait for the end; uvicorn's own loop wakes ten times a second to see what time it is."""
        await asyncio.Event().wait()


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address; OSError when it is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def server(app: ASGIApp) -> EmbeddedServer:
    """Return a quiet server for `app`."""
    config = uvicorn.Config(
        _dated(app), log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off",
        ws="none", date_header=False, server_header=False,
    )  # fmt: skip
    return EmbeddedServer(config)


def _dated(app: ASGIApp) -> ASGIApp:
    """Return `app` with the time in each answer."""

    async def dated(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                now = (b"date", formatdate(usegmt=True).encode())
                message = {**message, "headers": [*message.get("headers", ()), now]}
            await send(message)

        await app(scope, receive, send_dated)

    return dated
