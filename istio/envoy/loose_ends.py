"""What leads nowhere between objects that are fine alone; Envoy does with them what it does under istiod."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from istio.envoy.registry import Scope, subject
from istio.envoy.supported import finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from istio.envoy.registry import Registry
    from policies.findings import Finding


def loose_ends(registry: Registry, clusters: set[str]) -> list[Finding]:
    """Report routes without service, short names of several services, and destinations without cluster."""
    return [*_without_service(registry), *_ambiguous(registry), *_unresolved(registry, clusters)]


def _without_service(registry: Registry) -> list[Finding]:
    """Report hosts without a service, and routes of a family that no port of the host speaks."""
    findings = []
    for host, route in registry.routes.items():
        service = registry.services.get(host)
        if service is None:
            message = f"no ServiceEntry has the host {host}: its routes have no effect"
            findings.append(finding("PS507", subject(route), "spec.hosts", message))
            continue
        for family in {"http", "tls", "tcp"} - {port.family for port in service.ports}:
            if route["spec"].get(family):
                message = f"no port of {host} speaks {family}: these routes have no effect"
                findings.append(finding("PS507", subject(route), f"spec.{family}", message))
    return findings


def _ambiguous(registry: Registry) -> list[Finding]:
    """Report short names that several services of one HTTP port share."""
    findings = []
    for number in registry.numbers():
        services = [service for service, _ in registry.on_port(number, "http")]
        for short, count in sorted(Counter(service.name for service in services).items()):
            if count > 1:
                message = f"{count} services on port {number} are called {short}: use their full names"
                findings.append(finding("PS510", f"port {number}", "", message))
    return findings


def _unresolved(registry: Registry, known: set[str]) -> list[Finding]:
    """Report destinations of VirtualServices in use for which no port of a listener leads to a cluster."""
    findings = []
    for host, owner in registry.routes.items():
        ports = registry.services[host].ports if host in registry.services else ()
        for path, destination in _named_destinations(owner["spec"]):
            names = {Scope(registry, owner, port).cluster(destination) for port in ports}
            if names and not names & known:
                message = f"no cluster {min(names)}: requests to it get 503"
                findings.append(finding("PS509", subject(owner), path, message))
    return findings


def _named_destinations(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind in ("http", "tls", "tcp"):
        for index, route in enumerate(spec.get(kind) or ()):
            for place, item in enumerate(route.get("route") or ()):
                yield f"spec.{kind}[{index}].route[{place}].destination", item["destination"]
            for place, item in enumerate(route.get("mirrors") or ()):
                yield f"spec.{kind}[{index}].mirrors[{place}].destination", item["destination"]
            if "mirror" in route:
                yield f"spec.{kind}[{index}].mirror", route["mirror"]
