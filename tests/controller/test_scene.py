"""What the objects say about variants: ServiceEntries, Services, and what is missing, in words."""

from __future__ import annotations

from typing import Any

import pytest

from controller.scene import Arm, Objects, Scene, read_scene
from policies.parse import policy_from_object
from tests.support.policies import changed
from tests.support.rig import endpoints, manifests
from tests.support.workloads import rolled_out, selector_entry, service, workload

POLICY, ROUTE, RULE, _ = manifests()
PAIR = (service(), workload("v1"), workload("v2"))


def scene(*objects: Any, policy: Any = POLICY) -> Scene:
    return read_scene(policy_from_object(policy), Objects("default", [ROUTE, RULE, *objects]), {})


def test_the_versions_of_a_service_are_its_workloads_with_the_labels_of_the_subsets() -> None:
    found = scene(*PAIR, workload("v2", app="other"))
    assert found.missing == {}
    assert found.arms == {
        "stable": Arm("default", "ranker", "v1"), "candidate": Arm("default", "ranker", "v2"),
    }  # fmt: skip
    assert [str(each.name) for each in found.selections["candidate"].workloads] == ["Deployment ranker-v2"]
    assert found.revisions["candidate"] == found.selections["candidate"].workloads[0].revision


@pytest.mark.parametrize(
    "host", ["ranker", "ranker.default", "ranker.default.svc", "ranker.default.svc.cluster.local"]
)
def test_a_service_is_found_however_its_host_is_written(host: str) -> None:
    rule = changed(RULE, "spec.host", host)
    objects = Objects("default", [ROUTE, rule, *PAIR])
    found = read_scene(policy_from_object(changed(POLICY, "spec.service.host", host)), objects, {})
    assert found.missing == {}


def test_a_service_entry_comes_before_a_service_of_the_same_name() -> None:
    found = scene(*PAIR, endpoints("ranker", "v1", "v2"))
    assert (found.missing, found.selections) == ({}, {})


def test_a_service_entry_with_two_spellings_of_one_host_can_change_and_go() -> None:
    entry = endpoints("ranker")
    entry["spec"]["hosts"] = ["ranker", "ranker.default.svc.cluster.local"]
    objects = Objects("default", [entry])
    newer = {**entry, "spec": {**entry["spec"], "resolution": "DNS"}}
    objects.put(newer)
    assert objects.about("ServiceEntry", "ranker") == [newer]
    objects.drop("ServiceEntry", entry["metadata"]["name"])
    assert objects.about("ServiceEntry", "ranker") == []


def test_a_service_entry_can_select_workloads() -> None:
    found = scene(selector_entry(app="ranker"), workload("v1"), workload("v2", "StatefulSet"))
    assert found.missing == {}
    assert [str(each.name) for each in found.selections["candidate"].workloads] == ["StatefulSet ranker-v2"]


def test_versions_can_be_services_of_their_own() -> None:
    variants = [{"name": "stable", "host": "ranker"}, {"name": "candidate", "host": "ranker-new"}]
    new = workload("v2", app="ranker-new")
    found = scene(
        service(),
        workload("v1"),
        service("ranker-new"),
        new,
        policy=changed(POLICY, "spec.variants", variants),
    )
    assert found.missing == {}
    assert found.arms["candidate"] == Arm("default", "ranker-new", None)


LOST = "no Deployment or StatefulSet has pods with the labels app=ranker, version=v2"


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        (PAIR[:2], LOST),
        ((*PAIR[:2], changed(PAIR[2], "spec.template.metadata.labels.app", "other")), LOST),
        ((*PAIR[:2], workload(replicas=0, status={})), "Deployment ranker-v2 is scaled to zero"),
        (PAIR[1:], "no endpoint of ranker is known: no Service or ServiceEntry in default"),
        ((service(selector=None), *PAIR[1:]),
         "Service ranker has no selector, so nothing is known of its endpoints"),
        ((*PAIR[:2], workload(status={**rolled_out(3), "readyReplicas": 0})),
         "Deployment ranker-v2 has no ready endpoint"),
        ((endpoints("ranker", "v1"),), "no endpoint of ranker has the labels version=v2"),
    ],
)  # fmt: skip
def test_a_version_that_takes_no_traffic_says_why(objects: Any, why: str) -> None:
    assert scene(*objects).missing["candidate"] == why


def test_a_service_of_another_namespace_is_not_read() -> None:
    host = "ranker.shop.svc.cluster.local"
    objects = Objects("default", [ROUTE, changed(RULE, "spec.host", host), *PAIR])
    found = read_scene(policy_from_object(changed(POLICY, "spec.service.host", host)), objects, {})
    assert found.missing["candidate"] == (
        "Service ranker is in namespace shop, and a policy reads those of its own namespace (default) only"
    )


def test_a_host_outside_the_mesh_needs_a_service_entry() -> None:
    objects = Objects("default", [ROUTE, changed(RULE, "spec.host", "api.example.com")])
    found = read_scene(
        policy_from_object(changed(POLICY, "spec.service.host", "api.example.com")), objects, {}
    )
    assert found.missing["candidate"] == "no ServiceEntry for host api.example.com in namespace default"


def test_a_version_that_is_down_is_still_known_by_its_revision() -> None:
    up, down = scene(*PAIR), scene(*PAIR[:2], workload(replicas=0, status={}))
    assert down.revisions == up.revisions
    assert down.arms == up.arms


def test_versions_that_the_metrics_cannot_tell_apart_are_not_compared() -> None:
    subsets = [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"tier": "new"}}]
    twin = changed(
        changed(workload("v1"), "metadata.name", "twin"), "spec.template.metadata.labels.tier", "new"
    )
    objects = Objects(
        "default", [ROUTE, changed(RULE, "spec.subsets", subsets), service(), workload("v1"), twin]
    )
    found = read_scene(policy_from_object(POLICY), objects, {})
    assert "cannot be told from the control's" in found.missing["candidate"]
