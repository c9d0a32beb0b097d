"""Flux and Argo CD, played by what they send to the API server.

Flux's kustomize-controller applies server-side by force. Argo CD applies as `kubectl apply` does, by a
three-way merge with its last-applied annotation, or server-side by force. All of them are kubectl here, whose
code both tools use, under the field manager that they have.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controller.ports import Ref
from tests.support.watched import Watched
from tests.support.witness import POLICIES, ROUTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cluster.running import Cluster
    from controller.ports import Object
    from tests.support.incluster import InCluster


@dataclass(frozen=True)
class Tool:
    """A tool that keeps a cluster as Git has it."""

    name: str
    manager: str
    server_side: bool
    cluster: Cluster

    async def apply(self, *objects: Object, dry_run: bool = False) -> None:
        """Apply objects once."""
        how = ["--server-side", "--force-conflicts"] if self.server_side else []
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        arguments = ["apply", *how, "--field-manager", self.manager, "-f", "-"]
        dry = ["--dry-run=server"] if dry_run else []
        await asyncio.to_thread(self.cluster.kubectl, *arguments, *dry, stdin=listed)

    @contextlib.asynccontextmanager
    async def applying(self, *objects: Object, every: float = 3.0) -> AsyncIterator[None]:
        """Apply objects every few seconds until the block ends."""

        async def forever() -> None:
            while True:
                began = time.monotonic()
                await self.apply(*objects)
                await asyncio.sleep(max(0.0, began + every - time.monotonic()))

        task = asyncio.create_task(forever())
        try:
            yield
            assert not task.done() or task.exception() is None, task.exception()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def flux(cluster: Cluster) -> Tool:
    """Flux's kustomize-controller."""
    return Tool("flux", "kustomize-controller", server_side=True, cluster=cluster)


def argo_cd(cluster: Cluster, *, server_side: bool = False) -> Tool:
    """Argo CD, without and with the sync option ServerSideApply=true."""
    name = "argocd-ssa" if server_side else "argocd"
    return Tool(name, "argocd-controller", server_side, cluster)


def respecting(git: Object, live: Object) -> Object:
    """Return what Argo CD sends with ignored weights and RespectIgnoreDifferences=true.

    It makes the ignored differences a JSON merge patch from Git's to the live object, in which a list is one
    value: as long as any weight differs, the whole live `spec.http` is in it.
    """
    sent = deepcopy(git)
    sent["spec"]["http"] = deepcopy(live["spec"]["http"])
    return sent


class Another(Watched):
    """One more rollout in the namespace of an `InCluster`, with the same endpoints and controller."""

    def __init__(self, mesh: InCluster, name: str, **decision: Any) -> None:
        self.mesh, self.name = mesh, name
        self.policy_ref = Ref(POLICIES, mesh.namespace, name)
        self.route_ref = Ref(ROUTES, mesh.namespace, name)
        self.host = f"{name}.{mesh.namespace}.svc.cluster.local"
        manifests = json.loads(json.dumps(mesh.manifests()).replace(mesh.host, self.host))
        for each in manifests:
            each["metadata"]["name"] = name
        self.entry, self.rule, self.route, self.policy = manifests
        self.policy["spec"]["virtualService"]["name"] = name
        self.policy["spec"]["decision"] |= decision

    def said(self) -> str:
        """Return what the controllers have said."""
        return self.mesh.said()

    async def live(self, ref: Ref) -> Object:
        """Return an object as it is live; NotFoundError."""
        return await self.mesh.live(ref)

    async def events(self) -> list[dict[str, Any]]:
        """Return the events of this rollout, latest first."""
        return [event for event in await self.mesh.events() if event["about"] == self.name]

    async def act(self, *verb: str) -> None:
        """Ask for a manual action as a user with kubectl does."""
        text = f"{verb[0]}:{time.time_ns()}"
        await self.mesh.patch(self.policy_ref, {"metadata": {"annotations": {"penstock.dev/action": text}}})
