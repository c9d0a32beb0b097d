"""The stock Envoy that plays Istio's gateway: its start, its Gateway, its metrics.

Istio's own proxy has a filter for request metrics that stock Envoy lacks. An EnvoyFilter gives the gateway
Envoy's stats access logger instead, and Prometheus makes Istio's labels of the names that istiod gives: the
cluster's (`outbound|PORT|SUBSET|HOST`) and the endpoint's workload (`NAME;NAMESPACE;APP;VERSION;CLUSTER`).
As with Istio, a request that reached no endpoint has destination_version="unknown".
"""

from __future__ import annotations

from typing import Any

from istio.envoy import telemetry

Json = dict[str, Any]

NAMESPACE = "istio-system"
NAME = "gateway"
LABELS = {"app": "gateway"}
ADDRESS = "127.0.0.100"
"""Its own, not an endpoint's: istiod would take that endpoint's labels for the proxy's."""
INSTANCE = f"{NAME}-0.{NAMESPACE}"
ISTIO_VERSION = "1.29.2"
MANAGER = "envoy.filters.network.http_connection_manager"


def bootstrap(*, admin_port: int, xds_port: int) -> Json:
    """Return Envoy's start configuration: everything else comes from istiod."""
    node = f"router~{ADDRESS}~{NAME}-0.{NAMESPACE}~{NAMESPACE}.svc.cluster.local"
    metadata = {
        "NAMESPACE": NAMESPACE,
        "LABELS": LABELS,
        "INSTANCE_IPS": ADDRESS,
        "ISTIO_VERSION": ISTIO_VERSION,
        "CLUSTER_ID": "Kubernetes",
    }
    return {
        "node": {"id": node, "cluster": NAME, "metadata": metadata},
        "admin": {"address": _address(admin_port)},
        "stats_flush_interval": "0.5s",
        "stats_config": telemetry.stats_config(),
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "istiod"}}],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [_istiod(xds_port)]},
    }


def _istiod(port: int) -> Json:
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        # without it a hanging istiod would be waited for a quarter of an hour
        "explicit_http_config": {
            "http2_protocol_options": {"connection_keepalive": {"interval": "10s", "timeout": "5s"}}
        },
    }
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": "istiod",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {"cluster_name": "istiod", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def manifests(port: int) -> list[Json]:
    """Return the Gateway that VirtualServices name as `istio-system/gateway`, and the EnvoyFilter."""
    metadata = {"name": NAME, "namespace": NAMESPACE}
    listening = {
        "port": {"number": port, "name": "http", "protocol": "HTTP"},
        "bind": "127.0.0.1",
        "hosts": ["*"],
    }
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": metadata,
            "spec": {"selector": LABELS, "servers": [listening]},
        },
        {
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": metadata,
            "spec": {"workloadSelector": {"labels": LABELS}, "configPatches": [_request_metrics()]},
        },
    ]


def _request_metrics() -> Json:
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
    config = {"@type": f"{manager}.HttpConnectionManager", "access_log": _access_loggers()}
    return {
        "applyTo": "NETWORK_FILTER",
        "match": {"context": "GATEWAY", "listener": {"filterChain": {"filter": {"name": MANAGER}}}},
        "patch": {"operation": "MERGE", "value": {"name": MANAGER, "typed_config": config}},
    }


def _access_loggers() -> list[Json]:
    """Return standalone's loggers, with istiod's names in place of labels that only Penstock's xDS has."""
    loggers = telemetry.access_loggers(NAME)
    for logger in loggers:
        config = logger["typed_config"]
        # istiod 1.29 knows the older field only
        config["stat_prefix"] = config.pop("stats_scope")["prefix"]
        for each in (*config["counters"], *config["histograms"]):
            kept = [tag for tag in each["stat"]["tags"] if not tag["name"].startswith("destination_")]
            each["stat"]["tags"] = [
                *kept,
                {"name": "upstream_cluster", "value_format": "%UPSTREAM_CLUSTER_RAW%"},
                {"name": "upstream_workload", "value_format": "%UPSTREAM_METADATA(istio:workload)%"},
            ]
    return loggers


def prometheus_config(admin_port: int) -> Json:
    """Return standalone's configuration of Prometheus, which also yields Istio's destination labels."""
    config = telemetry.prometheus_config(admin_port, instance=INSTANCE)
    scrape = config["scrape_configs"][0]
    cluster, workload = r"outbound\|\d+\|[^|]*\|", "[^;]*;([^;]*);[^;]*"
    scrape["metric_relabel_configs"] += [
        _label("destination_version", "__name__", ".*", "unknown"),
        _label("destination_service", "upstream_cluster", f"{cluster}(.+)"),
        _label("destination_service_name", "upstream_cluster", f"{cluster}(.+)"),
        _label("destination_service_namespace", "upstream_workload", f"{workload};.*"),
        _label("destination_version", "upstream_workload", f"{workload};([^;]+);.*", "$2"),
        # a host of the cluster names its service and namespace, also where no endpoint does
        _label("destination_service_name", "upstream_cluster", rf"{cluster}([^.]+)\.[^.]+\.svc\..+"),
        _label("destination_service_namespace", "upstream_cluster", rf"{cluster}[^.]+\.([^.]+)\.svc\..+"),
    ]
    # upstream_cluster and upstream_workload stay: series that differ in the port alone would clash
    return config


def _label(target: str, source: str, regex: str, replacement: str = "$1") -> Json:
    return {"source_labels": [source], "regex": regex, "target_label": target, "replacement": replacement}
