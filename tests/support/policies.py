"""A valid policy and templates to break: as objects, with a helper that changes one field of a copy."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import yaml

REMOVED = object()
"""Given to `changed`, takes the field out."""


def policy(**metadata: Any) -> dict[str, Any]:
    """Return a small valid policy."""
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "RolloutPolicy",
        "metadata": {"name": "ranker", "namespace": "ml", **metadata},
        "spec": {
            "service": {"host": "ranker", "port": 8080},
            "virtualService": {"name": "ranker"},
            "variants": [{"name": "stable", "subset": "v1"}, {"name": "candidate", "subset": "v2"}],
            "strategy": {"canary": {"steps": [{"weight": 5, "hold": "1m"}, {"weight": 50}]}},
            "metrics": [{"template": "istio-error-rate", "margin": "25%", "dispersion": "1"}],
            "decision": {"deadline": "2h"},
        },
    }


def template(kind: str = "proportion", **metadata: Any) -> dict[str, Any]:
    """Return a small valid template of a kind."""
    spec: dict[str, Any] = {
        "kind": kind,
        "unit": "milliseconds" if kind in {"histogram", "mean"} else "requests",
        "query": "sum by (ns, svc, ver, instance, code, proto, grpc, le) (model_requests)",
        "labels": {"namespace": "ns", "service": "svc", "version": "ver"},
        "description": "Requests of the model.",
    }
    if kind == "proportion":
        spec["outcome"] = {
            "httpLabel": "code",
            "httpEvent": "5..",
            "protocolLabel": "proto",
            "grpcLabel": "grpc",
            "grpcEvent": "2|13",
        }
    if kind == "mean":
        labels = "__name__, ns, svc, ver, instance"
        spec["query"] = f'sum by ({labels}) ({{__name__=~"model_milliseconds_(sum|count)"}})'
    if kind == "histogram":
        spec["edges"] = ["10", "100"]
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "MetricTemplate",
        "metadata": {"name": "own", "namespace": "ml", **metadata},
        "spec": spec,
    }


def changed(obj: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy with the field at `path` (`spec.variants.0.host`) set, or taken out with REMOVED."""
    copy = deepcopy(obj)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = copy
    for part in parents:
        place = place[part]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return copy


def text(*objects: dict[str, Any]) -> str:
    """Return objects as the YAML of one file."""
    return yaml.safe_dump_all(objects, sort_keys=False)
