"""The store's objects as the loop reads them: only what changed is read again, and parsed once per change.

An object that cannot be understood is a problem of its own: it is told, and everything else goes on. A policy
that was edited to something invalid keeps its last valid form, so that its run can be held and ended.

Workloads change often, and mostly in ways that no rollout cares for: only a change that matters to a rollout
makes its scene be read again, and `stirred` names the rollouts that such changes concern.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from controller.ownership import owners
from controller.ports import ConflictError, Ref, UnavailableError
from controller.scene import KINDS, Objects, Scene, read_scene
from controller.status import Status
from controller.workloads import WORKLOADS, Name, Workloads
from policies.parse import InvalidError, policy_from_object, template_from_object

if TYPE_CHECKING:
    from controller.ports import History, Object, Store
    from policies.model import MetricTemplate, RolloutPolicy

_UNREADABLE = (InvalidError, ValidationError, ValueError, KeyError, TypeError, AttributeError)
"""What untyped JSON can do to whoever reads it."""


@dataclass
class Entry:
    """One policy as it is stored, with what the objects around it say."""

    obj: Object
    policy: RolloutPolicy
    status: Status
    invalid: str = ""
    """Why the object cannot be used as it stands; `policy` is the last valid one then."""
    taken: str = ""
    """The older policy that has one of its routes, if there is one."""
    seen: tuple[Objects, int, Scene] | None = None
    """The last scene, with the objects and the version of the workloads that it was read from."""

    @cached_property
    def document(self) -> dict[str, Any]:
        """The policy as JSON, for the history."""
        return self.policy.model_dump(mode="json", by_alias=True, exclude_none=True)

    def scene(self, objects: Objects) -> Scene:
        """Return what `objects` say about this policy; read again only after a change that concerns it."""
        if self.seen is None or self.seen[0] is not objects or not self.is_current(objects.workloads):
            self.seen = objects, objects.workloads.version, _read_scene(self, objects)
        return self.seen[2]

    def is_current(self, workloads: Workloads) -> bool:
        """Tell whether the workloads of its variants are as they were in the last scene."""
        if self.seen is None:
            return False
        objects, version, scene = self.seen
        if version == workloads.version:
            return True
        if any(workloads.selected(each.labels) != each for each in scene.selections.values()):
            return False
        self.seen = objects, workloads.version, scene
        return True


def _read_scene(entry: Entry, objects: Objects) -> Scene:
    try:
        return read_scene(entry.policy, objects, entry.status.weights)
    except _UNREADABLE as error:
        return Scene({}, {}, {}, None, f"the objects cannot be understood: {error!r}", "unknown", ())


class Inventory:
    """A mirror of the store, brought up to date by `refresh`."""

    def __init__(self, store: Store, history: History) -> None:
        self._store, self._history = store, history
        self._version = ""
        self._objects: dict[str, dict[Ref, Object]] = defaultdict(dict)
        self._workloads: dict[str, Workloads] = defaultdict(Workloads)
        self._indexes: dict[str, Objects] = {}
        self._stirred_at: dict[str, int] = {}
        """Version of the workloads at the last `stirred`, by namespace."""
        self._specs_changed = False
        self._unrecalled: set[Ref] = set()
        """Policies whose last valid form only the history knows."""
        self.policies: dict[str, Entry] = {}
        """By `namespace/name`."""
        self.templates: dict[str, MetricTemplate] = {}
        """The users' own, by `namespace/name`; another dict after every change."""
        self.problems: dict[Ref, str] = {}
        """Policies and templates that cannot be used, and why."""

    async def refresh(self) -> None:
        """Take in what changed since the last time. UnavailableError."""
        if self._version:
            try:
                self._version, events = await self._store.changes(KINDS, self._version)
            except ConflictError:  # too long ago
                self._version = ""
            else:
                for event in events:
                    self._take(ref_of(event.object), None if event.type == "DELETED" else event.object)
        if not self._version:
            await self._list()
        for ref in list(self._unrecalled):
            await self._recall(ref)

    async def _list(self) -> None:
        version = await self._store.version()
        live = {ref_of(obj): obj for kind in KINDS for obj in await self._store.list(kind)}
        known = {ref for inside in self._objects.values() for ref in inside}
        for namespace, workloads in self._workloads.items():
            known |= {Ref(kind, namespace, name) for kind, name in workloads.names()}
        for ref in known - live.keys():
            self._take(ref, None)
        for ref, obj in live.items():
            self._take(ref, obj)
        self._version = version

    async def _recall(self, ref: Ref) -> None:
        """Take the last valid form of a policy from the record of its open run."""
        obj = self._objects[ref.namespace][ref]
        status = Status.of(obj)
        try:
            run = await self._history.run(status.run.id) if status.run else None
            policy = policy_from_object(dict((run or {})["policy"]))
        except UnavailableError:
            return
        except _UNREADABLE:
            self._unrecalled.discard(ref)
            return
        self._unrecalled.discard(ref)
        self._specs_changed = True
        self.policies[_key(ref)] = Entry(obj, policy, status, self.problems[ref])

    def _take(self, ref: Ref, obj: Object | None) -> None:
        self.problems.pop(ref, None)
        self._unrecalled.discard(ref)
        try:
            if ref.kind in WORKLOADS:
                self._take_workload(ref, obj)
            else:
                self._take_object(ref, obj)
        except _UNREADABLE as error:
            self.problems[ref] = str(error) if isinstance(error, InvalidError) else repr(error)

    def _take_workload(self, ref: Ref, obj: Object | None) -> None:
        if obj is None:
            self._workloads[ref.namespace].drop(Name(ref.kind, ref.name))
        else:
            self._workloads[ref.namespace].take(obj)

    def _take_object(self, ref: Ref, obj: Object | None) -> None:
        before = self._objects[ref.namespace].pop(ref, None)
        if obj is not None:
            self._objects[ref.namespace][ref] = obj
        if ref.kind == "RolloutPolicy":
            self._take_policy(ref, obj)
        elif ref.kind == "MetricTemplate":
            self._take_template(_key(ref), obj)
        elif ref.kind != "Service" or _selector(before) != _selector(obj):
            self._indexes.pop(ref.namespace, None)

    def _take_policy(self, ref: Ref, obj: Object | None) -> None:
        old = self.policies.pop(_key(ref), None)
        if old is not None and obj is not None and _spec_version(old.obj) == _spec_version(obj):
            status = Status.of(obj)
            seen = old.seen if old.status.weights == status.weights else None
            self.policies[_key(ref)] = replace(old, obj=obj, status=status, seen=seen)
            return
        self._specs_changed = True
        if obj is None:
            return
        status = Status.of(obj)
        try:
            self.policies[_key(ref)] = Entry(obj, policy_from_object(obj), status)
        except _UNREADABLE as error:
            if old is not None and old.obj["metadata"].get("uid") == obj["metadata"].get("uid"):
                self.policies[_key(ref)] = Entry(obj, old.policy, status, str(error))
            elif status.run is not None and not (status.run.outcome and status.run.applied):
                self._unrecalled.add(ref)
            raise

    def _take_template(self, key: str, obj: Object | None) -> None:
        self.templates = {name: template for name, template in self.templates.items() if name != key}
        if obj is not None:
            self.templates[key] = template_from_object(obj)

    def objects(self, namespace: str) -> Objects:
        """Return the objects of a namespace; the same value until one of them changes."""
        if namespace not in self._indexes:
            inside, workloads = self._objects[namespace].values(), self._workloads[namespace]
            self._indexes[namespace] = Objects(namespace, inside, workloads)
        return self._indexes[namespace]

    @property
    def unusable(self) -> list[Ref]:
        """Policies of which not even a last valid form is known."""
        return [
            ref
            for ref in self.problems
            if ref.kind == "RolloutPolicy" and _key(ref) not in self.policies and ref not in self._unrecalled
        ]

    def all(self, kind: str) -> list[Object]:
        """Return all objects of a kind, in all namespaces; not for workloads."""
        return [obj for inside in self._objects.values() for ref, obj in inside.items() if ref.kind == kind]

    def stored(self, ref: Ref) -> Object:
        """Return an object that is no workload as it is stored; KeyError."""
        return self._objects[ref.namespace][ref]

    def matters(self, obj: Object, *, gone: bool = False) -> bool:
        """Tell whether a change of a workload says anything that is not known yet."""
        workloads = self._workloads[ref_of(obj).namespace]
        return gone or workloads.differs(obj)

    def stirred(self) -> set[str]:
        """Return the policies whose workloads, or whose right to a route, changed since the last time."""
        found = self._reassign() if self._specs_changed else set()
        versions = {namespace: workloads.version for namespace, workloads in self._workloads.items()}
        moved = {name for name, version in versions.items() if self._stirred_at.get(name, 0) != version}
        self._stirred_at = versions
        for key, entry in self.policies.items() if moved else ():
            namespace = entry.policy.metadata.namespace
            if namespace in moved and not entry.is_current(self._workloads[namespace]):
                found.add(key)
        return found

    def _reassign(self) -> set[str]:
        """Work out again who has which route; return the policies for which that changed."""
        self._specs_changed = False
        taken = owners((entry.obj, entry.policy) for entry in self.policies.values())
        changed = {key for key, entry in self.policies.items() if entry.taken != taken.get(key, "")}
        for key in changed:
            self.policies[key].taken = taken.get(key, "")
        return changed


def ref_of(obj: Object) -> Ref:
    """Return the identity of a stored object."""
    meta = obj["metadata"]
    return Ref(obj["kind"], meta.get("namespace") or "default", meta["name"])


def _key(ref: Ref) -> str:
    return f"{ref.namespace}/{ref.name}"


def _selector(service: Object | None) -> Any:
    return () if service is None else (service.get("spec") or {}).get("selector")


def _spec_version(obj: Object) -> tuple[Any, Any]:
    return obj["metadata"].get("uid"), obj["metadata"].get("generation")
