"""Deployments and StatefulSets as a rollout sees them: which revision their pods are, and whether they serve.

Pure. What autoscalers do (replicas, pods that come and go) changes neither the revision nor, as long as a pod
is ready, anything else that a run depends on: a `Workload` is equal to the one before unless something that
matters to a rollout changed. A revision is the pod template and nothing else, as Kubernetes means it, so
`kubectl rollout restart` makes a new one.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from policies.model import API_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.ports import Object

WORKLOADS = ("Deployment", "StatefulSet")


class Name(NamedTuple):
    """A workload within its namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Workload:
    """What of a Deployment or StatefulSet matters to a rollout."""

    name: Name
    labels: Mapping[str, str]
    """Of its pods."""
    revision: str
    """Names its pod template."""
    ready: bool
    """Whether at least one pod is ready."""
    full: bool
    """Whether all wanted pods are ready."""
    asleep: bool
    """Whether it is scaled to zero."""
    begun: bool
    """Whether there are pods of the present revision."""
    rolling: str
    """Why its pods are not all there in the present revision, in words; empty when they are."""
    stuck: str
    """What the controller says when its progress deadline is exceeded."""
    notes: Mapping[str, str]
    """Penstock's own annotations."""

    @property
    def missing(self) -> str:
        """Why it takes no traffic; empty when it does."""
        if self.asleep:
            return f"{self.name} is scaled to zero"
        if self.ready:
            return ""
        if self.stuck:
            return f"{self.name} has exceeded its progress deadline: {self.stuck}"
        return f"{self.name} has no ready endpoint" + (f" ({self.rolling})" if self.rolling else "")


def read_workload(obj: Object, revision: str = "") -> Workload:
    """Read an object; `revision` spares working it out again when the spec is the same as before."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    wanted, ready = _count(spec, "replicas", 1), _count(status, "readyReplicas")
    annotations = obj["metadata"].get("annotations") or {}
    return Workload(
        name=Name(obj["kind"], obj["metadata"]["name"]),
        labels=_template(obj)["metadata"].get("labels") or {},
        revision=revision or _revision(_template(obj)),
        ready=ready > 0,
        full=ready >= wanted,
        asleep=wanted == 0,
        begun=_is_seen(obj) and _count(status, "updatedReplicas") > 0,
        rolling=_rolling(obj, wanted),
        stuck=_stuck(status),
        notes={key: text for key, text in annotations.items() if key.startswith(f"{API_GROUP}/")},
    )


def _template(obj: Object) -> dict[str, Any]:
    template = (obj.get("spec") or {}).get("template") or {}
    return {**template, "metadata": template.get("metadata") or {}}


def _revision(template: Mapping[str, Any]) -> str:
    metadata = {key: value for key, value in template["metadata"].items() if key != "creationTimestamp"}
    text = json.dumps(_without_nulls({**template, "metadata": metadata}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without_nulls(value: Any) -> Any:
    """Leave out nulls, which some API servers write and others do not."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _is_seen(obj: Object) -> bool:
    """Tell whether the status is about the present spec."""
    return _count(obj.get("status") or {}, "observedGeneration") >= _count(obj["metadata"], "generation")


def _rolling(obj: Object, wanted: int) -> str:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if not _is_seen(obj):
        return "its last change has not been seen by its controller yet"
    updated, there = _count(status, "updatedReplicas"), _count(status, "replicas")
    if updated < wanted:
        why = " and it is paused" if spec.get("paused") else _partitioned(spec)
        return f"rolling out: {updated} of {wanted} updated{why}"
    old = there - updated
    return f"rolling out: {old} of the old revision left" if old > 0 else ""


def _partitioned(spec: Mapping[str, Any]) -> str:
    partition = _count((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}, "partition")
    return f", its partition keeps {partition} back" if partition else ""


