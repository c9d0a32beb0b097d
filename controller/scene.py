"""What the objects say about one policy: which variants can take traffic, what they are, and the live split.

Pure: objects in, a Scene out. The order of checks is the order in which a user would fix them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from controller.backing import Backing, MissingError, backing
from controller.workloads import WORKLOADS, Workloads
from istio.drift import drift
from istio.names import comparable, full_name, short_name
from istio.route import RouteError, UnmanagedWeightError
from istio.weights import resolve

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from controller.ports import Object
    from controller.workloads import Selection
    from policies.model import RolloutPolicy, Variant, VirtualServiceRef

MANAGER = "penstock"
"""The field manager of every write of the controller."""
KINDS = (
    "RolloutPolicy", "MetricTemplate", "VirtualService", "DestinationRule", "ServiceEntry", "Service",
    *WORKLOADS,
)  # fmt: skip
"""What is watched; only Kubernetes has the last three."""
INDISTINCT = "its metrics cannot be told from the control's: give the subset a `version` label"


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
    """What each variant is, if that is known; also of one that takes no traffic now."""
    missing: Mapping[str, str]
    """Variants that take no traffic, and why."""
    arms: Mapping[str, Arm]
    live: Mapping[str, int] | None
    """Weights in force per variant; None when a VirtualService cannot be read."""
    route_error: str
    changed_by: str
    virtual_services: Sequence[tuple[VirtualServiceRef, Object]]
    """Those that can be read, and so be written."""
    selections: Mapping[str, Selection] = field(default_factory=dict)
    """The workloads of each variant that has any business with workloads."""

    @property
    def rolling(self) -> Mapping[str, str]:
        """Variants whose pods are not all there in the present revision, and why."""
        return {name: each.rolling for name, each in self.selections.items() if each.rolling}

    @property
    def asleep(self) -> tuple[str, ...]:
        """Variants that are scaled to zero."""
        return tuple(name for name, each in self.selections.items() if each.asleep)


@dataclass
class _Variants:
    """What is known of the variants."""

    revisions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    arms: dict[str, Arm] = field(default_factory=dict)
    selections: dict[str, Selection] = field(default_factory=dict)


@dataclass
class _Routes:
    """What the VirtualServices of a policy say."""

    readable: list[tuple[VirtualServiceRef, Object]] = field(default_factory=list)
    live: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    writer: str = "unknown"


class Objects:
    """The objects of one namespace as they are now, to be found by kind, name or host, and its workloads."""

    def __init__(
        self, namespace: str, objects: Collection[Object] = (), workloads: Workloads | None = None
    ) -> None:
        self.namespace = namespace
        self.workloads = workloads or Workloads(obj for obj in objects if obj["kind"] in WORKLOADS)
        self._changes = 0
        self._by_name: dict[tuple[str, str], Object] = {}
        self._by_host: dict[tuple[str, str], dict[str, Object]] = defaultdict(dict)
        for obj in objects:
            self.put(obj)

    @property
    def version(self) -> tuple[int, int]:
        """Another value after every change that may matter to a rollout."""
        return self._changes, self.workloads.version

    def put(self, obj: Object) -> None:
        """Take in an object as it is now."""
        kind, name = obj["kind"], obj["metadata"]["name"]
        self.drop(kind, name)
        for host in _hosts(obj):
            self._by_host[kind, _key(host, self.namespace)][name] = obj
        self._by_name[kind, name] = obj

    def drop(self, kind: str, name: str) -> None:
        """Forget an object."""
        self._changes += 1
        old = self._by_name.pop((kind, name), None)
        for host in _hosts(old) if old else ():
            place = kind, _key(host, self.namespace)
            self._by_host[place].pop(name, None)  # two spellings of one host have one place
            if not self._by_host[place]:
                del self._by_host[place]

    def named(self, kind: str, name: str) -> Object | None:
        """Return the object of a kind with this name."""
        return self._by_name.get((kind, name))

    def about(self, kind: str, host: str) -> list[Object]:
        """Return the DestinationRules or ServiceEntries for a host, however it is written, by name."""
        found = self._by_host.get((kind, _key(host, self.namespace)), {})
        return [found[name] for name in sorted(found)]

    def relevant(self, policy: RolloutPolicy) -> list[Object | None]:
        """Return everything but the workloads that `read_scene` looks at for a policy."""
        found = [self.named("VirtualService", ref.name) for ref in policy.spec.routes]
        own = [each.host for each in policy.spec.variants if each.host]
        for host in (policy.spec.service.host, *own):
            found += [*self.about("DestinationRule", host), *self.about("ServiceEntry", host)]
            found.append(self.named("Service", _key(host, self.namespace).partition(".")[0]))
        return found


_key = lru_cache(maxsize=16_384)(comparable)
"""The same hosts are compared again and again."""


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
    found = _Variants()
    for variant in policy.spec.variants:
        try:
            _take_variant(policy, variant, objects, found)
        except MissingError as error:
            found.missing[variant.name] = str(error)
    for name in _indistinct(found.arms):
        found.revisions.pop(name)
        found.missing[name] = INDISTINCT
    routes = _routes(policy, objects, wanted)
    live = (routes.live or None) if not routes.errors else None
    return Scene(
        found.revisions, found.missing, found.arms, live, "; ".join(routes.errors), routes.writer,
        routes.readable, found.selections,
    )  # fmt: skip


def _indistinct(arms: Mapping[str, Arm]) -> list[str]:
    """Return the variants whose metrics carry the labels of an earlier variant."""
    names = list(arms)
    return [name for at, name in enumerate(names) if any(arms[other] == arms[name] for other in names[:at])]


def _take_variant(policy: RolloutPolicy, variant: Variant, objects: Objects, found: _Variants) -> None:
    host = variant.host or policy.spec.service.host
    behind = backing(host, variant.subset, objects)
    if behind.selection:
        found.selections[variant.name] = behind.selection
    if behind.missing:
        found.missing[variant.name] = behind.missing
    if behind.pods:
        found.revisions[variant.name] = behind.revision
        found.arms[variant.name] = _arm(policy, variant, host, behind)


def _arm(policy: RolloutPolicy, variant: Variant, host: str, behind: Backing) -> Arm:
    namespace = policy.metadata.namespace
    version = variant.version or behind.subset.get("version")
    if version is None and variant.subset:
        version = behind.version or variant.subset
    return Arm(namespace, short_name(full_name(host, namespace)), version)


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
