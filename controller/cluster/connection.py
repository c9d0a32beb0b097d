"""Where the API server is and who we are there: the only importer of `kubernetes`.

Takes from it the reading of kubeconfigs (exec plugins, token files, client certificates), the credentials of
a pod (whose token is read again every minute, since the kubelet rotates it) and the HTTP session. Nothing
typed passes here: requests and answers are JSON. The package takes 0.4 s to import, so it is imported when a
connection is opened, and whoever does not talk to a cluster does not pay for it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp

from controller.ports import UnavailableError

if TYPE_CHECKING:
    import ssl

    from aiohttp.connector import AddrInfoType

USER_AGENT = "penstock"
LOAD_SECONDS = 30.0
"""How long credentials may take to be loaded: plugins ask clouds."""
RENEW_SECONDS = 10.0
"""How often credentials are loaded again at most, however often the API server refuses them."""
RESEND_SECONDS = 5.0
"""For how long the kernel sends again what is not confirmed. Otherwise it does so for minutes, and a write
that its lease allowed would arrive long after it."""
READ_BUFFER = 2**21
CLOSE_SECONDS = 1.0
"""How long `close` waits for the event loop to close the sockets."""
_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Connection:
    """One HTTP session to one API server; make it with `open`, end it with `close`."""

    def __init__(self, kubeconfig: Path | None, context: str | None) -> None:
        self._kubeconfig, self._context = kubeconfig, context
        self._client: Any = None
        self._identity: tuple[Any, ...] = ()
        self._renewing = asyncio.Lock()
        self._loaded_at = 0.0
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self.loads = 0
        """How often credentials were loaded."""
        self.namespace = "default"
        """The namespace of the context, or of the pod."""

    @classmethod
    async def open(cls, kubeconfig: Path | None = None, context: str | None = None) -> Self:
        """Connect by a kubeconfig, else by $KUBECONFIG, as a pod, or by ~/.kube/config; UnavailableError."""
        connection = cls(kubeconfig or _default(), context)
        await connection._load()
        return connection

    @property
    def server(self) -> str:
        """The address of the API server."""
        return str(self._client.configuration.host)

    async def close(self) -> None:
        """Close the session and everything that is open in it.

        Nobody says goodbye: a server that hangs would not answer, and its socket would outlive the session.
        """
        await self._client.close()
        ends = time.monotonic() + CLOSE_SECONDS
        while (still := [each for each in self._sockets if each.fileno() >= 0]) and time.monotonic() < ends:
            for each in still:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            await asyncio.sleep(0.001)

    async def send(
        self, method: str, url: str, *, body: Any = None, content_type: str, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Send one request; the answer is yet to be read, and to be released or closed by the caller."""
        headers = {"Content-Type": content_type, "Accept": "application/json", "User-Agent": USER_AGENT}
        for auth in (await self._client.configuration.auth_settings()).values():
            headers["Authorization"] = auth["value"].strip()
        client = self._client  # not before: it may be another one by now
        answer = await client.rest_client.request(
            method, self.server + url, headers=headers, body=body, _request_timeout=limits
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    async def renew(self, seen: int) -> bool:
        """Load the credentials again if those of `loads` = `seen` were refused; tell whether there are newer.

        However many requests are refused at once, they are loaded once.
        """
        async with self._renewing:
            if self.loads == seen and time.monotonic() - self._loaded_at >= RENEW_SECONDS:
                await self._load()
            return self.loads != seen

    async def _load(self) -> None:
        from kubernetes.aio.client import ApiClient, Configuration  # noqa: PLC0415

        configuration = Configuration()
        configuration.retries = None
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                self.namespace = await self._configure(configuration)
        except Exception as error:  # a kubeconfig is anybody's YAML, and a plugin anybody's program
            where = f"the kubeconfig {self._kubeconfig}" if self._kubeconfig else "the pod's service account"
            raise UnavailableError(f"{where} cannot be used: {str(error) or type(error).__name__}") from error
        self._loaded_at, self.loads = time.monotonic(), self.loads + 1
        identity = tuple(
            getattr(configuration, key)
            for key in ("host", "ssl_ca_cert", "cert_file", "key_file", "verify_ssl", "tls_server_name")
        )
        if self._client is not None and identity == self._identity and not configuration.cert_file:
            self._client.configuration.api_key = configuration.api_key  # watches need not be cut for a token
            self._client.configuration.refresh_api_key_hook = configuration.refresh_api_key_hook
            return
        old, self._client, self._identity = self._client, ApiClient(configuration), identity
        rest = self._client.rest_client
        rest.pool_manager = self._session(rest.ssl_context)
        if not rest.proxy:
            rest.proxy, rest.proxy_headers = _proxy(self.server)
        if old is not None:
            await old.close()

    def _session(self, tls: ssl.SSLContext) -> aiohttp.ClientSession:
        """Return the package's session, without a limit (each watch holds a socket), with sockets of ours.

        It is not to look into the environment: it would ask two threads at each request, and refuse to send
        our token where a .netrc knows a password for the same host.
        """
        connector = aiohttp.TCPConnector(limit=0, ssl=tls, socket_factory=self._socket)
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=READ_BUFFER
        )

    def _socket(self, address: AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(RESEND_SECONDS * 1000))
        self._sockets.add(made)
        return made

    async def _configure(self, configuration: Any) -> str:
        from kubernetes.aio import config  # noqa: PLC0415

        if self._kubeconfig is None:
            config.load_incluster_config(client_configuration=configuration)
            return (_POD / "namespace").read_text().strip()
        loader = await config.load_kube_config(
            str(self._kubeconfig),
            context=self._context,
            client_configuration=configuration,
            persist_config=False,
        )
        return str(loader.current_context["context"].get("namespace") or "default")


def _proxy(server: str) -> tuple[str | None, dict[str, str] | None]:
    """Return the proxy that the environment names for a server, and the headers with its password."""
    address = urlsplit(server)
    named = getproxies().get(address.scheme)
    if not named or proxy_bypass(address.netloc):
        return None, None
    proxy, headers = urlsplit(named), None
    if proxy.username is not None:
        user, password = unquote(proxy.username), unquote(proxy.password or "")
        headers = {"Proxy-Authorization": aiohttp.encode_basic_auth(user, password)}
    return proxy._replace(netloc=proxy.netloc.rpartition("@")[2]).geturl(), headers


def _default() -> Path | None:
    """Return the kubeconfig to use when none is named, or None for the pod's own credentials."""
    if named := os.environ.get("KUBECONFIG"):
        return Path(named)
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return None
    return Path.home() / ".kube/config"
