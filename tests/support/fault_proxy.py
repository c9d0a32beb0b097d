"""A proxy between the controller and a real Prometheus that spoils the answers to queries on demand."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from controller.standalone.listening import pick_port
from tests.support.web_server import web_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class FaultProxy:
    """Listens only between `open` and `close`; `fault` says what becomes of answers: see `_spoiled`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.port = pick_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.target = ""
        self.fault = ""
        self._session = session
        self._server = contextlib.AsyncExitStack()
        self._is_open = False
        self._closed = asyncio.Event()

    async def open(self) -> None:
        """Listen from now on."""
        if self._is_open:
            return
        self._closed.clear()
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        await self._server.enter_async_context(web_server(app, port=self.port))
        self._is_open = True

    async def close(self) -> None:
        """Refuse connections from now on."""
        self._closed.set()
        self._is_open = False
        await self._server.aclose()

    async def _answer(self, request: web.Request) -> web.Response:
        async with self._session.get(self.target + request.path_qs) as answer:
            body, status = await answer.read(), answer.status
        return await self._spoiled(status, body) if request.path.startswith("/api/") else _json(status, body)

    async def _spoiled(self, status: int, body: bytes) -> web.Response:
        match self.fault:
            case "slow":
                await self._closed.wait()
            case "error":
                return web.Response(status=500, text="<html>out of memory</html>")
            case "garbage":
                return web.Response(text="<html>please log in</html>")
            case "empty":
                body = _with_points(body, keep=False)
            case "nan":
                body = _with_points(body, keep=True)
        return _json(status, body)


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


def _with_points(body: bytes, *, keep: bool) -> bytes:
    """Return a range query's answer with every value NaN, or without any series."""
    answer = json.loads(body)
    for series in answer["data"]["result"]:
        series["values"] = [[at, "NaN"] for at, _ in series["values"]]
    if not keep:
        answer["data"]["result"] = []
    return json.dumps(answer).encode()


@contextlib.asynccontextmanager
async def fault_proxy() -> AsyncIterator[FaultProxy]:
    """A proxy that does not listen yet; closed at the end of the block."""
    async with aiohttp.ClientSession() as session:
        proxy = FaultProxy(session)
        try:
            yield proxy
        finally:
            await proxy.close()
