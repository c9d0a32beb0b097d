"""How often a status is written: for what is wanted, for its confirmation, and for what people should read.

On simulated traffic; the same on a real API server is in bench/cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from analysis.herd import Herd
from controller.status import Status
from tests.support.rig import GOOD, POLICY, Rig, ended

if TYPE_CHECKING:
    from controller.ports import Object, Ref

STEPS = [{"weight": 20, "hold": "30s"}, {"weight": 40, "hold": "999h"}]


class Written:
    """What was written to the policy's status and to other objects, in order."""

    def __init__(self, rig: Rig) -> None:
        self.statuses: list[Status] = []
        self.others: list[str] = []
        self._patch_status, self._patch = rig.store.patch_status, rig.store.patch
        rig.store.patch_status = self.patch_status  # type: ignore[method-assign]
        rig.store.patch = self.patch  # type: ignore[method-assign]

    async def patch_status(self, ref: Ref, status: Object, *, resource_version: str) -> Object:
        self.statuses.append(Status.model_validate(status))
        return await self._patch_status(ref, status, resource_version=resource_version)

    async def patch(self, ref: Ref, operations: Any, *, manager: str) -> Object:
        if manager == "penstock":
            self.others.append(ref.kind)
        return await self._patch(ref, operations, manager=manager)

    def words(self, type_: str = "Progressing") -> list[tuple[str, str]]:
        """Return status and reason of a condition as they were written."""
        found = [status.condition(type_) for status in self.statuses]
        return [(each.status, each.reason) for each in found if each]


async def test_a_change_of_weight_is_two_statuses_and_one_route(rig: Rig) -> None:
    """By a person, and with proxies that need some looks; then nothing until the step has had its time.

    So many samples are asked for that no verdict turns meanwhile.
    """
    await rig.start(GOOD, minSamples=1_000_000)
    await rig.patch(POLICY, "/spec/strategy/canary/steps", STEPS)
    await rig.run(20)
    written = Written(rig)
    await rig.act("promote")
    rig.proxies.lagging = True
    await rig.run(3)
    rig.proxies.lagging = False
    await rig.run(60)
    assert written.others == ["VirtualService"]
    assert [status.run and status.run.applied for status in written.statuses] == [False, True]
    assert written.words() == [("True", "SkippedByHand"), ("True", "Holding")]
    assert written.words("TrafficApplied") == [("False", "Pending"), ("True", "Applied")]
    assert await rig.weights() == [60, 40]


async def test_too_few_requests_are_no_news_before_the_step_has_had_its_time(rig: Rig) -> None:
    await rig.start(GOOD, minSamples=1_000_000)
    await rig.patch(POLICY, "/spec/strategy/canary/steps", STEPS)
    written = Written(rig)
    await rig.run(20)
    assert written.words()[-1] == ("True", "Holding")
    await rig.run(30)
    assert written.words()[-1] == ("True", "TooFewSamples")
    assert written.words().count(("True", "TooFewSamples")) == 1


async def test_a_whole_run_is_written_only_for_what_happens(rig: Rig) -> None:
    await rig.start(GOOD)
    written = Written(rig)
    status = await rig.run(300, until=ended)
    assert status.run is not None
    assert status.run.outcome == "Promoted"
    told = [
        (status.run.step, status.run.applied, status.verdict, word)
        for status, (_, word) in zip(written.statuses, written.words(), strict=True)
        if status.run is not None
    ]
    assert told == [
        (0, False, "NoData", "Started"),
        (0, True, "NoData", "Holding"),
        (0, True, "Undecided", "Holding"),
        (1, False, "Undecided", "NoHarmShown"),
        (1, True, "Undecided", "Holding"),
        (1, False, "Safe", "Safe"),
        (1, True, "Safe", "Safe"),
    ]
    assert written.others.count("VirtualService") == 3


async def test_a_restart_after_an_absence_writes_nothing(rig: Rig) -> None:
    await rig.start(GOOD, minSamples=1_000_000)
    await rig.patch(POLICY, "/spec/strategy/canary/steps", STEPS)
    await rig.run(60)
    written = Written(rig)
    await rig.mesh.run(900)
    rig.crash()
    await rig.run(10)
    assert written.statuses == []
    assert written.others == []


