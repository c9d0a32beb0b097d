"""What an Envoy runs, by its own config dump, in one normal form: to compare two ways to make it.

Both sides go through a real Envoy, so defaults, enums and durations are written alike. What is left out, or
made equal, says so at `NORMALISED`; docs/oracles.md has the same list in sentences.
"""

import contextlib
import json
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from controller.standalone.envoy_server import envoy_binary

PATIENCE_S = 180
_TYPE = {"@type": "the same on both sides"}
NORMALISED = {
    "port": {**_TYPE, "virtual_hosts": "compared one by one"},
    "route": {"decorator": "the name of a trace span"},
    "cluster": {
        **_TYPE,
        "alt_stat_name": "statistics are named for each side's own scrape",
        "metadata": "labels for each side's own metrics",
        "eds_cluster_config": "istiod sends endpoints apart; both are compared as endpoints",
        "load_assignment": "compared as endpoints",
    },
    "http": {
        **_TYPE,
        "stat_prefix": "statistics are named for each side's own scrape",
        "access_log": "standalone's way to count requests; Istio has a filter for it",
        "rds": "where routes come from",
        "route_config": "compared one by one",
    },
    "connections": {**_TYPE, "stat_prefix": "statistics are named for each side's own scrape"},
}
"""Fields that are left out, with the reason."""


@dataclass(frozen=True, order=True)
class Difference:
    """A place at which two dumps differ, with what each side has there (None: nothing)."""

    item: str
    path: str
    istiod: Any
    standalone: Any

    @property
    def place(self):
        return f"{self.item}: {self.path}"

    def __str__(self):
        sides = f"istiod {json.dumps(self.istiod)}, standalone {json.dumps(self.standalone)}"
        return f"{self.place}: {sides}"


@contextlib.contextmanager
def envoy(folder, config, admin):
    """Run an Envoy with this bootstrap; yield a function that returns its config dump."""
    file, log = folder / "bootstrap.json", folder / "envoy.log"
    file.write_text(json.dumps(config))
    with log.open("wb") as out:
        command = [envoy_binary(), "--use-dynamic-base-id", "--concurrency", "1", "-l", "error", "-c", file]
        process = subprocess.Popen(command, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{admin}/config_dump?include_eds"
    try:
        yield lambda: _read(url, process, log)
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def _read(url, process, log):
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return json.load(answer)
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def admin_on(port):
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}


def sidecar(namespace, istiod_port, admin):
    """Return the bootstrap of a sidecar in `namespace` that istiod on loopback tells everything."""
    subscription = {"ads": {}, "resource_api_version": "V3"}
    protocol = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {
        "@type": f"type.googleapis.com/{protocol}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": istiod_port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "node": {
            "id": f"sidecar~127.0.0.101~oracle-0.{namespace}~{namespace}.svc.cluster.local",
            "cluster": f"oracle.{namespace}",
            "metadata": {
                "NAMESPACE": namespace,
                "LABELS": {"app": "oracle"},
                "INSTANCE_IPS": "127.0.0.101",
                "ISTIO_VERSION": "1.29.2",
                "CLUSTER_ID": "Kubernetes",
            },
        },
        "admin": admin_on(admin),
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "istiod"}}],
            },
            "lds_config": subscription,
            "cds_config": subscription,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "istiod",
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    "typed_extension_protocol_options": {protocol: http2},
                    "load_assignment": {"cluster_name": "istiod", "endpoints": endpoints},
                }
            ]
        },
    }


def normal(dump):
    """Return what a dump says of routes, clusters and connections, by name, in normal form."""
    items = {}
    parts = {part["@type"].rpartition(".")[2]: part for part in dump["configs"]}
    endpoints = _endpoints(parts.get("EndpointsConfigDump", {}))
    for cluster in _resources(parts.get("ClustersConfigDump", {}), "cluster"):
        if cluster["name"].startswith("outbound|"):
            items[f"cluster {cluster['name']}"] = _cluster(cluster, endpoints)
    for routes in _resources(parts.get("RoutesConfigDump", {}), "route_config"):
        items |= _routes(routes)
    for listener in _resources(parts.get("ListenersConfigDump", {}), "listener"):
        items |= _filters(listener)
    return items


