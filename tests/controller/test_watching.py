"""The watch after a promotion, in the loop: it tells once, survives restarts, and touches no traffic."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from controller.replay import replay
from tests.support.rig import GOOD, Rig, ended, endpoints, manifests

if TYPE_CHECKING:
    from controller.status import Status

WATCH = {"duration": "5m", "falseAlarmEvery": "24h"}


async def promoted(rig: Rig, watch: dict[str, Any] | None = None, **metric: Any) -> Status:
    """Start a rollout with a watch, and run it until it is promoted."""
    await rig.start(GOOD)
    objects = manifests()
    objects[0]["spec"]["watch"] = WATCH | (watch or {})
    objects[0]["spec"]["metrics"][0] |= metric
    await rig.put(*objects)
    status = await rig.run(300, until=ended)
    assert status.run is not None
    assert status.run.outcome == "Promoted"
    return status


def surge(rig: Rig, rate: float = 0.15) -> None:
    """Let the promoted version fail more often from now on."""
    [service] = rig.mesh._services
    service.error_rates["v2"] = rate


def alarmed(status: Status) -> bool:
    return bool(status.run and status.run.watch and status.run.watch.surges)


def over(status: Status) -> bool:
    return bool(status.run and status.run.watch and status.run.watch.over)


async def test_a_surge_is_told_once_with_its_numbers_and_touches_no_traffic(rig: Rig) -> None:
    status = await promoted(rig)
    assert status.summary == "Promoted (Safe), being watched"
    await rig.run(30)
    surge(rig)
    status = await rig.run(60, until=alarmed)
    await rig.run(60)
    assert (await rig.reasons()).count("Surge") == 1
    assert await rig.weights() == [0, 100]
    healthy = status.condition("Healthy")
    assert healthy is not None
    assert (healthy.status, healthy.reason) == ("False", "Surge")
    for words in (
        "istio-error-rate: ",
        "in the rollout",
        "one false alarm in 24h on average",
        "left as it is",
    ):
        assert words in (await rig.whole())["decisions"][-1]["message"]
    assert status.summary == "Promoted (Safe), surge of istio-error-rate"
    shown = rig.telemetry.exposition().decode()
    assert 'penstock_decisions_total{action="Alarm",policy="default/ranker"} 1.0' in shown
    assert 'penstock_surges{policy="default/ranker"} 1.0' in shown


async def test_a_quiet_watch_tells_nothing_and_ends_in_time(rig: Rig) -> None:
    await promoted(rig)
    status = await rig.run(400, until=over)
    assert status.run is not None
    assert status.run.watch is not None
    assert status.run.ended_at is not None
    assert status.run.watch.over == "candidate was watched for 5m: nothing became more frequent"
    assert rig.clock.time - status.run.ended_at == pytest.approx(305, abs=10)
    assert "Surge" not in await rig.reasons()
    rig.mesh.reads = []
    surge(rig)
    await rig.run(30)
    assert rig.mesh.reads == []


async def test_the_run_keeps_its_looks_and_its_intervals(rig: Rig) -> None:
    """What is counted after the promotion is no evidence on the candidate."""
    await promoted(rig)
    before = await rig.whole()
    surge(rig)
    await rig.run(60)
    after = await rig.whole()
    for kept in ("ticks", "intervals", "verdict"):
        assert after[kept] == before[kept]
    [metric] = after["watch"]["metrics"]
    assert metric["requests"] > 5_000
    assert metric["alarm"] is not None
    assert metric["share"] > metric["limit"] > metric["rollout"]
    json.dumps(after["watch"], allow_nan=False)


async def test_a_restart_in_between_changes_nothing(rig: Rig, tmp_path: Any) -> None:
    other = Rig(tmp_path / "other")
    other.folder.mkdir()
    try:
        for each in (rig, other):
            await promoted(each)
            await each.run(23)
            surge(each, 0.08)
            if each is other:
                each.crash()
            await each.run(22)
            if each is other:
                each.crash()
            await each.run(100)
        one, two = [(await each.whole())["watch"] for each in (rig, other)]
        assert one == two
        assert one["metrics"][0]["alarm"] is not None
        assert (await other.reasons()).count("Surge") == 1
    finally:
        await other.close()


async def test_after_an_absence_all_that_happened_meanwhile_is_read(rig: Rig) -> None:
    await promoted(rig)
    await rig.run(10)
    surge(rig)
    await rig.mesh.run(120)
    surge(rig, 0.01)
    rig.crash()
    await rig.run(3)
    assert "Surge" in await rig.reasons()


async def test_a_new_run_ends_the_watch(rig: Rig) -> None:
    await promoted(rig)
    await rig.run(10)
    newer = endpoints("ranker", "v1", "v2")
    newer["spec"]["endpoints"][0]["labels"]["build"] = "2"
    await rig.put(newer)
    status = await rig.run(20, until=lambda status: bool(status.run and status.run.number == 2))
    assert status.run is not None
    assert (status.run.number, status.run.watch) == (2, None)
    assert "Surge" not in await rig.reasons()


async def test_without_prometheus_the_watch_waits_and_misses_nothing(rig: Rig) -> None:
    await promoted(rig)
    rig.mesh.down = "Prometheus does not answer"
    surge(rig)
    await rig.run(40)
    assert "Surge" not in await rig.reasons()
    rig.mesh.down = ""
    await rig.run(10)
    assert "Surge" in await rig.reasons()


async def test_what_cannot_be_read_at_the_end_of_a_watch_is_waited_for_and_then_said(rig: Rig) -> None:
    await promoted(rig)
    rig.mesh.down = "Prometheus does not answer"
    status = await rig.run(320)
    assert not over(status)
    rig.clock.time += 3600
    status = await rig.run(5, until=over)
    assert status.run is not None
    assert status.run.watch is not None
    assert status.run.watch.over.endswith("the end could not be read: Prometheus does not answer")


async def test_a_promotion_by_hand_before_anything_was_counted_cannot_be_watched(rig: Rig) -> None:
    await rig.start(GOOD)
    policy = manifests()[0]
    policy["spec"]["watch"] = WATCH
    await rig.put(policy)
    await rig.run(2)
    await rig.act("promote-full")
    status = await rig.run(20, until=over)
    assert status.run is not None
    assert status.run.watch is not None
    assert status.run.watch.over == "istio-error-rate: it had no requests in the rollout to compare with"
    assert "NotWatched" in await rig.reasons()


async def test_a_watch_that_is_removed_from_the_policy_is_over(rig: Rig) -> None:
    await promoted(rig)
    await rig.put(manifests()[0])
    status = await rig.run(5, until=over)
    assert over(status)
    assert "WatchRemoved" in await rig.reasons()


async def test_without_a_watch_in_the_policy_nothing_is_read_after_the_promotion(rig: Rig) -> None:
    await rig.start(GOOD)
    status = await rig.run(300, until=ended)
    rig.mesh.reads = []
    await rig.run(20)
    assert status.summary == "Promoted (Safe)"
    assert rig.mesh.reads == []


async def test_latency_is_watched_at_every_edge(rig: Rig) -> None:
    await promoted(rig, template="istio-latency", margin="200%", edges=["25", "50", "100", "250"])
    [service] = rig.mesh._services
    service.median_ms["v2"] = 60.0
    status = await rig.run(60, until=alarmed)
    assert status.run is not None
    assert status.run.watch is not None
    assert "istio-latency over " in status.run.watch.surges["istio-latency"]


async def test_every_decision_of_a_watch_can_be_taken_again(rig: Rig) -> None:
    await promoted(rig)
    surge(rig)
    await rig.run(400, until=over)
    run = await rig.whole()
    watched = [each for each in run["decisions"] if each["action"] in {"Alarm", "EndWatch"}]
    assert [each["action"] for each in watched] == ["Alarm", "EndWatch"]
    for record in watched:
        again = replay(run["policy"], record)
        assert (again.action, again.message) == (record["action"], record["message"])
