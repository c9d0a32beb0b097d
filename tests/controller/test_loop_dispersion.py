"""Dispersion measured in the loop: read once, kept over restarts, in nobody's way; edges, warm-up, labels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from controller import calibration
from controller.ports import UnavailableError
from tests.support.rig import GOOD, POLICY, Rig

if TYPE_CHECKING:
    from controller.ports import Reading

AUTO = {"dispersion": "auto"}
LATENCY = {"template": "istio-latency", "margin": "100%", "dispersion": "auto"}
PATIENT = {"minSamples": 1_000_000, "deadline": "10h"}
HOUR = 3600


def past_reads(rig: Rig) -> int:
    return sum("label_replace" in query for query in rig.mesh.reads)


async def told(rig: Rig, metric: str = "istio-error-rate") -> dict[str, Any]:
    """Return what the last verdict says of a metric's dispersion."""
    verdict = (await rig.whole())["verdict"]
    return dict(verdict["dispersion"][metric])


async def splits(rig: Rig) -> list[dict[str, Any]]:
    """Return the rows that say how each interval was judged."""
    return [row for row in (await rig.whole())["intervals"] if row["metric"] == "istio-request-share"]


async def test_the_control_s_past_is_read_once_and_holds_for_the_whole_run(rig: Rig) -> None:
    await rig.start(GOOD, metric=AUTO, past=2 * HOUR, cluster=6, **PATIENT)
    await rig.run(30)
    assert past_reads(rig) == 6 * HOUR // (180 * 5)
    found = await told(rig)
    assert (found["method"], found["measuredBy"]) == ("history", "time")
    assert 4 < found["dispersion"] < 9
    assert "before the run" in found["restsOn"]
    assert {tuple(row["dispersion"]["istio-error-rate"]) for row in await splits(rig)} == {
        tuple(found["lanes"])
    }


async def test_a_rollout_that_holds_costs_no_more_queries_once_the_past_is_known(rig: Rig) -> None:
    await rig.start(GOOD, metric=AUTO, past=HOUR + 60, **PATIENT)
    await rig.run(30)
    rig.mesh.reads = []
    await rig.run(20)
    assert len(rig.mesh.reads) == 4  # four intervals; errors and split are read by one query


async def test_after_a_restart_the_past_is_not_read_again_and_nothing_changes(rig: Rig) -> None:
    await rig.start(GOOD, metric=AUTO, past=HOUR + 60, cluster=6, **PATIENT)
    await rig.run(30)
    before, rig.mesh.reads = await told(rig), []
    rig.crash()
    await rig.run(15)
    assert past_reads(rig) == 0
    assert await told(rig) == before


async def test_a_fixed_dispersion_reads_no_past(rig: Rig) -> None:
    await rig.start(GOOD, metric={"dispersion": "3"}, past=HOUR, **PATIENT)
    await rig.run(30)
    assert past_reads(rig) == 0
    verdict = (await rig.whole())["verdict"]
    assert "dispersion" not in verdict
    assert verdict["metrics"][0]["dispersion"] == 3


async def test_with_little_past_the_assumption_is_the_least(rig: Rig) -> None:
    await rig.start(GOOD, metric={**AUTO, "assume": "3"}, past=300, **PATIENT)
    await rig.run(30)
    found = await told(rig)
    assert found["method"] == "assumed"
    assert found["dispersion"] == 3
    assert found["restsOn"].startswith(
        "at least `assume` of the policy, since only 4m55s of the control's past"
    )
    assert "measured before the run: 59 intervals of the control's only series" in found["restsOn"]


async def test_while_running_the_control_s_own_intervals_replace_the_assumption(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "ENOUGH_SECONDS", 150.0)
    await rig.start({"v1": 0.05, "v2": 0.05}, metric={**AUTO, "assume": "3"}, past=60, **PATIENT)
    await rig.run(140)
    assert (await told(rig))["dispersion"] == 3
    rig.crash()  # what was seen until now comes from the history
    await rig.run(40)
    found = await told(rig)
    assert (found["method"], found["measuredBy"]) == ("running", "time")
    assert found["intervals"] >= 30
    assert found["dispersion"] < 3
    assert found["restsOn"].endswith("while running")
    used = [row["dispersion"]["istio-error-rate"][0] for row in await splits(rig)]
    assert used == sorted(used, reverse=True)
    assert used.count(3.0) >= 30


async def test_a_past_that_cannot_be_read_is_told_and_tried_again(rig: Rig) -> None:
    await rig.start(GOOD, metric=AUTO, past=HOUR + 60, **PATIENT)
    read, broken = rig.mesh.read, [True]

    async def refusing(query: str, **span: int) -> Reading:
        if "label_replace" in query and broken[0]:
            raise UnavailableError("query processing would load too many samples")
        return await read(query, **span)

    rig.mesh.read = refusing  # type: ignore[method-assign]
    rig.crash()
    await rig.run(30)
    assert "DispersionAssumed" in await rig.reasons()
    assert (await told(rig))["restsOn"].endswith("query processing would load too many samples")
    assert len(await rig.ends()) >= 3
    broken[0] = False
    await rig.run(60)
    assert (await told(rig))["method"] == "history"
    assert {row["dispersion"]["istio-error-rate"][0] for row in await splits(rig)} == {2.0, 1.0}
    assert (await rig.reasons()).count("DispersionAssumed") == 1


