"""A small JSON client of the API server: every request has an end, every answer a bound, every error a type.

- A request ends at its deadline, waits included. 429 and 503 with Retry-After are waited for within it.
- 401: the credentials are loaded again once (they may have been rotated), then it is an UnavailableError.
- `before_write` is called right before each write is sent (and sent again), and may raise: a deposed leader
  writes nothing. `write_deadline` bounds a write to the seconds that the lease has left.
- A write whose answer was lost may have been done: writes are guarded by resourceVersion, so that doing them
  again is a ConflictError and never a second effect.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlencode

import aiohttp
import orjson

from controller.cluster.answers import METHODS, WRITES, Request, error_of, status_of
from controller.cluster.connection import Connection
from controller.ports import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from controller.cluster.resources import Resource
    from controller.ports import Object

    Observer = Callable[[str, str, int, float], None]
    """Told of each request: verb, resource, status code (0: no answer), seconds."""

TIMEOUT = 10.0
LIST_TIMEOUT = 60.0
"""Per page of a list."""
PAGE = 500
CONNECT_SECONDS = 10.0
SLACK = 15.0
"""How much longer than asked a watch may last."""
SILENCE = 120.0
"""A watch without a byte for so long is dead: bookmarks come about once a minute."""
MAX_ANSWER = 256 * 2**20
MAX_LINE = 16 * 2**20
"""The longest line of a watch, one object; etcd takes 1.5 MiB."""
FOREVER = float("inf")


class Answer(NamedTuple):
    """An answer that was read to its end."""

    code: int
    retry_after: str | None
    body: bytes

    @property
    def wait(self) -> float | None:
        """Seconds to wait before the same request makes sense again, if the API server says so."""
        if self.code == 429 or (self.code == 503 and self.retry_after):
            seconds = self.retry_after or ""
            return float(seconds) if seconds.isdecimal() else 1.0  # it may also be a date
        return None


class Kube:
    """Requests to one API server; make it with `open`, end it with `close`."""

    def __init__(self, connection: Connection, observe: Observer | None = None) -> None:
        self._connection = connection
        self._observe = observe or (lambda *_: None)
        self.before_write: Callable[[], None] = lambda: None
        """Raises when nothing may be written."""
        self.write_deadline: Callable[[], float] = lambda: FOREVER
        """Returns the seconds within which a write must be done."""
        self.sleep = asyncio.sleep

    @classmethod
    async def open(
        cls, kubeconfig: Path | None = None, context: str | None = None, observe: Observer | None = None
    ) -> Self:
        """Load the credentials, without a request yet; UnavailableError."""
        return cls(await Connection.open(kubeconfig, context), observe)

    async def close(self) -> None:
        """End all requests and watches."""
        await self._connection.close()

    @property
    def server(self) -> str:
        """The address of the API server."""
        return self._connection.server

    @property
    def namespace(self) -> str:
        """The namespace of the kubeconfig's context, or of the pod."""
        return self._connection.namespace

    async def call(
        self,
        request: Request,
        body: Object | Sequence[Mapping[str, Any]] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        within: float = TIMEOUT,
        fenced: bool = True,
    ) -> Object:
        """Return the answer to a request; a patch is a JSON Patch if a list, else a merge patch.

        With `fenced=False` a write asks nobody: for the lease itself.
        """
        ends, renewed = _now() + within, False
        while True:
            loads = self._connection.loads
            answer = await self._exchange(request, body, params, ends - _now(), fenced=fenced)
            if answer.code < 300:
                return self._json(answer.body, request)
            if answer.code == 401 and not renewed:
                renewed = await self._connection.renew(loads)
                if renewed:
                    continue
            if answer.wait is not None and _now() + answer.wait < ends:
                await self.sleep(answer.wait * random.uniform(1, 1.25))  # noqa: S311
                continue
            raise error_of(request, answer.code, status_of(answer.body))

    async def pages(
        self, resource: Resource, namespace: str | None, params: Mapping[str, Any] | None = None
    ) -> AsyncIterator[tuple[Sequence[Object], str]]:
        """Yield the objects of a kind as they are at one moment, and its resourceVersion; GoneError."""
        request, more = Request("list", resource, namespace), ""
        while True:
            asked = {**(params or {}), "limit": PAGE, **({"continue": more} if more else {})}
            page = await self.call(request, params=asked, within=LIST_TIMEOUT)
            metadata = page.get("metadata") or {}
            yield page.get("items") or (), str(metadata.get("resourceVersion") or "")
            more = metadata.get("continue") or ""
            if not more:
                return

    @asynccontextmanager
    async def watch(
        self, resource: Resource, namespace: str | None, since: str, seconds: int
    ) -> AsyncIterator[AsyncIterator[tuple[str, Object]]]:
        """Open a watch: an iterator of (type, object) for some seconds, bookmarks included; GoneError."""
        request = Request("watch", resource, namespace)
        params = {
            "watch": "true", "resourceVersion": since, "allowWatchBookmarks": "true",
            "timeoutSeconds": seconds,
        }  # fmt: skip
        limits = aiohttp.ClientTimeout(total=seconds + SLACK, sock_connect=CONNECT_SECONDS, sock_read=SILENCE)
        loads = self._connection.loads
        response = await self._send(request, None, params, limits)
        if response.status == 401 and await self._connection.renew(loads):
            response.close()
            response = await self._send(request, None, params, limits)
        try:
            if response.status >= 300:
                body = await self._read(response, request)
                raise error_of(request, response.status, status_of(body))
            yield self._events(response, request)
        finally:
            if response.connection is not None and response.connection.transport is not None:
                response.connection.transport.abort()  # a goodbye by TLS would outlive the session
            response.close()

    async def _events(
        self, response: aiohttp.ClientResponse, request: Request
    ) -> AsyncIterator[tuple[str, Object]]:
        lines = Lines()
        try:
            async for chunk in response.content.iter_any():
                for line in lines.feed(chunk):
                    event = self._json(line, request)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise error_of(request, int(status.get("code") or 500), status)
                    yield event["type"], event["object"]
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._unreachable(request, error) from error

    async def _exchange(
        self, request: Request, body: Any, params: Mapping[str, Any] | None, left: float, *, fenced: bool
    ) -> Answer:
        if fenced and request.verb in WRITES:
            self.before_write()
            left = min(left, self.write_deadline())
        if left <= 0:
            raise UnavailableError(f"there is no time left to {request}")
        limits = aiohttp.ClientTimeout(total=left, sock_connect=CONNECT_SECONDS)
        response = await self._send(request, body, params, limits)
        try:
            return Answer(
                response.status, response.headers.get("Retry-After"), await self._read(response, request)
            )
        finally:
            response.release()

    async def _send(
        self,
        request: Request,
        body: Any,
        params: Mapping[str, Any] | None,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        url = request.path + (f"?{urlencode(params)}" if params else "")
        started, code = _now(), 0
        try:
            response = await self._connection.send(
                METHODS[request.verb], url, body=body, content_type=_content_type(request, body),
                limits=limits,
            )  # fmt: skip
            code = response.status
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._unreachable(request, error) from error
        finally:
            self._observe(request.verb, str(request.resource), code, _now() - started)
        return response

    async def _read(self, response: aiohttp.ClientResponse, request: Request) -> bytes:
        found = bytearray()
        try:
            async for chunk in response.content.iter_any():
                found += chunk
                if len(found) > MAX_ANSWER:
                    response.close()
                    raise UnavailableError(f"the answer to {request} is longer than {MAX_ANSWER} bytes")
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._unreachable(request, error) from error
        return bytes(found)

    def _json(self, text: bytes, request: Request) -> Object:
        try:
            found: Object = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise UnavailableError(
                f"{self.server} answered {request} with something else than JSON"
            ) from error
        return found

    def _unreachable(self, request: Request, error: Exception) -> UnavailableError:
        late = isinstance(error, TimeoutError)
        words = "did not answer in time" if late else f"cannot be reached ({_cause(error)})"
        return UnavailableError(f"the API server {self.server} {words}: {request}")


class Lines:
    """Whole lines out of chunks that are cut anywhere; a last line without an end is never told."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that are complete now; UnavailableError when one never ends."""
        if b"\n" not in chunk:
            self._rest += chunk
            if len(self._rest) > MAX_LINE:
                raise UnavailableError(f"a line of a watch is longer than {MAX_LINE} bytes")
            return []
        *lines, rest = (bytes(self._rest) + chunk).split(b"\n")
        self._rest = bytearray(rest)
        return [line for line in lines if line]


def _cause(error: Exception) -> str:
    """Return the reason: `Connection refused` rather than the errors around it."""
    if isinstance(error, aiohttp.ClientSSLError):
        return str(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        inner = error.os_error
        number = inner.errno or 0  # below 0: a name that cannot be resolved
        return os.strerror(number) if number > 0 else inner.strerror or str(inner)
    if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionResetError)):
        return "the connection was lost"
    return str(error) or type(error).__name__


def _content_type(request: Request, body: Any) -> str:
    if request.verb != "patch":
        return "application/json"
    return "application/json-patch+json" if isinstance(body, list) else "application/merge-patch+json"


def _now() -> float:
    return asyncio.get_running_loop().time()
