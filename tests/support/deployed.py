"""A rollout whose versions are real Deployments: `penstock run` on a real API server, with real requests.

The gateway's requests go to upstreams on loopback, by version; pods, endpoints and ReplicaSets are the
cluster's own.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from controller.ports import Ref
from tests.support.clusters import deployment, on_loopback
from tests.support.incluster import HOST, InCluster
from tests.support.workloads import service

if TYPE_CHECKING:
    from controller.ports import Object
    from controller.status import Run


class Deployed(InCluster):
    """One rollout whose versions are Deployments ranker-v1 and ranker-v2 of two pods each."""

    def manifests(self) -> list[Object]:
        """Return everything that a team writes: Service and Deployments in the place of the ServiceEntry."""
        rest = [each for each in super().manifests() if each["kind"] != "ServiceEntry"]
        workloads = [deployment(f"{HOST}-{version}", version=version, replicas=2) for version in ("v1", "v2")]
        own = [service(), *workloads]
        for obj in own:
            obj["metadata"]["namespace"] = self.namespace
        return [*own, *rest]

    def _install(self) -> None:
        super()._install()
        ports = {"v1": self.control.port, "v2": self.candidate.port}
        self._stack.enter_context(on_loopback(self.cluster, self.namespace, HOST, ports))

    async def kubectl(self, *arguments: str) -> str:
        """Do something to the namespace as a person does."""
        return await asyncio.to_thread(self.cluster.kubectl, "-n", self.namespace, *arguments)

    async def deployment(self, version: str) -> Object:
        """Return a version's Deployment as it is."""
        return await self.live(Ref("Deployment", self.namespace, f"{HOST}-{version}"))

    async def roll(self, version: str, image: str) -> None:
        """Roll a version to another image."""
        image = f"model=example.invalid/model:{image}"
        await self.kubectl("set", "image", f"deployment/{HOST}-{version}", image)

    async def scale(self, version: str, replicas: int) -> None:
        """Scale a version as an autoscaler does, and wait until the pods are there."""
        await self.kubectl("scale", f"deployment/{HOST}-{version}", f"--replicas={replicas}")

        async def scaled() -> bool:
            status = (await self.deployment(version)).get("status", {})
            return status.get("replicas", 0) == status.get("readyReplicas", 0) == replicas

        await self.eventually(scaled, version, "with", replicas, "replicas")

    async def crash(self, version: str, *, all_pods: bool) -> None:
        """Play the kubelet's part for pods that end again and again."""
        names = await self._pods(version)
        ended = {"exitCode": 1, "reason": "Error", "message": "cannot load weights",
                 "startedAt": None, "finishedAt": None}  # fmt: skip
        container = {
            "name": "model", "image": "m", "imageID": "", "ready": False, "restartCount": 5,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended},
        }  # fmt: skip
        conditions = [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]
        status = json.dumps({"status": {"containerStatuses": [container], "conditions": conditions}})
        for name in names if all_pods else names[:1]:
            await self.kubectl("patch", name, "--subresource=status", "--type=strategic", "-p", status)

    async def unready(self, version: str) -> None:
        """Take readiness from all pods of a version; their containers run."""
        conditions = [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]
        status = json.dumps({"status": {"conditions": conditions}})
        for name in await self._pods(version):
            await self.kubectl("patch", name, "--subresource=status", "--type=strategic", "-p", status)

    async def _pods(self, version: str) -> list[str]:
        """Return the pods of a version, but those of the last revision that are still on their way out."""
        found = json.loads(await self.kubectl("get", "pods", "-l", f"version={version}", "-o", "json"))
        stay = [pod["metadata"] for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]
        return [f"pod/{metadata['name']}" for metadata in stay]

    async def numbered(self, number: int) -> Run:
        """Wait until a run with this number is under way."""
        await self.until(lambda s: s.run and s.run.number == number, f"run {number}")
        return await self.under_way()


def image(obj: Object) -> str:
    return str(obj["spec"]["template"]["spec"]["containers"][0]["image"])
