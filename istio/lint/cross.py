"""What rollout policies need of the other objects: routes to weigh, destinations, subsets and endpoints.

Like the controller, looks in the policy's namespace only. Where an object is too broken to be read, its own
findings say so, and nothing is said of what depends on it. Two policies for one route are the part of
`policies.rules.check_all`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from istio.lint.codes import KINDS, problem
from istio.lint.one import lint_object, name_of
from istio.names import same_host
from istio.route import RouteError, select, suggestion
from istio.weights import TOTAL, ManagedRoute, resolve
from policies.shape import without_nulls

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from policies.findings import Finding
    from policies.model import RolloutPolicy, Variant, VirtualServiceRef

Object = dict[str, Any]

_SAID_ALREADY: Final = frozenset(
    {"malformed", "not-a-virtual-service", "negative-weight", "non-integer-weight"}
)
"""Codes of RouteError for what is wrong with a VirtualService by itself."""


def lint_all(
    objects: Sequence[Object], policies: Sequence[RolloutPolicy], unread: Sequence[str] = ()
) -> list[Finding]:
    """Return the findings on each object by itself, and on what each policy needs of them.

    `policies` must be valid by themselves. `unread` names (`Kind/namespace/name`) objects that exist but
    could not be read. Places in files are the caller's to add, by `Finding.object`.
    """
    own = [finding for obj in objects for finding in lint_object(obj)]
    known = _Known.of(objects, own, unread)
    needs = [finding for policy in policies for finding in _needs(policy, known)]
    mended = {(finding.object, finding.path) for finding in needs if finding.code == "PS409"}
    own = [each for each in own if each.code != "PS163" or (each.object, each.path) not in mended]
    return list(dict.fromkeys([*own, *_twice(objects), *needs]))


@dataclass(frozen=True, slots=True)
class _Known:
    """The objects by kind and namespace: None in place of one that cannot be read."""

    places: dict[tuple[str, str], dict[str, Object | None]]
    services: frozenset[tuple[str, str]]
    """Kubernetes Services, by namespace and name: what stands behind them is for the cluster to say."""

    @classmethod
    def of(cls, objects: Sequence[Object], findings: Sequence[Finding], unread: Sequence[str]) -> _Known:
        broken = {finding.object for finding in findings if finding.code[3:] in {"02", "03"}}
        places: dict[tuple[str, str], dict[str, Object | None]] = {}
        for obj in objects:
            if obj.get("kind") in KINDS:
                kind, namespace, name = name_of(obj).split("/", 2)
                clean = None if name_of(obj) in broken else without_nulls(obj)
                places.setdefault((kind, namespace), {})[name] = clean
        for each in unread:
            kind, namespace, name = each.split("/", 2)
            places.setdefault((kind, namespace), {}).setdefault(name, None)
        names = (name_of(obj).split("/", 2) for obj in objects if _is_service(obj))
        return cls(places, frozenset((namespace, name) for _, namespace, name in names))

    def named(self, kind: str, namespace: str) -> dict[str, Object | None]:
        """Return the objects of a kind in a namespace by name."""
        return self.places.get((kind, namespace), {})

    def for_host(self, kind: str, namespace: str, host: str) -> list[Object] | None:
        """Return the objects of a kind that are about a host; None when one that cannot be read may be."""
        found = [
            obj
            for obj in self.named(kind, namespace).values()
            if obj is not None and any(same_host(each, host, namespace) for each in _hosts(obj))
        ]
        return None if not found and None in self.named(kind, namespace).values() else found


def _is_service(obj: Object) -> bool:
    return (obj.get("apiVersion"), obj.get("kind")) == ("v1", "Service")


def _hosts(obj: Object) -> list[str]:
    spec = obj.get("spec", {})
    return spec.get("hosts") or [spec.get("host", "")]


def _twice(objects: Sequence[Object]) -> Iterator[Finding]:
    for name, count in Counter(name_of(obj) for obj in objects if obj.get("kind") in KINDS).items():
        if count > 1:
            message = f"given {count} times; of an apply, the last one stays"
            yield replace(problem("PS410", "metadata.name", message), object=name)


def _needs(policy: RolloutPolicy, known: _Known) -> Iterator[Finding]:
    """Yield what is missing for one policy."""
    subject, namespace = f"RolloutPolicy/{policy.key}", policy.metadata.namespace
    for path, ref in _refs(policy):
        named = known.named("VirtualService", namespace)
        if ref.name not in named:
            message = f"there is no VirtualService {ref.name} in namespace {namespace}"
            message += suggestion(ref.name, list(named))
            yield replace(problem("PS401", f"{path}.name", message), object=subject)
        elif (vs := named[ref.name]) is not None:
            for finding in _check_routes(policy, vs, ref, path):
                yield finding if finding.object else replace(finding, object=subject)
    for index, variant in enumerate(policy.spec.variants):
        for finding in _check_variant(policy, variant, f"spec.variants[{index}]", known):
            yield replace(finding, object=subject)


def _refs(policy: RolloutPolicy) -> Iterator[tuple[str, VirtualServiceRef]]:
    if policy.spec.virtual_service:
        yield "spec.virtualService", policy.spec.virtual_service
    for index, ref in enumerate(policy.spec.virtual_services):
        yield f"spec.virtualServices[{index}]", ref


def _check_routes(policy: RolloutPolicy, vs: Object, ref: VirtualServiceRef, path: str) -> Iterator[Finding]:
    """Check that each route has a destination for every variant, and sends traffic nowhere else."""
    try:
        select(vs, ref.routes)
    except RouteError as error:
        if error.code not in _SAID_ALREADY:
            yield problem("PS402", f"{path}.routes" if ref.routes else path, str(error))
        return
    keys = [policy.destination(variant) for variant in policy.spec.variants]
    missing = [(index, fault) for index, key in enumerate(keys) if (fault := _fault(vs, [key], ref))]
    for index, fault in missing:
        yield problem("PS403", f"spec.variants[{index}]", f"VirtualService {ref.name}: {fault}")
    if missing:
        return
    if fault := _fault(vs, keys, ref):
        yield problem("PS403", "spec.variants", f"VirtualService {ref.name}: {fault}")
        return
    for managed in resolve(vs, keys, ref.routes):
        for finding in _check_weights(managed, policy):
            yield replace(finding, object=name_of(vs))


def _fault(vs: Object, keys: Sequence[str], ref: VirtualServiceRef) -> str | None:
    """Say why `keys` cannot be found in the routes, if so."""
    try:
        resolve(vs, keys, ref.routes)
    except RouteError as error:
        return str(error)
    return None


def _check_weights(managed: ManagedRoute, policy: RolloutPolicy) -> Iterator[Finding]:
    path = f"{managed.route.path}.route"
    for other in managed.others:
        if other.weight:
            message = f"RolloutPolicy {policy.key} manages this route, but does not name {other}"
            yield problem("PS404", f"{path}[{other.index}].weight", message, found=other.weight, allowed="0")
    total = sum(managed.weights.values()) + sum(other.weight or 0 for other in managed.others)
    if total != TOTAL:
        message = f"the weights do not sum to {TOTAL}; Penstock will set them"
        yield problem("PS409", path, message, found=total, allowed=str(TOTAL))


def _check_variant(policy: RolloutPolicy, variant: Variant, path: str, known: _Known) -> Iterator[Finding]:
    """Check that a variant's subset is defined, and that there are endpoints for it."""
    namespace, labels = policy.metadata.namespace, {}
    host = variant.host or policy.spec.service.host
    if variant.subset:
        rules = known.for_host("DestinationRule", namespace, host)
        if rules is None:
            return
        subsets = {each["name"]: each for rule in rules for each in rule["spec"].get("subsets", ())}
        if not rules:
            message = f"there is no DestinationRule for host {host} in namespace {namespace}"
            yield problem("PS405", f"{path}.subset", message)
            return
        if variant.subset not in subsets:
            message = f"DestinationRule {rules[0]['metadata']['name']} has no such subset"
            message += suggestion(variant.subset, list(subsets))
            found = variant.subset
            yield problem("PS406", f"{path}.subset", message, found=found, allowed=", ".join(subsets))
            return
        labels = subsets[variant.subset].get("labels", {})
    yield from _check_endpoints(
        host, labels, f"{path}.{'subset' if variant.subset else 'host'}", namespace, known
    )


def _check_endpoints(
    host: str, labels: dict[str, str], path: str, namespace: str, known: _Known
) -> Iterator[Finding]:
    entries = known.for_host("ServiceEntry", namespace, host)
    if entries is None:
        return
    endpoints = [each for entry in entries for each in entry["spec"].get("endpoints", ())]
    if not endpoints:
        if any(place == namespace and same_host(name, host, namespace) for place, name in known.services):
            return
        message = f"the endpoints of {host} are not among these files; they may come from Kubernetes"
        yield problem("PS408", path, message)
    elif not any(labels.items() <= each.get("labels", {}).items() for each in endpoints):
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
        yield problem("PS407", path, f"no endpoint of {host} has the labels {wanted}")
