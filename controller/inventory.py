"""The store's objects as the loop reads them: only what changed is read again, and parsed once per change.

An object that cannot be understood is a problem of its own: it is told, and everything else goes on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from controller.ports import ConflictError, Ref
from controller.scene import KINDS, Objects, Scene, read_scene
from controller.status import Status
from policies.parse import InvalidError, policy_from_object, template_from_object

if TYPE_CHECKING:
    from controller.ports import Object, Store
    from policies.model import MetricTemplate, RolloutPolicy

_UNREADABLE = (InvalidError, ValidationError, ValueError, KeyError, TypeError, AttributeError)
"""What untyped JSON can do to whoever reads it."""


@dataclass
class Entry:
    """One policy as it is stored, with what the objects around it say."""

    obj: Object
    policy: RolloutPolicy
    status: Status
    _seen: tuple[Objects, Scene] | None = None

    @cached_property
    def document(self) -> dict[str, Any]:
        """The policy as JSON, for the history."""
        return self.policy.model_dump(mode="json", by_alias=True, exclude_none=True)

    def scene(self, objects: Objects) -> Scene:
        """Return what `objects` say about this policy; read once for the same objects."""
        if self._seen is None or self._seen[0] is not objects:
            self._seen = objects, _read_scene(self, objects)
        return self._seen[1]


def _read_scene(entry: Entry, objects: Objects) -> Scene:
    try:
        return read_scene(entry.policy, objects, entry.status.weights)
    except _UNREADABLE as error:
        return Scene({}, {}, {}, None, f"the objects cannot be understood: {error!r}", "unknown", ())


class Inventory:
    """A mirror of the store, brought up to date by `refresh`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version = ""
        self._objects: dict[str, dict[Ref, Object]] = defaultdict(dict)
        self._indexes: dict[str, Objects] = {}
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
                return
        await self._list()

    async def _list(self) -> None:
        version = await self._store.version()
        live = {ref_of(obj): obj for kind in KINDS for obj in await self._store.list(kind)}
        known = {ref for inside in self._objects.values() for ref in inside}
        for ref in known - live.keys():
            self._take(ref, None)
        for ref, obj in live.items():
            self._take(ref, obj)
        self._version = version

    def _take(self, ref: Ref, obj: Object | None) -> None:
        if obj is None:
            self._objects[ref.namespace].pop(ref, None)
        else:
            self._objects[ref.namespace][ref] = obj
        self.problems.pop(ref, None)
        try:
            if ref.kind == "RolloutPolicy":
                self._take_policy(f"{ref.namespace}/{ref.name}", obj)
            elif ref.kind == "MetricTemplate":
                self._take_template(f"{ref.namespace}/{ref.name}", obj)
            else:
                self._indexes.pop(ref.namespace, None)
        except _UNREADABLE as error:
            self.problems[ref] = str(error) if isinstance(error, InvalidError) else repr(error)

    def _take_policy(self, key: str, obj: Object | None) -> None:
        old = self.policies.pop(key, None)
        if obj is None:
            return
        status = Status.of(obj)
        same = old is not None and _spec_version(old.obj) == _spec_version(obj)
        policy = old.policy if old is not None and same else policy_from_object(obj)
        self.policies[key] = Entry(obj, policy, status)

    def _take_template(self, key: str, obj: Object | None) -> None:
        self.templates = {name: template for name, template in self.templates.items() if name != key}
        if obj is not None:
            self.templates[key] = template_from_object(obj)

    def objects(self, namespace: str) -> Objects:
        """Return the objects of a namespace; the same value until one of them changes."""
        if namespace not in self._indexes:
            self._indexes[namespace] = Objects(namespace, self._objects[namespace].values())
        return self._indexes[namespace]


def ref_of(obj: Object) -> Ref:
    """Return the identity of a stored object."""
    meta = obj["metadata"]
    return Ref(obj["kind"], meta.get("namespace") or "default", meta["name"])


def _spec_version(obj: Object) -> tuple[Any, Any]:
    return obj["metadata"].get("uid"), obj["metadata"].get("generation")
