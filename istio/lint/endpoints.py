"""The rules for the endpoints of a ServiceEntry, which depend on its resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from istio.lint.codes import problem
from istio.lint.shared import check_labels, check_port, domain_fault, is_address, is_dns_label
from policies.documents import child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.findings import Finding

Spec = dict[str, Any]

_UNIX: Final = "unix://"


def check_endpoints(spec: Spec, resolution: str) -> Iterator[Finding]:
    """Check the endpoints of a ServiceEntry; static ones are addresses or sockets, others may be names."""
    endpoints = spec.get("endpoints", [])
    if "endpoints" in spec and (resolution == "NONE" or (endpoints and resolution == "DYNAMIC_DNS")):
        yield problem(
            "PS327", "spec.endpoints", f"no endpoints should be provided for resolution {resolution}"
        )
        return
    if resolution == "DNS_ROUND_ROBIN" and len(endpoints) > 1:
        message = "there must only be 0 or 1 endpoint for resolution DNS_ROUND_ROBIN"
        yield problem("PS327", "spec.endpoints", message, found=len(endpoints))
    ports = {port["name"] for port in spec.get("ports", ()) if "name" in port}
    for index, endpoint in enumerate(endpoints):
        path = child("spec.endpoints", index)
        yield from _check_address(endpoint, path, resolution)
        yield from check_labels(endpoint.get("labels", {}), child(path, "labels"))
        if endpoint.get("address", "").startswith(_UNIX):
            yield from _check_socket(endpoint, path, ports)
        else:
            yield from _check_ports(endpoint.get("ports", {}), child(path, "ports"), ports)


def _check_address(endpoint: Spec, path: str, resolution: str) -> Iterator[Finding]:
    address, spot = endpoint.get("address", ""), child(path, "address")
    if address.startswith(_UNIX) and resolution == "STATIC":
        return
    if not address and endpoint.get("network") and resolution == "STATIC":
        yield problem("PS335", path, f'address is unset with network "{endpoint["network"]}"')
    elif not address:
        yield problem("PS328", spot, "address is required")
    elif resolution == "STATIC" and not is_address(address):
        yield problem("PS328", spot, "endpoint address is not a valid IP address", found=address)
    elif not is_address(address) and domain_fault(address, wildcard=False):
        yield problem("PS328", spot, "endpoint address is not a valid FQDN or an IP address", found=address)


def _check_socket(endpoint: Spec, path: str, ports: set[str]) -> Iterator[Finding]:
    name = endpoint["address"].removeprefix(_UNIX)
    if not name.startswith(("/", "@")) or name.endswith("/"):
        allowed = "unix:///absolute/path or unix://@name"
        yield problem("PS330", child(path, "address"), "not a Unix socket", found=name, allowed=allowed)
    if "ports" in endpoint:
        yield problem("PS330", child(path, "ports"), "a Unix endpoint must not include ports")
    if len(ports) != 1:
        yield problem("PS330", path, "exactly 1 service port required for Unix endpoints", found=len(ports))


def _check_ports(mapping: dict[str, int], path: str, known: set[str]) -> Iterator[Finding]:
    for name, port in mapping.items():
        spot = child(path, name)
        if name not in known:
            yield problem("PS329", spot, f"endpoint port {port} is not defined by the service entry")
        if not is_dns_label(name) or len(name) > 62:  # the CRD allows one character less than a label has
            yield problem("PS324", spot, f"invalid port name: {name}")
        yield from check_port(port, spot)
