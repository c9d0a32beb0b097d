"""istiod's rules for a VirtualService (ValidateVirtualService in Istio 1.29), and two warnings of our own.

A VirtualService without hosts is a delegate: the http routes that another one refers to.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from istio.lint.codes import problem
from istio.lint.headers import is_claim
from istio.lint.http import check_destinations, check_http_route
from istio.lint.matches import check_gateways, check_layer4_match
from istio.lint.reach import check_overlap, check_reach
from istio.lint.shared import check_export_to, clashes, covers, domain_fault, is_address
from policies.documents import child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.findings import Finding

Spec = dict[str, Any]


def check_virtual_service(spec: Spec, namespace: str) -> Iterator[Finding]:
    """Yield what istiod refuses or warns of; `spec` must fit the schema."""
    yield from _check_delegate(spec)
    yield from check_gateways(spec.get("gateways", ()), "spec.gateways")
    yield from _check_claims(spec)
    yield from _check_hosts(spec)
    if not any(spec.get(kind) for kind in ("http", "tls", "tcp")):
        yield problem("PS120", "spec", "http, tcp or tls must be provided in virtual service")
    for index, route in enumerate(spec.get("http", ())):
        yield from check_http_route(route, child("spec.http", index), delegate=not spec.get("hosts"))
    for kind in ("tls", "tcp"):
        for index, route in enumerate(spec.get(kind, ())):
            yield from _check_layer4(kind, route, child(f"spec.{kind}", index), spec)
    yield from check_export_to(spec.get("exportTo", ()), namespace, "spec.exportTo")
    for kind in ("http", "tls", "tcp"):
        yield from check_reach(spec.get(kind, ()), f"spec.{kind}")
    yield from check_overlap(spec.get("http", ()), "spec.http")
    yield from _check_names(spec)


def _check_delegate(spec: Spec) -> Iterator[Finding]:
    for name in ("gateways", "tls", "tcp"):
        if not spec.get("hosts") and spec.get(name):
            yield problem(
                "PS121", child("spec", name), f"a virtual service without hosts must have no {name}"
            )


def _on_gateway(spec: Spec) -> bool:
    """Tell whether it applies to gateways only."""
    return bool(spec.get("gateways")) and "mesh" not in spec["gateways"]


def _check_claims(spec: Spec) -> Iterator[Finding]:
    if _on_gateway(spec):
        return
    for index, route in enumerate(spec.get("http", ())):
        for number, match in enumerate(route.get("match", ())):
            for name in ("headers", "withoutHeaders"):
                spot = f"spec.http[{index}].match[{number}].{name}"
                for header in filter(is_claim, match.get(name, ())):
                    message = "JWT claim based routing is only supported for gateways"
                    yield problem("PS126", child(spot, header), message)


def _check_hosts(spec: Spec) -> Iterator[Finding]:
    hosts: list[str] = spec.get("hosts", [])
    with_sni = any(match.get("sniHosts") for route in spec.get("tls", ()) for match in route.get("match", ()))
    faulty = False
    for index, host in enumerate(hosts):
        spot = child("spec.hosts", index)
        fault = _host_fault(host, sni=_on_gateway(spec) and with_sni)
        if fault and not is_address(host):
            faulty = True
            yield problem("PSx07", spot, fault)
        elif host == "*" and not _on_gateway(spec):
            faulty = True
            yield problem("PS123", spot, "wildcard host * is not allowed on the mesh gateway")
    for index, other in clashes(hosts) if not faulty else ():
        message = f"duplicate hosts in virtual service: {hosts[index]} & {hosts[other]}"
        yield problem("PS122", child("spec.hosts", index), message)


def _host_fault(host: str, *, sni: bool) -> str | None:
    """Check a host; with `sni`, also istiod's own names such as `outbound_.80_._.web.default.svc`."""
    if not (sni and host.startswith("outbound_")):
        return domain_fault(host, wildcard=True)
    parts = host.split("_")
    port, name = (parts[1].strip("."), parts[3].strip(".")) if len(parts) > 3 else ("", "")
    if len(host.encode()) > 255 or not any("0" <= char <= "9" for char in port):
        return f'domain name "{host}" invalid, should follow outbound_.<PORT>_._.<HOSTNAME>'
    if not any(char.isascii() and char.isalpha() for char in name):
        return f'domain name "{host}" invalid, should follow outbound_.<PORT>_._.<HOSTNAME>'
    return None


def _check_layer4(kind: str, route: Spec, path: str, spec: Spec) -> Iterator[Finding]:
    """Check a tls or tcp route."""
    if kind == "tls" and not route.get("match"):
        yield problem("PS149", child(path, "match"), "TLS route must have at least one match condition")
    for index, match in enumerate(route.get("match", ())):
        spot = child(child(path, "match"), index)
        yield from check_layer4_match(match, spot)
        if kind == "tls":
            yield from _check_sni_hosts(match.get("sniHosts", []), child(spot, "sniHosts"), spec)
    if not route.get("route"):
        yield problem("PS151", child(path, "route"), f"{kind.upper()} route is required")
    yield from check_destinations(route.get("route", []), child(path, "route"))


def _check_sni_hosts(names: list[str], path: str, spec: Spec) -> Iterator[Finding]:
    if not names:
        yield problem("PS149", path, "TLS match must have at least one SNI host")
    for index, name in enumerate(names):
        fault = _host_fault(name, sni="mesh" not in spec.get("gateways", ()))
        if fault and is_address(name):
            message = "an IP address goes against the SNI spec, and most clients do not support it"
            yield problem("PS150", child(path, index), message, found=name)
        elif fault:
            yield problem("PS149", child(path, index), fault)
        elif not any(covers(host, name) for host in spec.get("hosts", ())):
            message = "SNI host is not a subset of any of the virtual service's hosts"
            yield problem(
                "PS149", child(path, index), message, found=name, allowed=", ".join(spec.get("hosts", ()))
            )


def _check_names(spec: Spec) -> Iterator[Finding]:
    """Warn of http routes with the same name: a policy could not tell them apart."""
    names = [route.get("name") for route in spec.get("http", ())]
    for name, count in Counter(filter(None, names)).items():
        if count > 1:
            spot = f"spec.http[{len(names) - 1 - names[::-1].index(name)}].name"
            yield problem("PS162", spot, f'{count} http routes have the name "{name}"')
