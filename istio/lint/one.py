"""One object, judged as the API server and istiod judge it before they store it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from istio.lint.codes import KINDS, problem
from istio.lint.destinationrule import check_destination_rule
from istio.lint.fields import SPECS
from istio.lint.schema import Items, Message, Table, Text, Type
from istio.lint.serviceentry import check_service_entry
from istio.lint.shared import check_labels
from istio.lint.virtualservice import check_virtual_service
from policies.documents import child
from policies.shape import without_nulls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.findings import Finding

Object = dict[str, Any]

_VERSIONS: Final = ("v1", "v1beta1", "v1alpha3")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_REFUSED: Final = (
    "istio.io/dry-run",
    "internal.istio.io/webhook-always-reject",
    "internal.istio.io/parent-namespace",
    "internal.istio.io/parents",
)


class _Anything:
    """What the API server writes itself, and lint does not judge."""

    def check(self, _value: Any, _path: str) -> Iterator[Finding]:
        yield from ()


_ANY: Final[Type] = _Anything()
_SERVER: Final = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "managedFields",
    "selfLink",
)
_FIELDS: dict[str, Type] = {
    **dict.fromkeys(("name", "generateName", "namespace"), Text()),
    **dict.fromkeys(("labels", "annotations"), Table(Text())),
    **dict.fromkeys(_SERVER, _ANY),
    "finalizers": Items(Text()),
}
_METADATA: Final = Message(_FIELDS)


def name_of(obj: Object) -> str:
    """Return an object's identity for findings, `Kind/namespace/name`."""
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return f"{obj.get('kind')}/{metadata.get('namespace') or 'default'}/{metadata.get('name') or '?'}"


def lint_object(obj: Object) -> list[Finding]:
    """Return everything that the API server and istiod say of one object, and our own warnings.

    Kinds other than VirtualService, DestinationRule and ServiceEntry have no findings. Known fields that are
    null count as absent, since the API server drops them. Where a value has the wrong type, istiod's rules
    are not tried. Places in files are the caller's to add.
    """
    if not isinstance(obj.get("kind"), str) or obj["kind"] not in KINDS:
        return []
    digit, subject = KINDS[obj["kind"]], name_of(obj)
    findings = [*_check(obj), *_check_nulls(obj.get("spec"), "spec")]
    return [replace(finding, code=finding.code.replace("x", digit), object=subject) for finding in findings]


def _check(obj: Object) -> Iterator[Finding]:
    kind = obj["kind"]
    envelope: dict[str, Type] = {
        "apiVersion": Text(),
        "kind": Text(),
        "metadata": _METADATA,
        "spec": SPECS[kind],
        "status": _ANY,
    }
    written = obj if obj.get("spec") is not None else {**obj, "spec": {}}
    schema = list(Message(envelope, required=("apiVersion", "metadata")).check(written, ""))
    yield from schema
    if any(finding.code == "PSx02" for finding in schema):
        return
    yield from _check_rules(without_nulls(written))


def _check_rules(obj: Object) -> Iterator[Finding]:
    """Try the rules between fields, of an object whose values have the right types."""
    yield from _check_metadata(obj)
    kind, spec = obj["kind"], obj["spec"]
    namespace = obj.get("metadata", {}).get("namespace", "default")
    if kind == "VirtualService":
        yield from check_virtual_service(spec, namespace)
    elif kind == "DestinationRule":
        yield from check_destination_rule(spec, namespace)
    else:
        yield from check_service_entry(spec, namespace, obj.get("metadata", {}).get("labels", {}))


def _check_metadata(obj: Object) -> Iterator[Finding]:
    group, _, version = obj.get("apiVersion", "").partition("/")
    if "apiVersion" in obj and (group != "networking.istio.io" or version not in _VERSIONS):
        allowed = ", ".join(f"networking.istio.io/{known}" for known in _VERSIONS)
        yield problem("PSx12", "apiVersion", "unknown apiVersion", found=obj["apiVersion"], allowed=allowed)
    metadata = obj.get("metadata", {})
    name, namespace = metadata.get("name"), metadata.get("namespace", "default")
    if not name and not metadata.get("generateName"):
        yield problem("PSx03", "metadata.name", "name is required")
    elif name and (len(name) > 253 or not _NAME.fullmatch(name)):
        yield problem("PSx12", "metadata.name", "name must be a lower case DNS name", found=name)
    if len(namespace) > 63 or not _NAMESPACE.fullmatch(namespace):
        yield problem(
            "PSx12", "metadata.namespace", "namespace must be a lower case DNS label", found=namespace
        )
    yield from check_labels(metadata.get("labels", {}), "metadata.labels")
    for annotation in _REFUSED:
        if annotation in metadata.get("annotations", {}):
            yield problem("PSx10", child("metadata.annotations", annotation), "this may not be set by users")


def _check_nulls(value: Any, path: str) -> Iterator[Finding]:
    """Warn of every field that was left without a value: a condition, say, that would match everything."""
    if isinstance(value, dict):
        for name, item in value.items():
            if item is None:
                yield problem("PSx16", child(path, str(name)), "has no value and is taken as absent")
            else:
                yield from _check_nulls(item, child(path, str(name)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _check_nulls(item, child(path, index))
