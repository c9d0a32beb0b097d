"""A Prometheus behind TLS that looks at what it is sent: the standard library, in a thread."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.support.fake_prometheus import matrix

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


class GuardedPrometheus(ThreadingHTTPServer):
    """Answers who sends what it `wants`; keeps the paths that it was asked."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        # the handshake is the business of the connection's thread, which may fail
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self.server_address[1]}"
        self.wants: dict[str, str] = {}
        self.asked: list[str] = []

    def handle_error(self, *_: Any) -> None:
        """Stay silent: who does not trust or show a certificate ends the handshake."""


class _Handler(BaseHTTPRequestHandler):
    server: GuardedPrometheus

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        welcome = all(self.headers.get(name) == value for name, value in self.server.wants.items())
        body = matrix().encode() if welcome else b"no"
        self.send_response(200 if welcome else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


@contextmanager
def guarded_prometheus(tls: ssl.SSLContext) -> Iterator[GuardedPrometheus]:
    """Serve on a free port of loopback until the block ends."""
    with GuardedPrometheus(tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
