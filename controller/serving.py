"""The API's HTTP server, run inside the controller's event loop."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

BACKLOG = 128


class EmbeddedServer(uvicorn.Server):
    """Uvicorn that leaves the process's signals to the controller."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signal."""
        yield


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


def server(app: FastAPI) -> EmbeddedServer:
    """Return a quiet server for `app`."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off", ws="none"
    )
    return EmbeddedServer(config)
