"""Which intervals are counted, and when: none spans a change of weights, none is lost or counted twice.

Time passes in whole seconds here, with looks at fractions; absences, late proxies and clocks that are set are
part of the story.
"""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.dossier import design_of, restored
from controller.evidence import AT_ONCE, MAX_INTERVALS, Collector, Owed
from controller.ports import Applied
from controller.telemetry import Telemetry
from policies.catalog import templates
from tests.support.rig import BAD, GOOD, Rig, ended, manifests
from tests.support.simulated import Clock, Service
from tests.support.situations import open_run, policy

if TYPE_CHECKING:
    from controller.ports import Object

PATIENT = {"minSamples": 1_000_000, "deadline": "99h"}


def is_unbroken(ends: list[int], step: int = 5) -> bool:
    return all(after - before == step for before, after in itertools.pairwise(ends))


@given(
    confirmed=st.floats(1e6, 1.001e6), cursor=st.integers(0, 1_001_000), now=st.floats(1e6, 1.01e6),
    step=st.integers(1, 60), settle=st.floats(0, 5),
)  # fmt: skip
def test_a_window_lies_after_the_confirmation_and_a_scrape_and_before_now(
    confirmed: float, cursor: int, now: float, step: int, settle: float
) -> None:
    """Also for a cursor of another interval, as after an edit."""
    edited = policy(interval=f"{step}s")
    run = open_run(step_started_at=confirmed).run
    assert run is not None
    dossier = restored(run.id, design_of(edited, templates()), None)
    dossier.cursor = cursor
    collector = Collector(SimpleNamespace(), SimpleNamespace(), templates(), Telemetry(), settle=settle)  # type: ignore[arg-type]
    start, end = collector.window(Owed(edited, run, {}, dossier), now)
    assert start % step == end % step == 0
    assert end <= now - settle
    assert start >= max(cursor, confirmed + step / 2)
    assert end - start <= MAX_INTERVALS * step


async def step_started(rig: Rig) -> float:
    run = (await rig.status()).run
    assert run is not None
    assert run.step_started_at is not None
    return run.step_started_at


async def test_the_clock_of_a_step_starts_after_the_proxies_answered(rig: Rig) -> None:
    """They are asked while the pass goes on; what was so when the pass began proves nothing."""
    await rig.start(GOOD)
    asked = []

    async def slow(_: Object) -> Applied:
        rig.clock.time += 3
        asked.append(rig.clock.time)
        return Applied(ok=True)

    rig.proxies.applied = slow  # type: ignore[method-assign]
    for _ in range(3):
        await rig.loop.look()
        rig.clock.time += 0.2
    assert await step_started(rig) >= asked[0]


async def test_no_interval_spans_a_change_of_weights(rig: Rig) -> None:
    await rig.start(GOOD)
    changes: list[float] = []
    patch = rig.store.patch

    async def watched(*args: Any, **kwargs: Any) -> Object:
        if args[0].kind == "VirtualService":
            changes.append(rig.clock.time)
        return await patch(*args, **kwargs)

    rig.store.patch = watched  # type: ignore[method-assign]
    await rig.run(300, until=ended)
    ends = await rig.ends()
    assert len(changes) == 3
    for change in changes:
        assert not any(end - 5 < change < end for end in ends)


@pytest.mark.parametrize("rule", ["correct", "hold"])
async def test_traffic_under_drift_is_not_measured(rig: Rig, rule: str) -> None:
    """The controller is away while somebody changes the weights; what ran then is not what was wanted."""
    await rig.start(GOOD, onDrift=rule, **PATIENT)
    await rig.run(18)
    before = rig.clock.time
    await rig.split(50, 50)
    await rig.mesh.run(60)  # nobody looks
    rig.crash()
    await rig.run(3)
    if rule == "hold":
        assert await rig.weights() == [50, 50]
        await rig.split(80, 20)
    restored_at = rig.clock.time
    status = await rig.run(20)
    assert await rig.weights() == [80, 20]
    assert not [end for end in await rig.ends() if before < end < restored_at]
    assert [end for end in await rig.ends() if end > restored_at]
    assert status.verdict == "Undecided"


@pytest.mark.parametrize("away", [8, 3 * AT_ONCE])
async def test_an_absence_loses_no_interval_and_is_caught_up_in_bounded_parts(rig: Rig, away: int) -> None:
    await rig.start(GOOD, **PATIENT)
    await rig.run(18)
    await rig.mesh.run(5 * away)
    rig.crash()
    rig.mesh.spans.clear()
    await rig.run(3)
    ends = await rig.ends()
    assert is_unbroken(ends)
    assert len(ends) >= away
    assert max(rig.mesh.spans) <= AT_ONCE + 1


