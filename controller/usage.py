"""What else uses the workloads of a version without traffic: nothing that anybody uses is scaled to zero.

In doubt something is in use: a Service that no route names may have clients of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from istio.names import comparable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from controller.inventory import Entry, Inventory
    from controller.ports import Object
    from controller.scene import Objects, Scene
    from controller.workloads import Workload


def in_use(entry: Entry, scene: Scene, inventory: Inventory) -> str:
    """Return what else uses the workloads of the policy's candidate, in words; empty when nothing does."""
    roles, policy = entry.status.roles, entry.policy
    if roles is None or roles.candidate not in scene.selections:
        return ""
    namespace = policy.metadata.namespace
    objects, idle = inventory.objects(namespace), scene.selections[roles.candidate].workloads
    hosts = {policy.spec.service.host} | {each.host for each in policy.spec.variants if each.host}
    known = {comparable(host, namespace) for host in hosts}
    reasons = [
        *_variants(entry, scene, idle, roles.candidate, inventory),
        *(reason for obj in inventory.all("VirtualService") for reason in _routes(obj, idle, objects)),
        *_services(inventory.all("Service"), idle, namespace, known),
    ]
    return "; ".join(dict.fromkeys(reasons))


def _variants(
    entry: Entry, scene: Scene, idle: Iterable[Workload], candidate: str, inventory: Inventory
) -> Iterator[str]:
    """Tell of variants, of this policy and others, that select one of the workloads too."""
    names = {each.name for each in idle}
    for name, selection in scene.selections.items():
        if name != candidate and names & {each.name for each in selection.workloads}:
            yield f"{name} uses it too"
    for key, other in inventory.policies.items():
        if key == entry.policy.key or other.policy.metadata.namespace != entry.policy.metadata.namespace:
            continue
        theirs = other.scene(inventory.objects(other.policy.metadata.namespace)).selections.values()
        if names & {each.name for selection in theirs for each in selection.workloads}:
            yield f"RolloutPolicy {key} uses it too"


def _routes(route: Object, idle: Iterable[Workload], objects: Objects) -> Iterator[str]:
    """Tell of the destinations of a VirtualService that get traffic and select one of the workloads."""
    namespace = route["metadata"].get("namespace") or "default"
    for destination in _destinations(route.get("spec") or {}):
        host = comparable(str(destination.get("host") or ""), namespace)
        labels = _labels(host, destination.get("subset"), objects)
        if labels is not None and any(labels.items() <= each.labels.items() for each in idle):
            where = f"{destination.get('host')} {destination.get('subset') or ''}".strip()
            yield f"VirtualService {route['metadata']['name']} sends traffic to {where}"


def _destinations(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Return the destinations that get requests, or copies of them."""
    for route in [*(spec.get("http") or ()), *(spec.get("tls") or ()), *(spec.get("tcp") or ())]:
        entries = route.get("route") or ()
        weighted = any(each.get("weight") for each in entries)
        yield from (each.get("destination") or {} for each in entries if each.get("weight") or not weighted)
        yield from filter(None, [route.get("mirror")])
        yield from (each.get("destination") or {} for each in route.get("mirrors") or ())


def _labels(host: str, subset: str | None, objects: Objects) -> Mapping[str, str] | None:
    """Return the labels of the pods of a destination; None when it has none in this namespace."""
    service = _service(objects, host)
    selector = (service.get("spec") or {}).get("selector") if service else None
    if not selector:
        return None
    for rule in objects.about("DestinationRule", host) if subset else ():
        for each in (rule.get("spec") or {}).get("subsets") or ():
            if each.get("name") == subset:
                return {**selector, **(each.get("labels") or {})}
    return dict(selector)


def _service(objects: Objects, host: str) -> Object | None:
    name, _, rest = host.partition(".")
    return objects.named("Service", name) if rest.startswith(f"{objects.namespace}.svc") else None


def _services(
    services: Iterable[Object], idle: Iterable[Workload], namespace: str, known: set[str]
) -> Iterator[str]:
    """Tell of Services besides the policy's own that select one of the workloads."""
    for service in services:
        meta, selector = service["metadata"], (service.get("spec") or {}).get("selector")
        if not selector or meta.get("namespace") != namespace or comparable(meta["name"], namespace) in known:
            continue
        if any(selector.items() <= each.labels.items() for each in idle):
            yield f"Service {meta['name']} selects it too"
