"""Two versions of a service that misbehave to order, and a load that tells errors from lost requests."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from tests.support.web_server import web_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VERSION_HEADER = "x-version"
MAX_IN_FLIGHT = 50
LOST_AFTER = 30.0
"""Seconds without an answer: longer than a busy machine lets anybody wait."""


@dataclass
class Upstream:
    """One version: answers every request with its name, or with 500 at `error_rate`."""

    version: str
    error_rate: float
    delay: float = 0.0
    """Seconds before each answer."""
    port: int = 0
    served: int = 0
    _dice: random.Random = field(default_factory=lambda: random.Random(7))

    async def answer(self, _request: web.Request) -> web.Response:
        """Answer one request."""
        self.served += 1
        if self.delay:
            await asyncio.sleep(self.delay)
        status = 500 if self._dice.random() < self.error_rate else 200
        return web.Response(status=status, text=self.version, headers={VERSION_HEADER: self.version})


@contextlib.asynccontextmanager
async def serving(upstream: Upstream) -> AsyncIterator[Upstream]:
    """Serve on a free port of loopback until the block ends."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.answer)
    # longer than any test: a connection that ends while Envoy sends would be a lost request of our own making
    async with web_server(app, shutdown=0.1, keep_alive=3600) as upstream.port:
        yield upstream


class Load:
    """Requests at a fixed rate, whatever becomes of them; an async context manager.

    An answer that carries a version's header came from that version, errors included. Everything else is a
    request that was lost on the way. A machine that is too slow for the rate gets fewer requests, and none
    of them is lost for that.
    """

    def __init__(self, url: str, host: str, rate: float) -> None:
        self._url, self._host, self._rate = url, host, rate
        self.sent = 0
        self.answers: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many requests were answered by a version."""
        return self.answers.total()

    async def __aenter__(self) -> Load:
        timeout = aiohttp.ClientTimeout(total=LOST_AFTER)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        self._sender = asyncio.create_task(self._send_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sender.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sender
        await self._session.close()

    async def _send_all(self) -> None:
        loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        due = loop.time()
        try:
            while True:
                due = max(due + 1 / self._rate, loop.time())  # what was missed is not made up for
                await asyncio.sleep(due - loop.time())
                if len(tasks) >= MAX_IN_FLIGHT:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                self.sent += 1
                task = asyncio.create_task(self._send())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self) -> None:
        try:
            # POST: a client repeats a GET on a connection that broke, and would hide the loss
            async with self._session.post(self._url, headers={"host": self._host}) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.lost[type(error).__name__] += 1
            return
        if VERSION_HEADER in response.headers:
            self.answers[response.headers[VERSION_HEADER]] += 1
        else:
            self.lost[f"{response.status} {text[:100]}"] += 1
