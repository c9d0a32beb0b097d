"""A small API server on loopback that can be told to misbehave: lists in pages, watches, patches, creates.

It knows as much of Kubernetes as the controller's client asks for. What the real one does is tested on the
real one; here is what a real one does only on a bad day.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from istio.jsonpatch import PatchError, apply_patch
from tests.support.web_server import web_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

Object = dict[str, Any]

_PATH = re.compile(
    r"/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>status))?"
)
_ABORT, _END = b"abort", b"end"


@dataclass
class Answer:
    """What is answered to one request instead of the truth."""

    status: int = 0
    """0: the truth, after the delay."""
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay: float = 0.0
    after: int = 0
    """How many requests must have come before it is given."""
    reset: bool = False
    """Whether the connection is reset instead."""
    match: str = ""
    """What the method and path must contain."""


@dataclass(eq=False)
class Watch:
    """One watch that is open."""

    plural: str
    namespace: str | None
    chunks: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)


class KubeServer:
    """Objects by plural, namespace and name; every change gets the next resourceVersion."""

    def __init__(self) -> None:
        self.port = 0
        self.version = 100
        self.oldest = 100
        """Watches from before this version are too late."""
        self.missing: set[str] = set()
        """Plurals that are not installed."""
        self.objects: dict[str, dict[tuple[str, str], Object]] = {}
        self.history: list[tuple[str, str, Object]] = []
        self.answers: list[Answer] = []
        self.requests: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.watches: list[Watch] = []
        self.closing = asyncio.Event()
        self.chunk = 2**20
        """The longest piece in which a watch is sent."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self, path: Path, token: str = "secret") -> Path:
        """Write a kubeconfig for this server."""
        path.write_text(
            json.dumps(
                {
                    "clusters": [{"name": "c", "cluster": {"server": self.url}}],
                    "users": [{"name": "u", "user": {"token": token}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}],
                    "current-context": "x",
                }
            )
        )
        return path

    def put(self, plural: str, name: str, namespace: str = "ml", **body: Any) -> Object:
        """Create or replace an object, as somebody else would."""
        old = self.objects.setdefault(plural, {}).get((namespace, name))
        self.version += 1
        uid = body.pop("uid", None) or (old["metadata"]["uid"] if old else f"uid-{self.version}")
        metadata = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(self.version)}
        obj = {**body, "metadata": {**body.get("metadata", {}), **metadata}}
        self.objects[plural][namespace, name] = obj
        self._log(plural, "MODIFIED" if old else "ADDED", obj)
        return obj

    def delete(self, plural: str, name: str, namespace: str = "ml") -> None:
        """Delete an object."""
        obj = self.objects[plural].pop((namespace, name))
        self.version += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self.version)}
        self._log(plural, "DELETED", {**obj, "metadata": metadata})

    def forget(self) -> None:
        """Let all that happened so far be too old to watch from."""
        self.version += 1
        self.oldest = self.version

    def bookmark(self, plural: str) -> None:
        """Tell the watches of a kind how far they are."""
        self._send(plural, "BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    def error(self, plural: str, code: int, message: str = "") -> None:
        """Tell the watches of a kind of an error."""
        self._send(plural, "ERROR", {"kind": "Status", "code": code, "message": message})

    def raw(self, plural: str, text: bytes) -> None:
        """Send bytes to the watches of a kind."""
        for watch in self._of(plural):
            watch.chunks.put_nowait(text)

    def end_watches(self, *, abort: bool = False) -> None:
        """End all watches, as a server does that goes down, or by a reset."""
        for watch in self.watches:
            watch.chunks.put_nowait(_ABORT if abort else _END)

    def _of(self, plural: str) -> list[Watch]:
        return [watch for watch in self.watches if watch.plural == plural]

    def _log(self, plural: str, type_: str, obj: Object) -> None:
        self.history.append((plural, type_, obj))
        self._send(plural, type_, obj)

    def _send(self, plural: str, type_: str, obj: Object) -> None:
        for watch in self._of(plural):
            if type_ in {"BOOKMARK", "ERROR"} or watch.namespace in {None, obj["metadata"]["namespace"]}:
                watch.chunks.put_nowait(_line(type_, obj))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request: as told, or truly."""
        self.requests.append(f"{request.method} {request.path_qs}")
        self.headers.append(dict(request.headers))
        told = next((each for each in self.answers if each.match in self.requests[-1]), None)
        if told is not None:
            self.answers.remove(told)
            await until(lambda: len(self.requests) >= told.after)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.closing.wait(), told.delay)
            if told.reset:
                assert request.transport is not None
                request.transport.abort()
            if told.status:
                return _answer(told.status, told.message, told.headers, told.body)
        found = _PATH.fullmatch(request.path)
        if found is None or found["plural"] in self.missing:
            return web.Response(status=404, text="404 page not found")
        if found["name"] or request.method == "POST":
            return await self._one(request, found)
        return await (self._watch if "watch" in request.query else self._list)(request, found)

    async def _one(self, request: web.Request, found: re.Match[str]) -> web.Response:
        plural, namespace, name = found["plural"], found["namespace"], found["name"]
        body = await request.json() if request.can_read_body else None
        if request.method == "POST":
            name = body["metadata"]["name"]
            if (namespace, name) in self.objects.get(plural, {}):
                return _answer(409, "it exists already")
            return web.json_response(self.put(plural, name, namespace, **body), status=201)
        live = self.objects.get(plural, {}).get((namespace, name))
        if live is None:
            return _answer(404, f"{plural} {name} not found")
        if request.method == "GET":
            return web.json_response(live)
        try:
            new = apply_patch(live, body) if isinstance(body, list) else {**live, **body}
        except PatchError:
            return _answer(422, "the server rejected our request due to an error in our request")
        kept = {key: value for key, value in new.items() if found["part"] == "status" or key != "status"}
        return web.json_response(self.put(plural, name, namespace, **{**live, **kept}))

    async def _list(self, request: web.Request, found: re.Match[str]) -> web.Response:
        items = [
            obj
            for (namespace, _), obj in sorted(self.objects.get(found["plural"], {}).items())
            if found["namespace"] in {None, namespace}
        ]
        begin, version = map(int, request.query.get("continue", f"0@{self.version}").split("@"))
        if version < self.oldest:
            return _answer(410, "the continue token is too old")
        end = begin + int(request.query.get("limit", "500"))
        more = {"continue": f"{end}@{version}"} if end < len(items) else {}
        metadata = {"resourceVersion": str(version), **more}
        return web.json_response({"metadata": metadata, "items": items[begin:end]})

    async def _watch(self, request: web.Request, found: re.Match[str]) -> web.StreamResponse:
        watch = Watch(found["plural"], found["namespace"])
        since = int(request.query["resourceVersion"])
        if since < self.oldest:
            watch.chunks.put_nowait(_line("ERROR", {"kind": "Status", "code": 410, "message": "too old"}))
        for plural, type_, obj in self.history:
            inside = watch.namespace in {None, obj["metadata"]["namespace"]}
            if plural == watch.plural and inside and int(obj["metadata"]["resourceVersion"]) > since:
                watch.chunks.put_nowait(_line(type_, obj))
        self.watches.append(watch)
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                await self._pour(watch, response, request)
        except (TimeoutError, ConnectionResetError):
            pass
        finally:
            self.watches.remove(watch)
        return response

    async def _pour(self, watch: Watch, response: web.StreamResponse, request: web.Request) -> None:
        while (text := await watch.chunks.get()) != _END:
            if text == _ABORT:
                assert request.transport is not None
                request.transport.abort()
                return
            for at in range(0, len(text), self.chunk):
                await response.write(text[at : at + self.chunk])
                await asyncio.sleep(0)


def _line(type_: str, obj: Object) -> bytes:
    return json.dumps({"type": type_, "object": obj}).encode() + b"\n"


def _answer(
    status: int, message: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> web.Response:
    told = {"kind": "Status", "status": "Failure", "message": message, "code": status, "details": {}}
    return web.Response(
        status=status, headers=headers, body=json.dumps(told).encode() if body is None else body
    )


@contextlib.asynccontextmanager
async def kube_server() -> AsyncIterator[KubeServer]:
    """Yield an empty API server."""
    server = KubeServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with web_server(app) as server.port:
        try:
            yield server
        finally:
            server.closing.set()
            server.end_watches()


async def until(condition: Callable[[], object], patience: float = 60.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 - what is waited for knows nothing of it
            await asyncio.sleep(0.005)
