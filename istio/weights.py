"""Weights of a VirtualService: read them, and change exactly them.

An edit is a JSON Patch (RFC 6902) that sets the weights asked for on the selected routes and touches nothing
else; a weight that was left to Istio is written out. It is guarded: by a `test` of the resourceVersion where
the object has one, else by a `test` of every route that it edits (its name and all its destinations), so that
it never applies to a document other than the one it was made for. After it, the weights of every selected
route are whole numbers that sum to 100.

A destination is called by a key:

    SUBSET         the destination with this subset
    HOST           the destination with this host and no subset; short and full names are the same
    HOST/SUBSET    both
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from istio.jsonpatch import unshared
from istio.names import same_host
from istio.route import (
    Destination,
    DuplicateDestinationError,
    MissingDestinationError,
    NegativeWeightError,
    NonIntegerWeightError,
    Route,
    RoutesDisagreeError,
    UnmanagedWeightError,
    WeightSumError,
    namespace_of,
    select,
    suggestion,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TOTAL = 100
PatchOp = dict[str, Any]
"""One operation of a JSON Patch: op, path, value."""


@dataclass(frozen=True, slots=True)
class ManagedRoute:
    """A selected route with the destination that each key means, and the destinations that no key means."""

    route: Route
    named: Mapping[str, Destination]
    others: tuple[Destination, ...]

    @property
    def weights(self) -> dict[str, int]:
        """The weights in force: of several destinations an omitted one counts 0; a single one gets all."""
        if len(self.named) + len(self.others) == 1:
            return dict.fromkeys(self.named, TOTAL)
        return {key: destination.weight or 0 for key, destination in self.named.items()}


def split(total: int, shares: Sequence[int | Fraction]) -> list[int]:
    """Divide `total` in whole numbers proportional to `shares` by the largest remainder (Hamilton).

    The result sums to `total` exactly; a share of 0 gets 0; of equal remainders the first one wins. Raises
    ValueError for a negative total or share, and when nothing has a share.
    """
    exact = [Fraction(share) for share in shares]
    whole = sum(exact)
    if total < 0 or whole <= 0 or min(exact) < 0:
        raise ValueError("the total and every share must be at least 0, and one share above 0")
    quotas = [total * share / whole for share in exact]
    parts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] - quotas[i])
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def resolve(vs: Any, keys: Iterable[str], route_names: Sequence[str] = ()) -> list[ManagedRoute]:
    """Find the destination of every key in every selected route; RouteError if one is missing or unclear."""
    chosen, keys = select(vs, route_names), tuple(keys)
    return [_managed(route, keys, namespace_of(vs)) for route in chosen]


def edit(vs: Any, weights: Mapping[str, int], route_names: Sequence[str] = ()) -> list[PatchOp]:
    """Return the JSON Patch that sets `weights` (key -> per cent); empty when they are written already.

    Raises RouteError: for weights that are not whole numbers of at least 0 with sum 100, for routes and
    destinations that are missing or unclear, and for traffic to a destination that is not named.
    """
    check_weights(weights)
    changes: list[PatchOp] = []
    guards: list[PatchOp] = []
    for managed in resolve(vs, weights, route_names):
        _check_others(managed)
        if operations := _changes(managed, weights):
            guards += _guards(managed.route)
            changes += operations
    version = (vs.get("metadata") or {}).get("resourceVersion")
    if changes and version:
        guards = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}]
    return guards + changes


def current(vs: Any, keys: Iterable[str], route_names: Sequence[str] = ()) -> dict[str, int]:
    """Return the weights in force per key, as Istio reads them; RouteError, also when routes disagree."""
    found = resolve(vs, keys, route_names)
    first = found[0]
    for managed in found:
        _check_others(managed)
        if managed.weights != first.weights:
            one, other = _words(first.weights), _words(managed.weights)
            raise RoutesDisagreeError(f"route {first.route} has {one}, but {managed.route} has {other}")
    return first.weights


def check_weights(weights: Mapping[str, int]) -> None:
    """Raise unless the weights asked for are whole numbers of at least 0 that sum to 100."""
    for key, weight in weights.items():
        if not isinstance(weight, int) or isinstance(weight, bool):
            raise NonIntegerWeightError(f"the weight of {key} must be a whole number, not {weight!r}")
        if weight < 0:
            raise NegativeWeightError(f"the weight of {key} is negative: {weight}")
    if sum(weights.values()) != TOTAL:
        what = f"{_words(weights)} sum to {sum(weights.values())}" if weights else "none were given"
        raise WeightSumError(f"the weights must sum to {TOTAL}: {what}")


def _managed(route: Route, keys: tuple[str, ...], namespace: str) -> ManagedRoute:
    named: dict[str, Destination] = {}
    for key in keys:
        found = _find(route, key, namespace)
        twin = next((other for other, destination in named.items() if destination == found), None)
        if twin is not None:
            raise DuplicateDestinationError(f"{twin} and {key} are the same destination of route {route}")
        named[key] = found
    taken = {destination.index for destination in named.values()}
    return ManagedRoute(route, named, tuple(d for d in route.destinations if d.index not in taken))


def _find(route: Route, key: str, namespace: str) -> Destination:
    known = route.destinations
    found = [destination for destination in known if _means(key, destination, namespace)]
    if not found:
        words = [word for d in known for word in (d.subset or d.host, str(d))]
        listed = ", ".join(str(d) for d in known)
        raise MissingDestinationError(
            f"route {route} has no destination {key!r}{suggestion(key, words)}; it has {listed}"
        )
    if len(found) > 1:
        listed = ", ".join(f"{d} (route[{d.index}])" for d in found)
        raise DuplicateDestinationError(f"{key!r} means {len(found)} destinations of route {route}: {listed}")
    return found[0]


def _means(key: str, destination: Destination, namespace: str) -> bool:
    host, slash, subset = key.partition("/")
    if slash:
        return destination.subset == subset and same_host(destination.host, host, namespace)
    if destination.subset is not None:
        return destination.subset == key
    return same_host(destination.host, key, namespace)


def _check_others(managed: ManagedRoute) -> None:
    sending = " and ".join(f"{d.weight} % to {d}" for d in managed.others if d.weight)
    if sending:
        raise UnmanagedWeightError(f"route {managed.route} also sends {sending}, which was not named")


def _changes(managed: ManagedRoute, weights: Mapping[str, int]) -> list[PatchOp]:
    """Return the operations for one route, in the order of its destinations."""
    operations = []
    for key, destination in sorted(managed.named.items(), key=lambda item: item[1].index):
        if destination.weight != weights[key]:
            present = "weight" in managed.route.entry["route"][destination.index]
            path = f"{managed.route.pointer}/route/{destination.index}/weight"
            operations.append({"op": "replace" if present else "add", "path": path, "value": weights[key]})
    return operations


def _guards(route: Route) -> list[PatchOp]:
    """Test that the route is still the one that was read: its name, and its destinations as a whole."""
    name = [{"op": "test", "path": f"{route.pointer}/name", "value": route.name}] if route.name else []
    return [*name, {"op": "test", "path": f"{route.pointer}/route", "value": unshared(route.entry["route"])}]


def _words(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{key} {weight}" for key, weight in weights.items())
