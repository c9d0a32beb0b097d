"""The witness that the tests with a cluster rest on: what it says of versions that should never have been."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.witness import POLICIES, ROUTES, Witness

if TYPE_CHECKING:
    from cluster.running import Cluster
    from controller.ports import Object

NAME = "ranker"


class Shown(Witness):
    """A witness that is shown versions instead of watching for them."""

    async def up_to_date(self) -> None:
        """There is nothing else to see."""


@pytest.fixture
def witness() -> Shown:
    return Shown(cast("Cluster", None), "team")


def route(version: int, *weights: Any, manager: str = "penstock") -> tuple[str, Object]:
    """Return a version of a route."""
    owned = {"manager": manager, "time": "2026-11-23T06:00:00Z", "fieldsV1": {"f:spec": {"f:http": {}}}}
    metadata = {"name": NAME, "resourceVersion": str(version), "managedFields": [owned]}
    return ROUTES, {"metadata": metadata, "spec": {"http": [{"route": [{"weight": w} for w in weights]}]}}


def policy(version: int, candidate: int, step: int = 0, *, number: int = 1, **run: Any) -> tuple[str, Object]:
    """Return a version of a policy that wants the candidate to have a weight."""
    status = {
        "run": {"number": number, "step": step, "applied": False, **run},
        "weights": {"stable": 100 - candidate, "candidate": candidate},
    }
    return POLICIES, {
        "metadata": {"name": NAME, "uid": "u", "resourceVersion": str(version)},
        "status": status,
    }


GIT = route(1, 100, 0, manager="kubectl")
STARTED = GIT, policy(2, 30), route(3, 70, 30), policy(4, 30, applied=True)


def show(witness: Shown, *versions: tuple[str, Object]) -> None:
    for kind, obj in versions:
        witness._take(kind, obj)


async def test_a_rollout_that_wants_before_it_writes_is_right(witness: Shown) -> None:
    show(witness, *STARTED, policy(5, 60, 1), route(6, 40, 60), policy(7, 60, 1, applied=True))
    show(witness, policy(8, 0, 1, outcome="RolledBack"), route(9, 100, 0), policy(10, 30, number=2))
    await witness.assert_right()
    assert witness.wanted(NAME) == {(70, 30), (40, 60), (100, 0)}


@pytest.mark.parametrize("version", [
    pytest.param(route(5, 50, 50), id="weights that no status wanted"),
    pytest.param(route(5, 70, 20), id="a sum of 90"),
    pytest.param(route(5, 110, -10), id="less than nothing"),
    pytest.param(route(5, 50.5, 49.5), id="half a per cent"),
    pytest.param(policy(5, 80, 2), id="a step skipped"),
    pytest.param(policy(5, 30, 0, number=3), id="a run skipped"),
    pytest.param(policy(5, 60, 1, number=2), id="a run that begins with its second step"),
])  # fmt: skip
async def test_one_wrong_version_is_enough(witness: Shown, version: tuple[str, Object]) -> None:
    show(witness, *STARTED)
    await witness.assert_right()
    show(witness, version)
    with pytest.raises(AssertionError):
        await witness.assert_right()


@pytest.mark.parametrize("versions", [
    pytest.param((GIT, route(2, 70, 30), policy(3, 30)), id="a write before its status"),
    pytest.param((GIT, policy(2, 30), policy(3, 60, 1)), id="a step before the last was in force"),
    pytest.param((*STARTED, policy(5, 60, 1), policy(6, 30, 0)), id="a step back"),
])  # fmt: skip
async def test_the_order_matters(witness: Shown, versions: tuple[tuple[str, Object], ...]) -> None:
    show(witness, *versions)
    with pytest.raises(AssertionError):
        await witness.assert_right()


async def test_weights_that_others_write_are_not_held_against_penstock(witness: Shown) -> None:
    show(witness, *STARTED, route(5, 100, 0, manager="argocd-controller"))
    await witness.assert_right()


async def test_a_witness_that_knows_no_write_for_penstocks_own_is_none(witness: Shown) -> None:
    """If the name under which Penstock writes changed, no write would be looked at."""
    show(witness, GIT, policy(2, 30), route(3, 70, 30, manager="someone"), policy(4, 30, applied=True))
    with pytest.raises(AssertionError, match="is known to be Penstock's"):
        await witness.assert_right()


async def test_what_a_watch_that_was_cut_off_may_have_missed_is_not_judged(witness: Shown) -> None:
    show(witness, *STARTED)
    witness._gaps.append(range(5, 8))
    show(witness, policy(8, 80, 2), route(7, 20, 80))
    await witness.assert_right()
    show(witness, route(9, 10, 90))
    with pytest.raises(AssertionError, match="was not wanted"):
        await witness.assert_right()
