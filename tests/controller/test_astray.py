"""Requests without a version make an interval unfit for a comparison: when, and in which words."""

from __future__ import annotations

import numpy as np
import pytest

from controller.astray import astray
from controller.scene import Arm
from controller.targets import versions_of


def told(**requests: int) -> str:
    """The words for one interval; `none` and `unknown` are requests without a version."""
    named = {name.replace("none", ""): np.array([count]) for name, count in requests.items()}
    return astray(named, "ver").get(0, "")


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ({"v1": 80, "v2": 8, "none": 12}, "12 % of the requests carry no version (label ver)"),
        ({"v1": 980, "unknown": 20}, "2 % of the requests carry no version (label ver)"),
        ({"none": 7}, "100 % of the requests carry no version (label ver)"),
    ],
)
def test_too_many_requests_of_nobody_are_told_in_per_cent_with_the_label(requests, words):
    assert told(**requests) == words


@pytest.mark.parametrize(
    "requests",
    [{"v1": 990, "none": 10}, {"v1": 5, "none": 5}, {"v1": 0, "none": 0}, {"v1": 50, "v3": 50}],
)
def test_one_per_cent_a_few_and_other_versions_are_nothing_to_tell(requests):
    assert told(**requests) == ""


def test_each_interval_is_told_by_itself():
    requests = {"v1": np.array([100, 100, 0]), "": np.array([0, 100, 0])}
    assert list(astray(requests, "ver")) == [1]


def test_versions_are_told_apart_by_label_only_if_they_share_a_service():
    one, two = Arm("ml", "ranker", "v1"), Arm("ml", "ranker", "v2")
    assert versions_of([one, two]) == {"v1", "v2"}
    assert versions_of([one, Arm("ml", "ranker-next", "v2")]) == frozenset()
    assert versions_of([Arm("ml", "old", None), Arm("ml", "new", None)]) == frozenset()
