"""Services, Deployments, StatefulSets and pods as Kubernetes has them, and a rig with Deployments."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from controller.inventory import ref_of
from tests.support.rig import ISTIO, manifests
from tests.support.simulated import Service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.ports import Object
    from tests.support.rig import Rig

NAMESPACE = "default"


def service(name: str = "ranker", **spec: Any) -> Object:
    """A Service of the pods labelled app=NAME."""
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": name}, "ports": [{"port": 8080}], **spec},
    }  # fmt: skip


def rolled_out(replicas: int) -> dict[str, Any]:
    """The status of a workload all of whose pods are there."""
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
    return {key: count for key, count in counts.items() if count}


def workload(
    version: str = "v2", kind: str = "Deployment", *, app: str = "ranker", image: str = "model:1",
    replicas: int = 3, generation: int = 1, status: Mapping[str, Any] | None = None, **spec: Any,
) -> Object:  # fmt: skip
    """A workload called APP-VERSION, rolled out unless `status` says otherwise."""
    labels = {"app": app, "version": version}
    pods = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "server", "image": image}]}}
    counts = rolled_out(replicas) if status is None else dict(status)
    return {
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": f"{app}-{version}", "namespace": NAMESPACE, "uid": f"{kind}-{app}-{version}",
                     "generation": generation},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pods, **spec},
        "status": {"observedGeneration": generation, **counts},
    }  # fmt: skip


def past_deadline(
    message: str = "ReplicaSet ranker-v2-7d9 has timed out progressing.",
) -> list[dict[str, str]]:
    """The conditions of a Deployment that gets nowhere."""
    reason = "ProgressDeadlineExceeded"
    return [{"type": "Progressing", "status": "False", "reason": reason, "message": message}]


def pod(
    name: str = "ranker-v2-x", *, waiting: str = "", restarts: int = 0, created: str = "2020-01-01T00:00:00Z",
    message: str = "", last: Mapping[str, Any] | None = None, **metadata: Any,
) -> Object:  # fmt: skip
    """A pod with one container, that runs or waits."""
    state = {"waiting": {"reason": waiting, "message": message}} if waiting else {"running": {}}
    container: dict[str, Any] = {"name": "server", "restartCount": restarts, "state": state}
    if last:
        container["lastState"] = {"terminated": dict(last)}
    meta = {"name": name, "uid": name, "creationTimestamp": created, **metadata}
    return {"kind": "Pod", "metadata": meta, "status": {"containerStatuses": [container]}}


class Cluster:
    """The part of Kubernetes that a rig lacks: workloads with a status, and pods."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.pods: list[Object] = []
        self.lists = 0

    async def _list(self, _namespace: str, _labels: Mapping[str, str]) -> list[Object]:
        self.lists += 1
        return self.pods

    async def start(self, rates: dict[str, float], **decision: Any) -> None:
        """Start with one rollout whose versions are Deployments ranker-v1 and ranker-v2."""
        await self.rig.open(Service("ranker", dict(rates)))
        self.rig.store.pods = self._list  # type: ignore[method-assign]
        for version in ("v1", "v2"):
            await self.apply(workload(version))
        await self.rig.put(
            service(), *(each for each in manifests(**decision) if each["kind"] != "ServiceEntry")
        )

    async def apply(self, obj: Object) -> None:
        """Write a workload with its status, as its controller would have it after `generation`."""
        body = deepcopy(obj)
        stored = await self.rig.store.put(body, manager="kubectl")
        status = {**body["status"]}
        if status.get("observedGeneration") == body["metadata"]["generation"]:
            status["observedGeneration"] = stored["metadata"]["generation"]
        version = stored["metadata"]["resourceVersion"]
        self.rig.loop.changed(
            await self.rig.store.patch_status(ref_of(body), status, resource_version=version)
        )

    async def delete(self, obj: Object) -> None:
        """Delete a workload."""
        await self.rig.store.delete(ref_of(obj), manager="kubectl")
        self.rig.loop.changed(obj, gone=True)


def selector_entry(**labels: str) -> Object:
    """A ServiceEntry of host ranker for pods with labels."""
    return ISTIO | {
        "kind": "ServiceEntry", "metadata": {"name": "ranker", "namespace": NAMESPACE},
        "spec": {"hosts": ["ranker"], "workloadSelector": {"labels": labels}},
    }  # fmt: skip
