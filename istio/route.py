"""A typed, read-only view of the routes of a VirtualService.

The view never owns the object: it reads what it needs, keeps no copy and loses no unknown field. Every way in
which a document or a request can be unusable is one error with a code and a sentence for a person:

    RouteError
    |-- NotVirtualServiceError     another kind of object, or no object at all
    |-- MalformedError             a field has the wrong type, or a required one is missing
    |-- NoRoutesError              no http, tls or tcp route
    |-- UnknownRouteError          a selected name or index is not there
    |-- SeveralRoutesError         nothing was selected, and there is more than one route of a kind
    |-- DuplicateRouteError        the selected name occurs twice
    |-- NoDestinationsError        the route redirects, answers, delegates or has an empty list
    |-- MissingDestinationError    the route has no such destination
    |-- DuplicateDestinationError  one key means two destinations, or two keys mean one
    |-- UnmanagedWeightError       the route also sends traffic to a destination that was not named
    |-- NegativeWeightError        a weight below 0, in the document or asked for
    |-- NonIntegerWeightError      a weight that is not a whole number, in the document or asked for
    |-- WeightSumError             the weights asked for do not sum to 100
    |-- RoutesDisagreeError        the selected routes carry different weights
    `-- TextError                  the text of a file cannot be read or edited: see istio.text
"""

from __future__ import annotations

import difflib
import reprlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

API_GROUP = "networking.istio.io"
Kind = Literal["http", "tls", "tcp"]
KINDS: tuple[Kind, ...] = ("http", "tls", "tcp")


class RouteError(Exception):
    """A VirtualService cannot be read or edited as asked; `str()` says why in one line."""

    code: ClassVar[str] = "route"


class NotVirtualServiceError(RouteError):
    """Another kind of object, or no object at all."""

    code = "not-a-virtual-service"


class MalformedError(RouteError):
    """A field has the wrong type, or a required one is missing."""

    code = "malformed"


class NoRoutesError(RouteError):
    """The VirtualService has no http, tls or tcp route."""

    code = "no-routes"


class UnknownRouteError(RouteError):
    """A selected name or index is not there."""

    code = "unknown-route"


class SeveralRoutesError(RouteError):
    """Nothing was selected, and there is more than one route of a kind."""

    code = "several-routes"


class DuplicateRouteError(RouteError):
    """The selected name occurs twice; Istio accepts that, but it says not which one is meant."""

    code = "duplicate-route"


class NoDestinationsError(RouteError):
    """The route redirects, answers, delegates or has an empty list: there is nothing to weigh."""

    code = "no-destinations"


class MissingDestinationError(RouteError):
    """The route has no such destination."""

    code = "missing-destination"


class DuplicateDestinationError(RouteError):
    """One key means two destinations of the route, or two keys mean one."""

    code = "duplicate-destination"


class UnmanagedWeightError(RouteError):
    """The route also sends traffic to a destination that was not named."""

    code = "unmanaged-weight"


class NegativeWeightError(RouteError):
    """A weight below 0, in the document or asked for."""

    code = "negative-weight"


class NonIntegerWeightError(RouteError):
    """A weight that is not a whole number, in the document or asked for."""

    code = "non-integer-weight"


class WeightSumError(RouteError):
    """The weights asked for do not sum to 100."""

    code = "weight-sum"


class RoutesDisagreeError(RouteError):
    """The selected routes carry different weights."""

    code = "routes-disagree"


