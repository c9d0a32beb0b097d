"""Drift: which weights differ, by field path, and who wrote them."""

from __future__ import annotations

import pytest

from istio.drift import Difference, drift
from istio.route import RouteError


def written(manager, time, *fields, **more):
    return {
        "manager": manager,
        "operation": "Update",
        "time": time,
        "fieldsV1": {"f:spec": {f"f:{field}": {} for field in fields}},
        **more,
    }


def vs(weights, managed=None, kind="http"):
    route = [
        {"destination": {"host": "ranker", "subset": subset}} | ({} if weight is None else {"weight": weight})
        for subset, weight in weights.items()
    ]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "ranker", "managedFields": managed},
        "spec": {kind: [{"route": route}]},
    }


def test_wanted_weights_in_force_are_no_drift():
    assert drift(vs({"v1": 75, "v2": 25}), {"v1": 75, "v2": 25}) is None
    assert drift(vs({"v1": 100, "v2": None}), {"v1": 100, "v2": 0}) is None
    assert drift(vs({"v1": None}), {"v1": 100}) is None
    assert drift(vs({"v1": 100, "other": 0}), {"v1": 100}) is None


def test_every_difference_is_named_by_field_path_also_for_strangers():
    found = drift(vs({"v1": 50, "new": 20, "v2": 30}), {"v2": 25, "v1": 75})
    assert found.differences == (
        Difference("spec.http[0].route[0].weight", "ranker/v1", 50, 75),
        Difference("spec.http[0].route[1].weight", "ranker/new", 20, 0),
        Difference("spec.http[0].route[2].weight", "ranker/v2", 30, 25),
    )
    assert str(found.differences[2]) == "spec.http[0].route[2].weight (ranker/v2) is 30, wanted 25"


@pytest.mark.parametrize(
    ("managed", "who", "when"),
    [
        (None, "unknown", None),
        ([], "unknown", None),
        ("broken", "unknown", None),
        (
            [None, {"manager": 7}, {"manager": "a"}, {"manager": "a", "fieldsV1": {"f:spec": 1}}],
            "unknown",
            None,
        ),
        ([written("penstock", "2026-11-22T10:00:00Z", "http")], "penstock", "2026-11-22T10:00:00Z"),
        ([written("kubectl-edit", "2026-11-22T10:00:00Z", "hosts")], "unknown", None),
        ([written("kubectl-edit", "2026-11-22T10:00:00Z", "tcp")], "unknown", None),
        ([written("kubectl-edit", None, "http")], "kubectl-edit", None),
        (
            [
                written("argocd", "2026-11-22T11:00:00Z", "hosts", "http"),
                written("kubectl-edit", "2026-11-22T10:00:00Z", "http"),
                written("penstock", "2026-11-22T12:00:00Z", "hosts"),
                written("istiod", "2026-11-22T13:00:00Z"),
            ],
            "argocd",
            "2026-11-22T11:00:00Z",
        ),
    ],
)
def test_the_last_owner_of_the_routes_is_named(managed, who, when):
    found = drift(vs({"v1": 50, "v2": 50}, managed), {"v1": 75, "v2": 25})
    assert (found.who, found.when) == (who, when)
    assert str(found).startswith(f"changed by {who}{f' at {when}' if when else ''}: spec.http[0]")


def test_only_owners_of_the_compared_kind_count():
    managed = [
        written("edge", "2026-11-22T11:00:00Z", "http"),
        written("mesh", "2026-11-22T10:00:00Z", "tcp"),
    ]
    document = vs({"v1": 50, "v2": 50}, managed, kind="tcp")
    assert drift(document, {"v1": 75, "v2": 25}).who == "mesh"


def test_a_destination_that_is_gone_is_an_error_and_not_drift():
    with pytest.raises(RouteError) as raised:
        drift(vs({"v1": 100}), {"v1": 75, "v2": 25})
    assert raised.value.code == "missing-destination"
