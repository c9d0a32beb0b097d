"""The bounded sequence of changes: numbers, what is forgotten, and that old versions are not kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cluster.changes import Changes
from controller.ports import ConflictError, WatchEvent


def event(type_: Any, name: str, version: int, kind: str = "Service") -> WatchEvent:
    meta = {"namespace": "default", "name": name, "resourceVersion": str(version)}
    return WatchEvent(type_, {"kind": kind, "metadata": meta})


def told(changes: Changes, since: int = 0) -> list[tuple[str, str, str]]:
    found = changes.after(since, {"Service"})
    return [
        (each.type, each.object["metadata"]["name"], each.object["metadata"]["resourceVersion"])
        for each in found
    ]


def test_every_change_tells_of_the_object_as_it_is_now() -> None:
    changes = Changes()
    for each in (event("ADDED", "a", 1), event("ADDED", "b", 2), event("MODIFIED", "a", 3)):
        changes.add(each)
    assert told(changes) == [("ADDED", "a", "3"), ("ADDED", "b", "2"), ("MODIFIED", "a", "3")]
    assert told(changes, 2) == [("MODIFIED", "a", "3")]


def test_an_object_that_was_made_anew_is_another_one() -> None:
    changes = Changes()
    for each in (event("ADDED", "a", 1), event("DELETED", "a", 2), event("ADDED", "a", 3)):
        changes.add(each)
    assert told(changes) == [("ADDED", "a", "2"), ("DELETED", "a", "2"), ("ADDED", "a", "3")]


def test_what_is_forgotten_is_a_conflict() -> None:
    changes = Changes(kept=2)
    for version in range(1, 4):
        changes.add(event("MODIFIED", "a", version))
    assert told(changes, 1) == [("MODIFIED", "a", "3")] * 2
    for unknown in (0, 4):
        with pytest.raises(ConflictError):
            changes.after(unknown, {"Service"})


@given(
    kept=st.integers(1, 6),
    steps=st.lists(st.tuples(st.sampled_from(["MODIFIED", "DELETED"]), st.sampled_from("abc")), max_size=30),
)
def test_types_and_names_stay_in_order_and_one_version_of_an_object_is_kept_per_life(
    kept: int, steps: list[tuple[str, str]]
) -> None:
    changes = Changes(kept)
    for version, (type_, name) in enumerate(steps, start=1):
        changes.add(event(type_, name, version))
    found = told(changes, max(0, len(steps) - kept))
    assert [(type_, name) for type_, name, _ in found] == steps[-kept:]
    for name in "abc":
        lives = 1 + sum(each[:2] == ("DELETED", name) for each in found)
        assert len({version for _, other, version in found if other == name}) <= lives
