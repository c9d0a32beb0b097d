"""The rules for a ServiceEntry: istiod's (ValidateServiceEntry in Istio 1.29) and the CRD's CEL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from istio.lint.codes import problem
from istio.lint.endpoints import check_endpoints
from istio.lint.shared import (
    check_export_to,
    check_port,
    check_selector,
    check_subnet,
    domain_fault,
    is_dns_label,
)
from policies.documents import child

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from policies.findings import Finding

Spec = dict[str, Any]

_HTTP: Final = frozenset({"http", "http2", "http_proxy", "grpc", "grpc-web"})
_TLS: Final = frozenset({"https", "tls"})
_TCP: Final = _TLS | {"tcp", "mongo", "redis", "mysql"}
_PROTOCOLS: Final = _HTTP | _TCP | {"udp"}
_DNS: Final = frozenset({"DNS", "DNS_ROUND_ROBIN"})
_AUTO_ADDRESS: Final = "networking.istio.io/enable-autoallocate-ip"


def check_service_entry(spec: Spec, namespace: str, labels: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what istiod or the API server refuses or warns of; `spec` must fit the schema."""
    resolution = spec.get("resolution", "NONE")
    yield from _check_selector(spec, resolution)
    yield from _check_hosts(spec, resolution)
    yield from _check_addresses(spec, resolution)
    yield from _check_ports(spec)
    given = resolution != "NONE" and labels.get(_AUTO_ADDRESS, "").lower() != "false"
    yield from _check_port_addresses(spec, allocated=given)
    yield from check_endpoints(spec, resolution)
    yield from _check_several_hosts(spec, resolution)
    if resolution == "DYNAMIC_DNS":
        yield from _check_dynamic(spec)
    yield from check_export_to(spec.get("exportTo", ()), namespace, "spec.exportTo", service_entry=True)


def _protocol(port: Spec) -> str:
    return str(port.get("protocol", "")).lower()


def _check_selector(spec: Spec, resolution: str) -> Iterator[Finding]:
    selector = spec.get("workloadSelector")
    if selector is None:
        return
    yield from check_selector(selector.get("labels", {}), "spec.workloadSelector.labels")
    if "endpoints" in spec:
        yield problem("PS320", "spec", "only one of workloadSelector or endpoints may be set")
    if resolution == "NONE":
        message = "workloadSelector should not be set when resolution mode is NONE"
        yield problem("PS334", "spec.workloadSelector", message)


def _check_hosts(spec: Spec, resolution: str) -> Iterator[Finding]:
    needs_name = resolution in _DNS and not spec.get("endpoints")
    for index, host in enumerate(spec.get("hosts", ())):
        spot = child("spec.hosts", index)
        fault = "invalid host *" if host == "*" else domain_fault(host, wildcard=True)
        if fault:
            yield problem("PSx07", spot, fault)
        elif needs_name and (fault := domain_fault(host, wildcard=False)):
            yield problem("PSx07", spot, f"must be resolvable if no endpoints are provided: {fault}")
        elif resolution != "DYNAMIC_DNS" and "*" in host and not host.startswith("*."):
            yield problem("PS321", spot, "partial wildcard not allowed", found=host)


def _check_addresses(spec: Spec, resolution: str) -> Iterator[Finding]:
    for index, address in enumerate(spec.get("addresses", ())):
        spot = child("spec.addresses", index)
        yield from check_subnet(address, spot)
        if "/" in address and resolution not in {"NONE", "STATIC"}:
            message = "CIDR addresses are allowed only for NONE/STATIC resolution types"
            yield problem("PS322", spot, message, found=address)


def _check_ports(spec: Spec) -> Iterator[Finding]:
    names: set[str] = set()
    numbers: set[int] = set()
    for index, port in enumerate(spec.get("ports", ())):
        path, name, number = child("spec.ports", index), port.get("name"), port.get("number")
        if name is not None:
            if name in names:
                yield problem("PS323", child(path, "name"), f'port name "{name}" already defined')
            if not is_dns_label(name):
                yield problem("PS324", child(path, "name"), f"invalid port name: {name}")
            names.add(name)
        if number is not None:
            if number in numbers:
                yield problem("PS323", child(path, "number"), f"port {number} already defined")
            yield from check_port(number, child(path, "number"))
            numbers.add(number)
        if "targetPort" in port:
            yield from check_port(port["targetPort"], child(path, "targetPort"))
        if port.get("protocol") and _protocol(port) not in _PROTOCOLS:
            yield problem("PS325", child(path, "protocol"), f"unsupported protocol: {port['protocol']}")


def _check_port_addresses(spec: Spec, *, allocated: bool) -> Iterator[Finding]:
    """Warn of TCP ports that clients cannot tell from others: without an address of the service."""
    if spec.get("addresses") or allocated:
        return
    for index, port in enumerate(spec.get("ports", ())):
        if port.get("protocol", "") in {"", "TCP"}:
            message = "addresses are required for ports serving TCP (or unset) protocol"
            yield problem("PS326", child("spec.ports", index), message)


def _check_several_hosts(spec: Spec, resolution: str) -> Iterator[Finding]:
    if len(spec.get("hosts", ())) < 2 or resolution == "NONE":
        return
    protocols = [_protocol(port) for port in spec.get("ports", ())]
    if not _HTTP.union(_TLS).issuperset(protocols):
        yield problem("PS332", "spec.ports", "multiple hosts provided with non-HTTP, non-TLS ports")
    if resolution in _DNS and spec.get("addresses") and not _TCP.isdisjoint(protocols):
        message = "more than one host together with an address and a TCP port"
        yield problem("PS333", "spec.hosts", message)


def _check_dynamic(spec: Spec) -> Iterator[Finding]:
    for index, host in enumerate(spec.get("hosts", ())):
        if not host.startswith("*"):
            yield problem("PS331", child("spec.hosts", index), "host must be wildcarded", found=host)
    if spec.get("addresses"):
        yield problem("PS331", "spec.addresses", "addresses cannot be set for DYNAMIC_DNS")
    for index, port in enumerate(spec.get("ports", ())):
        if _protocol(port) not in {"http", "tls"}:
            yield problem(
                "PS331", child("spec.ports", index), "only HTTP and TLS are supported for DYNAMIC_DNS"
            )
    if spec.get("location", "MESH_EXTERNAL") != "MESH_EXTERNAL":
        yield problem("PS331", "spec.location", "location must be MESH_EXTERNAL for DYNAMIC_DNS")
