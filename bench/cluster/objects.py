"""Everything of one service with a rollout, as a cluster has it: route, subsets, Service, two Deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.answers import EDGES, RATE

if TYPE_CHECKING:
    from controller.ports import Object

WEIGHTS = (20, 40)
"""Of the candidate, step by step; each step holds until somebody promotes."""
COLLECTIONS = {
    "RolloutPolicy": "apis/penstock.dev/v1alpha1/namespaces/{}/rolloutpolicies",
    "VirtualService": "apis/networking.istio.io/v1/namespaces/{}/virtualservices",
    "DestinationRule": "apis/networking.istio.io/v1/namespaces/{}/destinationrules",
    "Service": "api/v1/namespaces/{}/services",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
}


def service_names(rollouts: int) -> list[str]:
    """Return what the services are called."""
    return [f"service-{number}" for number in range(rollouts)]


def objects(name: str, dispersion: str, interval: int) -> list[Object]:
    """Return the objects in the order in which they are made; the policy comes last."""
    host = {"host": name}
    route = [
        {"destination": host | {"subset": version}, "weight": weight}
        for version, weight in zip(RATE, (100, 0), strict=True)
    ]
    subsets = [{"name": version, "labels": {"version": version}} for version in RATE]
    istio = "networking.istio.io/v1"
    return [
        _object(
            "v1", "Service", name, {"selector": {"app": name}, "ports": [{"name": "http", "port": 8080}]}
        ),
        *(_deployment(name, version) for version in RATE),
        _object(istio, "DestinationRule", name, host | {"subsets": subsets}),
        _object(istio, "VirtualService", name, {"hosts": [name], "http": [{"route": route}]}),
        _object("penstock.dev/v1alpha1", "RolloutPolicy", name, _policy(name, dispersion, interval)),
    ]


def _policy(name: str, dispersion: str, interval: int) -> dict[str, Any]:
    return {
        "service": {"host": name}, "virtualService": {"name": name},
        "variants": [{"name": "stable", "subset": "v1"}, {"name": "candidate", "subset": "v2"}],
        "strategy": {"canary": {"steps": [{"weight": weight, "hold": "999h"} for weight in WEIGHTS]}},
        "metrics": [
            {"template": "istio-error-rate", "margin": "25%", "dispersion": dispersion},
            {"template": "istio-latency", "edges": list(EDGES[:-1]), "dispersion": dispersion},
        ],
        "decision": {"interval": f"{interval}s", "deadline": "9999h"},
    }  # fmt: skip


def _deployment(name: str, version: str) -> Object:
    labels = {"app": name, "version": version}
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 5}
    container = {
        "name": "model", "image": f"example.invalid/{name}:{version}", "ports": [{"containerPort": 8080}],
        "env": [{"name": f"SETTING_{number}", "value": "x" * 40} for number in range(10)],
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "readinessProbe": probe, "livenessProbe": probe,
    }  # fmt: skip
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return _object("apps/v1", "Deployment", f"{name}-{version}", spec)


def ready() -> dict[str, Any]:
    """Return the status of a Deployment whose pod is there."""
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
    return {"status": {"observedGeneration": 1, **counts}}


def _object(api_version: str, kind: str, name: str, spec: dict[str, Any]) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
