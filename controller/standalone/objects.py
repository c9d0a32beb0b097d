"""The life of an object as an API server keeps it: identity, generation, ownership, status; pure functions.

A *version* is an object with all its metadata. `revise` makes the next version from the previous one; writes
that change nothing make no version (None), as in Kubernetes.
"""

from __future__ import annotations

import copy
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from controller.ports import Ref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.ports import Object

OWN_ANNOTATIONS = "penstock.dev/"
SYSTEM_METADATA = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields",
)  # fmt: skip
IDENTITY = (("kind",), *(("metadata", field) for field in ("name", "namespace", *SYSTEM_METADATA)))
"""Where a patch may not write."""


def ref_of(obj: Object) -> Ref:
    """Return the identity of an object; ValueError when it has none."""
    metadata = obj.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    ref = Ref(obj.get("kind"), named.get("namespace") or "default", named.get("name"))  # type: ignore[arg-type]
    if not all(part and isinstance(part, str) for part in ref):
        raise ValueError("an object needs a kind and a metadata.name")
    return ref


def timestamp(seconds: float) -> str:
    """Write unix time as Kubernetes does: RFC 3339, whole seconds, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def manifest(obj: Object) -> Object:
    """Return what a user may write: the object without status and without the server's own metadata."""
    body = {key: copy.deepcopy(value) for key, value in obj.items() if key != "status"}
    metadata = {k: v for k, v in (body.get("metadata") or {}).items() if k not in SYSTEM_METADATA}
    body["metadata"] = {**metadata, "namespace": metadata.get("namespace") or "default"}
    return body


def create(obj: Object, *, manager: str, now: float) -> Object:
    """Return the first version of an object; its status is not the user's to write."""
    body = manifest(obj)
    body["metadata"] |= {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": timestamp(now)}
    body["metadata"]["managedFields"] = _owned([], body, _fields(body), manager, now)
    return body


def replace(live: Object, obj: Object, *, manager: str, now: float) -> Object | None:
    """Return the version after a whole manifest was written.

    Status, finalizers and Penstock's annotations stay. Unlike in Kubernetes, an object that is being deleted
    is back then: who writes a manifest wants the object.
    """
    body = manifest(obj)
    if finalizers := live["metadata"].get("finalizers"):
        body["metadata"].setdefault("finalizers", finalizers)
    kept = {k: v for k, v in _annotations(live).items() if k.startswith(OWN_ANNOTATIONS)}
    if kept:
        body["metadata"]["annotations"] = kept | _annotations(body)
    return revise(live, body, manager=manager, now=now)


def revise(live: Object, body: Object, *, manager: str, now: float) -> Object | None:
    """Return the version after `body` was written over `live`, or None when it says the same.

    The generation rises when anything but metadata changed. Each changed field passes to `manager`.
    """
    body = manifest(body)
    changed = _changed(manifest(live), body)
    if not changed:
        return None
    before = live["metadata"]
    desired = any(section != "metadata" for section, _ in changed)
    lasting = ("uid", "creationTimestamp", "deletionTimestamp")
    body["metadata"] |= {key: before[key] for key in lasting if key in before}
    body["metadata"]["generation"] = before.get("generation", 1) + desired
    body["metadata"]["managedFields"] = _owned(before.get("managedFields", []), body, changed, manager, now)
    return body | ({"status": live["status"]} if "status" in live else {})


def doomed(live: Object, *, now: float) -> Object | None:
    """Return the version that waits for its finalizers to be deleted, or None when it waits for nothing."""
    if not live["metadata"].get("finalizers"):
        return None
    return {**live, "metadata": {"deletionTimestamp": timestamp(now), **live["metadata"]}}


def over(obj: Object) -> bool:
    """Tell whether an object that was to be deleted waits for nothing any more."""
    return "deletionTimestamp" in obj["metadata"] and not obj["metadata"].get("finalizers")


def with_status(live: Object, status: Object, *, manager: str, now: float) -> Object | None:
    """Return the version with another status, or None when it is the same; spec and generation stay."""
    if live.get("status") == status:
        return None
    body = copy.deepcopy({**live, "status": status})
    changed = _changed({"status": live.get("status") or {}}, {"status": status})
    metadata = body["metadata"]
    metadata["managedFields"] = _owned(
        metadata.get("managedFields", []), body, changed, manager, now, subresource="status"
    )
    return body


def protected_change(live: Object, body: Object) -> str | None:
    """Return the first path that a patch changed although it may not, or None."""
    for path in IDENTITY:
        if _at(live, path) != _at(body, path):
            return ".".join(path)
    return None


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj


def _annotations(obj: Object) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}


Field = tuple[str, str]
"""A place in an object at the depth at which ownership is kept: ("spec", "http")."""


def _fields(obj: Object) -> set[Field]:
    return {(section, key) for section, key, _ in _values(obj)}


def _values(obj: Object) -> Iterator[tuple[str, str, Any]]:
    for section, value in obj.items():
        if section in {"apiVersion", "kind"}:
            continue
        if not isinstance(value, dict):
            yield section, "", value
            continue
        for key, item in value.items():
            if section != "metadata" or key in {"labels", "annotations", "finalizers", "ownerReferences"}:
                yield section, key, item


def _changed(before: Object, after: Object) -> set[Field]:
    old = {(section, key): value for section, key, value in _values(before)}
    new = {(section, key): value for section, key, value in _values(after)}
    fields = old.keys() | new.keys()
    changed = {field for field in fields if old.get(field, _MISSING) != new.get(field, _MISSING)}
    if before.get("apiVersion") != after.get("apiVersion"):
        changed.add(("apiVersion", ""))
    return changed


_MISSING = object()


def _owned(
    entries: list[Object],
    body: Object,
    changed: set[Field],
    manager: str,
    now: float,
    *,
    subresource: str = "",
) -> list[Object]:
    """Return managedFields after `manager` wrote `changed`: each field has one owner, the last writer."""
    mine: set[Field] = set()
    others: list[Object] = []
    for entry in entries:
        owned = _read_fields(entry["fieldsV1"])
        if (entry["manager"], entry.get("subresource", "")) == (manager, subresource):
            mine = owned
        elif left := owned - changed:
            others.append({**entry, "fieldsV1": _write_fields(left)})
    there = _fields(body)
    entry = {
        "manager": manager,
        "operation": "Update",
        "apiVersion": body.get("apiVersion", ""),
        "time": timestamp(now),
        "fieldsType": "FieldsV1",
        "fieldsV1": _write_fields((mine | changed) & there),
    }
    return [*others, entry | ({"subresource": subresource} if subresource else {})]


def _write_fields(fields: set[Field]) -> Object:
    tree: Object = {}
    for section, key in sorted(fields):
        inner = tree.setdefault(f"f:{section}", {})
        if key:
            inner[f"f:{key}"] = {}
    return tree


def _read_fields(tree: Object) -> set[Field]:
    return {(section[2:], key[2:]) for section, inner in tree.items() for key in (inner or {"f:": {}})}
