"""Workloads: what is a revision, what is readiness, and that scaling is neither."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.workloads import Name, Selection, Workloads, read_workload
from tests.support.policies import REMOVED, changed
from tests.support.workloads import past_deadline, rolled_out, workload

CONTAINERS = "spec.template.spec.containers"
ANNOTATIONS = "spec.template.metadata.annotations"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{CONTAINERS}.0.image", "model:2"),
        (f"{CONTAINERS}.0.env", [{"name": "THREADS", "value": "4"}]),
        (ANNOTATIONS, {"kubectl.kubernetes.io/restartedAt": "2026-11-22T10:00:00Z"}),
        ("spec.template.metadata.labels.tier", "gold"),
        ("spec.template.spec.volumes", [{"name": "cache", "emptyDir": {}}]),
    ],
)
def test_whatever_changes_the_pod_template_is_a_new_revision(path: str, value: Any) -> None:
    assert read_workload(changed(workload(), path, value)).revision != read_workload(workload()).revision


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.replicas", 7),
        ("spec.replicas", 0),
        ("spec.replicas", REMOVED),
        ("spec.paused", True),
        ("spec.strategy", {"type": "Recreate"}),
        ("metadata.annotations", {"autoscaling.alpha.kubernetes.io/conditions": "[]"}),
        ("metadata.generation", 9),
        ("status", {}),
        ("spec.template.metadata.creationTimestamp", None),
        ("spec.template.metadata.creationTimestamp", "2026-11-22T10:00:00Z"),
        ("spec.template.spec.affinity", None),
    ],
)
def test_whatever_leaves_the_pods_as_they_are_is_no_new_revision(path: str, value: Any) -> None:
    assert read_workload(changed(workload(), path, value)).revision == read_workload(workload()).revision


def test_the_revision_does_not_depend_on_the_order_of_fields() -> None:
    turned = deepcopy(workload())
    turned["spec"]["template"] = dict(reversed(turned["spec"]["template"].items()))
    assert read_workload(turned) == read_workload(workload())


@pytest.mark.parametrize(
    ("obj", "missing", "rolling"),
    [
        (workload(), "", ""),
        (workload(replicas=0, status={}), "Deployment ranker-v2 is scaled to zero", ""),
        (workload(replicas=0, status={"replicas": 2, "readyReplicas": 2}),
         "Deployment ranker-v2 is scaled to zero", "rolling out: 2 of the old revision left"),
        (workload(status={}), "Deployment ranker-v2 has no ready endpoint (rolling out: 0 of 3 updated)",
         "rolling out: 0 of 3 updated"),
        (workload(status={**rolled_out(3), "readyReplicas": 0}),
         "Deployment ranker-v2 has no ready endpoint", ""),
        (workload(status={**rolled_out(4), "updatedReplicas": 2}), "", "rolling out: 2 of 3 updated"),
        (workload(status={**rolled_out(3), "replicas": 4}), "", "rolling out: 1 of the old revision left"),
        (workload(status={**rolled_out(3), "readyReplicas": 1}), "", ""),
        (workload(generation=2, status={**rolled_out(3), "observedGeneration": 1}), "",
         "its last change has not been seen by its controller yet"),
        (workload(paused=True, status={"replicas": 3, "readyReplicas": 3}), "",
         "rolling out: 0 of 3 updated and it is paused"),
        (workload(status={"replicas": 1, "updatedReplicas": 1, "conditions": past_deadline("no progress")}),
         "Deployment ranker-v2 has exceeded its progress deadline: no progress",
         "rolling out: 1 of 3 updated"),
        (workload(kind="StatefulSet", status={**rolled_out(3), "updatedReplicas": 1},
                  updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}),
         "", "rolling out: 1 of 3 updated, its partition keeps 2 back"),
        (workload(kind="StatefulSet", replicas=0, status={}), "StatefulSet ranker-v2 is scaled to zero", ""),
    ],
)  # fmt: skip
def test_why_a_workload_is_not_ready_is_said_in_words(obj: Any, missing: str, rolling: str) -> None:
    found = read_workload(obj)
    assert (found.missing, found.rolling) == (missing, rolling)


def test_a_deadline_that_was_exceeded_once_is_forgotten_when_there_is_progress() -> None:
    conditions = [{**past_deadline()[0], "status": "True", "reason": "NewReplicaSetAvailable"}]
    assert read_workload(workload(status={**rolled_out(3), "conditions": conditions})).stuck == ""


PODS = st.integers(0, 50)


@given(steps=st.lists(st.tuples(st.integers(1, 50), PODS, PODS, st.booleans()), min_size=1))
def test_scaling_never_changes_what_a_rollout_starts_or_stops_by(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    """An autoscaler changes the wanted replicas; pods come and go, and one at least is ready."""
    known, generation = Workloads([workload()]), 1
    before = known.selected({"app": "ranker"})
    for wanted, created, ready, seen in steps:
        generation += 1
        there = max(1, min(created, wanted))
        counts = {**rolled_out(there), "readyReplicas": max(1, min(ready, there))}
        status = {**counts, "observedGeneration": generation if seen else generation - 1}
        known.take(workload(replicas=wanted, generation=generation, status=status))
        now = known.selected({"app": "ranker"})
        assert (now.revision, now.missing, now.stuck) == (before.revision, "", "")
    known.take(workload(generation=generation + 1))
    assert known.selected({"app": "ranker"}) == before


def test_a_change_that_does_not_matter_is_none() -> None:
    known = Workloads([workload()])
    more = workload(replicas=5, generation=2, status={**rolled_out(5), "availableReplicas": 4})
    version = known.version
    assert not known.differs(more)
    known.take(more)
    assert known.version == version
    assert known.differs(workload(image="model:2", generation=3))
    known.take(workload(image="model:2", generation=3))
    assert known.version > version


def test_a_default_that_the_api_server_adds_by_itself_is_noticed_at_the_next_generation_only() -> None:
    """An upgraded API server says more of the same template; docs/kubernetes.md tells what that comes to."""
    known = Workloads([workload()])
    upgraded = changed(workload(), f"{CONTAINERS}.0.terminationMessagePolicy", "File")
    assert not known.differs(upgraded)
    known.take(upgraded)
    assert known.selected({"app": "ranker"}).revision == read_workload(workload()).revision
    assert known.differs(changed(upgraded, "metadata.generation", 2))


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)


@given(
    labelled=st.dictionaries(st.sampled_from("klmn"), LABELS),
    gone=st.sets(st.sampled_from("klmn")),
    wanted=LABELS,
)
def test_selection_by_labels_is_what_a_look_at_each_workload_gives(
    labelled: dict[str, dict[str, str]], gone: set[str], wanted: dict[str, str]
) -> None:
    known = Workloads()
    for name, labels in labelled.items():
        known.take(changed(workload(name, app="a"), "spec.template.metadata.labels", {"a": "x"}))
        known.take(changed(workload(name, app="a", generation=2), "spec.template.metadata.labels", labels))
    for name in gone:
        known.drop(Name("Deployment", f"a-{name}"))
    names = [each.name.name for each in known.selected(wanted).workloads]
    expected = [
        f"a-{name}" for name, labels in labelled.items() if wanted and wanted.items() <= labels.items()
    ]
    assert names == sorted(set(expected) - {f"a-{name}" for name in gone})


def test_several_workloads_are_one_variant() -> None:
    def both(*objects: Any) -> Selection:
        return Workloads(objects).selected({"app": "ranker"})

    one, same, other = workload("v2"), workload("v2", "StatefulSet"), workload("v3")
    assert both(one, same).revision == both(one).revision, "more of the same is scaling"
    assert both(one, other).revision not in {both(one).revision, both(other).revision}
    asleep = workload("v3", replicas=0, status={})
    assert both(one, asleep).missing == ""
    assert not both(one, asleep).asleep
    dead = workload("v2", status={"replicas": 3, "updatedReplicas": 3})
    assert both(dead, asleep).missing == (
        "Deployment ranker-v2 has no ready endpoint; Deployment ranker-v3 is scaled to zero"
    )


def test_a_workload_that_was_created_again_is_read_again() -> None:
    """Its generation begins at 1 again, so that alone says nothing about its template."""
    known = Workloads([workload()])
    known.take(changed(workload(image="model:2"), "metadata.uid", "another"))
    assert known.selected({"app": "ranker"}) == Workloads([workload(image="model:2")]).selected(
        {"app": "ranker"}
    )
