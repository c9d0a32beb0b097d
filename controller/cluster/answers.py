"""What the API server is asked and what its refusals mean: pure.

UnavailableError    not reachable, overloaded, not allowed, refused: nothing is known, or nothing was done
  GoneError         410: the version asked from is too old, list again
  RefusedError      400, 422: what was to be written is not valid
    ForbiddenError  403: RBAC, admission or a namespace that is being deleted does not allow it
ConflictError       409, or 422 without a cause: the object is another than the one that was read
NotFoundError       404: no such object, or no such kind
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

from controller.ports import ConflictError, NotFoundError, RefusedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.cluster.resources import Resource

Verb = Literal["get", "list", "watch", "create", "update", "patch", "delete"]

METHODS: Mapping[Verb, str] = {
    "get": "GET", "list": "GET", "watch": "GET", "create": "POST", "update": "PUT", "patch": "PATCH",
    "delete": "DELETE",
}  # fmt: skip
WRITES = frozenset({"create", "update", "patch", "delete"})
_WORDS = 500
"""How much of a message is passed on."""


class GoneError(UnavailableError):
    """What was asked for is too old to be known: list again."""


class ForbiddenError(RefusedError):
    """It is not allowed; asking again soon will not help."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the API server, in the words of RBAC."""

    verb: Verb
    resource: Resource
    namespace: str | None = None
    name: str = ""
    subresource: str = ""

    @property
    def path(self) -> str:
        """The path of the URL."""
        return self.resource.path(self.namespace, self.name, self.subresource)

    @property
    def what(self) -> str:
        """The resource as RBAC names it: `rolloutpolicies/status.penstock.dev` has the subresource first."""
        part = f"/{self.subresource}" if self.subresource else ""
        group = f".{self.resource.group}" if self.resource.group else ""
        return f"{self.resource.plural}{part}{group}"

    @property
    def where(self) -> str:
        """The scope as RBAC names it."""
        return f"in namespace {self.namespace}" if self.namespace else "at the cluster scope"

    def __str__(self) -> str:
        return " ".join(filter(None, (self.verb, self.what, self.name, self.where)))


def error_of(request: Request, code: int, status: Mapping[str, Any]) -> Exception:
    """Return what an answer that is no success means; `status` is its Status object."""
    message = str(status.get("message") or "")[:_WORDS]
    tail = f": {message}" if message else ""
    match code:
        case 401:
            return UnavailableError(f"the API server does not accept our credentials (401): {request}")
        case 403:
            doing = " ".join(filter(None, (request.verb, request.what, request.where)))
            return ForbiddenError(f"not allowed to {doing} (403){tail}")
        case 404:
            return NotFoundError(f"there is nothing to {request} (404){tail}")
        case 409:
            return ConflictError(f"cannot {request}{tail}")
        case 410:
            return GoneError(f"too late to {request}{tail}")
        case 422 if request.verb == "patch" and not _causes(status):
            # a failed `test`, or a path that is no more there: the API server does not tell which
            return ConflictError(f"cannot {request}: the object is not the one that was read")
        case 400 | 422:
            return RefusedError(f"the API server answered {code} to {request}{tail}")
    return UnavailableError(f"the API server answered {code} to {request}{tail}")


def status_of(body: bytes) -> dict[str, Any]:
    """Return the Status object of an answer; proxies and absent kinds answer in other words."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return status if isinstance(status, dict) else {}


def _causes(status: Mapping[str, Any]) -> Any:
    return (status.get("details") or {}).get("causes")
