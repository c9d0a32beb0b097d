"""What is gone is forgotten: a controller that has seen many rollouts is as large as before."""

from __future__ import annotations

import types
from collections import deque
from typing import TYPE_CHECKING, Any

from controller.inventory import ref_of
from controller.scene import KINDS
from tests.support.policies import changed
from tests.support.rig import GOOD, manifests
from tests.support.workloads import service, workload

if TYPE_CHECKING:
    from tests.support.rig import Rig

NUMBER = 60
SLACK = 10
"""The rollout that stays may know more than before."""
OWN = ("controller", "analysis", "policies", "istio", "prometheus_client")


def size(root: object, *, but: tuple[object, ...]) -> dict[str, int]:
    """Return how many entries all containers have that an object of ours leads to, by who holds them."""
    found: dict[str, int] = {}
    known, waiting = {id(each) for each in but}, [("", root)]
    while waiting:
        owner, here = waiting.pop()
        if id(here) in known or isinstance(here, (type, types.FunctionType, types.ModuleType)):
            continue
        known.add(id(here))
        if isinstance(here, dict):
            waiting += [(owner, each) for pair in here.items() for each in pair]
        elif isinstance(here, (list, tuple, set, frozenset, deque)):
            waiting += [(owner, each) for each in here]
        elif isinstance(here, types.MethodType):
            waiting.append((owner, here.__self__))
            continue
        elif type(here).__module__.startswith(OWN):
            waiting += [(f"{type(here).__name__}.{name}", each) for name, each in fields(here)]
            continue
        else:
            continue
        found[owner] = found.get(owner, 0) + len(here)
    return found


def fields(obj: object) -> list[tuple[str, Any]]:
    """Return what an object has, by name."""
    slots = [name for kind in type(obj).__mro__ for name in getattr(kind, "__slots__", ())]
    named = [(name, getattr(obj, name)) for name in slots if hasattr(obj, name)]
    return [*named, *getattr(obj, "__dict__", {}).items()]


async def come_and_go(rig: Rig) -> None:
    """Have many rollouts in namespaces of their own, each with a template and workloads, and delete them."""
    template = rig.collector.templates["istio-error-rate"].model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    for number in range(NUMBER):
        namespace = f"passing-{number}"
        own = changed(template, "metadata", {"name": "errors", "namespace": namespace})
        objects = [own, *manifests(), service("ranker"), workload("v2", app="ranker")]
        objects[1] = changed(objects[1], "spec.metrics.0.template", "errors")
        await rig.put(*(changed(each, "metadata.namespace", namespace) for each in objects))
    await rig.run(12)
    assert rig.telemetry.exposition().count(b'penstock_queries_total{template="passing') == NUMBER
    everything = [obj for kind in KINDS for obj in await rig.store.list(kind)]
    passing = [obj for obj in everything if obj["metadata"]["namespace"] != "default"]
    for obj in passing:  # policies first, which wait for their finalizers
        await rig.delete(ref_of(obj))
    await rig.looks(5)
    for obj in passing:
        rig.loop._writer.forget(obj)  # as the watch does
    assert len(await rig.store.list("RolloutPolicy")) == 1


async def test_nothing_is_kept_of_what_is_gone(rig: Rig) -> None:
    await rig.start(GOOD, deadline="10h", minSamples=1_000_000)
    await rig.run(25)
    outside = (rig.store, rig.history, rig.mesh, rig.clock, rig.proxies)
    before = size(rig.loop, but=outside)
    await come_and_go(rig)
    grown = {name: count - before.get(name, 0) for name, count in size(rig.loop, but=outside).items()}
    assert {name: more for name, more in grown.items() if more > SLACK} == {}
    assert b"passing-" not in rig.telemetry.exposition()
