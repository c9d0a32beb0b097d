"""Where the API of a standalone controller listens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.serving import listen
from controller.standalone.control import DataPlaneError
from controller.standalone.listening import LOOPBACK, holder

if TYPE_CHECKING:
    import socket


def bind(port: int | None, preferred: int) -> socket.socket:
    """Listen on loopback: on `port` and nothing else, or without one on `preferred` or any free port.

    Raises DataPlaneError that names who has the port.
    """
    for attempt in (port,) if port else (preferred, 0):
        try:
            return listen(LOOPBACK, attempt)
        except OSError:
            continue
    owner = holder(port or preferred)
    raise DataPlaneError(f"port {port} for the API is taken{f' by {owner}' if owner else ''}: choose another")
