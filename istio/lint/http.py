"""One http route of a VirtualService: its action, destinations and everything done to requests on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from istio.lint.codes import problem
from istio.lint.headers import check_authority, check_headers
from istio.lint.httpparts import PARTS, check_percent
from istio.lint.matches import check_http_match
from istio.lint.shared import check_port, check_subset_name, domain_fault
from policies.documents import child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.findings import Finding


def check_http_route(route: dict[str, Any], path: str, *, delegate: bool) -> Iterator[Finding]:
    """Check one http route; `delegate` when its VirtualService has no hosts."""
    yield from _check_action(route, path, delegate=delegate)
    for index, match in enumerate(route.get("match", ())):
        yield from check_http_match(match, child(child(path, "match"), index))
    yield from check_headers(route.get("headers", {}), child(path, "headers"))
    yield from check_authority(route, path)
    yield from check_destinations(route.get("route", []), child(path, "route"))
    yield from _check_mirrors(route, path)
    for name, check in PARTS.items():
        if name in route:
            yield from check(route[name], child(path, name))


def _check_action(route: dict[str, Any], path: str, *, delegate: bool) -> Iterator[Finding]:
    """Check that a route does one thing."""
    if "delegate" in route and not delegate:
        for name in ("redirect", "route"):
            if route.get(name) not in (None, []):
                yield problem("PS129", child(path, name), f"root HTTP route must not specify {name}")
        return
    if "delegate" in route:
        yield problem("PS129", child(path, "delegate"), "delegate HTTP route cannot contain delegate")
    answer = next((name for name in ("redirect", "directResponse") if name in route), None)
    if answer:
        for name in ("route", "fault", "rewrite", "directResponse"):
            if name != answer and route.get(name) not in (None, []):
                yield problem(
                    "PS127", child(path, name), f"HTTP route cannot contain both {name} and {answer}"
                )
    elif not route.get("route"):
        yield problem("PS128", path, "HTTP route, redirect or directResponse is required")
    if "mirror" in route and route.get("mirrors"):
        yield problem("PS127", child(path, "mirrors"), "HTTP route cannot contain both mirror and mirrors")


def check_destinations(entries: list[dict[str, Any]], path: str) -> Iterator[Finding]:
    """Check the weighted destinations of an http, tls or tcp route."""
    for index, entry in enumerate(entries):
        spot = child(path, index)
        yield from check_destination(entry.get("destination"), child(spot, "destination"))
        yield from check_headers(entry.get("headers", {}), child(spot, "headers"))
        if entry.get("weight", 0) < 0:
            yield problem(
                "PS137", child(spot, "weight"), "weight must not be negative", found=entry["weight"]
            )
    if len(entries) < 2:
        return
    total = sum(entry.get("weight", 0) for entry in entries)
    if total == 0:
        yield problem("PS138", path, "total destination weight = 0")
    elif total != 100:
        message = "weights do not sum to 100; Istio takes them as proportions"
        yield problem("PS163", path, message, found=total, allowed="100")


def check_destination(destination: dict[str, Any] | None, path: str) -> Iterator[Finding]:
    """Check a destination, if there is one: host, subset and port."""
    if destination is None:
        return
    if (host := destination.get("host")) is not None:
        fault = "invalid destination host *" if host == "*" else domain_fault(host, wildcard=True)
        if fault:
            yield problem("PSx07", child(path, "host"), fault)
    if destination.get("subset"):
        yield from check_subset_name(destination["subset"], child(path, "subset"))
    if "port" in destination:
        yield from check_port(destination["port"].get("number", 0), f"{path}.port.number")


def _check_mirrors(route: dict[str, Any], path: str) -> Iterator[Finding]:
    yield from check_destination(route.get("mirror"), child(path, "mirror"))
    for name in ("mirrorPercent", "mirror_percent"):
        if route.get(name) is not None:
            yield problem("PS131", child(path, name), "deprecated setting, use mirrorPercentage instead")
            yield from check_percent(route[name], child(path, name))
    yield from check_percent(
        route.get("mirrorPercentage", {}).get("value", 0), f"{path}.mirrorPercentage.value"
    )
    for index, mirror in enumerate(route.get("mirrors", ())):
        spot = child(child(path, "mirrors"), index)
        yield from check_destination(mirror.get("destination"), child(spot, "destination"))
        yield from check_percent(mirror.get("percentage", {}).get("value", 0), f"{spot}.percentage.value")
