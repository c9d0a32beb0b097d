"""What the controller does to objects besides weights and status: as data, and as guarded JSON Patches. Pure.

Each can be done again after a crash: a patch of what is done already is empty.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.ports import Object
    from controller.workloads import Name

FINALIZER = "penstock.dev/traffic"
"""Keeps a policy that is deleted until its traffic is as `onDeletion` says."""
REPLICAS = "penstock.dev/replicas"
"""On a workload scaled to zero: how many replicas it had."""
COPIED = "penstock.dev/copied"
"""On a workload whose pod template was copied from another: for which attempt of which run."""
VERSION_LABELS = ("version", "app.kubernetes.io/version", "service.istio.io/canonical-revision")
"""By these the metrics tell versions apart (Istio's `destination_version`)."""

Operations = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class CopyTemplate:
    """Give `target` the pod template of `source`, which must still be at `revision`."""

    source: Name
    revision: str
    target: Name
    keep: tuple[str, ...]
    """The labels by which traffic tells the two apart."""
    token: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Scale workloads to zero, or back to what they had."""

    workloads: tuple[Name, ...]
    down: bool


@dataclass(frozen=True, slots=True)
class Release:
    """Let a deleted policy go."""


Chore = CopyTemplate | Scale | Release


def copied(source: Object, target: Object, chore: CopyTemplate) -> Operations:
    """Return the patch by which `target` takes the pod template of `source`.

    Labels by which a subset, a Service, the metrics or the workload itself find its pods stay the target's.
    """
    if _notes(target).get(COPIED) == chore.token:
        return []
    template, mine = deepcopy(source["spec"]["template"]), _labels(target)
    labels = dict(_labels(source))
    for key in {*chore.keep, *VERSION_LABELS, *_selector(target), *_selector(source)}:
        labels.pop(key, None)
        if key in mine:
            labels[key] = mine[key]
    template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
    return [
        *_guard(target),
        {"op": "replace", "path": "/spec/template", "value": template},
        _note(target, COPIED, chore.token),
    ]


def scaled(obj: Object, *, down: bool) -> Operations:
    """Return the patch that scales a workload to zero and notes its replicas, or that takes this back.

    A workload that somebody else has scaled up again loses the note, and nothing else.
    """
    replicas, noted = obj["spec"].get("replicas", 1), _notes(obj).get(REPLICAS)
    if down:
        if not replicas or noted:
            return []
        return [*_guard(obj), _replicas(0), _note(obj, REPLICAS, str(replicas))]
    if noted is None:
        return []
    back = [] if replicas or not noted.isdecimal() else [_replicas(int(noted))]
    return [*_guard(obj), *back, {"op": "remove", "path": _place(REPLICAS)}]


def held(policy: Object) -> Operations:
    """Return the patch that adds our finalizer; none to a policy that is being deleted."""
    meta = policy["metadata"]
    finalizers = meta.get("finalizers") or []
    if FINALIZER in finalizers or meta.get("deletionTimestamp"):
        return []
    return [*_guard(policy), {"op": "add", "path": "/metadata/finalizers", "value": [*finalizers, FINALIZER]}]


def released(policy: Object) -> Operations:
    """Return the patch that takes our finalizer away."""
    finalizers = policy["metadata"].get("finalizers") or []
    if FINALIZER not in finalizers:
        return []
    rest = [each for each in finalizers if each != FINALIZER]
    return [*_guard(policy), {"op": "replace", "path": "/metadata/finalizers", "value": rest}]


def _guard(obj: Object) -> Operations:
    version = obj["metadata"]["resourceVersion"]
    return [{"op": "test", "path": "/metadata/resourceVersion", "value": version}]


def _replicas(number: int) -> dict[str, Any]:
    return {"op": "add", "path": "/spec/replicas", "value": number}


def _notes(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def _note(obj: Object, key: str, text: str) -> dict[str, Any]:
    """Add one annotation; the others are not written, since not all of them may have been read."""
    if "annotations" not in obj["metadata"]:
        return {"op": "add", "path": "/metadata/annotations", "value": {key: text}}
    return {"op": "add", "path": _place(key), "value": text}


def _place(key: str) -> str:
    return "/metadata/annotations/" + key.replace("~", "~0").replace("/", "~1")


def _labels(workload: Object) -> dict[str, str]:
    return (workload["spec"]["template"].get("metadata") or {}).get("labels") or {}


def _selector(workload: Object) -> Sequence[str]:
    """Return the keys of the labels by which a workload finds its pods."""
    selector = workload["spec"].get("selector") or {}
    expressions = selector.get("matchExpressions") or ()
    return [*(selector.get("matchLabels") or {}), *(each["key"] for each in expressions)]
