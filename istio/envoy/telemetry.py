"""Istio's request metrics from a plain Envoy: the access loggers that count, and the scrape that names them.

Stock Envoy lacks Istio's stats filter; its stats access logger yields the same series. Labels of the
destination come from the chosen cluster, so requests that found no healthy endpoint keep them. Mirrored
requests are not counted, retried ones once. Counters are live; histograms appear at Envoy's stats flush.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]
EDGES: tuple[float, ...] = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000),
    *(300_000, 600_000, 1_800_000, 3_600_000),
)
"""Istio's bucket edges for istio_request_duration_milliseconds."""

_PREFIX = "istio"
_DURATION = "request_duration_milliseconds"
_LABELS: Mapping[str, str] = {
    "reporter": "source",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "destination_service": "%CLUSTER_METADATA(istio:host)%",
    "destination_service_name": "%CLUSTER_METADATA(istio:service)%",
    "destination_service_namespace": "%CLUSTER_METADATA(istio:namespace)%",
    "destination_version": "%CLUSTER_METADATA(istio:version)%",
}
_GRPC_REQUEST: Json = {
    "name": "content-type",
    "string_match": {"prefix": "application/grpc"},
}
_OTHER_REQUEST: Json = {**_GRPC_REQUEST, "invert_match": True, "treat_missing_header_as_empty": True}


def access_loggers(workload: str) -> list[Json]:
    """Return the loggers of an HTTP listener: one counts gRPC requests with their status, one all others."""
    labels = {**_LABELS, "source_workload": workload}
    grpc = {**labels, "request_protocol": "grpc", "grpc_response_status": "%GRPC_STATUS_NUMBER%"}
    return [
        _logger(grpc, _GRPC_REQUEST),
        _logger({**labels, "request_protocol": "http"}, _OTHER_REQUEST),
    ]


def _logger(labels: Mapping[str, str], header: Json) -> Json:
    tags = [{"name": name, "value_format": value} for name, value in labels.items()]
    return {
        "name": "envoy.access_loggers.stats",
        "filter": {"header_filter": {"header": header}},
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config",
            "stats_scope": {"prefix": _PREFIX},
            "counters": [{"stat": {"name": "requests_total", "tags": tags}, "value_fixed": 1}],
            "histograms": [
                {
                    "stat": {"name": _DURATION, "tags": tags},
                    "unit": "Milliseconds",
                    "value_format": "%DURATION%",
                }
            ],
        },
    }


def stats_config(edges: Sequence[float] = EDGES) -> Json:
    """Return the bootstrap's `stats_config`: the histogram's bucket edges, in milliseconds."""
    match = {"prefix": f"{_PREFIX}.{_DURATION}"}
    return {"histogram_bucket_settings": [{"match": match, "buckets": list(edges)}]}


def prometheus_config(
    admin_port: int, scrape_interval: str = "1s", *, instance: str = "penstock-gateway", job: str = "envoy"
) -> Json:
    """Return a Prometheus configuration that scrapes Envoy's admin port on loopback.

    Only `istio_requests_total` and `istio_request_duration_milliseconds_{bucket,sum,count}` are kept. The
    instance label is fixed: the admin port may differ after a restart, the counting process does not.
    """
    keep = f"envoy_({_PREFIX}_(?:requests_total|{_DURATION}_(?:bucket|sum|count)))"
    return {
        "global": {"scrape_interval": scrape_interval, "evaluation_interval": scrape_interval},
        "scrape_configs": [
            {
                "job_name": job,
                "scrape_timeout": scrape_interval,
                "metrics_path": "/stats/prometheus",
                "params": {"usedonly": [""], "filter": [f"^{_PREFIX}\\."]},
                "static_configs": [
                    {"targets": [f"127.0.0.1:{admin_port}"], "labels": {"instance": instance}}
                ],
                "metric_relabel_configs": [
                    {"source_labels": ["__name__"], "regex": keep, "action": "keep"},
                    {
                        "source_labels": ["__name__"],
                        "regex": keep,
                        "target_label": "__name__",
                        "replacement": "$1",
                    },
                ],
            }
        ],
    }
