"""The controller's API for commands: bounded in time, and every failure is one clear sentence.

It is asked over HTTP, or through kubectl (`controller.cli.kubectl`). The token of a folder goes to that
folder's own controller only; another server gets `PENSTOCK_TOKEN`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from urllib.parse import quote

import requests
from pydantic import BaseModel, TypeAdapter, ValidationError

from controller.cli.options import fail
from controller.view import RolloutView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")
TIMEOUT = (3.0, 15.0)
"""Seconds to connect and to wait for an answer."""
TOKENLESS = {
    401: "the API's token for this: set PENSTOCK_TOKEN (in a cluster, `kubectl penstock` needs none)",
    403: "another token than PENSTOCK_TOKEN holds",
}
"""What to do about an answer's status."""


class _Page(BaseModel, Generic[T]):
    """A list of the API, or a part of one."""

    items: list[T]
    after: str | None = None


class ApiError(Exception):
    """The API could not be reached, refused, or answered something else; the text says what."""


class Transport(Protocol):
    """A way to a controller's API."""

    where: str
    """What to call it in messages."""
    program: str
    """The program that asks this way, as a person types it."""

    @property
    def scope(self) -> str:
        """Where rollouts are looked for when nobody says, as the end of a sentence; empty: everywhere."""

    def ask(
        self, method: str, path: Sequence[str], query: Mapping[str, Any], body: Mapping[str, Any] | None
    ) -> bytes:
        """Return what the API answers with success; ApiError."""


class Client:
    """One controller's API."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def program(self) -> str:
        """The program that asks, as a person types it."""
        return self._transport.program

    @property
    def scope(self) -> str:
        """Where rollouts are looked for when nobody says, as the end of a sentence."""
        return self._transport.scope

    def get(self, type_: type[T], *path: str, **query: str | float | None) -> T:
        """Return the answer at a path, checked to be of a type; ApiError."""
        answer = self._transport.ask("GET", path, query, None)
        try:
            return TypeAdapter(type_).validate_json(answer)
        except ValidationError as error:
            where = self._transport.where
            raise ApiError(f"{where} does not answer as a controller of this version does") from error

    def text(self, *path: str) -> str:
        """Return the answer at a path as it is; ApiError."""
        return self._transport.ask("GET", path, {}, None).decode("utf-8", "replace")

    def post(self, *path: str, body: dict[str, Any]) -> None:
        """Send a document; ApiError."""
        self._transport.ask("POST", path, {}, body)

    def items(self, type_: type[T], *path: str, **query: str | float | None) -> list[T]:
        """Return the items of the list at a path; ApiError."""
        return self.get(_Page[type_], *path, **query).items  # type: ignore[valid-type]

    def pages(self, type_: type[T], *path: str, **query: str | float | None) -> list[T]:
        """Return the items of all pages of the list at a path; ApiError."""
        items: list[T] = []
        after: str | None = None
        while True:
            page = self.get(_Page[type_], *path, **query, after=after, limit=500)  # type: ignore[valid-type]
            items += page.items
            after = page.after
            if after is None:
                return items


class Http:
    """A controller's API at an address."""

    program = "penstock"
    scope = ""

    def __init__(self, url: str, token: str | None = None, *, absent: str | None = None) -> None:
        """`absent` is what to tell when nobody listens at `url`."""
        self.where = url.rstrip("/")
        self._token = token
        self._absent = absent or f"no answer from {self.where}"
        self._session = requests.Session()
        # a folder's controller is on this machine: no proxy, no netrc
        self._session.trust_env = absent is None

    def ask(
        self, method: str, path: Sequence[str], query: Mapping[str, Any], body: Mapping[str, Any] | None
    ) -> bytes:
        """Return what the API answers with success; ApiError."""
        url = "/".join([self.where, *(quote(part, safe="") for part in path)])
        try:
            response = self._session.request(
                method,
                url,
                params=query,
                json=body,
                auth=self._authorise,
                timeout=TIMEOUT,
                allow_redirects=False,
            )
        except requests.ConnectionError as error:
            raise ApiError(self._absent) from error
        except requests.Timeout as error:
            raise ApiError(f"{self.where} does not answer in time") from error
        except requests.RequestException as error:
            raise ApiError(f"{self.where}: {error}") from error
        if response.status_code >= 300:
            raise ApiError(_words(response, self.where))
        return response.content

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _words(response: requests.Response, url: str) -> str:
    """Return what a failed answer says: the problem's detail, else the status."""
    if response.status_code in TOKENLESS:
        return f"{url} wants {TOKENLESS[response.status_code]}"
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{url} answers {response.status_code} {response.reason}"


def connect(server: str | None, directory: Path | None) -> Client:
    """Return the client that the options and the environment mean; ends the command when there is none."""
    if server and server.startswith("kubectl:"):
        from controller.cli.kubectl import kubectl_of

        return Client(kubectl_of(server))
    if server:
        if not server.startswith(("http://", "https://")):
            fail(f"--server must be an http:// or https:// address or kubectl:, not {server}", 2)
        return Client(Http(server, os.environ.get("PENSTOCK_TOKEN")))
    from controller.standalone.layout import Layout, LayoutError, read_json

    try:
        layout = Layout.find(directory)
    except LayoutError as error:
        fail(f"{error}; for a cluster, use `kubectl penstock` or --server URL")
    absent = (
        f"no controller is running for {layout.root}; start one with `penstock up {layout.root}`"
        " (or name another with --dir or --server)"
    )
    url = (read_json(layout.endpoint) or {}).get("url")
    if not isinstance(url, str):
        fail(absent)
    token = os.environ.get("PENSTOCK_TOKEN") or _token(layout.token)
    return Client(Http(url, token, absent=absent))


def _token(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def locate(client: Client, name: str, namespace: str | None) -> tuple[str, str]:
    """Return namespace and name of the one rollout that NAME means; ApiError."""
    found, slash, rest = name.partition("/")
    if slash:
        if namespace not in {None, found}:
            raise ApiError(f"{name} is not in namespace {namespace}")
        return found, rest
    if namespace:
        return namespace, name
    views = client.pages(RolloutView, "v1", "rollouts", name=name)
    if not views:
        raise ApiError(f"there is no rollout {name}{client.scope}")
    if len(views) > 1:
        raise ApiError(
            f"there are several rollouts {name}: {', '.join(view.key for view in views)}; say which"
        )
    return views[0].namespace, views[0].name


def rollout(client: Client, name: str, namespace: str | None) -> RolloutView:
    """Return the rollout that NAME means, with everything; ApiError."""
    return client.get(RolloutView, "v1", "rollouts", *locate(client, name, namespace))
