"""Flux and Argo CD, played by what they send to the API server, and a witness of all that is ever stored.

Flux's kustomize-controller applies server-side by force. Argo CD applies as `kubectl apply` does, by a
three-way merge with its last-applied annotation, or server-side by force. All of them are kubectl here, whose
code both tools use, under the field manager that they have.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from controller.ports import Ref
from controller.status import from_rfc3339
from tests.support.incluster import PATHS
from tests.support.watched import Watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from cluster.running import Cluster
    from controller.ports import Object
    from tests.support.incluster import InCluster

ROUTES, POLICIES = "VirtualService", "RolloutPolicy"


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


@dataclass(frozen=True)
class Seen:
    """A version of a VirtualService as it was stored."""

    at: float
    """When it was stored, unix seconds; it may have been so a moment earlier."""
    version: str
    weights: tuple[int, ...]
    owners: frozenset[str]
    """The field managers of `spec.http`."""


@dataclass
class Witness:
    """Sees every version of all routes and policies of a namespace, by raw watches; async context manager."""

    cluster: Cluster
    namespace: str
    routes: dict[str, list[Seen]] = field(default_factory=dict)
    """Each VirtualService's versions, oldest first."""
    wanted: dict[str, set[tuple[int, ...]]] = field(default_factory=dict)
    """All weights that the status of a policy has wanted."""
    statuses: dict[str, int] = field(default_factory=dict)
    """How many versions of each policy there were."""
    _seen: dict[tuple[str, str], str] = field(default_factory=dict)
    """The version of each object that was seen last."""

    async def __aenter__(self) -> Self:
        secure = ssl.create_default_context(cafile=str(self.cluster.ca))
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self.cluster.token}"},
            connector=aiohttp.TCPConnector(ssl=secure),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=2**22,
        )
        self._watches = [await self._begin(kind) for kind in (ROUTES, POLICIES)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for watch in self._watches:
            watch.cancel()
        ended = await asyncio.gather(*self._watches, return_exceptions=True)
        await self._session.close()
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended

    async def _begin(self, kind: str) -> asyncio.Task[None]:
        url = f"{self.cluster.api_url}/{PATHS[kind].format(self.namespace)}"
        async with self._session.get(url) as answer:
            listed = await answer.json()
        for obj in listed["items"]:
            self._take(kind, obj)
        version = listed["metadata"]["resourceVersion"]
        return asyncio.create_task(self._watch(kind, f"{url}?watch=1&resourceVersion={version}"))

    async def _watch(self, kind: str, url: str) -> None:
        async with self._session.get(url) as answer:
            async for line in answer.content:
                event = json.loads(line)
                assert event["type"] in {"ADDED", "MODIFIED", "DELETED"}, event
                self._take(kind, event["object"])
        raise AssertionError(f"the watch of {kind} ended")

    def _take(self, kind: str, obj: Object) -> None:
        name, version = obj["metadata"]["name"], obj["metadata"]["resourceVersion"]
        self._seen[kind, name] = version
        if kind == POLICIES:
            self.statuses[name] = self.statuses.get(name, 0) + 1
            run = (obj.get("status") or {}).get("run")
            if run:
                split = tuple(run["weights"][variant] for variant in ("stable", "candidate"))
                self.wanted.setdefault(name, set()).add(split)
            return
        weights = tuple(each.get("weight") for each in obj["spec"]["http"][0]["route"])
        self.routes.setdefault(name, []).append(Seen(stored_at(obj), version, weights, owners(obj)))

    async def up_to_date(self, *rollouts: Another) -> None:
        """Wait until everything was seen that is stored of some rollouts now."""
        for one in rollouts:
            for ref in (one.route_ref, one.policy_ref):
                now = (await one.live(ref))["metadata"]["resourceVersion"]
                await one.eventually(partial(self._has_seen, ref, now), "news of", ref)

    async def _has_seen(self, ref: Ref, version: str) -> bool:
        return int(self._seen[ref.kind, ref.name]) >= int(version)

    def written(self, name: str, git: Sequence[int], since: float = 0.0) -> list[Seen]:
        """Return the versions of a route that are not as Git has it: Penstock wrote them."""
        return [each for each in self.routes[name] if each.weights != tuple(git) and each.at >= since]

    def wrong(self, name: str, git: Sequence[int]) -> list[tuple[float, float]]:
        """Return from when until when the weights were Git's."""
        seen = self.routes[name]
        ends = [*(each.at for each in seen[1:]), time.time()]
        return [(each.at, end) for each, end in zip(seen, ends, strict=True) if each.weights == tuple(git)]


def stored_at(obj: Object) -> float:
    """Return when an object that was just told of was stored, however late that is told."""
    times = [each["time"] for each in obj["metadata"]["managedFields"] if "time" in each]
    whole_second = max(map(from_rfc3339, times))
    return min(time.time(), whole_second + 1)


def owners(obj: Object) -> frozenset[str]:
    """Return who owns the http routes of a VirtualService."""
    entries = obj["metadata"].get("managedFields") or ()
    return frozenset(
        each["manager"] for each in entries if "f:http" in (each.get("fieldsV1", {}).get("f:spec") or {})
    )
