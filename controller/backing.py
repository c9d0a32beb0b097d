"""What stands behind a variant: the endpoints of a ServiceEntry, or the workloads of a Service. Pure.

A host is a ServiceEntry if there is one for it, else the Kubernetes Service of that name in the policy's own
namespace; a subset adds the labels that a DestinationRule gives it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from istio.names import CLUSTER_DOMAIN, comparable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.ports import Object
    from controller.scene import Objects
    from controller.workloads import Selection


class MissingError(Exception):
    """A variant cannot take traffic; the text says why."""


@dataclass(frozen=True, slots=True)
class Backing:
    """What a host and a subset select."""

    subset: Mapping[str, str]
    """The labels of the subset."""
    pods: Sequence[Mapping[str, str]]
    """The labels of each endpoint, or of the pods of each workload."""
    selection: Selection | None
    """The workloads; None for endpoints that are written out."""

    @property
    def missing(self) -> str:
        """Why nothing of it takes traffic; empty when something does."""
        if self.selection is None:
            return ""
        if not self.selection.workloads:
            return f"no Deployment or StatefulSet has pods with the labels {listed(self.selection.labels)}"
        return self.selection.missing

    @property
    def revision(self) -> str:
        """Name what is selected; how many endpoints or pods there are (scaling) is no new revision."""
        if self.selection:
            return self.selection.revision
        kinds = sorted({json.dumps(each, sort_keys=True) for each in self.pods})
        text = json.dumps([dict(self.subset), kinds], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def version(self) -> str | None:
        """The `version` label that all pods have, if they agree."""
        versions = {each.get("version") for each in self.pods}
        return next(iter(versions)) if len(versions) == 1 else None


def backing(host: str, subset: str | None, objects: Objects) -> Backing:
    """Return what a host and a subset select. MissingError when that cannot be said, or is nothing at all."""
    labels = _subset_labels(subset, host, objects) if subset else {}
    entries = objects.about("ServiceEntry", host)
    selector = _selector(host, entries, objects)
    if selector:
        selection = objects.workloads.selected({**selector, **labels})
        return Backing(labels, [each.labels for each in selection.workloads], selection)
    pods = [each for each in _endpoints(entries) if labels.items() <= each.items()]
    if not pods:
        why = f"has the labels {listed(labels)}" if labels else "is known"
        raise MissingError(f"no endpoint of {host} {why}")
    return Backing(labels, pods, None)


def listed(labels: Mapping[str, str]) -> str:
    """Return labels for a message."""
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _subset_labels(subset: str, host: str, objects: Objects) -> dict[str, str]:
    rules = objects.about("DestinationRule", host)
    if not rules:
        raise MissingError(f"no DestinationRule for host {host} in namespace {objects.namespace}")
    for rule in rules:
        for each in rule["spec"].get("subsets") or ():
            if each.get("name") == subset:
                return each.get("labels") or {}
    raise MissingError(f"DestinationRule {rules[0]['metadata']['name']} has no subset {subset}")


def _selector(host: str, entries: Sequence[Object], objects: Objects) -> Mapping[str, str]:
    """Return the labels of the pods of a host; none when its endpoints are written out."""
    if not entries:
        return _service_selector(host, objects)
    for entry in entries:
        selector = (entry["spec"].get("workloadSelector") or {}).get("labels")
        if selector:
            return dict(selector)
    return {}


def _service_selector(host: str, objects: Objects) -> Mapping[str, str]:
    name, _, rest = comparable(host, objects.namespace).partition(".")
    namespace = rest.removesuffix(f".svc.{CLUSTER_DOMAIN}")
    if namespace == rest:
        raise MissingError(f"no ServiceEntry for host {host} in namespace {objects.namespace}")
    if namespace != objects.namespace:
        raise MissingError(
            f"Service {name} is in namespace {namespace}, and a policy reads those of its own namespace "
            f"({objects.namespace}) only"
        )
    service = objects.named("Service", name)
    if service is None:
        raise MissingError(f"no endpoint of {host} is known: no Service or ServiceEntry in {namespace}")
    selector = (service.get("spec") or {}).get("selector")
    if not selector:
        raise MissingError(f"Service {name} has no selector, so nothing is known of its endpoints")
    return dict(selector)


def _endpoints(entries: Sequence[Object]) -> list[dict[str, str]]:
    """Return the labels of each endpoint that is written out."""
    return [
        endpoint.get("labels") or {} for entry in entries for endpoint in entry["spec"].get("endpoints") or ()
    ]
