"""The loop on simulated traffic with a clock that the test moves: decisions, crashes, ports that fail."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from analysis.evidence import Evidence
from controller.dossier import design_of
from controller.metric_view import metric_views
from controller.ports import Ref, UnavailableError
from controller.prior import with_edges
from controller.replay import rejudged, replay
from policies.catalog import templates
from policies.parse import policy_from_object
from tests.support.crashes import Crash, Killed
from tests.support.rig import BAD, GOOD, POLICY, ROUTE, Rig, ended

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_good_candidate_is_promoted_in_steps_and_nothing_else_of_the_route_changes(rig: Rig) -> None:
    await rig.start(GOOD)
    before = (await rig.store.get(ROUTE))["spec"]
    status = await rig.run(300, until=ended)
    assert status.run is not None
    assert (status.run.outcome, status.run.reason) == ("Promoted", "Safe")
    assert await rig.weights() == [0, 100]
    assert await rig.decisions() == [
        ("Start", "Started"), ("Advance", "NoHarmShown"), ("Promote", "Safe"),
    ]  # fmt: skip
    after = (await rig.store.get(ROUTE))["spec"]
    for spec in (before, after):
        for destination in spec["http"][0]["route"]:
            destination.pop("weight")
    assert after == before


async def test_a_bad_candidate_is_rolled_back_and_blamed(rig: Rig) -> None:
    await rig.start(BAD)
    status = await rig.run(300, until=ended)
    assert status.run is not None
    assert (status.run.outcome, status.run.blame) == ("RolledBack", "istio-error-rate")
    assert await rig.weights() == [100, 0]
    assert status.condition("Ready") is not None
    assert status.condition("Ready").status == "False"  # type: ignore[union-attr]


async def test_a_rollout_that_holds_costs_one_query_per_template_and_no_write(rig: Rig) -> None:
    await rig.start(GOOD, deadline="10h", minSamples=1_000_000)
    await rig.run(30)
    version, rig.mesh.reads = await rig.store.version(), []
    await rig.run(20)
    assert len(rig.mesh.reads) == 4  # four intervals; errors and split are read by one query
    assert await rig.store.version() == version


STORIES: dict[str, dict[str, Any]] = {
    "good": {"rates": GOOD},
    "bad": {"rates": BAD},
    "measured before": {"rates": BAD, "past": 5400, "metric": {"dispersion": "auto"}},
    "measured meanwhile": {"rates": BAD, "past": 60, "metric": {"dispersion": "auto"}},
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
async def test_a_kill_at_any_write_continues_exactly(
    tmp_path: Path, story: dict[str, Any], *, after: bool
) -> None:
    """The run is repeated once per write, killed there, and must end with the unkilled run's decisions."""
    expected = await _story(tmp_path / "whole", story, kill_at=0, after=after)
    for kill_at in range(1, 30):
        told = await _story(tmp_path / f"killed-{kill_at}", story, kill_at=kill_at, after=after)
        assert told["dispersion"] == expected["dispersion"], f"killed at write {kill_at}"
        assert told["decisions"] == expected["decisions"], f"killed at write {kill_at}"
        assert told["weights"] == expected["weights"]
        assert told["ends"] == sorted(set(told["ends"])), "an interval was counted twice"
        assert told["counted"] == told["evidence"], "the evidence is not that of the recorded intervals"
        if told["unfired"]:
            return
    pytest.fail("the run did not end within 30 writes")


async def _story(folder: Path, story: dict[str, Any], *, kill_at: int, after: bool) -> dict[str, Any]:
    folder.mkdir()  # noqa: ASYNC240 - a test may wait for its disk
    rig, fuse = Rig(folder), [kill_at]
    await rig.start(**story)
    store, history = rig.store, rig.history
    try:
        rig.store = Killed(store, fuse, after=after)  # type: ignore[assignment]
        rig.history = Killed(history, fuse, after=after)  # type: ignore[assignment]
        rig.crash()
        for _ in range(300):
            with suppress(Crash):
                status = await rig.run(1)
                if ended(status):
                    break
                continue
            rig.clock.time = round(rig.clock.time)
            rig.crash()
        return await _told(rig, fuse)
    finally:
        await history.close()
        await store.close()


