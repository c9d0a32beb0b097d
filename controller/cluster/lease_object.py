"""The Lease that candidates stand for: the port, and a Lease on a real API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from controller.cluster.answers import Request
from controller.cluster.resources import LEASES
from controller.ports import NotFoundError, UnavailableError

if TYPE_CHECKING:
    from controller.cluster.answers import Verb
    from controller.cluster.kube import Kube
    from controller.ports import Object


class Leases(Protocol):
    """One Lease object."""

    @property
    def where(self) -> str:
        """Its `namespace/name`."""

    async def read(self) -> Object:
        """Return it as it is stored; NotFoundError, UnavailableError."""

    async def create(self, lease: Object) -> Object:
        """Make it; ConflictError when it is there already, UnavailableError."""

    async def replace(self, lease: Object) -> Object:
        """Write it over the version that it names; ConflictError when that has changed, UnavailableError."""


class KubeLeases:
    """A Lease on a real API server; its own requests are not fenced by it."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self._kube, self._namespace, self._name = kube, namespace, name

    @property
    def where(self) -> str:
        """Its `namespace/name`."""
        return f"{self._namespace}/{self._name}"

    async def read(self) -> Object:
        """Return it as it is stored; NotFoundError, UnavailableError."""
        return await self._kube.call(self._request("get"))

    async def create(self, lease: Object) -> Object:
        """Make it; ConflictError when it is there already, UnavailableError."""
        meta = {"name": self._name, "namespace": self._namespace}
        whole = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": meta, **lease}
        request = Request("create", LEASES, self._namespace)
        try:
            return await self._kube.call(request, whole, fenced=False)
        except NotFoundError as error:
            raise UnavailableError(f"the namespace of the lease is not there: {error}") from error

    async def replace(self, lease: Object) -> Object:
        """Write it over the version that it names; ConflictError when that has changed, UnavailableError.

        If the object was deleted, its uid and resourceVersion keep the API server from making it again.
        """
        return await self._kube.call(self._request("update"), lease, fenced=False)

    def _request(self, verb: Verb) -> Request:
        return Request(verb, LEASES, self._namespace, self._name)
