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
from istio.names import comparable, full_name, short_name
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
    """Weights in force per variant; None when a VirtualService cannot be read."""
    route_error: str
    changed_by: str
    virtual_services: Sequence[tuple[VirtualServiceRef, Object]]
    """Those that can be read, and so be written."""


@dataclass
class _Routes:
    """What the VirtualServices of a policy say."""

    readable: list[tuple[VirtualServiceRef, Object]] = field(default_factory=list)
    live: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    writer: str = "unknown"


class Objects:
    """The objects of one namespace, to be found by kind, name or host."""

    def __init__(self, namespace: str, objects: Iterable[Object]) -> None:
        self.namespace = namespace
        self._by_name: dict[tuple[str, str], Object] = {}
        self._by_host: dict[tuple[str, str], list[Object]] = defaultdict(list)
        for obj in objects:
            self._by_name[obj["kind"], obj["metadata"]["name"]] = obj
            for host in _hosts(obj):
                self._by_host[obj["kind"], comparable(host, namespace)].append(obj)

    def named(self, kind: str, name: str) -> Object | None:
        """Return the object of a kind with this name."""
        return self._by_name.get((kind, name))

    def about(self, kind: str, host: str) -> list[Object]:
        """Return the DestinationRules or ServiceEntries for a host, however it is written."""
        return self._by_host.get((kind, comparable(host, self.namespace)), [])


def _hosts(obj: Object) -> set[str]:
    spec = obj.get("spec") or {}
    match obj["kind"]:
        case "DestinationRule":
            return {spec.get("host") or ""}
        case "ServiceEntry":
            return set(spec.get("hosts") or ())
    return set()


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
    routes = _routes(policy, objects, wanted)
    live = (routes.live or None) if not routes.errors else None
    return Scene(
        revisions, missing, arms, live, "; ".join(routes.errors), routes.writer, routes.readable
    )  # fmt: skip


def _indistinct(arms: Mapping[str, Arm]) -> list[str]:
    """Return the variants whose metrics carry the labels of an earlier variant."""
    names = list(arms)
    return [name for at, name in enumerate(names) if any(arms[other] == arms[name] for other in names[:at])]


def _variant(policy: RolloutPolicy, variant: Variant, objects: Objects) -> tuple[str, Arm]:
    namespace = policy.metadata.namespace
    host = variant.host or policy.spec.service.host
    labels = _subset_labels(variant.subset, host, objects) if variant.subset else {}
    found = [each for each in _endpoints(host, objects) if labels.items() <= each.items()]
    if not found:
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
        raise MissingError(f"no endpoint of {host} {'has the labels ' + wanted if wanted else 'is known'}")
    versions = {each.get("version") for each in found}
    shared = next(iter(versions)) if len(versions) == 1 else None
    version = (
        variant.version or labels.get("version") or (shared or variant.subset if variant.subset else None)
    )
    return _revision(labels, found), Arm(namespace, short_name(full_name(host, namespace)), version)


def _subset_labels(subset: str, host: str, objects: Objects) -> dict[str, str]:
    rules = objects.about("DestinationRule", host)
    if not rules:
        raise MissingError(f"no DestinationRule for host {host} in namespace {objects.namespace}")
    for rule in rules:
        for each in rule["spec"].get("subsets") or ():
            if each.get("name") == subset:
                return each.get("labels") or {}
    raise MissingError(f"DestinationRule {rules[0]['metadata']['name']} has no subset {subset}")


def _endpoints(host: str, objects: Objects) -> list[dict[str, str]]:
    """Return the labels of each endpoint of a host."""
    return [
        endpoint.get("labels") or {}
        for entry in objects.about("ServiceEntry", host)
        for endpoint in entry["spec"].get("endpoints") or ()
    ]


def _revision(labels: Mapping[str, str], endpoints: Sequence[Mapping[str, str]]) -> str:
    """Name what a subset selects by its labels; how many endpoints there are (scaling) is no new revision."""
    kinds = sorted({json.dumps(each, sort_keys=True) for each in endpoints})
    text = json.dumps([dict(labels), kinds], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _routes(policy: RolloutPolicy, objects: Objects, wanted: Mapping[str, int]) -> _Routes:
    """Read all VirtualServices of a policy; one that cannot be read makes the weights unknown.

    When several routes carry the split, the live weights are those of the first that differs from `wanted`.
    """
    keys = {policy.destination(variant): variant.name for variant in policy.spec.variants}
    by_key = {key: wanted.get(name, 0) for key, name in keys.items()}
    found = _Routes()
    for ref in policy.spec.routes:
        obj = objects.named("VirtualService", ref.name)
        if obj is None:
            where = f"in namespace {objects.namespace}"
            found.errors.append(f"VirtualService {ref.name} does not exist {where}")
            continue
        try:
            weights = _live(obj, keys, ref, wanted)
            change = drift(obj, by_key, ref.routes)
        except RouteError as error:
            found.errors.append(f"VirtualService {ref.name}: {error}")
            continue
        found.readable.append((ref, obj))
        if not found.live or found.live == wanted:
            found.live, found.writer = weights, change.who if change else found.writer
    return found


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
