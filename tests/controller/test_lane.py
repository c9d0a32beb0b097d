"""With and without the lane a controller comes to the same: statuses, traffic, evidence and records.

Two controllers are told the same story of the same simulated mesh. The lane of one takes nobody in.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import controller.loop
from controller.group import RECORD_LOOKS
from controller.lane import Lane
from controller.ports import NotFoundError, UnavailableError
from controller.status import Status
from tests.support.rig import GOOD, POLICY, ROUTE, Rig, manifests
from tests.support.simulated import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from controller.held import Held

NAMES = ("ranker", "other", "third")
DELTA = {"v1": 0.01, "v2": 0.02}
Event = tuple[Any, ...]


class Closed(Lane):
    """A lane that takes nobody in."""

    def enter(self, runs: Sequence[Held]) -> list[str]:
        return []


class Told(Rig):
    """A controller that is told a story."""

    def __init__(self, folder: Path, lane: Callable[[], Lane]) -> None:
        super().__init__(folder)
        self.lane = lane
        self.services = {name: Service(name, dict(GOOD), rps=60) for name in NAMES}

    def crash(self) -> None:
        super().crash()
        self.loop._carrier.lane = self.lane()

    async def begin(self) -> None:
        await self.open(*self.services.values())
        for at, name in enumerate(NAMES):
            late = {} if at else {"deadline": "90s", "onDeadline": "rollback"}
            objects = manifests(name, minSamples=50 + 400 * at, **late)
            metrics = objects[0]["spec"]["metrics"]
            latency = {"template": "istio-latency", "edges": ["25", "100"], "dispersion": "1.5"}
            objects[0]["spec"]["metrics"] = [*metrics, latency] if at else metrics
            objects[0]["spec"]["strategy"]["canary"]["steps"][0]["hold"] = "48s" if at == 2 else "10s"
            await self.put(*objects)
        await self.run(22)

    async def tell(self, event: Event) -> None:
        match event:
            case "run", seconds:
                await self.run(seconds)
            case "down", words:
                self.mesh.down = words
            case "silent", silent:
                self.mesh.silent = silent
            case "act", verb, name:
                await self.act(verb, name)
            case "split", name, control, candidate:
                for at, weight in enumerate((control, candidate)):
                    path = f"/spec/http/0/route/{at}/weight"
                    await self.patch(ROUTE._replace(name=name), path, weight)
            case "samples", name, number:
                await self.patch(POLICY._replace(name=name), "/spec/decision/minSamples", number)
            case "rate", name, rate:
                self.services[name].error_rates["v2"] = rate
            case "crash":
                self.crash()
            case "away", seconds:
                await self.mesh.run(seconds)
            case "back", seconds:
                self.clock.time -= seconds
                await self.loop.look()
                self.clock.time += seconds

    async def found(self, *, looks: bool) -> list[Any]:
        """Return everything that is known of all rollouts; `looks`: also when each look was."""
        await self.loop.record()
        found: list[Any] = []
        for name in NAMES:
            obj = await self.store.get(POLICY._replace(name=name))
            found += [Status.of(obj).dump(), await self.weights(name), await self.reasons(name)]
            for run in await self.history.runs(f"default/{name}"):
                whole = dict(await self.history.run(run["id"]) or {})
                if not looks:
                    del whole["ticks"]
                found += [whole, await self.history.evidence(run["id"])]
        return found


async def both(story: Sequence[Event]) -> tuple[list[Any], list[Any], set[str]]:
    """Return what a story comes to with the lane and without, and who was in the lane after an event."""
    results, seen = [], set()
    for lane in (Lane, Closed):
        with tempfile.TemporaryDirectory() as folder:
            rig = Told(Path(folder), lane)
            await rig.begin()
            for event in story:
                await rig.tell(event)
                seen |= {name for name in NAMES if f"default/{name}" in rig.loop.lane}
            results.append(await rig.found(looks=("crash",) not in story))
            await rig.close()
    return results[0], results[1], seen


CHANCE = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=[.\d]\.)[0-9a-f]{8}(?=\")|[0-9a-f]{16}")
"""What chance has chosen: uids, the parts of run ids that come from them, nonces."""


def told(found: list[Any]) -> list[str]:
    return [CHANCE.sub("*", json.dumps(each, sort_keys=True)) for each in found]


STORIES: dict[str, list[Event]] = {
    "all is well to the end": [("run", 10), ("run", 140)],
    "Prometheus is down": [("run", 10), ("down", "refused"), ("run", 12), ("down", ""), ("run", 30)],
    "no requests for a while": [("run", 10), ("silent", True), ("run", 25), ("silent", False), ("run", 30)],
    "harm appears": [("run", 8), ("rate", "third", 0.5), ("run", 30)],
    "a person pauses, resumes, aborts": [
        ("run", 6), ("act", "pause", "third"), ("run", 13), ("act", "resume", "third"), ("run", 7),
        ("act", "abort", "ranker"), ("run", 12),
    ],
    "somebody changes the weights": [("run", 7), ("split", "other", 50, 50), ("run", 20)],
    "the policy is edited": [("run", 7), ("samples", "third", 10), ("run", 17)],
    "the clock is set back for a look": [("run", 7), ("back", 3600), ("run", 17)],
    "the controller is away": [("run", 7), ("away", 13), ("run", 2), ("away", 6), ("run", 20)],
    "the controller is killed": [("run", 14), ("crash",), ("run", 22)],
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_story_ends_the_same_with_and_without_the_lane(story: list[Event]) -> None:
    with_lane, without, seen = asyncio.run(both(story))
    assert told(with_lane) == told(without)
    assert len(seen) >= 2, "nobody was in the lane"


EVENTS = st.one_of(
    st.tuples(st.just("run"), st.integers(1, 14)),
    st.tuples(st.just("down"), st.sampled_from(["", "", "refused"])),
    st.tuples(st.just("silent"), st.sampled_from([False, False, True])),
    st.tuples(
        st.just("act"),
        st.sampled_from(["pause", "resume", "abort", "promote", "retry"]),
        st.sampled_from(NAMES),
    ),
    st.tuples(st.just("split"), st.sampled_from(NAMES), st.just(70), st.just(30)),
    st.tuples(st.just("samples"), st.sampled_from(NAMES), st.sampled_from([10, 5000])),
    st.tuples(st.just("rate"), st.sampled_from(NAMES), st.sampled_from([0.01, 0.04, 0.3])),
    st.tuples(st.just("away"), st.integers(3, 12)),
    st.just(("crash",)),
)


@pytest.mark.timeout(600)  # of a machine of its own it takes 50 s
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.lists(EVENTS, min_size=4, max_size=9))
def test_any_story_ends_the_same_with_and_without_the_lane(story: list[Event]) -> None:
    with_lane, without, _ = asyncio.run(both([*story, ("run", 11)]))
    assert told(with_lane) == told(without)


async def held(rig: Rig, **decision: Any) -> None:
    """Have a run that is in the lane."""
    await rig.start(GOOD, minSamples=1_000_000, deadline="10h", **decision)
    await rig.run(23)
    assert "default/ranker" in rig.loop.lane


async def test_looks_that_hold_are_recorded_together(rig: Rig) -> None:
    await held(rig)
    [before] = await rig.history.runs()
    await rig.run(5 * (RECORD_LOOKS - 2))
    [still] = await rig.history.runs()
    assert still["cursor"] == before["cursor"]
    await rig.run(5 * 3)
    [after] = await rig.history.runs()
    assert after["cursor"] > before["cursor"]
    ends = await rig.ends()
    assert ends == [*range(ends[0], ends[-1] + 1, 5)]


async def test_looks_that_cannot_be_recorded_are_read_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held(rig)
    record = rig.history.record

    async def full(*_: Any) -> None:
        raise UnavailableError("the disk is full")

    monkeypatch.setattr(rig.history, "record", full)
    await rig.run(5 * RECORD_LOOKS)
    assert "default/ranker" not in rig.loop.lane
    monkeypatch.setattr(rig.history, "record", record)
    await rig.run(12)
    ends = await rig.ends()
    assert ends == [*range(ends[0], ends[-1] + 1, 5)]
    assert ends[-1] >= rig.clock.time - 6


async def test_a_lane_that_cannot_look_leaves_it_to_ordinary_looks(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held(rig)

    def broken(*_: Any) -> None:
        raise ArithmeticError

    monkeypatch.setattr("controller.picking.Picker.pick", broken)
    await rig.run(11)
    ends = await rig.ends()
    assert ends == [*range(ends[0], ends[-1] + 1, 5)]
    assert ends[-1] >= rig.clock.time - 6


async def test_what_the_lane_knows_is_told_at_once(rig: Rig) -> None:
    await held(rig)
    before = rig.verdict()["metrics"][0]["control"]["total"]
    await rig.run(5)
    assert rig.verdict()["metrics"][0]["control"]["total"] > before


async def test_a_loop_that_ends_records_what_it_knows(rig: Rig) -> None:
    await held(rig)
    await rig.run(10)
    [before] = await rig.history.runs()
    running = asyncio.create_task(rig.loop.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    [after] = await rig.history.runs()
    assert after["cursor"] == before["cursor"] + 10


async def test_a_policy_that_vanishes_leaves_all_that_was_looked_at(rig: Rig) -> None:
    await held(rig)
    await rig.run(10)
    [before] = await rig.history.runs()
    await rig.store.patch(POLICY, [{"op": "remove", "path": "/metadata/finalizers"}], manager="kubectl")
    await rig.store.delete(POLICY, manager="kubectl")
    with pytest.raises(NotFoundError):
        await rig.store.get(POLICY)
    await rig.loop.look()
    [after] = await rig.history.runs()
    assert after["cursor"] == before["cursor"] + 10


async def test_asking_for_a_record_does_not_wait_for_a_long_pass(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held(rig)
    monkeypatch.setattr(controller.loop, "PATIENCE", 0.01)
    async with rig.loop._passing:
        await rig.loop.record()


async def test_whoever_listens_hears_of_every_look_of_a_run_in_the_lane(rig: Rig) -> None:
    await held(rig)
    news = rig.loop._recorder.news.listen()
    first = asyncio.ensure_future(anext(news))
    await asyncio.sleep(0)
    await rig.run(5)
    assert (await first)["object"]["metadata"]["name"] == "ranker"
    await news.aclose()
