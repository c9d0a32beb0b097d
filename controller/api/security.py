"""What holds for every request: a bounded body, and headers that make a browser careful."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from controller.api.problems import problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    """ASGI middleware: refuse bodies over `MAX_BODY`, and add the security headers that are not set yet.

    A body must say its length: the API takes one small JSON document, nobody has to stream it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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

        request = Request(scope)
        if _oversized(request):
            refusal = problem(request, "too-large", f"a body has a length of at most {MAX_BODY} bytes")
            await refusal(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)


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
