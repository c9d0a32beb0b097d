"""Crash loops: which pods count, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from controller.crashes import coming, failing, restarts
from controller.status import from_rfc3339
from tests.support.workloads import pod

SINCE = from_rfc3339("2026-11-22T10:00:00Z")
BEFORE, DURING = "2026-11-22T09:00:00Z", "2026-11-22T10:01:00Z"
ENDED = {"reason": "OOMKilled", "exitCode": 137, "message": "cannot\n  allocate"}


def found(*pods: Any) -> dict[str, str]:
    return failing(pods, restarts(pods, SINCE))


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (pod(), {}),
        (pod(restarts=9, created=BEFORE), {}),
        (pod(restarts=2, created=DURING), {}),
        (pod(restarts=3, created=DURING),
         {"CrashLoop": "container server of pod ranker-v2-x was restarted 3 times"}),
        (pod(waiting="CrashLoopBackOff", restarts=4, last=ENDED),
         {"CrashLoop": "container server of pod ranker-v2-x was restarted 4 times; it ended with OOMKilled, "
                       "exit code 137: cannot allocate"}),
        (pod(waiting="CrashLoopBackOff", restarts=4, deletionTimestamp="2026-11-22T10:02:00Z"), {}),
        (pod(waiting="ContainerCreating"), {}),
        (pod(waiting="ImagePullBackOff", message="not found: model:2"),
         {"CannotStart": "container server of pod ranker-v2-x waits: ImagePullBackOff: not found: model:2"}),
        (pod(waiting="CreateContainerConfigError"),
         {"CannotStart": "container server of pod ranker-v2-x waits: CreateContainerConfigError"}),
    ],
)  # fmt: skip
def test_a_pod_that_crashes_or_cannot_start_is_told(each: Any, expected: dict[str, str]) -> None:
    assert found(each) == expected


def test_restarts_that_were_before_the_run_do_not_count() -> None:
    first = [pod(restarts=5, created=BEFORE)]
    before = restarts(first, SINCE)
    assert failing([pod(restarts=7, created=BEFORE)], before) == {}
    assert failing([pod(restarts=8, created=BEFORE)], before).keys() == {"CrashLoop"}


def test_init_containers_count_too() -> None:
    waiting = pod(waiting="CrashLoopBackOff", restarts=1)
    waiting["status"]["initContainerStatuses"] = waiting["status"].pop("containerStatuses")
    assert found(waiting).keys() == {"CrashLoop"}


def test_many_pods_and_long_last_words_are_told_briefly() -> None:
    last = {"reason": "Error", "exitCode": 1, "message": "x" * 5000}
    words = found(*(pod(f"p{n}", waiting="CrashLoopBackOff", restarts=n, last=last) for n in range(9)))[
        "CrashLoop"
    ]
    assert words.endswith("...; and 6 more")
    assert len(words) < 1000


def test_a_pod_without_a_status_says_nothing() -> None:
    assert found({"metadata": {"name": "new"}}) == {}


def owned(name: str, owner: str, created: str, *, ready: bool = False, kind: str = "ReplicaSet") -> Any:
    label = "pod-template-hash" if kind == "ReplicaSet" else "controller-revision-hash"
    revision = owner.rpartition("-")[2]
    owners = [{"kind": kind, "name": owner if kind == "ReplicaSet" else "own", "controller": True}]
    each = pod(name, created=created, labels={label: revision}, ownerReferences=owners)
    each["status"]["containerStatuses"][0]["ready"] = ready
    return each


@pytest.mark.parametrize("kind", ["ReplicaSet", "StatefulSet"])
def test_of_each_workload_the_pods_of_the_newest_revision_that_are_not_ready_count(kind: str) -> None:
    pods = [
        owned("old", "a-1", BEFORE, kind=kind), owned("new", "a-2", DURING, kind=kind),
        owned("of-the-same", "a-2", BEFORE, kind=kind),
        owned("ready", "a-2", DURING, ready=True, kind=kind),
    ]  # fmt: skip
    assert {each["metadata"]["name"] for each in coming(pods)} == {"new", "of-the-same"}


def test_workloads_are_told_apart_by_their_owners() -> None:
    pods = [owned("a", "one-x-1", BEFORE), owned("b", "two-1", DURING), owned("c", "two-2", BEFORE)]
    assert {each["metadata"]["name"] for each in coming(pods)} == {"a", "b"}
    assert coming([]) == []