def _resources(part, name):
    """Yield the resources of a part of a dump: static, dynamic and those that still warm up."""
    for entries in (value for value in part.values() if isinstance(value, list)):
        for entry in entries:
            state = entry.get("active_state") or entry.get("warming_state") or entry
            if name in state:
                yield state[name]


def _without(message, kind):
    return _but(message, *NORMALISED[kind])


def _but(message, *fields):
    return {name: value for name, value in message.items() if name not in fields}


def _endpoints(part):
    assignments = list(_resources(part, "endpoint_config"))
    return {found["cluster_name"]: found for found in assignments if "cluster_name" in found}


def _cluster(cluster, endpoints):
    out = {field: value for field, value in _without(cluster, "cluster").items() if value != {}}
    if out["type"] == "EDS":
        out["type"] = "STATIC"
    if options := out.pop("typed_extension_protocol_options", None):
        out |= _protocol_options(options)
    assignment = cluster.get("load_assignment") or endpoints.get(cluster["name"], {})
    return {**out, "endpoints": sorted(_addresses(assignment))}


def _protocol_options(options):
    """Return how a cluster speaks HTTP; nothing where it says no more than Envoy's default, HTTP/1.1."""
    ((name, message),) = options.items()
    kept = {field: value for field, value in message.items() if value != {}}
    default = _but(kept, "@type") == {"explicit_http_config": {"http_protocol_options": {}}}
    return {} if default else {"typed_extension_protocol_options": {name: kept}}


def _addresses(assignment):
    for locality in assignment.get("endpoints", ()):
        for item in locality.get("lb_endpoints", ()):
            socket = item["endpoint"]["address"]["socket_address"]
            yield [socket["address"], socket["port_value"], item.get("load_balancing_weight", 1)]


def _routes(configuration):
    if not configuration["name"].isdecimal():
        return {}  # the sidecar's inbound half
    hosts = {host["name"]: host for host in configuration.get("virtual_hosts", ())}
    out = {f"port {configuration['name']}": _without(configuration, "port")}
    for name, host in hosts.items():
        # a catch-all of the same name is on every port
        item = f"routes {name}" if ":" in name else f"routes {name}:{configuration['name']}"
        out[item] = {
            **host,
            "domains": sorted(host["domains"]),
            "routes": [_route(route) for route in host.get("routes", ())],
        }
    return out


def _route(route):
    out = _without(route, "route")
    if parameters := out["match"].get("query_parameters"):
        out["match"] = {**out["match"], "query_parameters": sorted(parameters, key=itemgetter("name"))}
    if out.get("redirect", {}).get("path_redirect") == "":
        out["redirect"] = _but(out["redirect"], "path_redirect")
    return out


def _filters(listener):
    """Return what a listener does with HTTP, and where other connections go by server name."""
    out = {}
    port = listener["name"].rpartition("_")[2]
    for chain in listener.get("filter_chains", ()) if port.isdecimal() else ():
        config = chain["filters"][-1]["typed_config"]
        if "http_filters" in config:
            filters = [item["name"] for item in config["http_filters"]]
            out[f"http {port}"] = {**_without(config, "http"), "http_filters": filters}
        else:
            names = ",".join(sorted(chain.get("filter_chain_match", {}).get("server_names", ())))
            out[f"connections {port} {names}".strip()] = _without(config, "connections")
    return out


def differences(istiod, standalone):
    """Return every place at which two normal forms differ."""
    return sorted(
        (
            Difference(item, path, one, other)
            for item in istiod.keys() | standalone.keys()
            for path, one, other in _differ(istiod.get(item), standalone.get(item), "")
        ),
        key=lambda difference: difference.place,
    )


def _differ(one, other, path):
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            yield from _differ(one.get(name), other.get(name), f"{path}.{name}".removeprefix("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _differ(left, right, f"{path}[{index}]")
    elif one != other:
        yield path, one, other