async def test_an_absence_of_hours_goes_on_from_the_last_hours(rig: Rig) -> None:
    await rig.start(GOOD, **PATIENT)
    await rig.run(18)
    before = max(await rig.ends())
    rig.mesh.silent = True
    await rig.mesh.run(5 * (MAX_INTERVALS + 100))
    rig.mesh.silent = False
    rig.crash()
    await rig.run(4)
    later = [end for end in await rig.ends() if end > before]
    assert is_unbroken(later)
    assert MAX_INTERVALS <= len(later) <= MAX_INTERVALS + 1


async def test_harm_during_an_absence_is_found_before_any_rule_of_time_applies(rig: Rig) -> None:
    """Away past the deadline, whose rule is to promote, while the candidate did harm."""
    await rig.start(GOOD, deadline="60s", onDeadline="promote", minSamples=1)
    await rig.run(9)
    rig.mesh._services[0].error_rates.update(BAD)
    await rig.mesh.run(5 * 2 * AT_ONCE)
    rig.crash()
    status = await rig.run(3, until=ended)
    assert status.run is not None
    assert (status.run.outcome, status.run.reason) == ("RolledBack", "Harmful")


async def test_an_absence_is_no_silence_of_the_metrics(rig: Rig) -> None:
    await rig.start(GOOD, onNoData="rollback", noDataTimeout="30s", **PATIENT)
    await rig.run(18)
    await rig.mesh.run(5 * 2 * AT_ONCE)
    rig.crash()
    status = await rig.run(10)
    assert status.run is not None
    assert status.run.outcome is None


async def test_a_clock_that_is_set_back_does_not_put_the_loop_to_sleep(rig: Rig) -> None:
    await rig.start(GOOD, **PATIENT)
    await rig.run(18)
    rig.clock.time -= 3600
    await rig.act("abort")
    await rig.loop.look()
    assert await rig.weights() == [100, 0]


async def test_a_clock_that_is_set_back_wakes_every_rollout(rig: Rig) -> None:
    await rig.start(GOOD, **PATIENT)
    await rig.run(18)
    rig.clock.time -= 3600
    await rig.loop.look()
    assert min(rig.loop._schedule._due.values()) <= rig.clock.time + 5.5


async def test_metrics_that_fail_are_tried_again_long_before_a_long_interval_is_over(rig: Rig) -> None:
    await rig.start(GOOD, interval="1m", **PATIENT)
    await rig.run(61 + 60)
    rig.mesh.down = "connection refused"
    await rig.run(40)
    rig.mesh.down, counted = "", len(await rig.ends())
    await rig.run(7)
    assert len(await rig.ends()) == counted + 1


async def test_unfinished_business_is_looked_at_less_and_less_often(rig: Rig) -> None:
    await rig.start(GOOD)
    rig.proxies.lagging = True
    pauses = []
    for _ in range(60):
        await rig.loop.look()
        pauses.append(rig.loop._schedule._due["default/ranker"] - rig.clock.time)
        rig.clock.time += pauses[-1]
    assert pauses[1] == pytest.approx(0.1)
    assert pauses[-1] == pytest.approx(1.0)


async def test_a_gateway_that_restarts_between_two_looks_loses_nothing_but_its_last_moments(rig: Rig) -> None:
    """Its counters start again at zero: smaller values are what it counted since, never a negative number."""
    await rig.start(GOOD, **PATIENT)
    await rig.run(18)
    await rig.mesh.run(7)
    rig.mesh.restart()
    await rig.mesh.run(10)
    await rig.run(10)
    rows = [row for row in (await rig.whole())["intervals"] if row["metric"] == "istio-error-rate"]
    totals = [row["control"]["total"] + row["candidate"]["total"] for row in rows]
    assert is_unbroken([row["end"] for row in rows])
    assert all(0 < total <= 5 * 150 for total in totals)
    assert sum(total < 5 * 150 for total in totals) <= 1
    assert (await rig.status()).verdict == "Undecided"


async def test_no_hole_in_the_metrics_is_filled_with_guesses(rig: Rig) -> None:
    await rig.start(GOOD, **PATIENT)
    await rig.run(18)
    rig.mesh.down = "connection refused"
    await rig.run(20)
    rig.mesh.down = ""
    await rig.run(8)
    assert is_unbroken(await rig.ends()), "what Prometheus kept is read later"


class TickingClock(Clock):
    """A clock on which everything takes a while, and not always the same."""

    draw = random.Random(1)

    def now(self) -> float:
        self.time += self.draw.uniform(0, 0.02)
        return self.time


async def test_one_pass_serves_all_rollouts_however_long_each_of_them_takes(rig: Rig) -> None:
    rig.clock = TickingClock()
    names = [f"ranker-{number}" for number in range(5)]
    await rig.open(*(Service(name, GOOD) for name in names))
    await rig.put(*(each for name in names for each in manifests(name, **PATIENT)))
    await rig.run(20, name=names[0])
    rig.clock.time = (rig.clock.time // 5 + 1) * 5 + rig.collector.settle
    rig.mesh.reads = []
    for _ in range(10):
        await rig.loop.look()
    assert len(rig.mesh.reads) == 1
