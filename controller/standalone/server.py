"""The API's HTTP server, run inside the controller's event loop."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import uvicorn

from controller.standalone.control import DataPlaneError
from controller.standalone.listening import LOOPBACK, holder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI


class EmbeddedServer(uvicorn.Server):
    """Uvicorn that leaves the process's signals to the controller."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signal."""
        yield


def bind(port: int | None, preferred: int) -> socket.socket:
    """Listen on loopback: on `port` and nothing else, or without one on `preferred` or any free port.

    Raises DataPlaneError that names who has the port.
    """
    for attempt in (port,) if port else (preferred, 0):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, attempt))
            listener.listen(128)
        except OSError:
            listener.close()
            continue
        return listener
    owner = holder(port or preferred)
    raise DataPlaneError(f"port {port} for the API is taken{f' by {owner}' if owner else ''}: choose another")


def server(app: FastAPI) -> EmbeddedServer:
    """Return a quiet server for `app`."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off", ws="none"
    )
    return EmbeddedServer(config)