async def test_a_slow_past_delays_neither_the_loop_nor_for_long_the_evidence(rig: Rig) -> None:
    await rig.start(GOOD, metric=AUTO, past=HOUR + 60, **PATIENT)
    read, slow = rig.mesh.read, asyncio.Event()

    async def waiting(query: str, **span: int) -> Reading:
        if "label_replace" in query:
            await slow.wait()
        return await read(query, **span)

    rig.mesh.read = waiting  # type: ignore[method-assign]
    rig.crash()
    await rig.run(25)
    assert await rig.ends() == []
    assert (await rig.status()).verdict == "NoData"
    await rig.run(20)
    assert (await told(rig))["restsOn"].endswith("since the control's past is still being read")
    ends = await rig.ends()
    assert len(ends) >= 7  # those that waited are judged too
    slow.set()
    await rig.run(20)
    assert (await told(rig))["method"] == "history"


async def test_edges_that_no_request_tells_of_are_left_out_for_the_whole_run(rig: Rig) -> None:
    await rig.start(GOOD, metric=LATENCY, past=2 * HOUR, **PATIENT)
    await rig.run(30)
    verdict = (await rig.whole())["verdict"]
    assert verdict["edges"]["istio-latency"]["judged"] == [10, 25, 50, 100, 250]
    assert len(verdict["dispersion"]["istio-latency"]["lanes"]) == 5
    rig.crash()
    await rig.run(15)
    whole = await rig.whole()
    assert whole["verdict"]["edges"] == verdict["edges"]
    rows = [row for row in whole["intervals"] if row["metric"] == "istio-latency"]
    assert {len(row["control"]["events"]) for row in rows} == {5}
    assert "EvidenceDropped" not in await rig.reasons()


@pytest.mark.parametrize(("metric", "past"), [
    (LATENCY, 300),
    ({**LATENCY, "edges": ["25", "50", "5000"]}, 2 * HOUR),
    ({**LATENCY, "dispersion": "1"}, HOUR),
], ids=["no past", "listed", "not measured"])  # fmt: skip
async def test_without_history_or_where_edges_are_listed_all_of_them_are_judged(
    rig: Rig, metric: dict[str, Any], past: int
) -> None:
    await rig.start(GOOD, metric=metric, past=past, **PATIENT)
    await rig.run(20)
    whole = await rig.whole()
    assert "edges" not in whole["verdict"]
    rows = [row for row in whole["intervals"] if row["metric"] == "istio-latency"]
    assert {len(row["control"]["events"]) for row in rows} == {len(metric.get("edges", range(11)))}


async def test_noise_that_hides_all_harm_until_the_deadline_is_told_once(rig: Rig) -> None:
    await rig.start(GOOD, metric=AUTO, past=2 * HOUR, cluster=150, deadline="5m", minSamples=1_000_000)
    await rig.run(20)
    rig.crash()
    await rig.run(10)
    assert (await rig.reasons()).count("TooNoisy") == 1


async def test_during_the_warm_up_only_the_split_is_counted(rig: Rig) -> None:
    await rig.start(GOOD, warmUp="12s", **PATIENT)
    await rig.run(40)
    started = (await rig.status()).run.step_started_at  # type: ignore[union-attr]
    ends, counted = [row["end"] for row in await splits(rig)], await rig.ends()
    assert len(ends) - len(counted) == 2
    assert started + 12 <= min(counted) - 5 < started + 12 + 5
    assert counted == ends[-len(counted) :]
    assert all(row["candidate"]["total"] > 0 for row in await splits(rig))
    coverage = (await rig.whole())["verdict"]["coverage"]["istio-error-rate"]
    assert coverage["lost"] == 0  # what is left out on purpose is not lost


async def test_a_metric_with_late_labels_waits_alone(rig: Rig) -> None:
    await rig.start(GOOD, **PATIENT)
    errors = {"template": "istio-error-rate", "margin": "100%", "dispersion": "1", "labelDelay": "20s"}
    latency = {"template": "istio-latency", "dispersion": "1"}
    await rig.patch(POLICY, "/spec/metrics", [errors, latency])
    await rig.run(40)
    rows = (await rig.whole())["intervals"]
    first = {row["metric"]: row["end"] for row in reversed(rows)}
    assert first["istio-error-rate"] - first["istio-latency"] >= 15


async def test_a_long_warm_up_is_no_silence(rig: Rig) -> None:
    await rig.start(GOOD, warmUp="60s", noDataTimeout="30s", onNoData="rollback", **PATIENT)
    status = await rig.run(80)
    assert status.run is not None
    assert status.run.outcome is None
    assert len(await rig.ends()) >= 2
