"""Envoy listeners, one per service port: HTTP with its routes by RDS, TLS by server name, and plain TCP.

TCP and TLS weights stand in the listener itself, as under istiod, so changing them is a listener update: it
takes effect for new connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from istio.envoy import policies, telemetry
from istio.envoy.bootstrap import config_source
from istio.envoy.durations import proto
from istio.envoy.registry import Scope, cluster_name
from istio.envoy.supported import finding
from istio.envoy.traffic import effective

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from istio.envoy.registry import Family, Object, Port, Registry, Service
    from policies.findings import Finding

Json = dict[str, Any]
_TYPE = "type.googleapis.com/envoy.extensions.filters"
_HTTP_FILTERS: Mapping[str, str] = {
    policies.FAULT_FILTER: "fault.v3.HTTPFault",
    policies.CORS_FILTER: "cors.v3.Cors",
    "envoy.filters.http.router": "router.v3.Router",
}


@dataclass(frozen=True, slots=True)
class Listening:
    """Where listeners bind and find their routes; `publish` maps service ports to listening ports."""

    address: str
    publish: Mapping[int, int]
    folder: str
    workload: str

    def port(self, number: int) -> int:
        """Return the port to listen on for a service port."""
        return self.publish.get(number, number)


def listeners(registry: Registry, where: Listening) -> tuple[list[Json], list[Finding]]:
    """Return the listeners by port; a port that two services cannot share is a finding and has none."""
    findings: list[Finding] = []
    taken: dict[int, int] = {}
    out = []
    for number in registry.numbers():
        first = taken.setdefault(where.port(number), number)
        problem = _conflict(registry, number)
        if first != number:
            problem = f"port {where.port(number)} is already published for service port {first}"
        if problem:
            findings.append(finding("PS508", f"port {number}", "", problem))
        else:
            out.append(_listener(registry, number, where))
    return out, findings


def _conflict(registry: Registry, number: int) -> str:
    by_family = {family: registry.on_port(number, family) for family in _BUILDERS}
    used = [family for family, services in by_family.items() if services]
    if len(used) > 1:
        return f"services on port {number} speak different protocols ({', '.join(used)})"
    if len(by_family["tcp"]) > 1:
        hosts = ", ".join(service.host for service, _ in by_family["tcp"])
        return f"several TCP services share port {number}: {hosts}; nothing in a connection tells them apart"
    return ""


def _listener(registry: Registry, number: int, where: Listening) -> Json:
    family = next(family for family in _BUILDERS if registry.on_port(number, family))
    address = {"address": where.address, "port_value": where.port(number)}
    out: Json = {
        "name": f"{where.address}_{number}",
        "address": {"socket_address": address},
        # else another process could take the port too, and silently get a part of the connections
        "enable_reuse_port": False,
    }
    return {**out, **_BUILDERS[family](registry, number, where)}


def _http(_registry: Registry, number: int, where: Listening) -> Json:
    manager: Json = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": f"http_{number}",
        "rds": {
            "route_config_name": str(number),
            "config_source": config_source(f"{where.folder}/rds-{number}.json"),
        },
        "http_filters": [
            {"name": name, "typed_config": {"@type": f"{_TYPE}.http.{kind}"}}
            for name, kind in _HTTP_FILTERS.items()
        ],
        "access_log": telemetry.access_loggers(where.workload),
        "use_remote_address": False,
        # as istiod: an answer may pause for longer than Envoy's five minutes, and the service says 100 itself
        "stream_idle_timeout": "0s",
        "proxy_100_continue": True,
        "normalize_path": True,
        "server_header_transformation": "PASS_THROUGH",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
    }
    name = "envoy.filters.network.http_connection_manager"
    return {"filter_chains": [{"filters": [{"name": name, "typed_config": manager}]}]}


def _tcp(registry: Registry, number: int, _where: Listening) -> Json:
    ((service, port),) = registry.on_port(number, "tcp")
    scope = _scope(registry, service, port)
    route = next((route for route, _ in scope.routes("tcp")), None) if scope else None
    return {"filter_chains": [_l4_chain(registry, service, port, _targets(service, port, scope, route))]}


def _tls(registry: Registry, number: int, _where: Listening) -> Json:
    """Return a chain per set of server names; names that an earlier chain took are left out of later ones."""
    chains: list[Json] = []
    taken: set[str] = set()
    for service, port in registry.on_port(number, "tls"):
        scope = _scope(registry, service, port)
        for names, route in _by_server_name(service, scope):
            fresh = [name for name in dict.fromkeys(names) if name not in taken]
            taken.update(fresh)
            if fresh:
                chain = _l4_chain(registry, service, port, _targets(service, port, scope, route))
                every = "*" in fresh
                chains.append(chain if every else {"filter_chain_match": {"server_names": fresh}, **chain})
    inspector = {"@type": f"{_TYPE}.listener.tls_inspector.v3.TlsInspector"}
    return {
        "listener_filters": [{"name": "envoy.filters.listener.tls_inspector", "typed_config": inspector}],
        "filter_chains": chains,
    }


_BUILDERS: Mapping[Family, Callable[[Registry, int, Listening], Json]] = {
    "http": _http,
    "tls": _tls,
    "tcp": _tcp,
}


def _scope(registry: Registry, service: Service, port: Port) -> Scope | None:
    owner = registry.routes.get(service.host)
    return Scope(registry, owner, port) if owner else None


def _by_server_name(service: Service, scope: Scope | None) -> list[tuple[list[str], Object | None]]:
    routes: list[tuple[list[str], Object | None]] = []
    if scope:
        routes = [((match or {})["sniHosts"], route) for route, match in scope.routes("tls")]
    return routes or [([service.host], None)]


def _l4_chain(registry: Registry, service: Service, port: Port, targets: Json) -> Json:
    proxy: Json = {
        "@type": f"{_TYPE}.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": f"tcp_{port.number}",
        **targets,
    }
    pool = effective(registry.policy(service.host), {}, port.number).get("connectionPool") or {}
    if idle := (pool.get("tcp") or {}).get("idleTimeout"):
        proxy["idle_timeout"] = proto(idle)
    return {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}


def _targets(service: Service, port: Port, scope: Scope | None, route: Mapping[str, Any] | None) -> Json:
    """Return where connections go: the route's destinations, or the service itself without a route."""
    if scope is None or route is None:
        return {"cluster": cluster_name(port.number, "", service.host)}
    named = [(scope.cluster(item["destination"]), item.get("weight", 0)) for item in route["route"]]
    if len(named) == 1:
        return {"cluster": named[0][0]}
    return {"weighted_clusters": {"clusters": [{"name": n, "weight": w} for n, w in named if w]}}