@dataclass(frozen=True, slots=True)
class Destination:
    """One weighted destination; `weight` is what is written (None: omitted), not what is in force."""

    index: int
    host: str
    subset: str | None
    port: int | None
    weight: int | None

    def __str__(self) -> str:
        return f"{self.host}/{self.subset}" if self.subset else self.host


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of `spec.http`, `spec.tls` or `spec.tcp`."""

    kind: Kind
    index: int
    name: str | None
    entry: Mapping[str, Any] = field(repr=False, compare=False)
    """The object's own entry, not a copy."""

    @property
    def selector(self) -> str:
        """The name that every route has: `http[0]`."""
        return f"{self.kind}[{self.index}]"

    @property
    def path(self) -> str:
        """The route as a field path: `spec.http[0]`."""
        return f"spec.{self.selector}"

    @property
    def pointer(self) -> str:
        """The route as a JSON Pointer: `/spec/http/0`."""
        return f"/spec/{self.kind}/{self.index}"

    @property
    def action(self) -> str | None:
        """What the route does instead of forwarding: `redirect`, `directResponse`, `delegate` or None."""
        return next((key for key in ("redirect", "directResponse", "delegate") if self.entry.get(key)), None)

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Its destinations in order, none for a redirect; MalformedError and weight errors."""
        entries = _list(self.entry.get("route"), f"{self.path}.route")
        return tuple(_destination(entry, i, f"{self.path}.route[{i}]") for i, entry in enumerate(entries))

    def __str__(self) -> str:
        return f"{self.name} ({self.selector})" if self.name else self.selector


def routes(vs: Any) -> list[Route]:
    """Return all routes: http, tls, then tcp, each in order; NotVirtualServiceError, MalformedError."""
    spec = _mapping(_virtual_service(vs).get("spec"), "spec")
    return [
        _route(kind, index, entry)
        for kind in KINDS
        for index, entry in enumerate(_list(spec.get(kind), f"spec.{kind}"))
    ]


def select(vs: Any, names: Sequence[str] = ()) -> list[Route]:
    """Return the routes called `names` in document order; each has destinations.

    A name is the route's own or a selector such as `tcp[0]`. Without names, every kind that is present must
    have exactly one route. Raises RouteError.
    """
    known = routes(vs)
    if not known:
        raise NoRoutesError(f"{title(vs)} has no http, tls or tcp route")
    chosen = _named(vs, known, names) if names else _only(vs, known)
    for route in chosen:
        if not route.destinations:
            what = f"it is a {route.action}" if route.action else "its list of destinations is empty"
            raise NoDestinationsError(f"route {route} has no destinations to weigh: {what}")
    return chosen


def title(vs: Any) -> str:
    """Return what to call a VirtualService in a message: its kind and name."""
    name = _mapping(vs.get("metadata"), "metadata").get("name")
    return f"VirtualService {name}" if name else "the VirtualService"


def namespace_of(vs: Any) -> str:
    """Return the namespace in which a VirtualService's short hosts are resolved; MalformedError."""
    name = _mapping(vs.get("metadata"), "metadata").get("namespace") or "default"
    return _text(name, "metadata.namespace")


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return ` (did you mean X?)` when a known word is close, else nothing."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _only(vs: Any, known: list[Route]) -> list[Route]:
    for kind in KINDS:
        same = [route for route in known if route.kind == kind]
        if len(same) > 1:
            raise SeveralRoutesError(
                f"{title(vs)} has {len(same)} {kind} routes: {_names(same)}; name the routes to use"
            )
    return known


def _named(vs: Any, known: list[Route], names: Sequence[str]) -> list[Route]:
    wanted = {_by_name(vs, known, name).selector for name in names}
    return [route for route in known if route.selector in wanted]


def _by_name(vs: Any, known: list[Route], name: str) -> Route:
    found = [route for route in known if route.name is not None and route.name == name]
    found = found or [route for route in known if route.selector == name]
    if not found:
        hint = suggestion(name, [route.name or route.selector for route in known])
        raise UnknownRouteError(f"{title(vs)} has no route {name!r}{hint}; it has {_names(known)}")
    if len(found) > 1:
        where = ", ".join(route.selector for route in found)
        raise DuplicateRouteError(f"{title(vs)} has {len(found)} routes called {name!r}: {where}")
    return found[0]


def _names(known: Sequence[Route]) -> str:
    return ", ".join(map(str, known))


def _virtual_service(vs: Any) -> Mapping[str, Any]:
    if not isinstance(vs, dict) or vs.get("kind") != "VirtualService":
        what = f"kind {reprlib.repr(vs.get('kind'))}" if isinstance(vs, dict) else _type(vs)
        raise NotVirtualServiceError(f"this is not a VirtualService but {what}")
    version = vs.get("apiVersion", API_GROUP)
    if not isinstance(version, str) or version.split("/")[0] != API_GROUP:
        raise NotVirtualServiceError(
            f"this is not a VirtualService of {API_GROUP} but of {reprlib.repr(version)}"
        )
    return vs


def _route(kind: Kind, index: int, entry: Any) -> Route:
    path = f"spec.{kind}[{index}]"
    if entry is None:
        raise MalformedError(f"{path} is null")
    entry = _mapping(entry, path)
    name = entry.get("name")
    return Route(kind, index, _text(name, f"{path}.name") if name else None, entry)


def _destination(entry: Any, index: int, path: str) -> Destination:
    if entry is None:
        raise MalformedError(f"{path} is null")
    entry = _mapping(entry, path)
    target = _mapping(entry.get("destination"), f"{path}.destination")
    subset = target.get("subset")
    port = _mapping(target.get("port"), f"{path}.destination.port").get("number")
    return Destination(
        index=index,
        host=_text(target.get("host"), f"{path}.destination.host"),
        subset=_text(subset, f"{path}.destination.subset") if subset else None,
        port=port if isinstance(port, int) else None,
        weight=_weight(entry.get("weight"), f"{path}.weight"),
    )


def _weight(value: Any, path: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise NonIntegerWeightError(f"{path} must be a whole number, found {reprlib.repr(value)}")
    if value < 0:
        raise NegativeWeightError(f"{path} is negative: {value}")
    return value


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedError(f"{path} must be a mapping, found {_type(value)}")
    return value


def _list(value: Any, path: str) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise MalformedError(f"{path} must be a list, found {_type(value)}")
    return value


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{path} must be a text, found {_type(value)}")
    if not value:
        raise MalformedError(f"{path} is empty")
    return value


def _type(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "a truth value", type(None): "nothing"}
    return names.get(type(value)) or f"the number {value!r}"
