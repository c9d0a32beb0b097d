"""The inventory: a kept scene is what reading everything anew gives, and whoever is concerned is named."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.inventory import Inventory, ref_of
from controller.memory_history import MemoryHistory
from controller.ports import ConflictError, WatchEvent
from controller.scene import Objects, read_scene
from controller.workloads import WORKLOADS
from tests.support.policies import changed
from tests.support.rig import endpoints, manifests
from tests.support.workloads import rolled_out, selector_entry, service, workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.ports import Object, Ref

NAMES = ("ranker", "other")


class Changes:
    """A store that tells what was put and taken away; forgetful when told to be."""

    def __init__(self) -> None:
        self.objects: dict[Ref, Object] = {}
        self.log: list[WatchEvent] = []
        self.forgotten = False

    def put(self, obj: Object) -> None:
        meta = {"uid": str(ref_of(obj)), "generation": len(self.log), **obj["metadata"]}
        self.objects[ref_of(obj)] = {**obj, "metadata": meta | {"resourceVersion": str(len(self.log))}}
        self.log.append(WatchEvent("MODIFIED", self.objects[ref_of(obj)]))

    def delete(self, obj: Object) -> None:
        if self.objects.pop(ref_of(obj), None):
            self.log.append(WatchEvent("DELETED", obj))

    async def version(self) -> str:
        return str(len(self.log))

    async def list(self, kind: str) -> list[Object]:
        return [obj for ref, obj in self.objects.items() if ref.kind == kind]

    async def changes(self, _kinds: Sequence[str], since: str) -> tuple[str, Sequence[WatchEvent]]:
        if self.forgotten:
            self.forgotten = False
            raise ConflictError("list again")
        return str(len(self.log)), self.log[int(since) :]


def variations(name: str) -> list[Object]:
    """Each object that a policy called `name` looks at, in a few forms."""
    policy, route, rule, entry = manifests(name)
    split = changed(route, "spec.http.0.route.0.weight", 80)
    return [
        policy, changed(policy, "spec.service.host", f"{name}.default"),
        route, changed(split, "spec.http.0.route.1.weight", 20), changed(route, "spec.http", []),
        rule, changed(rule, "spec.subsets", rule["spec"]["subsets"][:1]),
        changed(rule, "spec.host", f"{name}.default.svc.cluster.local"),
        entry, endpoints(name, "v1"), changed(selector_entry(app=name), "metadata.name", name),
        service(name), service(name, selector={"app": "ranker"}), service(name, selector=None),
        workload("v1", app=name), workload("v2", app=name), workload("v2", app=name, image="model:2"),
        workload("v2", "StatefulSet", app=name), workload("v2", app=name, replicas=0, status={}),
        workload("v2", app=name, status={**rolled_out(3), "readyReplicas": 0}),
        workload("v2", app=name, status={**rolled_out(3), "availableReplicas": 1}),
    ]  # fmt: skip


POOL = [obj for name in NAMES for obj in variations(name)]
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "put", "delete", "forget", "look"]), st.sampled_from(POOL)),
    max_size=40,
)


@given(steps=STEPS)
def test_a_kept_scene_is_what_reading_everything_anew_gives_and_changes_are_told(
    steps: list[tuple[str, Object]],
) -> None:
    asyncio.run(_play(steps))


async def _play(steps: list[tuple[str, Object]]) -> None:
    store = Changes()
    inventory = Inventory(store, MemoryHistory())  # type: ignore[arg-type]
    before: dict[str, Any] = {}
    for what, obj in [("put", POOL[0]), *steps, ("look", POOL[0])]:
        if what == "put":
            store.put(obj)
        elif what == "delete":
            store.delete(obj)
        elif what == "forget":
            store.forgotten = True
        else:
            await inventory.refresh()
            stirred = inventory.stirred()
            fresh = Objects("default", list(store.objects.values()))
            for key, entry in inventory.policies.items():
                scene = entry.scene(inventory.objects("default"))
                assert scene == read_scene(entry.policy, fresh, entry.status.weights)
                if key in before and key not in stirred and before[key][0] == entry.obj:
                    assert scene == before[key][1], "a change that nobody was told of"
                before[key] = entry.obj, scene
            assert inventory.stirred() == set()


def test_a_change_of_one_rollout_s_objects_concerns_no_other() -> None:
    async def play() -> None:
        store = Changes()
        inventory = Inventory(store, MemoryHistory())  # type: ignore[arg-type]
        for name in NAMES:
            policy, route, rule, _ = manifests(name)
            for obj in (
                policy,
                route,
                rule,
                service(name),
                workload("v1", app=name),
                workload("v2", app=name),
            ):
                store.put(obj)
        await inventory.refresh()
        scenes = {key: entry.scene(inventory.objects("default")) for key, entry in inventory.policies.items()}
        inventory.stirred()
        for obj in [*variations("ranker")[3:], workload("v3", app="stranger"), service("stranger")]:
            store.put(obj)
            await inventory.refresh()
            assert inventory.stirred() <= {"default/ranker"}
            entry = inventory.policies["default/other"]
            assert entry.scene(inventory.objects("default")) is scenes["default/other"]

    asyncio.run(play())


def test_what_an_autoscaler_does_concerns_nobody() -> None:
    async def play() -> None:
        store = Changes()
        inventory = Inventory(store, MemoryHistory())  # type: ignore[arg-type]
        for obj in (*manifests()[:3], service(), workload("v1"), workload("v2")):
            store.put(obj)
        await inventory.refresh()
        entry = inventory.policies["default/ranker"]
        entry.scene(inventory.objects("default"))
        inventory.stirred()
        for replicas in (1, 7, 30, 2):
            obj = workload("v2", replicas=replicas)
            assert not inventory.matters(obj)
            store.put(obj)
            await inventory.refresh()
            assert inventory.stirred() == set()
        assert inventory.matters(workload("v2"), gone=True)

    asyncio.run(play())


def test_an_object_that_cannot_be_understood_leaves_the_others_readable() -> None:
    async def play() -> None:
        store = Changes()
        inventory = Inventory(store, MemoryHistory())  # type: ignore[arg-type]
        for obj in manifests():
            store.put(obj)
        await inventory.refresh()
        rule = manifests()[2]
        for broken in ({**rule, "spec": "nonsense"}, {**workload(), "spec": ["nonsense"]}):
            store.put(broken)
            await inventory.refresh()
            assert ref_of(broken) in inventory.problems
        found = inventory.policies["default/ranker"].scene(inventory.objects("default"))
        assert "no DestinationRule for host ranker" in found.missing["stable"]
        store.put(rule)
        await inventory.refresh()
        found = inventory.policies["default/ranker"].scene(inventory.objects("default"))
        assert found.missing == {}
        assert not [ref for ref in inventory.problems if ref.kind not in WORKLOADS]

    asyncio.run(play())


@pytest.mark.parametrize("error", [RecursionError(), OverflowError(), IndexError(), KeyError("spec")])
async def test_an_object_that_cannot_be_read_hides_no_other(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: Object) -> Any:
        raise error

    monkeypatch.setattr("controller.inventory.template_from_object", unreadable)
    store = Changes()
    inventory = Inventory(store, MemoryHistory())  # type: ignore[arg-type]
    template = {"kind": "MetricTemplate", "metadata": {"name": "own", "namespace": "default"}}
    for obj in (template, *manifests()):
        store.put(obj)
    await inventory.refresh()
    assert set(inventory.problems) == {ref_of(template)}
    assert set(inventory.policies) == {"default/ranker"}