async def _told(rig: Rig, fuse: list[int]) -> dict[str, Any]:
    [run] = await rig.history.runs()
    whole = await rig.history.run(run["id"])
    stored = await rig.history.evidence(run["id"])
    assert whole is not None
    assert stored is not None
    rows = [each for each in whole["intervals"] if each["metric"] == "istio-error-rate"]
    counted = [sum(row[arm]["total"] for row in rows) for arm in ("control", "candidate")]
    verdict = whole["ticks"][-1]["verdict"]["metrics"][0]
    assert rejudged(*_kept_evidence(whole, stored)).to_dict() == stored[1]["state"]
    return {
        "dispersion": whole["ticks"][-1]["verdict"].get("dispersion"),
        "decisions": await rig.decisions(),
        "weights": await rig.weights(),
        "ends": [row["end"] for row in rows],
        "counted": counted,
        "evidence": [verdict[arm]["total"] for arm in ("control", "candidate")],
        "unfired": fuse[0] > 0,
    }


def _kept_evidence(whole: Any, stored: Any) -> tuple[Any, Any]:
    """Return the design of a run and its recorded intervals."""
    design = with_edges(design_of(policy_from_object(whole["policy"]), templates()), stored[1]["edges"])
    assert Evidence.from_dict(design, stored[1]["state"]).looks > 0
    return design, whole["intervals"]


async def test_without_prometheus_nothing_is_decided_and_nothing_is_lost(rig: Rig) -> None:
    await rig.start(GOOD)
    await rig.run(8)
    rig.mesh.down = "Prometheus does not answer"
    status = await rig.run(60)
    assert status.run is not None
    assert (status.run.step, status.run.outcome) == (0, None)
    assert status.condition("MetricsAvailable").message == "Prometheus does not answer"  # type: ignore[union-attr]
    rig.mesh.down = ""
    status = await rig.run(200, until=ended)
    assert status.run is not None
    assert status.run.outcome == "Promoted"


async def test_abort_works_while_prometheus_and_the_history_are_down(rig: Rig) -> None:
    await rig.start(GOOD)
    await rig.run(8)
    rig.mesh.down = "no route to host"
    record = rig.history.record

    async def locked(*_: Any) -> None:
        raise UnavailableError("database is locked")

    rig.history.record = locked  # type: ignore[method-assign]
    await rig.act("abort")
    await rig.run(2)
    assert await rig.weights() == [100, 0]
    # its run has no later look, and the rollback is recorded all the same
    rig.history.record = record  # type: ignore[method-assign]
    await rig.run(3)
    assert await rig.decisions() == [("Start", "Started"), ("RollBack", "Aborted")]


async def test_a_locked_history_holds_promotion_and_is_told(rig: Rig) -> None:
    await rig.start(GOOD)
    await rig.run(3)
    record = rig.history.record

    async def locked(*_: Any) -> None:
        raise UnavailableError("database is locked")

    rig.history.record = locked  # type: ignore[method-assign]
    status = await rig.run(120)
    assert status.run is not None
    assert (status.run.step, status.run.outcome) == (0, None)
    rig.history.record = record  # type: ignore[method-assign]
    assert ended(await rig.run(200, until=ended))


async def test_no_traffic_is_no_data_and_decides_nothing(rig: Rig) -> None:
    await rig.start(GOOD)
    rig.mesh.silent = True
    status = await rig.run(120)
    assert status.run is not None
    assert (status.run.step, status.run.outcome, status.verdict) == (0, None, "NoData")


async def test_a_counter_reset_neither_promotes_nor_rolls_back_by_itself(rig: Rig) -> None:
    await rig.start(GOOD)
    await rig.run(12)
    rig.mesh.restart()
    status = await rig.run(300, until=ended)
    assert status.run is not None
    assert status.run.outcome == "Promoted"