@pytest.mark.parametrize("hold", ["10s", "0s"])
async def test_what_hindered_a_run_does_not_stay_when_it_is_over(rig: Rig, hold: str) -> None:
    """Also if what comes then passes by itself."""
    await rig.start(GOOD, deadline="10h")
    await rig.patch(POLICY, "/spec/strategy/canary/steps/0/hold", hold)
    await rig.run(8)
    rig.mesh.down = "it is down"
    await rig.run(40)
    stalled = (await rig.status()).condition("Stalled")
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("True", "MetricsUnavailable")
    rig.mesh.down = ""
    written = Written(rig)
    await rig.run(15)
    assert written.words()
    assert "MetricsUnavailable" not in {reason for _, reason in written.words()}
    assert {status for status, _ in written.words("Stalled")} == {"False"}


@pytest.fixture
def turning(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the verdict turn at each look: Safe, Undecided, Safe, ..."""

    def kind(end: int | None) -> str:
        return ("Safe", "Undecided")[(end or 0) // 5 % 2]

    advance = Herd.advance

    def advanced(herd: Herd, end: int, counted: Any) -> Any:
        seen = advance(herd, end, counted)
        return seen._replace(kinds=[kind(end)] * len(seen.kinds))

    monkeypatch.setattr("analysis.glance._kind", lambda _design, evidence, _metrics: kind(evidence.end))
    monkeypatch.setattr(Herd, "advance", advanced)


async def test_a_verdict_that_turns_at_each_look_is_written_once_a_minute(rig: Rig, turning: None) -> None:
    await rig.start(GOOD, deadline="999h")
    await rig.patch(POLICY, "/spec/strategy/canary/steps", STEPS[1:])
    await rig.run(20)
    written = Written(rig)
    shown = set()
    for _ in range(60):
        await rig.run(5)
        shown.add(rig.telemetry._shown["default/ranker"][1])
    assert shown == {"Safe", "Undecided"}, "metrics have the verdict as it is"
    assert 4 <= len(written.statuses) <= 5
    assert len({status.verdict for status in written.statuses}) == 2


async def test_the_last_word_of_a_verdict_is_written_when_it_turns_no_more(
    rig: Rig, turning: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the run is in the lane by then."""
    await rig.start(GOOD, minSamples=1, deadline="999h")
    await rig.patch(POLICY, "/spec/strategy/canary/steps", STEPS[1:])
    await rig.run(30)
    before = (await rig.status()).verdict
    other = "Safe" if before == "Undecided" else "Undecided"
    monkeypatch.undo()
    monkeypatch.setattr("analysis.glance._kind", lambda *_: other)
    monkeypatch.setattr("analysis.herd.kinds", lambda rules, *_: [other])
    await rig.run(15)
    assert (await rig.status()).verdict == before
    assert "default/ranker" in rig.loop.lane
    await rig.run(60)
    assert (await rig.status()).verdict == other


@pytest.mark.parametrize("is_over", [False, True])
async def test_conditions_that_somebody_else_wrote_are_put_right(rig: Rig, *, is_over: bool) -> None:
    """A backup that is restored, say: nothing that decides has changed, but what scripts wait for has."""
    await rig.start(GOOD, minSamples=100 if is_over else 1_000_000)
    await rig.run(300 if is_over else 40, until=ended)
    await rig.run(20)
    right, obj = await rig.status(), await rig.store.get(POLICY)
    wrong = [{**each, "status": "Unknown"} for each in obj["status"]["conditions"]]
    version = obj["metadata"]["resourceVersion"]
    rig.loop.changed(
        await rig.store.patch_status(POLICY, {**obj["status"], "conditions": wrong}, resource_version=version)
    )
    await rig.run(2)
    found = {each.type: each.status for each in (await rig.status()).conditions}
    assert found == {each.type: each.status for each in right.conditions}
