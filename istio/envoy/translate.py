"""From VirtualServices, DestinationRules and ServiceEntries to Envoy, with istiod's sidecar semantics.

Guarantees: the same objects give the same configuration, in any order; every field is either translated or
reported; an object with an error is left out as a whole. Checked in the tests by Envoy itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from istio.envoy.clusters import clusters
from istio.envoy.fields import KINDS
from istio.envoy.listeners import Listening, listeners
from istio.envoy.loose_ends import loose_ends
from istio.envoy.registry import build, subject
from istio.envoy.routes import route_configurations
from istio.envoy.supported import check
from policies.findings import errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from istio.envoy.registry import Object
    from policies.findings import Finding

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What a gateway adds to the objects."""

    folder: str = "xds"
    """The folder of the route files, as Envoy sees it."""
    address: str = "127.0.0.1"
    """Where listeners bind."""
    publish: Mapping[int, int] = field(default_factory=dict)
    """Service port -> listening port; the same number without an entry."""
    workload: str = "penstock-gateway"
    """The metrics' source_workload."""


@dataclass(frozen=True, slots=True)
class Translation:
    """Envoy's resources as plain JSON, and what was found on the way."""

    clusters: list[Json]
    listeners: list[Json]
    routes: dict[str, Json]
    """RouteConfigurations by name."""
    findings: list[Finding]
    """To be applied only without errors among them."""
    versions: dict[str, str]
    """`Kind/namespace/name` -> resourceVersion of every object that went in."""


def translate(objects: Sequence[Object], options: Options | None = None) -> Translation:
    """Translate the objects of the three kinds among `objects`; others are not looked at."""
    options = options or Options()
    relevant = [obj for obj in objects if obj.get("kind") in KINDS]
    findings = []
    accepted = []
    for obj in relevant:
        found = check(obj, subject(obj))
        findings += found
        if not errors(found):
            accepted.append(_without_nulls(obj))
    registry = build(accepted)
    made = clusters(registry)
    where = Listening(options.address, options.publish, options.folder.rstrip("/"), options.workload)
    listening, conflicts = listeners(registry, where)
    loose = loose_ends(registry, {cluster["name"] for cluster in made})
    return Translation(
        clusters=made,
        listeners=listening,
        routes=route_configurations(registry),
        findings=[*findings, *registry.findings, *conflicts, *loose],
        versions={subject(obj): str(obj.get("metadata", {}).get("resourceVersion", "")) for obj in relevant},
    )


def _without_nulls(value: Any) -> Any:
    """Return a copy in which `field: null` is as if it were not written, as the API server reads it."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
