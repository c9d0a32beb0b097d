"""A process that answers like Prometheus about many services, and counts what it is asked.

    python -m bench.cluster.stub NAMESPACE ROLLOUTS

It prints its port. `POST /harm?service=NAME` has a candidate fail half of its requests from then on,
`POST /move?service=NAME` gives it the traffic of the next step, `GET /counts` returns how often each query
was asked. Controls have no past.
"""

from __future__ import annotations

import socket
import sys
import time
from collections import Counter

from aiohttp import web

from bench.answers import answer, kind_of
from bench.cluster.objects import service_names


class Stub:
    """The answers, and how often each query was asked."""

    def __init__(self, namespace: str, rollouts: int) -> None:
        self._namespace, self._services = namespace, service_names(rollouts)
        self._harmed: dict[str, float] = {}
        self._moved: dict[str, float] = {}
        self._counts: Counter[str] = Counter()

    def app(self) -> web.Application:
        """Return what is served."""
        app = web.Application()
        app.router.add_get("/api/v1/query_range", self._query)
        app.router.add_get("/api/v1/query", _ready)
        app.router.add_get("/counts", self._count)
        app.router.add_post("/harm", self._harm)
        app.router.add_post("/move", self._move)
        return app

    async def _query(self, request: web.Request) -> web.Response:
        asked = request.query
        self._counts[asked["query"]] += 1
        instants = range(int(asked["start"]), int(asked["end"]) + 1, int(asked["step"]))
        known = () if "label_replace" in asked["query"] else self._services
        kind = kind_of(asked["query"])
        body = answer(
            kind, known, instants, namespace=self._namespace, harmed=self._harmed, moved=self._moved
        )
        response = web.Response(body=body, content_type="application/json")
        response.enable_compression()  # as Prometheus does for whoever takes it
        return response

    async def _harm(self, request: web.Request) -> web.Response:
        self._harmed[request.query["service"]] = time.time()
        return web.Response()

    async def _move(self, request: web.Request) -> web.Response:
        self._moved[request.query["service"]] = time.time()
        return web.Response()

    async def _count(self, _request: web.Request) -> web.Response:
        return web.json_response(self._counts)


async def _ready(_request: web.Request) -> web.Response:
    return web.json_response({"status": "success"})


def main() -> None:
    """Serve on a free port of loopback until told to end."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    app = Stub(sys.argv[1], int(sys.argv[2])).app()
    web.run_app(app, sock=listener, print=lambda *_: None, access_log=None)


if __name__ == "__main__":
    main()
