"""What the run needs is taken away, broken or claimed by another policy, and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from controller.ports import Ref
from tests.support.policies import changed
from tests.support.rig import GOOD, POLICY, ROUTE, Rig, ended, manifests, policy

if TYPE_CHECKING:
    from controller.status import Run, Status

RULE = Ref("DestinationRule", "default", "ranker")
OLDER, NEWER = POLICY._replace(name="older"), POLICY
UNDECIDED = 1_000_000


def the_run(status: Status) -> Run:
    assert status.run is not None
    return status.run


def stalled(status: Status) -> tuple[str, str, str]:
    condition = status.condition("Stalled")
    assert condition is not None
    return condition.status, condition.reason, condition.message


async def under_way(rig: Rig) -> Run:
    await rig.start(GOOD, minSamples=UNDECIDED)
    run = the_run(await rig.run(12))
    assert (run.active, await rig.weights()) == (True, [80, 20])
    return run


async def delete(rig: Rig, ref: Ref) -> dict[str, Any]:
    """Delete an object as somebody else; return it to be created again."""
    obj = await rig.store.get(ref)
    await rig.store.delete(ref, manager="kubectl")
    left = [each for each in await rig.store.list(ref.kind) if each["metadata"]["name"] == ref.name]
    rig.loop.changed(left[0] if left else obj, gone=not left)
    return obj


async def test_a_route_that_is_deleted_holds_the_run_and_gets_its_weights_when_it_is_back(rig: Rig) -> None:
    before = await under_way(rig)
    route = await delete(rig, ROUTE)
    status = await rig.run(20)
    assert stalled(status)[:2] == ("True", "RouteUnreadable")
    assert the_run(status) == before
    route["spec"]["http"][0]["route"][0]["weight"], route["spec"]["http"][0]["route"][1]["weight"] = 100, 0
    await rig.put(route)
    run = the_run(await rig.run(12))
    assert (run.active, run.number, run.step, await rig.weights()) == (True, 1, 0, [80, 20])
    assert (await rig.reasons()).count("DriftCorrected") == 1


async def test_an_abort_without_a_route_is_carried_out_when_the_route_is_back(rig: Rig) -> None:
    await under_way(rig)
    route = await delete(rig, ROUTE)
    await rig.act("abort")
    status = await rig.run(3)
    assert (the_run(status).outcome, the_run(status).applied) == ("RolledBack", False)
    await rig.put(route)
    assert ended(await rig.run(3, until=ended))
    assert await rig.weights() == [100, 0]


async def test_a_rule_that_is_deleted_holds_the_run_and_it_goes_on_when_it_is_back(rig: Rig) -> None:
    """Neither version has endpoints then: there is nowhere better to send the requests."""
    before = await under_way(rig)
    rule = await delete(rig, RULE)
    status = await rig.run(12)
    assert stalled(status)[:2] == ("True", "ControlGone")
    assert await rig.weights() == [80, 20]
    await rig.put(rule)
    run = the_run(await rig.run(12))
    assert (run.active, run.number, run.step) == (True, 1, before.step)
    assert not ended(await rig.status())


@pytest.mark.parametrize(
    ("left", "outcome", "reason", "weights"),
    [("v1", "RolledBack", "CandidateGone", [100, 0]), ("v2", None, "ControlGone", [80, 20])],
)
async def test_a_subset_that_is_removed_counts_as_its_version_being_gone(
    rig: Rig, left: str, outcome: str | None, reason: str, weights: list[int]
) -> None:
    await under_way(rig)
    await rig.patch(RULE, "/spec/subsets", [{"name": left, "labels": {"version": left}}])
    status = await rig.run(3)
    assert (the_run(status).outcome, stalled(status)[1]) == (outcome, reason)
    assert await rig.weights() == weights


async def test_a_route_that_is_renamed_holds_the_run_until_its_name_is_back(rig: Rig) -> None:
    objects = manifests(minSamples=UNDECIDED)
    objects[0] = changed(objects[0], "spec.virtualService.routes", ["primary"])
    objects[1]["spec"]["http"][0]["name"] = "primary"
    await rig.start(GOOD)
    await delete(rig, POLICY)
    await rig.put(*objects)
    before = the_run(await rig.run(12))
    await rig.patch(ROUTE, "/spec/http/0/name", "main")
    status = await rig.run(12)
    assert stalled(status)[1] == "RouteUnreadable"
    assert "has no route 'primary'" in stalled(status)[2]
    assert (the_run(status), await rig.weights()) == (before, [80, 20])
    await rig.patch(ROUTE, "/spec/http/0/name", "primary")
    status = await rig.run(12)
    assert (the_run(status).active, stalled(status)[0]) == (True, "False")


@pytest.fixture(params=["in memory", "after a restart"])
async def invalid(rig: Rig, request: pytest.FixtureRequest) -> Rig:
    """A rig whose policy was edited to something invalid during its run."""
    await under_way(rig)
    await rig.patch(POLICY, "/spec/strategy", {"lottery": {}})
    if request.param == "after a restart":
        rig.crash()
    await rig.run(2)
    return rig


async def test_a_policy_made_invalid_holds_its_run_and_says_so(invalid: Rig) -> None:
    await invalid.split(70, 30)
    status = await invalid.run(20)
    assert (the_run(status).active, await invalid.weights()) == (True, [70, 30]), "traffic stays as it is"
    state, reason, message = stalled(status)
    assert (state, reason) == ("True", "PolicyInvalid")
    assert "spec.strategy" in message
    assert status.summary == message
    assert (await invalid.reasons()).count("PolicyInvalid") == 1
    generation = (await invalid.store.get(POLICY))["metadata"]["generation"]
    assert status.observed_generation == generation


async def test_a_run_whose_policy_was_made_invalid_can_be_aborted_and_not_promoted(invalid: Rig) -> None:
    await invalid.act("promote-full")
    status = await invalid.run(2)
    assert the_run(status).active
    assert status.last_action is not None
    assert "the policy is invalid" in status.last_action.result
    await invalid.act("abort")
    status = await invalid.run(3, until=ended)
    assert (the_run(status).reason, await invalid.weights()) == ("Aborted", [100, 0])
    assert stalled(await invalid.run(2))[1] == "PolicyInvalid"


async def test_a_policy_made_valid_again_goes_on_with_the_same_run(invalid: Rig) -> None:
    before = the_run(await invalid.status())
    await invalid.put(policy(minSamples=UNDECIDED))
    status = await invalid.run(6)
    assert (the_run(status), stalled(status)[0]) == (before, "False")


async def test_a_candidate_that_is_gone_is_rolled_back_under_an_invalid_policy_too(invalid: Rig) -> None:
    await invalid.patch(RULE, "/spec/subsets", [{"name": "v1", "labels": {"version": "v1"}}])
    assert the_run(await invalid.run(3)).reason == "CandidateGone"
    assert await invalid.weights() == [100, 0]


async def test_a_policy_that_never_was_valid_says_so_and_starts_when_it_is(rig: Rig) -> None:
    broken, *rest = manifests()
    await rig.start(GOOD)
    await delete(rig, POLICY)
    await rig.put({**broken, "spec": {"nonsense": True}}, *rest)
    status = await rig.run(3)
    assert stalled(status)[:2] == ("True", "PolicyInvalid")
    assert status.run is None
    version = (await rig.store.get(POLICY))["metadata"]["resourceVersion"]
    await rig.run(5)
    assert (await rig.store.get(POLICY))["metadata"]["resourceVersion"] == version, "it is said once"
    await rig.put(broken)
    assert the_run(await rig.run(2)).active


async def rivals(rig: Rig) -> None:
    """Two policies for one route, of which `older` is older."""
    await rig.start(GOOD, minSamples=UNDECIDED)
    await delete(rig, POLICY)
    await rig.put(changed(policy(minSamples=UNDECIDED), "metadata.name", "older"))
    rig.clock.time += 5
    await rig.put(policy(minSamples=UNDECIDED))


TAKEN = "default/older is older and manages the same route; this policy waits for its end"


async def test_of_two_policies_for_a_route_the_older_acts_and_the_newer_says_why_it_does_not(
    rig: Rig,
) -> None:
    await rivals(rig)
    status = await rig.run(12)
    assert (status.run, stalled(status)) == (None, ("True", "RouteTaken", TAKEN))
    assert status.summary == TAKEN
    assert await rig.reasons() == ["RouteTaken"]
    assert the_run(await rig.status("older")).active
    assert await rig.weights() == [80, 20]


async def test_what_is_asked_of_the_newer_policy_waits_and_touches_no_traffic(rig: Rig) -> None:
    await rivals(rig)
    await rig.run(3)
    await rig.act("retry")
    status = await rig.run(3)
    assert (status.run, status.last_action, await rig.weights()) == (None, None, [80, 20])


async def test_the_newer_policy_takes_over_when_the_older_one_is_gone(rig: Rig) -> None:
    await rivals(rig)
    await rig.run(12)
    await delete(rig, OLDER)
    run = the_run(await rig.run(3))
    assert (run.active, run.applied) == (True, True)
    assert stalled(await rig.status())[0] == "False"


async def test_a_route_that_an_older_policy_claims_during_a_run_is_left_to_it(rig: Rig) -> None:
    await rig.start(GOOD, minSamples=UNDECIDED)
    await delete(rig, POLICY)
    await rig.put(changed(changed(policy(minSamples=UNDECIDED), "metadata.name", "older"),
                          "spec.virtualService.name", "elsewhere"))  # fmt: skip
    rig.clock.time += 5
    await rig.put(policy(minSamples=UNDECIDED))
    before = the_run(await rig.run(12))
    await rig.patch(OLDER, "/spec/virtualService/name", "ranker")
    status = await rig.run(3)
    assert (stalled(status)[1], the_run(status)) == ("RouteTaken", before)
    await rig.patch(OLDER, "/spec/virtualService/name", "elsewhere")
    assert stalled(await rig.run(3))[0] == "False"
