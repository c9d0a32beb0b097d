"""Services and subsets as Envoy clusters, named and limited as istiod does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from istio.envoy import traffic
from istio.envoy.durations import proto
from istio.envoy.registry import cluster_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from istio.envoy.registry import Endpoint, Port, Registry, Service

Json = dict[str, Any]
_WHOLE_HOST: Mapping[str, Any] = {}
_RESOLVING: Json = {
    "dns_lookup_family": "V4_PREFERRED",
    # asked again when the answer has run out, as istiod wants it; Envoy alone would ask every 5 s
    "dns_refresh_rate": "60s",
    "respect_dns_ttl": True,
    "dns_jitter": "0.1s",
}


def clusters(registry: Registry) -> list[Json]:
    """Return the clusters of every service: for each port the whole host, then each subset, in order."""
    return [
        _cluster(service, port, subset, registry.policy(service.host))
        for _, service in sorted(registry.services.items())
        for port in service.ports
        for subset in (_WHOLE_HOST, *(registry.policy(service.host).get("subsets") or ()))
    ]


def _cluster(service: Service, port: Port, subset: Mapping[str, Any], rule: Mapping[str, Any]) -> Json:
    name = cluster_name(port.number, subset.get("name", ""), service.host)
    policy = traffic.effective(rule, subset, port.number)
    pool = policy.get("connectionPool") or {}
    endpoints = [item for item in service.endpoints if _selects(subset.get("labels") or {}, item)]
    out: Json = {
        "name": name,
        # dots would cut the cluster name in Envoy's Prometheus labels
        "alt_stat_name": name.replace(".", "_"),
        "type": "STRICT_DNS" if service.dns else "STATIC",
        "connect_timeout": proto((pool.get("tcp") or {}).get("connectTimeout", "10s")),
        "load_assignment": {"cluster_name": name, "endpoints": _assignment(endpoints, port)},
        "circuit_breakers": traffic.circuit_breakers(pool, policy.get("retryBudget")),
        "metadata": {"filter_metadata": {"istio": _metadata(service, subset, endpoints)}},
        **traffic.load_balancer(policy.get("loadBalancer") or {}),
        **traffic.outlier_detection(policy.get("outlierDetection")),
        **traffic.keepalive(pool),
    }
    if service.dns:
        out |= _RESOLVING
    if options := traffic.protocol_options(pool, http2=port.http2):
        out["typed_extension_protocol_options"] = {options["@type"].rpartition("/")[2]: options}
    return out


def _selects(labels: Mapping[str, str], endpoint: Endpoint) -> bool:
    return all(endpoint.labels.get(name) == value for name, value in labels.items())


def _assignment(endpoints: list[Endpoint], port: Port) -> list[Json]:
    if not endpoints:
        return []
    return [{"lb_endpoints": [_lb_endpoint(endpoint, port) for endpoint in endpoints]}]


def _lb_endpoint(endpoint: Endpoint, port: Port) -> Json:
    address = {"address": endpoint.address, "port_value": endpoint.port(port)}
    out: Json = {"endpoint": {"address": {"socket_address": address}}}
    if endpoint.weight:
        out["load_balancing_weight"] = endpoint.weight
    return out


def _metadata(service: Service, subset: Mapping[str, Any], endpoints: list[Endpoint]) -> Json:
    """Return what the metrics say about the destination, whether or not a request reaches an endpoint."""
    return {
        "host": service.host,
        "service": service.name,
        "namespace": service.namespace,
        "subset": subset.get("name", ""),
        "version": _version(subset, endpoints),
    }


def _version(subset: Mapping[str, Any], endpoints: list[Endpoint]) -> str:
    """Return the version label of the subset, else what all its endpoints share, else the subset's name."""
    labels: Mapping[str, str] = subset.get("labels") or {}
    shared = {endpoint.labels.get("version", "") for endpoint in endpoints}
    of_all = shared.pop() if len(shared) == 1 else ""
    return labels.get("version") or of_all or subset.get("name") or "unknown"
