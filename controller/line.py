"""The connection to a database server, broken when the server hangs or the network loses packets.

Neither is an error for a database's driver: it would wait for ever, and its thread with it. When the
connection is broken the driver says that it is lost, as it does when the server ends.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_SECONDS = 6.0
"""How long to wait for an answer: longer than the server waits for a lock, of which it tells."""


class Line:
    """The one connection to a server, seen by its socket."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def connected(self, connection: Any, _record: object) -> None:
        """Take a new connection of the driver in the place of the last one."""
        self.forget()
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Break the connection if the block lasts too long: then the driver says that it is lost."""
        late = threading.Timer(ANSWER_SECONDS, self._hang_up)
        late.daemon = True
        late.start()
        try:
            yield
        finally:
            late.cancel()

    def _hang_up(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Forget the connection; it is closed by whoever opened it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
