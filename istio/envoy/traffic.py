"""A DestinationRule's traffic policy: which settings count for a port of a subset, and Envoy's words for it.

Precedence is istiod's (MergeSubsetTrafficPolicy): the subset's settings for the port, the subset's own, the
rule's settings for the port, the rule's own. Settings for a port replace the level's own as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from istio.envoy.durations import proto, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]
UNLIMITED = 4294967295
_PER_PORT = ("connectionPool", "loadBalancer", "outlierDetection", "tls")
_SIMPLE = {"RANDOM": "RANDOM", "ROUND_ROBIN": "ROUND_ROBIN"}


def effective(rule: Mapping[str, Any], subset: Mapping[str, Any], port: int) -> Json:
    """Return the one traffic policy for a port of a subset (an empty mapping: of the host as a whole)."""
    base, _ = _at_port(rule.get("trafficPolicy") or {}, port)
    if not subset.get("trafficPolicy"):
        return base
    own, for_port = _at_port(subset["trafficPolicy"], port)
    kept = {name: value for name, value in base.items() if not (for_port and name in _PER_PORT)}
    return {**kept, **own}


def _at_port(policy: Mapping[str, Any], port: int) -> tuple[Json, bool]:
    """Return a level's policy for a port, and whether the port has settings of its own."""
    whole = {name: value for name, value in policy.items() if name != "portLevelSettings"}
    for setting in policy.get("portLevelSettings") or ():
        if setting["port"]["number"] == port:
            kept = {name: value for name, value in whole.items() if name not in _PER_PORT}
            return {**kept, **{name: value for name, value in setting.items() if name != "port"}}, True
    return whole, False


def consistent_hash(rule: Mapping[str, Any], subset: Mapping[str, Any], port: int | None) -> Json | None:
    """Return the hash of a route's destination; `port` is the one that the destination names, if any."""
    for policy in (subset.get("trafficPolicy") or {}, rule.get("trafficPolicy") or {}):
        levels = [item for item in policy.get("portLevelSettings") or () if item["port"]["number"] == port]
        for level in [*levels[:1], policy]:
            found: Json | None = (level.get("loadBalancer") or {}).get("consistentHash")
            if found is not None:
                return found
    return None


def load_balancer(settings: Mapping[str, Any]) -> Json:
    """Return the load balancing policy: least requests unless the rule says otherwise."""
    hashed = settings.get("consistentHash")
    if hashed is None:
        return {"lb_policy": _SIMPLE.get(settings.get("simple", ""), "LEAST_REQUEST")}
    if "maglev" in hashed:
        table = hashed["maglev"].get("tableSize")
        return {"lb_policy": "MAGLEV", **({"maglev_lb_config": {"table_size": table}} if table else {})}
    if "ringHash" in hashed:
        size = hashed["ringHash"].get("minimumRingSize")
    else:
        size = hashed.get("minimumRingSize") or 1024
    return {
        "lb_policy": "RING_HASH",
        **({"ring_hash_lb_config": {"minimum_ring_size": size}} if size else {}),
    }


def circuit_breakers(pool: Mapping[str, Any], budget: Mapping[str, Any] | None) -> Json:
    """Return the limits of the connection pool: none by default, since Envoy's own stop retries at three."""
    http, tcp = pool.get("http") or {}, pool.get("tcp") or {}
    threshold: Json = {
        "max_connections": tcp.get("maxConnections") or UNLIMITED,
        "max_pending_requests": http.get("http1MaxPendingRequests") or UNLIMITED,
        "max_requests": http.get("http2MaxRequests") or UNLIMITED,
        "max_retries": http.get("maxRetries") or UNLIMITED,
    }
    if budget is not None:
        threshold["retry_budget"] = {
            "budget_percent": {"value": budget.get("percent", 20)},
            "min_retry_concurrency": budget.get("minRetryConcurrency") or 3,
        }
    return {"thresholds": [threshold]}


def outlier_detection(settings: Mapping[str, Any] | None) -> Json:
    """Return ejection of failing endpoints, and how many may be ejected before Envoy uses all again."""
    if settings is None:
        return {}
    out: Json = {"enforcing_success_rate": 0}
    for name, errors in (
        ("consecutive_5xx", settings.get("consecutive5xxErrors")),
        ("consecutive_gateway_failure", settings.get("consecutiveGatewayErrors")),
    ):
        if errors is not None:
            out |= {name: errors, f"enforcing_{name}": 100 if errors else 0}
    for name, length in (("interval", "interval"), ("base_ejection_time", "baseEjectionTime")):
        if length in settings:
            out[name] = proto(settings[length])
    if settings.get("maxEjectionPercent"):
        out["max_ejection_percent"] = int(settings["maxEjectionPercent"])
    out |= _local_origin(settings)
    panic = {"value": settings.get("minHealthPercent", 0)}
    return {"outlier_detection": out, "common_lb_config": {"healthy_panic_threshold": panic}}


def _local_origin(settings: Mapping[str, Any]) -> Json:
    if not settings.get("splitExternalLocalOriginErrors"):
        return {}
    out: Json = {"split_external_local_origin_errors": True, "enforcing_local_origin_success_rate": 0}
    if failures := settings.get("consecutiveLocalOriginFailures"):
        out |= {
            "consecutive_local_origin_failure": failures,
            "enforcing_consecutive_local_origin_failure": 100,
        }
    return out


def keepalive(pool: Mapping[str, Any]) -> Json:
    """Return TCP keepalive in whole seconds, when the rule asks for it."""
    settings = (pool.get("tcp") or {}).get("tcpKeepalive")
    if settings is None:
        return {}
    out: Json = {"keepalive_probes": settings["probes"]} if settings.get("probes") else {}
    for name, length in (("keepalive_time", "time"), ("keepalive_interval", "interval")):
        if length in settings:
            out[name] = int(seconds(settings[length]))
    return {"upstream_connection_options": {"tcp_keepalive": out}}


def protocol_options(pool: Mapping[str, Any], *, http2: bool) -> Json | None:
    """Return how HTTP is spoken to the endpoints; None where Envoy's default (HTTP/1.1) serves."""
    http, tcp = pool.get("http") or {}, pool.get("tcp") or {}
    common: Json = {}
    if idle := http.get("idleTimeout") or tcp.get("idleTimeout"):
        common["idle_timeout"] = proto(idle)
    if http.get("maxRequestsPerConnection"):
        common["max_requests_per_connection"] = http["maxRequestsPerConnection"]
    if "maxConnectionDuration" in tcp:
        common["max_connection_duration"] = proto(tcp["maxConnectionDuration"])
    upgraded = (http2 or http.get("h2UpgradePolicy") == "UPGRADE") and not http.get("useClientProtocol")
    if not (common or upgraded or http.get("useClientProtocol")):
        return None
    out: Json = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        **_versions(http, http2=upgraded),
    }
    if common:
        out["common_http_protocol_options"] = common
    return out


def _versions(http: Mapping[str, Any], *, http2: bool) -> Json:
    h2 = {"max_concurrent_streams": http["maxConcurrentStreams"]} if http.get("maxConcurrentStreams") else {}
    if http.get("useClientProtocol"):
        return {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": h2}}
    return {
        "explicit_http_config": {"http2_protocol_options": h2} if http2 else {"http_protocol_options": {}}
    }
