"""The store's objects as the loop reads them: only what changed is read again, and parsed once per change.

An object that cannot be understood is a problem of its own: it is told, and everything else goes on. A policy
that was edited to something invalid keeps its last valid form, so that its run can be held and ended.

Objects change often, workloads most of all, and mostly in ways that a rollout does not care for: only what
matters to it makes its scene be read again, and `stirred` names the rollouts that changes concern.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import is_
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from controller.ownership import owners
from controller.ports import ConflictError, Ref, UnavailableError
from controller.scene import KINDS, Objects, Scene, read_scene
from controller.status import Status
from controller.wording import Wording
from controller.workloads import WORKLOADS, Name
from policies.parse import InvalidError, policy_from_object, template_from_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.ports import History, Object, Store
    from policies.model import MetricTemplate, RolloutPolicy

_UNREADABLE = (
    InvalidError, ValidationError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
    RecursionError,
)  # fmt: skip
"""What untyped JSON can do to whoever reads it."""


@dataclass
class Seen:
    """A scene, and what it was read from."""

    scene: Scene
    relevant: Sequence[Object | None]
    version: tuple[int, int]
    """Of all objects of the namespace, when it was still right."""

    def holds(self, policy: RolloutPolicy, objects: Objects) -> bool:
        """Tell whether what it was read from is as it was."""
        of_objects, of_workloads = self.version
        now_objects, now_workloads = objects.version
        if of_objects != now_objects and not self._same_objects(objects.relevant(policy)):
            return False
        if of_workloads != now_workloads and not self._same_workloads(objects):
            return False
        self.version = objects.version
        return True

    def _same_objects(self, relevant: Sequence[Object | None]) -> bool:
        return len(relevant) == len(self.relevant) and all(map(is_, relevant, self.relevant))

    def _same_workloads(self, objects: Objects) -> bool:
        selected = objects.workloads.selected
        return all(selected(each.labels) == each for each in self.scene.selections.values())


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
    seen: Seen | None = None
    unchanged_by: tuple[object, ...] | None = None
    """What its status was found to stay the same with (`controller.conditions.looked_at`)."""
    wording: Wording = field(default_factory=Wording)

    @cached_property
    def document(self) -> dict[str, Any]:
        """The policy as JSON, for the history."""
        return self.policy.model_dump(mode="json", by_alias=True, exclude_none=True)

    def scene(self, objects: Objects) -> Scene:
        """Return what `objects` say about this policy; read again only after a change that concerns it."""
        if self.seen is None or not self.seen.holds(self.policy, objects):
            self.seen = Seen(_read_scene(self, objects), objects.relevant(self.policy), objects.version)
        return self.seen.scene


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
        self._indexes: dict[str, Objects] = {}
        self._stirred_at: dict[str, tuple[int, int]] = {}
        """Version of the objects at the last `stirred`, by namespace."""
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
                version, events = await self._store.changes(KINDS, self._version)
            except ConflictError:  # too long ago
                self._version = ""
            else:
                for event in events:
                    self._take(ref_of(event.object), None if event.type == "DELETED" else event.object)
                self._version = version  # now, not before: what could not be taken in comes again
        if not self._version:
            await self._list()
        for ref in list(self._unrecalled):
            await self._recall(ref)

    async def _list(self) -> None:
        version = await self._store.version()
        live = {ref_of(obj): obj for kind in KINDS for obj in await self._store.list(kind)}
        known = {ref for inside in self._objects.values() for ref in inside}
        for namespace, objects in self._indexes.items():
            known |= {Ref(kind, namespace, name) for kind, name in objects.workloads.names()}
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
        if obj is None:
            self._forget_if_empty(ref.namespace)

    def _forget_if_empty(self, namespace: str) -> None:
        index = self._indexes.get(namespace)
        if not self._objects.get(namespace) and not (index and index.workloads.names()):
            self._objects.pop(namespace, None)
            self._indexes.pop(namespace, None)

    def _take_workload(self, ref: Ref, obj: Object | None) -> None:
        workloads = self.objects(ref.namespace).workloads
        if obj is None:
            workloads.drop(Name(ref.kind, ref.name))
        else:
            workloads.take(obj)

    def _take_object(self, ref: Ref, obj: Object | None) -> None:
        before = self._objects[ref.namespace].pop(ref, None)
        if obj is not None:
            self._objects[ref.namespace][ref] = obj
        if ref.kind == "RolloutPolicy":
            self._take_policy(ref, obj)
        elif ref.kind == "MetricTemplate":
            self._take_template(_key(ref), obj)
        elif obj is None:
            self.objects(ref.namespace).drop(ref.kind, ref.name)
        elif ref.kind != "Service" or _selector(before) != _selector(obj):
            self.objects(ref.namespace).put(obj)

    def _take_policy(self, ref: Ref, obj: Object | None) -> None:
        old = self.policies.pop(_key(ref), None)
        if old is not None and obj is not None and _spec_version(old.obj) == _spec_version(obj):
            status = Status.of(obj)
            seen = old.seen if old.status.weights == status.weights else None
            same = old.unchanged_by if old.status == status else None  # others may write a status too
            self.policies[_key(ref)] = replace(old, obj=obj, status=status, seen=seen, unchanged_by=same)
            if old.invalid:
                self.problems[ref] = old.invalid
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
        """Return the objects of a namespace as they are now."""
        if namespace not in self._indexes:
            self._indexes[namespace] = Objects(namespace)
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
        known = self._indexes.get(ref_of(obj).namespace)
        return gone or known is None or known.workloads.differs(obj)

    def stirred(self) -> set[str]:
        """Return the policies whose objects, or whose right to a route, changed since the last time."""
        found = self._reassign() if self._specs_changed else set()
        versions = {namespace: objects.version for namespace, objects in self._indexes.items()}
        moved = {name for name, version in versions.items() if self._stirred_at.get(name) != version}
        self._stirred_at = versions
        for key, entry in self.policies.items() if moved else ():
            namespace = entry.policy.metadata.namespace
            if namespace in moved and not (
                entry.seen and entry.seen.holds(entry.policy, self._indexes[namespace])
            ):
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
