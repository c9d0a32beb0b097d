"""VirtualServices as Envoy route configurations: one per HTTP port, one virtual host per service.

The rules are a sidecar's under istiod: first match wins, nothing after a catch-all, zero weights left out, a
service without routes gets all of its own traffic, and an unknown host gets 502.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from istio.envoy import policies
from istio.envoy.headers import header_operations
from istio.envoy.matches import CATCH_ALL, is_catch_all, route_match
from istio.envoy.registry import Scope, cluster_name, namespace
from istio.envoy.traffic import consistent_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from istio.envoy.registry import Port, Registry, Service

Json = dict[str, Any]
_REDIRECTS = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
_BLOCK_ALL: Json = {
    "name": "block_all",
    "domains": ["*"],
    "routes": [{"name": "block_all", "match": CATCH_ALL, "direct_response": {"status": 502}}],
    "include_request_attempt_count": True,
}
_MAX_BODY = 1 << 20


def route_configurations(registry: Registry) -> dict[str, Json]:
    """Return a RouteConfiguration for every HTTP port of the mesh, by its name, the port number."""
    found = {number: registry.on_port(number, "http") for number in registry.numbers()}
    return {str(number): _configuration(number, on, registry) for number, on in found.items() if on}


def _configuration(number: int, services: Sequence[tuple[Service, Port]], registry: Registry) -> Json:
    domains = _domains([service for service, _ in services])
    hosts = [
        {
            "name": f"{service.host}:{number}",
            "domains": domains[service.host],
            "routes": _service_routes(service, port, registry),
            "include_request_attempt_count": True,
        }
        for service, port in services
    ]
    return {
        "name": str(number),
        "virtual_hosts": [*hosts, _BLOCK_ALL],
        "validate_clusters": False,
        "ignore_port_in_host_matching": True,
        "max_direct_response_body_size_bytes": _MAX_BODY,
    }


def _domains(services: Sequence[Service]) -> dict[str, list[str]]:
    """Return the Host headers that mean each service; a name that would mean two of them means none."""
    names = {service.host: [service.host, f"{service.host}.", *_short_forms(service)] for service in services}
    owners = Counter(name for forms in names.values() for name in forms)
    return {
        host: [name for name in forms if owners[name] == 1 or name in {host, f"{host}."}]
        for host, forms in names.items()
    }


def _short_forms(service: Service) -> list[str]:
    if service.name == service.host:
        return []
    qualified = f"{service.name}.{service.namespace}"
    return [service.name, qualified, f"{qualified}.svc"]


def _service_routes(service: Service, port: Port, registry: Registry) -> list[Json]:
    owner = registry.routes.get(service.host)
    routes = _owned_routes(Scope(registry, owner, port)) if owner else []
    return routes or [_default_route(service, port, registry)]


def _default_route(service: Service, port: Port, registry: Registry) -> Json:
    hashed = consistent_hash(registry.policy(service.host), {}, port.number)
    action: Json = {
        "cluster": cluster_name(port.number, "", service.host),
        **policies.timeouts(None),
        "retry_policy": policies.retry_policy(None),
    }
    if policy := policies.hash_policy(hashed):
        action["hash_policy"] = [policy]
    return {"name": "default", "match": dict(CATCH_ALL), "route": action}


def _owned_routes(scope: Scope) -> list[Json]:
    """Return one Envoy route per http route and match, up to the first that takes everything."""
    routes: list[Json] = []
    for http, match in scope.routes("http"):
        routes.append(_route(scope, http, match))
        if is_catch_all(routes[-1]["match"]):
            break
    return routes


def _route(scope: Scope, http: Mapping[str, Any], match: Mapping[str, Any] | None) -> Json:
    owner = f"{namespace(scope.owner)}/virtual-service/{scope.owner['metadata']['name']}"
    config = f"/apis/networking.istio.io/v1/namespaces/{owner}"
    named = (match or {}).get("name")
    out: Json = {
        # a match of a route without a name keeps its dot, as istiod writes it
        "name": http.get("name", "") + (f".{named}" if named else ""),
        "match": route_match(match),
        "metadata": {"filter_metadata": {"istio": {"config": config}}},
    }
    if match and match.get("statPrefix"):
        out["stat_prefix"] = match["statPrefix"]
    operations = header_operations(http.get("headers"))
    if "redirect" in http:
        out["redirect"] = _redirect(http["redirect"], scope.port)
    elif "directResponse" in http:
        out["direct_response"] = _direct_response(http["directResponse"])
    else:
        if len(http["route"]) == 1:
            operations += header_operations(http["route"][0].get("headers"))
        out["route"] = _action(scope, http, operations.authority)
    return {**out, **operations.fields(), **_filters(http)}


def _filters(http: Mapping[str, Any]) -> Json:
    filters: Json = {}
    if http.get("fault"):
        filters[policies.FAULT_FILTER] = policies.fault(http["fault"])
    if "corsPolicy" in http:
        filters[policies.CORS_FILTER] = policies.cors(http["corsPolicy"])
    return {"typed_per_filter_config": filters} if filters else {}


def _redirect(redirect: Mapping[str, Any], port: Port) -> Json:
    out: Json = {"response_code": _REDIRECTS[redirect.get("redirectCode", 301)]}
    fields = (("host_redirect", "authority"), ("path_redirect", "uri"), ("scheme_redirect", "scheme"))
    out |= {name: redirect[key] for name, key in fields if redirect.get(key)}
    number = redirect.get("port")
    if redirect.get("derivePort") == "FROM_REQUEST_PORT":
        number = port.number
    # the scheme's own port is not written out, as browsers do not either
    if number and (number, redirect.get("scheme", "http")) not in {(80, "http"), (443, "https")}:
        out["port_redirect"] = number
    return out


def _direct_response(response: Mapping[str, Any]) -> Json:
    out: Json = {"status": response["status"]}
    body = response.get("body") or {}
    if "string" in body:
        out["body"] = {"inline_string": body["string"]}
    elif "bytes" in body:
        out["body"] = {"inline_bytes": body["bytes"]}
    return out


def _action(scope: Scope, http: Mapping[str, Any], authority: str) -> Json:
    rewrite = http.get("rewrite") or {}
    out: Json = {**policies.timeouts(http.get("timeout")), **_destinations(scope, http)}
    if pattern := rewrite.get("uriRegexRewrite"):
        regex = {"regex": pattern["match"]}
        out["regex_rewrite"] = {"pattern": regex, "substitution": pattern.get("rewrite", "")}
    elif rewrite.get("uri"):
        out["prefix_rewrite"] = rewrite["uri"]
    if authority := rewrite.get("authority") or authority:
        out["host_rewrite_literal"] = authority
    if mirrors := list(_mirrors(scope, http)):
        out["request_mirror_policies"] = mirrors
    hashes = [_hash(scope, item) for item in _weighted(http)]
    if found := [policy for policy in hashes if policy]:
        out["hash_policy"] = found
    single = len(http["route"]) == 1
    if retries := policies.retry_policy(http.get("retries"), hashed=single and bool(found)):
        out["retry_policy"] = retries
    return out


def _weighted(http: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the destinations that get traffic: the only one in any case, else those with a weight."""
    items: list[Mapping[str, Any]] = http["route"]
    return items if len(items) == 1 else [item for item in items if item.get("weight")]


