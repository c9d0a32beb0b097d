"""The store of a cluster: objects from mirrors that watches keep up to date, writes to the API server.

- Reads ask nobody: they cost the API server nothing. Before everything was read once, or when the API server
  has not been heard for a while, they are an UnavailableError: nothing is known, so nothing is decided.
- Own writes are in the mirror when they return, and are told by `changes` like any other change. An older
  version never replaces a newer one.
- Writes are guarded by the caller's `test` or resourceVersion, and fenced by `Kube.before_write`.
- Objects are shared, not copied: nobody may change what was read here.
"""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any, Literal

from controller.cluster.answers import Request
from controller.cluster.changes import Changes
from controller.cluster.events import Events
from controller.cluster.informer import Informer
from controller.cluster.resources import PODS, WATCHED
from controller.ports import NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from controller.cluster.informer import Timing
    from controller.cluster.kube import Kube
    from controller.ports import Object, Ref, WatchEvent

STATUS_MANAGER = "penstock"
PODS_LIMIT = 500


class ClusterStore:
    """`controller.ports.Store` on an API server; `start` it in a running event loop, end it with `close`."""

    def __init__(self, kube: Kube, namespaces: Sequence[str] = (), timing: Timing | None = None) -> None:
        """Mirror all namespaces, or only those named."""
        self._kube = kube
        self._namespaces: Sequence[str | None] = tuple(namespaces) or (None,)
        self._changes = Changes()
        self._events = Events(kube)
        self._resources = {resource.kind: resource for resource in WATCHED}
        self._informers = {
            (resource.kind, namespace): Informer(kube, resource, namespace, self._changed, timing)
            for resource in WATCHED
            for namespace in self._namespaces
        }
        self._tasks: Sequence[asyncio.Task[None]] = ()
        self._fenced = True

    def unfenced(self) -> ClusterStore:
        """Return the same store for writes that people ask for: they need no leader."""
        view = copy.copy(self)
        view._fenced = False  # noqa: SLF001 - of this very class
        return view

    def start(self) -> None:
        """Begin to list and watch; what fails is tried again for ever."""
        self._tasks = tuple(
            asyncio.create_task(informer.run(), name=f"watch {informer.resource}")
            for informer in self._informers.values()
        )

    async def first_read(self) -> None:
        """Wait until everything was read once, or it is known what cannot be, which `check` then says."""
        await asyncio.gather(*(informer.tried.wait() for informer in self._informers.values()))

    async def close(self) -> None:
        """End all watches."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = ()

    def check(self, kinds: Iterable[str] | None = None) -> None:
        """Raise UnavailableError when what is known of the kinds (None: of any) says nothing about now."""
        for kind in self._resources if kinds is None else kinds:
            for informer in self._of(kind):
                informer.check()

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with watching, by resource; also what does not keep the store from answering."""
        return {str(each.resource): each.problem for each in self._informers.values() if each.problem}

    @property
    def stale_seconds(self) -> float:
        """Seconds since the API server was last heard of the kind that it was last heard of."""
        return max(map(self.stale_seconds_of, self._resources))

    def stale_seconds_of(self, kind: str) -> float:
        """Seconds since the API server was last heard of a kind, in whichever namespace that is longest."""
        return max(informer.stale_seconds for informer in self._of(kind))

    async def list(self, kind: str, namespace: str | None = None) -> list[Object]:
        """Return all objects of a kind, by namespace and name; UnavailableError."""
        self.check([kind])
        found = {key: obj for informer in self._of(kind) for key, obj in informer.objects.items()}
        return [found[key] for key in sorted(found) if namespace in {None, key[0]}]

    async def get(self, ref: Ref) -> Object:
        """Return one object; NotFoundError, UnavailableError."""
        self.check([ref.kind])
        found = self._find(ref)
        if found is None:
            raise NotFoundError(f"there is no {ref}")
        return found

    async def version(self) -> str:
        """Return the number of the newest change; UnavailableError before everything was read."""
        self.check()
        return str(self._changes.newest)

    async def changes(self, kinds: Sequence[str], since: str) -> tuple[str, Sequence[WatchEvent]]:
        """Return the changes of `kinds` after `since`, and up to where they reach.

        ConflictError when they are no longer known: list again. UnavailableError.
        """
        self.check(kinds)
        return str(self._changes.newest), self._changes.after(int(since), kinds)

    async def watch(self, kinds: Sequence[str], since: str | None = None) -> AsyncIterator[WatchEvent]:
        """Yield changes of `kinds` after `since` (None: from now on), until closed; ConflictError."""
        seen = self._changes.newest if since is None else int(since)
        while True:
            newest, found = self._changes.newest, self._changes.after(seen, kinds)
            for event in found:
                yield event
            seen = newest
            await self._changes.wait(seen)

    async def patch(self, ref: Ref, operations: Sequence[Mapping[str, Any]], *, manager: str) -> Object:
        """Apply a JSON Patch as one write by `manager`; ConflictError, NotFoundError, UnavailableError."""
        return await self._patch(ref, operations, manager)

    async def patch_status(self, ref: Ref, status: Object, *, resource_version: str) -> Object:
        """Replace the status; ConflictError when the object is no longer at `resource_version`."""
        operations: Sequence[Mapping[str, Any]] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": resource_version},
            {"op": "add", "path": "/status", "value": status},
        ]
        return await self._patch(ref, operations, STATUS_MANAGER, "status")

    async def _patch(
        self, ref: Ref, operations: Sequence[Mapping[str, Any]], manager: str, subresource: str = ""
    ) -> Object:
        resource = self._resources[ref.kind]
        request = Request("patch", resource, ref.namespace, ref.name, subresource)
        answer = await self._kube.call(
            request, list(operations), params={"fieldManager": manager}, fenced=self._fenced
        )
        obj = resource.trim(answer)
        for informer in self._of(ref.kind, ref.namespace):
            informer.wrote(obj)
        return obj

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Object]:
        """Return the pods that carry all of `labels`, as they are now, at most 500; UnavailableError."""
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        params = {"limit": PODS_LIMIT, **({"labelSelector": selector} if selector else {})}
        page = await self._kube.call(Request("list", PODS, namespace), params=params)
        return [PODS.trim(pod) for pod in page.get("items") or ()]

    async def event(self, ref: Ref, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Tell of something that happened to an object; equal events are counted. UnavailableError."""
        await self._events.tell(self._find(ref) or {}, ref, type_, reason, message)

    async def events(self, ref: Ref | None = None, limit: int = 100) -> Sequence[Object]:
        """Return events, newest first: {type, reason, message, count, firstSeen, lastSeen, object}."""
        return await self._events.list(ref, self._namespaces, limit)

    def _of(self, kind: str, namespace: str | None = None) -> Sequence[Informer]:
        """Return the mirrors of a kind that may hold objects of a namespace (None: of any)."""
        return tuple(
            informer
            for (its_kind, its_namespace), informer in self._informers.items()
            if its_kind == kind and (None in {namespace, its_namespace} or namespace == its_namespace)
        )

    def _find(self, ref: Ref) -> Object | None:
        mirrors = self._of(ref.kind, ref.namespace)
        return next((m.objects[ref[1:]] for m in mirrors if ref[1:] in m.objects), None)

    def _changed(self, event: WatchEvent) -> None:
        self._changes.add(event)
