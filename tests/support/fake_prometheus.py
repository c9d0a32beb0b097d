"""A Prometheus that answers as told, on a real socket: for faults that the real one does not make on demand.

It checks what it is asked as the real one does (numbers, at most 11,000 points per series) and keeps the
questions.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.support.web_server import web_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def matrix(*series: tuple[dict[str, str], list[tuple[float, str]]], **extra: Any) -> str:
    """A good answer to a range query, as Prometheus writes it: values are strings."""
    result = [{"metric": labels, "values": [list(point) for point in points]} for labels, points in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}, **extra})


@dataclass
class FakePrometheus:
    """What it answers, and what it was asked."""

    url: str = ""
    body: str | bytes = field(default_factory=matrix)
    status: int = 200
    reason: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before the answer begins."""
    drip: float = 0.0
    """Seconds between the bytes of the body."""
    asked: list[dict[str, str]] = field(default_factory=list)
    credentials: str | None = None
    """The Authorization header of the last question."""
    busiest: int = 0
    """The most questions it had at once."""
    _now: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer as told."""
        self.asked.append({"path": request.path, **request.query})
        self.credentials = request.headers.get("Authorization")
        self._now += 1
        self.busiest = max(self.busiest, self._now)
        try:
            await asyncio.sleep(self.delay)
            return await self._send(request, self._refusal(request) or (self.status, self.body))
        finally:
            self._now -= 1

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        if request.path != "/api/v1/query_range":
            return None
        query = request.query
        if (int(query["end"]) - int(query["start"])) / int(query["step"]) > 11_000:
            return 400, json.dumps(
                {"status": "error", "errorType": "bad_data", "error": "exceeded maximum resolution"}
            )
        return None

    async def _send(self, request: web.Request, answer: tuple[int, str | bytes]) -> web.StreamResponse:
        status, body = answer
        response = web.StreamResponse(status=status, reason=self.reason, headers=self.headers)
        await response.prepare(request)
        data = body.encode() if isinstance(body, str) else body
        for piece in [data[i : i + 1] for i in range(len(data))] if self.drip else [data]:
            await response.write(piece)
            await asyncio.sleep(self.drip)
        return response


@asynccontextmanager
async def fake_prometheus() -> AsyncIterator[FakePrometheus]:
    """Serve on a free port of loopback until the block ends."""
    fake = FakePrometheus()
    app = web.Application()
    app.router.add_get("/{path:.*}", fake.answer)
    async with web_server(app) as port:
        fake.url = f"http://127.0.0.1:{port}"
        yield fake
