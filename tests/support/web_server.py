"""aiohttp servers for tests that leave no connection behind when they end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_LAST_ACCEPTED = 0.05
"""Seconds in which a connection that was accepted as the server closed reaches it."""


@contextlib.asynccontextmanager
async def web_server(
    app: web.Application, *, port: int = 0, shutdown: float = 0.0, keep_alive: float = 75.0
) -> AsyncIterator[int]:
    """Serve on loopback until the block ends; yields the port.

    A client that is killed may leave a connection in the accept queue. asyncio makes a transport of it after
    the server's own shutdown, which nobody would close: hence the second one.
    """
    runner = web.AppRunner(app, shutdown_timeout=shutdown, keepalive_timeout=keep_alive, access_log=None)
    await runner.setup()
    server = runner.server
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
        await asyncio.sleep(_LAST_ACCEPTED)
        if server is not None:
            await server.shutdown(0)
            await asyncio.sleep(0)
