"""Header operations of routes and destinations (istiod: TranslateHeadersOperations)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]
_AUTHORITY = {":authority", "host"}


@dataclass(frozen=True, slots=True)
class HeaderOperations:
    """Envoy's four header lists, and the authority, which Envoy rewrites by other means."""

    request_add: tuple[Json, ...] = ()
    request_remove: tuple[str, ...] = ()
    response_add: tuple[Json, ...] = ()
    response_remove: tuple[str, ...] = ()
    authority: str = ""

    def __add__(self, other: HeaderOperations) -> HeaderOperations:
        """Return a route's operations followed by its only destination's; the route's authority wins."""
        return HeaderOperations(
            self.request_add + other.request_add,
            self.request_remove + other.request_remove,
            self.response_add + other.response_add,
            self.response_remove + other.response_remove,
            self.authority or other.authority,
        )

    def fields(self) -> Json:
        """Return the non-empty lists as Envoy's fields of a route or of a weighted cluster."""
        fields = {
            "request_headers_to_add": list(self.request_add),
            "request_headers_to_remove": list(self.request_remove),
            "response_headers_to_add": list(self.response_add),
            "response_headers_to_remove": list(self.response_remove),
        }
        return {name: items for name, items in fields.items() if items}


def header_operations(headers: Mapping[str, Any] | None) -> HeaderOperations:
    """Translate `headers`: first everything that is set, then everything that is added, each by name."""
    request = (headers or {}).get("request") or {}
    response = (headers or {}).get("response") or {}
    return HeaderOperations(
        request_add=_changes(request),
        request_remove=_removals(request),
        response_add=_changes(response),
        response_remove=_removals(response),
        authority=_authority(request.get("set")) or _authority(request.get("add")),
    )


def _changes(operations: Mapping[str, Any]) -> tuple[Json, ...]:
    return tuple(
        {"header": {"key": name, "value": value}, "append_action": action}
        for field, action in (("set", "OVERWRITE_IF_EXISTS_OR_ADD"), ("add", "APPEND_IF_EXISTS_OR_ADD"))
        for name, value in sorted((operations.get(field) or {}).items())
        if not _internal(name)
    )


def _removals(operations: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in operations.get("remove") or () if not _internal(name))


def _authority(values: Mapping[str, str] | None) -> str:
    return next((value for name, value in (values or {}).items() if name.lower() in _AUTHORITY), "")


def _internal(name: str) -> bool:
    return name.startswith(":") or name.lower() == "host"