async def test_somebody_who_changes_the_weights_is_named_and_corrected(rig: Rig) -> None:
    await rig.start(GOOD)
    await rig.run(8)
    patch = [
        {"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 50},
        {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": 50},
    ]
    await rig.store.patch(ROUTE, patch, manager="kubectl-edit")
    await rig.run(2)
    assert await rig.weights() == [80, 20]
    events = await rig.store.events(POLICY)
    assert any("kubectl-edit changed the weights" in event["message"] for event in events)


async def test_pause_holds_a_good_candidate_until_resume(rig: Rig) -> None:
    await rig.start(GOOD)
    await rig.run(3)
    await rig.act("pause")
    status = await rig.run(120)
    assert status.run is not None
    assert (status.run.step, status.run.paused) == (0, True)
    await rig.act("resume")
    assert ended(await rig.run(200, until=ended))


async def test_a_step_waits_until_the_proxies_confirm(rig: Rig) -> None:
    await rig.start(GOOD)
    rig.proxies.lagging = True
    status = await rig.run(60)
    assert status.run is not None
    assert (status.run.step, status.run.applied) == (0, False)
    assert status.condition("TrafficApplied").status == "False"  # type: ignore[union-attr]
    rig.proxies.lagging = False
    assert ended(await rig.run(200, until=ended))


async def test_after_promotion_the_candidate_is_the_control_of_the_next_run(rig: Rig) -> None:
    await rig.start(GOOD)
    await rig.run(300, until=ended)
    entry = await rig.store.get(Ref("ServiceEntry", "default", "ranker"))
    entry["spec"]["endpoints"][0]["labels"]["build"] = "2"
    rig.loop.changed(await rig.store.put(entry, manager="folder"))
    status = await rig.run(2)
    assert status.run is not None
    assert (status.run.number, status.run.control, status.run.candidate) == (2, "candidate", "stable")
    assert await rig.weights() == [20, 80]


async def test_the_kept_decision_can_be_read_with_its_inputs(rig: Rig) -> None:
    await rig.start(BAD)
    await rig.run(300, until=ended)
    [run] = await rig.history.runs()
    whole = await rig.history.run(run["id"])
    assert whole is not None
    last = whole["decisions"][-1]
    assert last["inputs"]["judgement"]["kind"] == "Harmful"
    assert json.loads(json.dumps(last)) == last
    assert whole["outcome"] == "RolledBack"


@pytest.mark.parametrize("rates", [GOOD, BAD], ids=["good", "bad"])
async def test_every_decision_replays_from_the_history_to_the_same_result(
    rig: Rig, rates: dict[str, float]
) -> None:
    await rig.start(rates)
    await rig.run(8)
    await rig.act("pause")
    await rig.run(2)
    await rig.act("resume")
    await rig.run(300, until=ended)
    [run] = await rig.history.runs()
    whole = await rig.history.run(run["id"])
    assert whole is not None
    assert len(whole["decisions"]) >= 4
    for record in whole["decisions"]:
        again = replay(whole["policy"], record)
        assert (again.action, again.reason, again.message) == (
            record["action"], record["reason"], record["message"],
        )  # fmt: skip
        assert again.status.run is not None
        assert again.status.run.weights == record["weights"]


async def test_a_look_that_holds_leaves_what_is_drawn_and_the_rest_is_made_again(rig: Rig) -> None:
    await rig.start(GOOD, deadline="10h", minSamples=1_000_000)
    await rig.run(60)
    await rig.loop.record()
    [run] = await rig.history.runs()
    assert run["verdict"].keys() == {"kind", "e_rollback", "metrics"}
    whole = await rig.history.run(run["id"])
    assert whole is not None
    told, brief = whole["verdict"], [tick["verdict"] for tick in whole["ticks"][1:]]
    assert told == json.loads(json.dumps(dict(rig.verdict())))
    assert brief.pop() == told
    assert {tuple(each) for each in brief} == {("kind", "e_rollback", "metrics")}
    drawn, [last] = metric_views(run["verdict"])[0], metric_views(told)
    for field in ("name", "measure", "e_share", "e_safe", "odds_ratio", "interval"):
        assert getattr(drawn, field) == getattr(last, field), field


async def test_an_open_run_that_holds_is_told_in_full_as_json(rig: Rig) -> None:
    await rig.start(GOOD, minSamples=1_000_000)
    await rig.run(18)
    verdict = json.loads(json.dumps(await rig.whole()))["verdict"]
    assert verdict["sentence"]


async def test_harm_is_concluded_from_no_fewer_samples_than_the_policy_asks_for(rig: Rig) -> None:
    await rig.start(BAD, minSamples=1_000_000)
    run = (await rig.run(90)).run
    assert run is not None
    assert run.active
