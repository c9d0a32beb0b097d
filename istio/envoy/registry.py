"""The mesh as standalone knows it: services from ServiceEntries, and the rules and routes for their hosts.

Hosts are full names everywhere. A host has one ServiceEntry and one DestinationRule; of several
VirtualServices the oldest counts, as in istiod.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from istio.envoy.supported import finding
from istio.names import full_name, short_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from policies.findings import Finding

Object = dict[str, Any]
Family = Literal["http", "tls", "tcp"]
_FAMILIES: Mapping[str, Family] = {"TCP": "tcp", "TLS": "tls", "HTTPS": "tls"}


@dataclass(frozen=True, slots=True)
class Port:
    """A service port: what clients call, and what endpoints listen on unless they say otherwise."""

    number: int
    name: str
    protocol: str
    target: int

    @property
    def family(self) -> Family:
        """Whether routes for it are a VirtualService's http, tls or tcp routes."""
        return _FAMILIES.get(self.protocol, "http")

    @property
    def http2(self) -> bool:
        """Whether endpoints speak HTTP/2 without negotiation."""
        return self.protocol in {"HTTP2", "GRPC", "GRPC-WEB"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address that serves, with the labels by which subsets choose it."""

    address: str
    ports: Mapping[str, int]
    labels: Mapping[str, str]
    weight: int | None

    def port(self, port: Port) -> int:
        """Return the port to connect to for a service port."""
        return self.ports.get(port.name, port.target)


@dataclass(frozen=True, slots=True)
class Service:
    """A host with its ports and endpoints."""

    host: str
    namespace: str
    dns: bool
    ports: tuple[Port, ...]
    endpoints: tuple[Endpoint, ...]

    @property
    def name(self) -> str:
        """The short name, as Istio's metrics call the service."""
        return short_name(self.host)


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything the translation looks up: by full host name, or by service port."""

    services: Mapping[str, Service]
    ports: Mapping[tuple[int, Family], Sequence[tuple[Service, Port]]]
    rules: Mapping[str, Object]
    routes: Mapping[str, Object]
    findings: list[Finding] = field(default_factory=list)

    def policy(self, host: str) -> Mapping[str, Any]:
        """Return the spec of the host's DestinationRule, or nothing."""
        rule = self.rules.get(host)
        return rule["spec"] if rule else {}

    def subset(self, host: str, name: str) -> Mapping[str, Any] | None:
        """Return a subset of the host's DestinationRule."""
        return next(
            (subset for subset in self.policy(host).get("subsets", ()) if subset["name"] == name), None
        )

    def numbers(self) -> list[int]:
        """Return all service ports in order."""
        return sorted({number for number, _ in self.ports})

    def on_port(self, number: int, family: Family) -> Sequence[tuple[Service, Port]]:
        """Return the services of one family on a port, by host."""
        return self.ports.get((number, family), ())


@dataclass(frozen=True, slots=True)
class Scope:
    """A VirtualService seen from a port of one of its hosts: what its destinations mean there."""

    registry: Registry
    owner: Object
    port: Port

    def routes(self, family: Family) -> Iterator[tuple[Object, Object | None]]:
        """Yield the routes of a family with each match that admits this port, in order (None: no match)."""
        for route in self.owner["spec"].get(family) or ():
            for match in route.get("match") or (None,):
                if (match or {}).get("port", self.port.number) == self.port.number:
                    yield route, match

    def host(self, destination: Mapping[str, Any]) -> str:
        """Return a destination's host in full."""
        return full_name(destination["host"], namespace(self.owner))

    def cluster(self, destination: Mapping[str, Any]) -> str:
        """Return a destination's cluster: its own port, else the service's only one, else the listener's."""
        host = self.host(destination)
        service = self.registry.services.get(host)
        number = destination.get("port", {}).get("number")
        if number is None:
            number = service.ports[0].number if service and len(service.ports) == 1 else self.port.number
        return cluster_name(number, destination.get("subset", ""), host)


def cluster_name(port: int, subset: str, host: str) -> str:
    """Return istiod's name for an outbound cluster."""
    return f"outbound|{port}|{subset}|{host}"


def subject(obj: Object) -> str:
    """Return `Kind/namespace/name`."""
    return f"{obj['kind']}/{namespace(obj)}/{obj.get('metadata', {}).get('name', '')}"


def namespace(obj: Object) -> str:
    """Return an object's namespace."""
    return str(obj.get("metadata", {}).get("namespace") or "default")


def build(objects: Sequence[Object]) -> Registry:
    """Index objects that `supported.check` accepted, and report what collides."""
    by_kind: dict[str, list[Object]] = {"ServiceEntry": [], "DestinationRule": [], "VirtualService": []}
    for obj in sorted(objects, key=_age):
        by_kind[obj["kind"]].append(obj)
    findings: list[Finding] = []
    services = _services(by_kind["ServiceEntry"], findings)
    return Registry(
        services=services,
        ports=_by_port(services),
        rules=_claim(by_kind["DestinationRule"], findings, "PS505", lambda spec: [spec["host"]]),
        routes=_claim(by_kind["VirtualService"], findings, "PS506", lambda spec: spec["hosts"]),
        findings=findings,
    )


def _age(obj: Object) -> tuple[str, str, str]:
    meta = obj.get("metadata", {})
    # objects without a time count as the newest; then by name, so that the order is always the same
    return str(meta.get("creationTimestamp") or "~"), str(meta.get("name", "")), namespace(obj)


def _claim(
    objects: Iterable[Object], findings: list[Finding], code: str, hosts: Callable[[Object], list[str]]
) -> dict[str, Object]:
    """Return the first object for each host that `hosts` finds in its spec, and report the later ones."""
    owners: dict[str, Object] = {}
    for obj in objects:
        for host in hosts(obj["spec"]):
            owner = owners.setdefault(full_name(host, namespace(obj)), obj)
            if owner is not obj:
                message = f"{subject(owner)} has the host {host} already"
                findings.append(finding(code, subject(obj), "spec", message))
    return owners


def _services(entries: Sequence[Object], findings: list[Finding]) -> dict[str, Service]:
    owners = _claim(entries, findings, "PS505", lambda spec: spec["hosts"])
    for entry in entries:
        findings += _unresolved(entry)
    return {host: _service(host, entry) for host, entry in owners.items()}


def _by_port(services: Mapping[str, Service]) -> dict[tuple[int, Family], list[tuple[Service, Port]]]:
    index: dict[tuple[int, Family], list[tuple[Service, Port]]] = {}
    for _, service in sorted(services.items()):
        for port in service.ports:
            index.setdefault((port.number, port.family), []).append((service, port))
    return index


def _service(host: str, entry: Object) -> Service:
    spec = entry["spec"]
    dns = spec["resolution"].upper() == "DNS"
    endpoints = spec.get("endpoints") or ([{"address": host}] if dns else [])
    return Service(
        host=host,
        namespace=host.split(".")[1] if short_name(host) != host else namespace(entry),
        dns=dns,
        ports=tuple(_port(port) for port in spec["ports"]),
        endpoints=tuple(
            Endpoint(item["address"], item.get("ports") or {}, item.get("labels") or {}, item.get("weight"))
            for item in endpoints
        ),
    )


def _port(port: Mapping[str, Any]) -> Port:
    return Port(
        number=port["number"],
        name=port.get("name", ""),
        protocol=port["protocol"].upper(),
        target=port.get("targetPort", port["number"]),
    )


def _unresolved(entry: Object) -> list[Finding]:
    """Report names among addresses that are not to be resolved: Envoy would reject all clusters for one."""
    if entry["spec"]["resolution"].upper() == "DNS":
        return []
    return [
        finding(
            "PS503",
            subject(entry),
            f"spec.endpoints[{index}].address",
            "resolution STATIC needs IP addresses",
            found=endpoint["address"],
        )
        for index, endpoint in enumerate(entry["spec"].get("endpoints") or ())
        if any(c.isalpha() for c in endpoint["address"]) and ":" not in endpoint["address"]
    ]
