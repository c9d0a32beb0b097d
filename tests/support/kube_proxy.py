"""A proxy between the controller and a real API server that spoils the way on demand.

It runs in a thread of its own and speaks plain HTTP to the controller. The controller's token passes
through, so the real API server goes by the controller's own rights. Everything may be called from any thread,
at any time:

    with kube_proxy(cluster) as proxy:
        kubeconfig = proxy.kubeconfig(cluster.kubeconfig_for(namespace, "penstock"))
        proxy.answer(429, times=3, match="PATCH", headers={"Retry-After": "1"})
        proxy.delay(2.0, match="/rolloutpolicies")
        proxy.tear_watches()
        proxy.block() ... proxy.unblock()
        proxy.on_write(3, lambda: os.kill(pid, signal.SIGKILL), match="/virtualservices", when="instead")

What matches is decided on `METHOD path?query`, as in `requests`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
from aiohttp import web

from tests.support.tls import tls_session
from tests.support.web_server import web_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from cluster.running import Cluster

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_HOP_BY_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})


When = Literal["instead", "before", "after"]


@dataclass
class _Answer:
    """What is answered instead of asking the API server."""

    status: int
    times: int
    match: str
    headers: Mapping[str, str]
    message: str


@dataclass
class _Hook:
    """What is done at the n-th write that matches."""

    number: int
    action: Callable[[], object]
    match: str
    when: When
    seen: int = 0


@dataclass(eq=False)
class _Watch:
    """A watch that passes through."""

    text: str
    transport: asyncio.Transport
    task: asyncio.Task[Any]
    tear: bool = False
    """Whether it is reset in the middle of what comes next."""


@dataclass
class _Faults:
    """What is wrong now."""

    answers: list[_Answer] = field(default_factory=list)
    hooks: list[_Hook] = field(default_factory=list)
    delays: dict[str, float] = field(default_factory=dict)
    blocked: bool = False


class KubeProxy:
    """Listens from construction until `close`; see the module for what it can be told."""

    def __init__(self, api_url: str, ca: Path) -> None:
        self.port = 0
        self.requests: list[str] = []
        """All that came, in order."""
        self.writes: list[tuple[str, int]] = []
        """Writes that the real API server answered, with its status."""
        self._api_url = api_url
        self._ca = ca
        self._faults, self._watches = _Faults(), set[_Watch]()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="kube-proxy")
        self._thread.start()
        self._ready.wait()

    @property
    def url(self) -> str:
        """Where the controller finds it."""
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self, real: Path) -> Path:
        """Write a kubeconfig with the user of `real`, who comes through here, beside it."""
        config = json.loads(real.read_text())
        config["clusters"] = [{**each, "cluster": {"server": self.url}} for each in config["clusters"]]
        path = real.with_name(f"{real.name}-by-{self.port}")
        path.write_text(json.dumps(config))
        return path

    def delay(self, seconds: float, match: str = "") -> None:
        """Let each request that matches wait before it is passed on; 0: no more."""
        self._faults.delays[match] = seconds

    def answer(
        self,
        status: int,
        times: int = 1,
        *,
        match: str = "",
        headers: Mapping[str, str] | None = None,
        message: str = "",
    ) -> None:
        """Answer the next requests that match without asking the API server."""
        self._faults.answers.append(_Answer(status, times, match, headers or {}, message))

    def cut_watches(self, match: str = "") -> None:
        """Reset all watches now."""
        self._call(lambda: [watch.transport.abort() for watch in self._matching(match)])

    def tear_watches(self, match: str = "") -> None:
        """Reset each watch that is open in the middle of the next thing it tells."""
        for watch in self._matching(match):
            watch.tear = True

    def block(self) -> None:
        """Let nothing pass in either direction, as when packets are lost; nobody is told."""
        self._faults.blocked = True

    def unblock(self, *, late: bool = False) -> None:
        """Let everything pass again; what was sent meanwhile is lost, or arrives now when `late`."""
        self._late = late
        self._faults.blocked = False
        self._call(lambda: (self._unblocked.set(), setattr(self, "_unblocked", asyncio.Event())))

    def on_write(
        self,
        number: int,
        action: Callable[[], object],
        *,
        match: str = "",
        when: When = "before",
    ) -> None:
        """Call `action` at the n-th write from now that matches, once.

        Instead of it (its connection is reset), before it is passed on, or after it was done and before the
        controller knows. The write waits for the action, which may take its time; other requests do not.
        """
        self._faults.hooks.append(_Hook(number, action, match, when))

    def heal(self) -> None:
        """Spoil nothing any more."""
        blocked, self._faults = self._faults.blocked, _Faults()
        if blocked:
            self.unblock()

    def close(self) -> None:
        """End everything that passes through, and wait for it."""
        self.heal()
        self._call(self._stop.set)
        self._thread.join()

    def _call(self, work: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(work)

    def _matching(self, match: str) -> list[_Watch]:
        return [watch for watch in list(self._watches) if match in watch.text]

    async def _serve(self) -> None:
        self._loop, self._stop, self._unblocked = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._late = False
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._pass)
        async with (
            tls_session(self._ca, auto_decompress=False) as self._session,
            web_server(app) as self.port,
        ):
            self._ready.set()
            await self._stop.wait()
            for watch in self._matching(""):
                watch.transport.abort()
                watch.task.cancel()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        text = f"{request.method} {request.path_qs}"
        self.requests.append(text)
        body = await request.read()
        if not await self._open_way(request):
            return web.Response(status=502)
        for match, seconds in list(self._faults.delays.items()):
            if match in text:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), seconds)
        if (told := self._told(text)) is not None:
            return told
        hooks = self._due_hooks(request.method, text)
        await _act(hooks, "before")
        if await _act(hooks, "instead"):
            _abort(request)
            return web.Response(status=502)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        url = self._api_url + request.path_qs
        try:
            async with self._session.request(request.method, url, headers=headers, data=body) as answer:
                if "watch" in request.query:
                    return await self._stream(request, text, answer)
                found = await answer.read()
        except aiohttp.ClientError:
            _abort(request)
            return web.Response(status=502)
        if request.method in WRITES:
            self.writes.append((text, answer.status))
        await _act(hooks, "after")
        if not await self._open_way(request):
            return web.Response(status=502)
        return web.Response(status=answer.status, body=found, headers=_kept(answer.headers))

    async def _open_way(self, request: web.Request) -> bool:
        """Wait until packets pass; tell whether this one still does."""
        if not self._faults.blocked:
            return True
        await self._unblocked.wait()
        if not self._late:
            _abort(request)
        return self._late

    async def _stream(
        self, request: web.Request, text: str, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
        await response.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        task = asyncio.current_task()
        assert task is not None
        watch = _Watch(text, request.transport, task)
        self._watches.add(watch)
        try:
            async for chunk in answer.content.iter_any():
                if not await self._open_way(request):
                    break
                if watch.tear:
                    await response.write(chunk[: chunk.find(b"\n") // 2])
                    _abort(request)
                    break
                await response.write(chunk)
        except (ConnectionResetError, aiohttp.ClientError):
            _abort(request)
        finally:
            self._watches.discard(watch)
        return response

    def _told(self, text: str) -> web.Response | None:
        for answer in self._faults.answers:
            if answer.times > 0 and answer.match in text:
                answer.times -= 1
                status = {"kind": "Status", "message": answer.message, "code": answer.status}
                return web.json_response(status, status=answer.status, headers=answer.headers)
        return None

    def _due_hooks(self, method: str, text: str) -> list[_Hook]:
        matching = [hook for hook in self._faults.hooks if method in WRITES and hook.match in text]
        for hook in matching:
            hook.seen += 1
        return [hook for hook in matching if hook.seen == hook.number]


async def _act(hooks: list[_Hook], when: When) -> bool:
    """Do what is to be done then; tell whether there was anything."""
    due = [hook for hook in hooks if hook.when == when]
    for hook in due:
        await asyncio.to_thread(hook.action)
    return bool(due)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key.lower() not in _HOP_BY_HOP}


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@contextlib.contextmanager
def kube_proxy(cluster: Cluster) -> Iterator[KubeProxy]:
    """Yield a proxy in front of a cluster's API server; closed with the block."""
    proxy = KubeProxy(cluster.api_url, cluster.ca)
    try:
        yield proxy
    finally:
        proxy.close()
