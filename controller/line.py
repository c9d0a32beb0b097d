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

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_SECONDS = 6.0
"""How long to wait for an answer: longer than the server waits for a lock, of which it tells."""


class Line:
    """The one connection of an engine, seen by its socket. SQLite has none, and waits for locks only."""

    def __init__(self, engine: sa.Engine) -> None:
        self._socket: socket.socket | None = None
        self._is_server = engine.dialect.name != "sqlite"
        if self._is_server:
            sa.event.listen(engine, "connect", self._connected)

    def _connected(self, connection: Any, _record: object) -> None:
        self.forget()
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Break the connection if the block lasts too long: then the driver says that it is lost."""
        if not self._is_server:
            yield
            return
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
