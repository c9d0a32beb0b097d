"""Two policies for one route: the older one has it."""

from __future__ import annotations

from typing import Any

import pytest

from controller.ownership import owners
from policies.parse import policy_from_object
from tests.support.policies import changed
from tests.support.rig import policy

OLD, NEW = "2026-11-21T10:00:00Z", "2026-11-22T10:00:00Z"


def claim(
    name: str, created: str, *routes: str, virtual_service: str = "ranker", namespace: str = "default"
) -> Any:
    obj = changed(policy(name), "spec.virtualService", {"name": virtual_service, "routes": list(routes)})
    obj["metadata"] |= {"creationTimestamp": created, "namespace": namespace}
    return obj, policy_from_object(obj)


@pytest.mark.parametrize(
    ("claims", "taken"),
    [
        ([claim("a", NEW), claim("b", OLD)], {"default/a": "default/b"}),
        ([claim("b", OLD), claim("a", OLD)], {"default/b": "default/a"}),
        ([claim("a", OLD, "x"), claim("b", NEW, "y")], {}),
        ([claim("a", OLD, "x"), claim("b", NEW, "y", "x")], {"default/b": "default/a"}),
        ([claim("a", OLD), claim("b", NEW, "y")], {"default/b": "default/a"}),
        ([claim("a", OLD, "x"), claim("b", NEW, "http[0]")], {"default/b": "default/a"}),
        ([claim("a", OLD, "http[0]"), claim("b", NEW, "y", "tcp[0]")], {"default/b": "default/a"}),
        ([claim("a", OLD, "http[0]"), claim("b", NEW, "http[1]")], {}),
        ([claim("a", OLD, "tls[0]"), claim("b", NEW, "http[0]"), claim("c", NEW, "tcp[0]")], {}),
        ([claim("a", OLD, "x"), claim("b", NEW, "tls[0]")], {}),
        ([claim("a", OLD), claim("b", NEW, virtual_service="other")], {}),
        ([claim("a", OLD), claim("a", NEW, namespace="ml")], {}),
        ([claim("a", OLD), claim("b", NEW), claim("c", NEW)],
         {"default/b": "default/a", "default/c": "default/a"}),
    ],
)  # fmt: skip
def test_the_older_policy_has_the_route_and_ties_go_by_name(claims: Any, taken: dict[str, str]) -> None:
    assert owners(claims) == taken
    assert owners(reversed(claims)) == taken
