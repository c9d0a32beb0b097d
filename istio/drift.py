"""Drift: weights that are not the wanted ones, where they differ and who wrote them last.

Only weights are compared. Routes or destinations that are gone are no drift but a RouteError: there is
nothing to correct them with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from istio.weights import ManagedRoute, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Difference:
    """One weight: its field path, the destination, what is in force and what is wanted."""

    path: str
    destination: str
    found: int
    wanted: int

    def __str__(self) -> str:
        return f"{self.path} ({self.destination}) is {self.found}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class Drift:
    """All differences, and who made them according to metadata.managedFields."""

    differences: tuple[Difference, ...]
    who: str = UNKNOWN
    when: str | None = None
    """RFC 3339, as the API server writes it."""

    def __str__(self) -> str:
        when = f" at {self.when}" if self.when else ""
        return f"changed by {self.who}{when}: {'; '.join(map(str, self.differences))}"


def drift(vs: Any, wanted: Mapping[str, int], route_names: Sequence[str] = ()) -> Drift | None:
    """Compare the weights in force with the wanted ones (key -> per cent); None when they are equal.

    A destination outside `wanted` is wanted at 0. Raises RouteError when one is missing or unclear.
    """
    managed = resolve(vs, wanted, route_names)
    differences = tuple(difference for route in managed for difference in _differences(route, wanted))
    if not differences:
        return None
    who, when = _last_write(vs, {route.route.kind for route in managed})
    return Drift(differences, who, when)


def _differences(managed: ManagedRoute, wanted: Mapping[str, int]) -> Iterator[Difference]:
    in_force = managed.weights
    rows = [(d, in_force[key], wanted[key]) for key, d in managed.named.items()]
    rows += [(d, d.weight or 0, 0) for d in managed.others]
    for destination, found, want in sorted(rows, key=lambda row: row[0].index):
        if found != want:
            path = f"{managed.route.path}.route[{destination.index}].weight"
            yield Difference(path, str(destination), found, want)


def _last_write(vs: Any, kinds: Iterable[str]) -> tuple[str, str | None]:
    """Return manager and time of the latest write by a manager that owns one of the route lists."""
    entries = (vs.get("metadata") or {}).get("managedFields")
    writers = [
        (str(entry.get("time") or ""), entry["manager"])
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("manager"), str) and _owns(entry, kinds)
    ]
    if not writers:
        return UNKNOWN, None
    when, who = max(writers)
    return who, when or None


def _owns(entry: Mapping[str, Any], kinds: Iterable[str]) -> bool:
    fields = entry.get("fieldsV1")
    spec = fields.get("f:spec") if isinstance(fields, dict) else None
    return isinstance(spec, dict) and any(f"f:{kind}" in spec for kind in kinds)
