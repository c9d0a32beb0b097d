"""What the objects say about one policy: which variants can take traffic, what they are, and the live split.

Pure: objects in, a Scene out. The order of checks is the order in which a user would fix them.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from istio.drift import drift
from istio.names import full_name, same_host, short_name
from istio.route import RouteError, UnmanagedWeightError
from istio.weights import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.ports import Object
    from policies.model import RolloutPolicy, Variant, VirtualServiceRef

MANAGER = "penstock"
"""The field manager of every write of the controller."""
KINDS = ("RolloutPolicy", "MetricTemplate", "VirtualService", "DestinationRule", "ServiceEntry")


class MissingError(Exception):
    """A variant cannot take traffic; the text says why."""


@dataclass(frozen=True, slots=True)
class Arm:
    """How the metrics name a variant: the values of the namespace, service and version labels."""

    namespace: str
    service: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything the objects say about a policy now."""

    revisions: Mapping[str, str]
    missing: Mapping[str, str]
    arms: Mapping[str, Arm]
    live: Mapping[str, int] | None
    route_error: str
    changed_by: str
    virtual_services: Sequence[tuple[VirtualServiceRef, Object]]


@dataclass
class Objects:
    """The objects of the world by kind and namespace, built once per pass."""

    by_place: dict[tuple[str, str], list[Object]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, objects: Iterable[Object]) -> Objects:
        """Index objects by kind and namespace."""
        index = cls()
        for obj in objects:
            index.by_place[obj["kind"], obj["metadata"].get("namespace", "default")].append(obj)
        return index

    def find(self, kind: str, namespace: str) -> list[Object]:
        """Return the objects of a kind in a namespace."""
        return self.by_place.get((kind, namespace), [])


def read_scene(policy: RolloutPolicy, objects: Objects, wanted: Mapping[str, int]) -> Scene:
    """Return what the objects say; `wanted` are the weights of the status, to pick the route that differs."""
    revisions: dict[str, str] = {}
    missing: dict[str, str] = {}
    arms: dict[str, Arm] = {}
    for variant in policy.spec.variants:
        try:
            revisions[variant.name], arms[variant.name] = _variant(policy, variant, objects)
        except MissingError as error:
            missing[variant.name] = str(error)
    for name in _indistinct(arms):
        revisions.pop(name)
        missing[name] = "its metrics cannot be told from the control's: give the subset a `version` label"
    routes, live, route_error, writer = _routes(policy, objects, wanted)
    return Scene(revisions, missing, arms, live, route_error, writer, routes)


def _indistinct(arms: Mapping[str, Arm]) -> list[str]:
    """Return the variants whose metrics carry the labels of an earlier variant."""
    names = list(arms)
    return [name for at, name in enumerate(names) if any(arms[other] == arms[name] for other in names[:at])]


def _variant(policy: RolloutPolicy, variant: Variant, objects: Objects) -> tuple[str, Arm]:
    namespace = policy.metadata.namespace
    host = variant.host or policy.spec.service.host
    labels = _subset_labels(variant.subset, host, namespace, objects) if variant.subset else {}
    found = [each for each in _endpoints(host, namespace, objects) if labels.items() <= each.items()]
    if not found:
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
        raise MissingError(f"no endpoint of {host} {'has the labels ' + wanted if wanted else 'is known'}")
    versions = {each.get("version") for each in found}
    shared = next(iter(versions)) if len(versions) == 1 else None
    version = (
        variant.version or labels.get("version") or (shared or variant.subset if variant.subset else None)
    )
    return _revision(labels, found), Arm(namespace, short_name(full_name(host, namespace)), version)


def _subset_labels(subset: str, host: str, namespace: str, objects: Objects) -> dict[str, str]:
    rules = [
        rule
        for rule in objects.find("DestinationRule", namespace)
        if same_host(rule["spec"].get("host", ""), host, namespace)
    ]
    if not rules:
        raise MissingError(f"no DestinationRule for host {host} in namespace {namespace}")
    for rule in rules:
        for each in rule["spec"].get("subsets") or ():
            if each.get("name") == subset:
                return each.get("labels") or {}
    raise MissingError(f"DestinationRule {rules[0]['metadata']['name']} has no subset {subset}")


def _endpoints(host: str, namespace: str, objects: Objects) -> list[dict[str, str]]:
    """Return the labels of each endpoint of a host."""
    return [
        endpoint.get("labels") or {}
        for entry in objects.find("ServiceEntry", namespace)
        if any(same_host(each, host, namespace) for each in entry["spec"].get("hosts") or ())
        for endpoint in entry["spec"].get("endpoints") or ()
    ]


def _revision(labels: Mapping[str, str], endpoints: Sequence[Mapping[str, str]]) -> str:
    """Name what a subset selects by its labels; how many endpoints there are (scaling) is no new revision."""
    kinds = sorted({json.dumps(each, sort_keys=True) for each in endpoints})
    text = json.dumps([dict(labels), kinds], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _routes(
    policy: RolloutPolicy, objects: Objects, wanted: Mapping[str, int]
) -> tuple[list[tuple[VirtualServiceRef, Object]], dict[str, int] | None, str, str]:
    """Return the VirtualServices, the live weights per variant, what is wrong, and who wrote last.

    When several routes carry the split, the live weights are those of the first that differs from `wanted`.
    """
    keys = {policy.destination(variant): variant.name for variant in policy.spec.variants}
    namespace = policy.metadata.namespace
    by_name = {obj["metadata"]["name"]: obj for obj in objects.find("VirtualService", namespace)}
    found: list[tuple[VirtualServiceRef, Object]] = []
    live: dict[str, int] | None = None
    writer = "unknown"
    for ref in policy.spec.routes:
        obj = by_name.get(ref.name)
        if obj is None:
            return [], None, f"VirtualService {ref.name} does not exist in namespace {namespace}", writer
        try:
            weights = _live(obj, keys, ref, wanted)
            change = drift(obj, {key: wanted.get(name, 0) for key, name in keys.items()}, ref.routes)
        except RouteError as error:
            return [], None, f"VirtualService {ref.name}: {error}", writer
        found.append((ref, obj))
        if live is None or live == wanted:
            live, writer = weights, change.who if change else writer
    return found, live, "", writer


def _live(
    obj: Object, keys: Mapping[str, str], ref: VirtualServiceRef, wanted: Mapping[str, int]
) -> dict[str, int]:
    """Return the weights in force per variant; RouteError also for traffic to a destination of no variant."""
    chosen: dict[str, int] = {}
    for managed in resolve(obj, list(keys), ref.routes):
        weights = {keys[key]: weight for key, weight in managed.weights.items()}
        strays = ", ".join(str(each) for each in managed.others if each.weight)
        if strays:
            raise UnmanagedWeightError(
                f"route {managed.route} also sends traffic to {strays}, unknown to the policy"
            )
        if not chosen or chosen == wanted:
            chosen = weights
    return chosen