def _destinations(scope: Scope, http: Mapping[str, Any]) -> Json:
    named = [(scope.cluster(item["destination"]), item) for item in _weighted(http)]
    if len(http["route"]) == 1:
        return {"cluster": named[0][0]}
    return {"weighted_clusters": {"clusters": [_cluster_weight(name, item) for name, item in named]}}


def _cluster_weight(name: str, item: Mapping[str, Any]) -> Json:
    operations = header_operations(item.get("headers"))
    out: Json = {"name": name, "weight": item["weight"], **operations.fields()}
    if operations.authority:
        out["host_rewrite_literal"] = operations.authority
    return out


def _mirrors(scope: Scope, http: Mapping[str, Any]) -> Iterator[Json]:
    percent = http.get("mirrorPercent", http.get("mirror_percent"))
    wanted = (
        [(http["mirror"], policies.fraction(http.get("mirrorPercentage"), percent))]
        if "mirror" in http
        else []
    )
    wanted += [
        (item["destination"], policies.fraction(item.get("percentage"))) for item in http.get("mirrors") or ()
    ]
    for destination, share in wanted:
        if policy := policies.mirror_policy(scope.cluster(destination), share):
            yield policy


def _hash(scope: Scope, item: Mapping[str, Any]) -> Json | None:
    destination = item["destination"]
    host = scope.host(destination)
    subset = scope.registry.subset(host, destination.get("subset", "")) or {}
    number = destination.get("port", {}).get("number")
    return policies.hash_policy(consistent_hash(scope.registry.policy(host), subset, number))
