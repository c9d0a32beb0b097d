"""The kinds of objects of the cluster: where the API server keeps them, and what is kept of them in memory.

Pure. Every object that comes from the API server passes `Resource.trim` once, before anything else sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from controller.ports import Object

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

Keep = Literal["all", "no owners", "content"]
"""What stays of an object: all of it; all but managedFields; nor what kubectl says it applied last."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of objects of the API server."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    kind: str
    keep: Keep = "content"

    def __str__(self) -> str:
        """Return the name that RBAC and kubectl know: `virtualservices.networking.istio.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """The apiVersion of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """Return the path of the collection, of one object, or of a part of it."""
        parts = ["apis" if self.group else "api", self.api_version]
        parts += ["namespaces", namespace] if namespace else []
        return "/" + "/".join([*parts, self.plural, *filter(None, (name, subresource))])

    def trim(self, obj: Object) -> Object:
        """Fill in kind and apiVersion, which items of lists lack, and drop what nobody reads.

        Annotations stay where Penstock writes them: a patch must not lose what was not read.
        """
        metadata = dict(obj["metadata"])
        if self.keep != "all":
            metadata.pop("managedFields", None)
        if self.keep == "content" and LAST_APPLIED in (metadata.get("annotations") or {}):
            metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if k != LAST_APPLIED}
        return {**obj, "apiVersion": self.api_version, "kind": self.kind, "metadata": metadata}


_ISTIO = ("networking.istio.io", "v1")
_PENSTOCK = ("penstock.dev", "v1alpha1")

WATCHED = (
    Resource(*_PENSTOCK, "rolloutpolicies", "RolloutPolicy", keep="no owners"),
    Resource(*_PENSTOCK, "metrictemplates", "MetricTemplate"),
    # who wrote a weight is read from managedFields
    Resource(*_ISTIO, "virtualservices", "VirtualService", keep="all"),
    Resource(*_ISTIO, "destinationrules", "DestinationRule"),
    Resource(*_ISTIO, "serviceentries", "ServiceEntry"),
    Resource("", "v1", "services", "Service"),
    Resource("apps", "v1", "deployments", "Deployment"),
    Resource("apps", "v1", "statefulsets", "StatefulSet"),
)
"""What the store mirrors: one watch each."""

PODS = Resource("", "v1", "pods", "Pod")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
