"""Sessions by TLS that leave no socket behind.

A TLS connection says goodbye and waits for the other side to do so, also when its session has been closed. A
loop that ends before would leave its socket open, on a busy machine mostly.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohappyeyeballs import AddrInfoType


@contextlib.asynccontextmanager
async def tls_session(ca: Path, **more: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session that believes servers with this certificate; its sockets are closed with the block."""
    sockets = WeakSet[socket.socket]()

    def make(address: AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        sockets.add(made := socket.socket(family, kind, protocol))
        return made

    secure = ssl.create_default_context(cafile=str(ca))
    connector = aiohttp.TCPConnector(ssl=secure, limit=0, socket_factory=make)
    try:
        async with aiohttp.ClientSession(connector=connector, **more) as session:
            yield session
    finally:
        while still := [each for each in sockets if each.fileno() >= 0]:
            for each in still:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            await asyncio.sleep(0.001)