def _stuck(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or ():
        if condition.get("reason") == "ProgressDeadlineExceeded" and condition.get("status") == "False":
            return str(condition.get("message") or "no progress")
    return ""


def _count(fields: Mapping[str, Any], key: str, default: int = 0) -> int:
    value = fields.get(key)
    return default if value is None else int(value)


@dataclass(frozen=True, slots=True)
class Selection:
    """The workloads whose pods carry some labels; together they are one variant."""

    labels: Mapping[str, str]
    workloads: tuple[Workload, ...]

    @property
    def revision(self) -> str:
        """Name what the pods are; how many workloads share a template makes no difference."""
        revisions = sorted({each.revision for each in self.workloads})
        if len(revisions) == 1:
            return revisions[0]
        return hashlib.sha256(" ".join(revisions).encode()).hexdigest()[:12]

    @property
    def missing(self) -> str:
        """Why none of them takes traffic; empty when one does."""
        reasons = [each.missing for each in self.workloads]
        return "; ".join(reasons) if all(reasons) else ""

    @property
    def rolling(self) -> str:
        """Why their pods are not all there in the present revision."""
        return "; ".join(f"{each.name}: {each.rolling}" for each in self.workloads if each.rolling)

    @property
    def stuck(self) -> str:
        """Which of them have exceeded their progress deadline."""
        return "; ".join(f"{each.name}: {each.stuck}" for each in self.workloads if each.stuck)

    @property
    def full(self) -> bool:
        """Whether all wanted pods are ready."""
        return all(each.full for each in self.workloads)

    @property
    def begun(self) -> bool:
        """Whether each of them that is not scaled to zero has pods of its present revision."""
        return not self.asleep and all(each.begun for each in self.workloads if not each.asleep)

    @property
    def asleep(self) -> bool:
        """Whether there are workloads, and all are scaled to zero."""
        return bool(self.workloads) and all(each.asleep for each in self.workloads)


class Workloads:
    """The workloads of one namespace, to be found by the labels of their pods."""

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        self.version = 0
        """Rises whenever something that matters to a rollout changes."""
        self._known: dict[Name, tuple[tuple[Any, Any], Workload]] = {}
        self._by_label: dict[tuple[str, str], dict[Name, Workload]] = defaultdict(dict)
        for obj in objects:
            self.take(obj)

    def names(self) -> list[Name]:
        """Return the workloads there are."""
        return list(self._known)

    def differs(self, obj: Object) -> bool:
        """Tell whether an object says anything that matters and that is not known."""
        known = self._known.get(_name(obj))
        return known is None or known[1] != self._read(obj)

    def take(self, obj: Object) -> None:
        """Take in an object as it is now."""
        name, workload = _name(obj), self._read(obj)
        known = self._known.get(name)
        self._known[name] = _spec_version(obj), workload
        if known is None or known[1] != workload:
            self._index(known[1] if known else None, workload)

    def drop(self, name: Name) -> None:
        """Forget a workload that is gone."""
        known = self._known.pop(name, None)
        if known is not None:
            self._index(known[1], None)

    def selected(self, labels: Mapping[str, str]) -> Selection:
        """Return the workloads whose pods carry all of `labels`, by kind and name; none for no labels."""
        if not labels:
            return Selection({}, ())
        wanted = labels.items()
        fewest = min((self._by_label.get(pair, {}) for pair in wanted), key=len)
        found = [each for each in fewest.values() if wanted <= each.labels.items()]
        return Selection(dict(labels), tuple(sorted(found, key=lambda each: each.name)))

    def _read(self, obj: Object) -> Workload:
        known = self._known.get(_name(obj))
        same = known is not None and known[0] == _spec_version(obj) != (None, None)
        return read_workload(obj, known[1].revision if known is not None and same else "")

    def _index(self, old: Workload | None, new: Workload | None) -> None:
        if old is not None:
            for pair in old.labels.items():
                self._by_label[pair].pop(old.name)
                if not self._by_label[pair]:
                    del self._by_label[pair]
        if new is not None:
            for pair in new.labels.items():
                self._by_label[pair][new.name] = new
        self.version += 1


def _name(obj: Object) -> Name:
    return Name(obj["kind"], obj["metadata"]["name"])


def _spec_version(obj: Object) -> tuple[Any, Any]:
    return obj["metadata"].get("uid"), obj["metadata"].get("generation")
