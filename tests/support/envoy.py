"""A real Envoy on loopback with small HTTP services behind it: what really happens to requests."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from controller.standalone.envoy_server import envoy_binary
from controller.standalone.listening import pick_port
from controller.standalone.xds import XdsFiles
from istio.envoy.bootstrap import bootstrap
from istio.envoy.translate import Options, translate
from policies.findings import errors
from tests.support.web_server import web_server

BINARY = envoy_binary()
REQUESTS = "envoy_istio_requests_total"
TIMES = "envoy_istio_request_duration_milliseconds_count"
PATIENCE_S = 90
_ENVOY = (
    *(BINARY, "--use-dynamic-base-id", "--concurrency", "2", "-l", "warning"),
    *("--drain-time-s", "1", "--drain-strategy", "immediate"),
)


async def eventually(condition):
    """Wait until a condition holds, and return what it gave."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := await condition()):  # noqa: ASYNC110 - Envoy does not signal
            await asyncio.sleep(0.02)
    return found


@dataclass
class Service:
    """A version of a service: answers with its name, and keeps what it was asked."""

    name: str
    port: int = 0
    status: int = 200
    headers: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)

    async def answer(self, request):
        self.requests.append((request.path_qs, dict(request.headers)))
        return web.Response(text=self.name, status=self.status, headers=self.headers)


@contextlib.asynccontextmanager
async def serving(*names):
    """Start a service for each name on a free port; yield them in order."""
    async with contextlib.AsyncExitStack() as stack:
        services = [Service(name) for name in names]
        for service in services:
            application = web.Application()
            application.router.add_route("*", "/{path:.*}", service.answer)
            service.port = await stack.enter_async_context(web_server(application, shutdown=0.1))
        yield services


class Gateway:
    """An Envoy that runs what `XdsFiles` gives it."""

    def __init__(self, folder, publish, session):
        self.folder = folder
        self.admin = pick_port()
        self.publish = publish
        self.session = session
        self.files = self.controller()

    def controller(self, kind=XdsFiles):
        """Return what a controller that starts now would know of this Envoy."""
        return kind(self.folder, self.admin, envoy=BINARY, timeout=PATIENCE_S)

    def translation(self, *objects):
        made = translate(objects, Options(folder=str(self.folder), publish=self.publish))
        assert errors(made.findings) == []
        return made

    async def apply(self, *objects):
        await self.files.apply(self.translation(*objects))

    async def get(self, path="/", host="ranker", port=8080, **more):
        """Send a request; return its status, body and headers."""
        headers = {"host": host, **more.pop("headers", {})}
        url = f"http://127.0.0.1:{self.publish[port]}{path}"
        async with self.session.request(
            more.pop("method", "GET"), url, headers=headers, allow_redirects=False, **more
        ) as response:
            return response.status, await response.text(), response.headers

    async def count(self, requests, **more):
        """Send many requests, eight at a time; return how often each (status, body) came back."""
        seen = Counter()
        left = iter(range(requests))

        async def client():
            for _ in left:
                status, body, _ = await self.get(**more)
                seen[status, body] += 1

        await asyncio.gather(*(client() for _ in range(8)))
        return seen

    async def taken_over(self):
        """Wait until every worker runs what was applied.

        Each does what it is told in turn, and is asked for its times twice a second. The first answers may be
        to a question from before; the second ones are not.
        """
        for _ in range(2):
            before = _total(await self._metrics(), TIMES)
            await self.get()
            await self._counted(TIMES, before + 1)

    async def drained(self):
        """Wait until the listeners that were replaced are gone."""
        gauge = "listener_manager.total_listeners_draining"

        async def gone():
            async with self._admin(f"/stats?filter={gauge}") as response:
                return f"{gauge}: 0" in await response.text()

        await eventually(gone)

    async def metrics(self, requests):
        """Return Envoy's counters as {(name, labels): value}, once they know of so many requests.

        A request is counted when it has been answered, its time when the workers are asked for their times.
        """
        await self._counted(REQUESTS, requests)
        return await self._counted(TIMES, requests)

    async def _counted(self, name, requests):
        async def enough():
            metrics = await self._metrics()
            return metrics if _total(metrics, name) >= requests else None

        return await eventually(enough)

    def _admin(self, path):
        return self.session.get(f"http://127.0.0.1:{self.admin}{path}")

    async def _metrics(self):
        async with self._admin("/stats/prometheus?filter=^istio") as response:
            lines = (await response.text()).splitlines()
        pattern = re.compile(r"(\w+)\{(.*)\} (\S+)")
        found = [match.groups() for line in lines if (match := pattern.fullmatch(line))]
        series = [
            (name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels)), float(v)) for name, labels, v in found
        ]
        assert len({series[:2] for series in series}) == len(series), "a series is exposed twice"
        return {(name, labels): value for name, labels, value in series}


def _total(metrics, name):
    return sum(value for (found, _), value in metrics.items() if found == name)


@contextlib.asynccontextmanager
async def gateway(folder, *objects, ports=(8080,)):
    """Start Envoy with these objects; its listeners are on free ports."""
    async with aiohttp.ClientSession() as session:
        made = Gateway(folder / "xds", {port: pick_port() for port in ports}, session)
        made.files.initial(made.translation(*objects))
        config = folder / "bootstrap.json"
        config.write_text(json.dumps(bootstrap(made.admin, str(made.folder))))
        process = _start(config, folder / "envoy.log")
        try:
            await _ready(made, process, folder / "envoy.log")
            yield made
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
        assert process.returncode == 0, (folder / "envoy.log").read_text()


def _start(config, log):
    """Start Envoy from this thread: it ends with the thread that started it."""
    with log.open("wb") as file:
        return subprocess.Popen(
            [*_ENVOY, "-c", config],
            stdout=file,
            stderr=file,
        )


async def _ready(made, process, log):
    async with asyncio.timeout(PATIENCE_S):
        while process.poll() is None:
            with contextlib.suppress(aiohttp.ClientError):
                async with made._admin("/ready") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.02)
    raise AssertionError(log.read_text())


def validated(bootstrap_):
    """Return what `envoy --mode validate` says against a bootstrap: nothing when it is fine."""
    handle, path = tempfile.mkstemp(suffix=".json")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(bootstrap_, file)
        done = subprocess.run(
            [BINARY, "-c", path, "--mode", "validate", "-l", "error"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    finally:
        Path(path).unlink()
    return done.stderr if done.returncode else ""
