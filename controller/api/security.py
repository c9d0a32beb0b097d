"""What holds for every request: a known host, a bounded body, and headers that make a browser careful."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from controller.api.problems import problem
from controller.words import printable, shortened

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from controller.api.hosts import Hosts

MAX_BODY = 16 * 1024
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


class Guard:
    """ASGI middleware: refuse unknown hosts and bodies over `MAX_BODY`, and add missing security headers.

    A body must say its length: the API takes one small JSON document, nobody has to stream it.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await (self._refusal(Request(scope)) or self._app)(scope, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host")
        if host is not None and not self._hosts.answers(host):  # every browser sends one
            return problem(request, "unknown-host", f"{shortened(printable(host), 80)} is not known here")
        if _oversized(request):
            return problem(request, "too-large", f"a body has a length of at most {MAX_BODY} bytes")
        return None


def _oversized(request: Request) -> bool:
    length = request.headers.get("content-length", "0")
    chunked = "transfer-encoding" in request.headers
    return chunked or not length.isdecimal() or int(length) > MAX_BODY


def content_policy(html: str) -> str:
    """Return a Content-Security-Policy that allows exactly the styles and scripts that stand in `html`.

    Scripts may talk to this server only; nothing is loaded from anywhere.
    """
    allowed: dict[str, list[str]] = {"style": [], "script": []}
    for kind, text in _INLINE.findall(html):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
    parts = ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "img-src data:"]
    parts += [f"{kind}-src {' '.join(hashes)}" for kind, hashes in allowed.items() if hashes]
    if allowed["script"]:
        parts.append("connect-src 'self'")
    return "; ".join(parts)
