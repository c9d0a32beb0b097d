"""One rollout's trouble is its own: the others go on, the reason is told, and it goes on when it can."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

import controller.judging
import controller.rollout
from controller import history_rows
from controller.opening import Opening
from controller.ports import Applied, ConflictError, Reading, Ref, UnavailableError
from tests.support.rig import BAD, GOOD, POLICY, ROUTE, Rig, ended, manifests
from tests.support.simulated import Service

if TYPE_CHECKING:
    from controller.inventory import Entry
    from controller.ports import Object
    from controller.rollout import Rollout

OTHER = POLICY._replace(name="other")


@pytest.fixture
async def pair(rig: Rig) -> Rig:
    """Two rollouts of good candidates, a few seconds after their start."""
    await rig.open(Service("ranker", GOOD), Service("other", GOOD))
    await rig.put(*manifests(), *manifests("other"))
    await rig.run(3)
    return rig


def own_template(name: str = "own", **outcome: str) -> dict[str, Any]:
    labels = {
        "namespace": "destination_service_namespace", "service": "destination_service_name",
        "version": "destination_version",
    }  # fmt: skip
    return {
        "apiVersion": "penstock.dev/v1alpha1", "kind": "MetricTemplate",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "kind": "proportion", "unit": "requests", "description": "Errors.", "labels": labels,
            "query": "sum by (destination_service_namespace, destination_service_name, destination_version, "
            "instance, response_code) (own_requests_total)",
            "outcome": {"httpLabel": "response_code", "httpEvent": "5..", **outcome},
        },
    }  # fmt: skip


async def until(rig: Rig, weights: list[int]) -> None:
    async with asyncio.timeout(60):
        while await rig.weights() != weights:  # noqa: ASYNC110 - the weights are what is awaited
            await asyncio.sleep(0.01)


async def test_a_broken_route_holds_its_own_rollout_only(pair: Rig) -> None:
    await pair.patch(ROUTE, "/spec/http/0/route/1/destination/subset", "v9")
    await pair.run(300, until=ended, name="other")
    assert ended(await pair.status("other"))
    status = await pair.status()
    assert status.run is not None
    assert (status.run.step, status.run.outcome) == (0, None)
    stalled = status.condition("Stalled")
    assert stalled is not None
    assert stalled.status == "True"
    assert "has no destination 'ranker/v2'" in stalled.message


async def test_a_template_that_vanished_holds_its_rollout_until_it_is_back(pair: Rig) -> None:
    await pair.put(own_template())
    await pair.patch(POLICY, "/spec/metrics/0/template", "own")
    await pair.run(6)
    await pair.store.delete(Ref("MetricTemplate", "default", "own"), manager="folder")
    await pair.run(300, until=ended, name="other")
    assert ended(await pair.status("other"))
    status = await pair.status()
    available = status.condition("MetricsAvailable")
    assert available is not None
    assert available.message == "there is no usable MetricTemplate own in namespace default"
    await pair.put(own_template())
    assert ended(await pair.run(300, until=ended))


@pytest.mark.parametrize("broken", ["template", "policy", "status"])
async def test_an_object_that_cannot_be_understood_is_told_and_left_alone(
    pair: Rig, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    if broken == "template":
        await pair.put({**own_template(), "spec": {"kind": "nonsense"}})
    elif broken == "policy":
        await pair.patch(POLICY, "/spec/strategy", {"lottery": {}})
    else:
        version = (await pair.store.get(POLICY))["metadata"]["resourceVersion"]
        await pair.store.patch_status(POLICY, {"run": {"id": 7}}, resource_version=version)
    await pair.run(300, until=ended, name="other")
    assert ended(await pair.status("other"))
    kind = "MetricTemplate/default/own" if broken == "template" else "RolloutPolicy/default/ranker"
    assert sum(kind in record.message for record in caplog.records) == 1


async def test_an_unforeseen_error_in_one_decision_stops_nothing_else(
    pair: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decide = controller.rollout.decide

    def sometimes(policy: Any, *rest: Any) -> Any:
        if policy.metadata.name == "ranker":
            raise KeyError("nobody thought of this")
        return decide(policy, *rest)

    monkeypatch.setattr(controller.rollout, "decide", sometimes)
    await pair.run(300, until=ended, name="other")
    assert ended(await pair.status("other"))
    assert caplog.text.count("unforeseen: KeyError('nobody thought of this')") == 1
    monkeypatch.setattr(controller.rollout, "decide", decide)
    assert ended(await pair.run(300, until=ended))


async def test_evidence_that_cannot_be_judged_holds_its_own_rollout_only(
    pair: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, poisoned = controller.judging.advance, True

    def sometimes(batch: Any) -> Any:
        if poisoned and any(design.min_samples == 77 for design, *_ in batch):
            raise ValueError("a table that nobody thought of")
        return advance(batch)

    monkeypatch.setattr(controller.judging, "advance", sometimes)
    await pair.patch(POLICY, "/spec/decision", {"interval": "5s", "minSamples": 77})
    await pair.run(300, until=ended, name="other")
    assert ended(await pair.status("other"))
    available = (await pair.status()).condition("MetricsAvailable")
    assert available is not None
    assert "a table that nobody thought of" in available.message
    poisoned = False
    assert ended(await pair.run(300, until=ended))


async def test_a_look_that_fails_as_a_whole_is_tried_again(rig: Rig) -> None:
    await rig.start(GOOD)
    refresh, rig.loop._inventory.refresh = rig.loop._inventory.refresh, None  # type: ignore[method-assign, assignment]
    await rig.run(2)
    assert await rig.weights() == [100, 0]
    rig.loop._inventory.refresh = refresh  # type: ignore[method-assign]
    await rig.run(2)
    assert await rig.weights() == [80, 20]


async def test_two_virtual_services_are_rolled_back_even_when_one_is_broken(rig: Rig) -> None:
    await rig.open(Service("ranker", GOOD))
    policy, *rest = manifests()
    del policy["spec"]["virtualService"]
    policy["spec"]["virtualServices"] = [{"name": "broken"}, {"name": "ranker"}]
    second = {**rest[0], "metadata": {"name": "broken", "namespace": "default"}}
    await rig.put(policy, second, *rest)
    await rig.run(8)
    assert (await rig.weights(), await rig.weights("broken")) == ([80, 20], [80, 20])
    await rig.patch(ROUTE._replace(name="broken"), "/spec/http/0/route/1/destination/subset", "v9")
    await rig.act("abort")
    await rig.run(1)
    assert await rig.weights() == [100, 0]
    assert (await rig.status()).summary.endswith("the proxies are not there yet")
    await rig.patch(ROUTE._replace(name="broken"), "/spec/http/0/route/1/destination/subset", "v2")
    assert ended(await rig.run(5, until=ended))
    assert await rig.weights("broken") == [100, 0]


async def test_a_conflict_on_the_second_virtual_service_is_made_up_for(rig: Rig) -> None:
    await rig.open(Service("ranker", GOOD))
    policy, *rest = manifests()
    del policy["spec"]["virtualService"]
    policy["spec"]["virtualServices"] = [{"name": "ranker"}, {"name": "second"}]
    second = {**rest[0], "metadata": {"name": "second", "namespace": "default"}}
    await rig.put(policy, second, *rest)
    patch, conflicts = rig.store.patch, 3

    async def contested(ref: Ref, *args: Any, **kwargs: Any) -> Object:
        nonlocal conflicts
        if ref.name == "second" and conflicts:
            conflicts -= 1
            raise ConflictError(f"{ref} changed meanwhile")
        return await patch(ref, *args, **kwargs)

    rig.store.patch = contested  # type: ignore[method-assign]
    await rig.run(3)
    assert conflicts == 0
    assert (await rig.weights(), await rig.weights("second")) == ([80, 20], [80, 20])
    assert await rig.decisions() == [("Start", "Started")]


async def test_a_storm_of_conflicts_changes_no_decision(rig: Rig) -> None:
    """Somebody annotates the policy before each of our writes; every decision is still recorded once."""
    await rig.start(BAD)
    patch_status, calm = rig.store.patch_status, 0

    async def contested(*args: Any, **kwargs: Any) -> Object:
        nonlocal calm
        calm += 1
        if calm % 3:
            raise ConflictError("the policy changed meanwhile")
        return await patch_status(*args, **kwargs)

    rig.store.patch_status = contested  # type: ignore[method-assign]
    assert ended(await rig.run(300, until=ended))
    decisions = await rig.decisions()
    assert decisions[-1] == ("RollBack", "Harmful")
    assert len(decisions) == len(set(decisions))
    assert await rig.weights() == [100, 0]
    assert rig.telemetry.errors.labels("conflict")._value.get() >= 4


async def test_a_partial_answer_of_prometheus_decides_nothing(rig: Rig) -> None:
    await rig.start(BAD)
    await rig.run(3)
    rig.mesh.warnings = ("store gateway 2 is gone",)
    status = await rig.run(60)
    assert status.run is not None
    assert (status.run.step, status.run.outcome) == (0, None)
    available = status.condition("MetricsAvailable")
    assert available is not None
    assert available.message.endswith("its answer may be partial: store gateway 2 is gone")
    rig.mesh.warnings = ()
    status = await rig.run(10, until=ended)
    assert status.run is not None
    assert status.run.reason == "Harmful"


async def test_an_abort_does_not_wait_for_prometheus(pair: Rig) -> None:
    await pair.run(2)
    hanging = asyncio.Event()

    async def no_answer(*_: Any, **__: Any) -> Reading:
        await hanging.wait()
        raise UnavailableError("it hung up")

    pair.mesh.read = no_answer  # type: ignore[method-assign]
    pair.clock.time += 10
    await pair.act("abort")
    looking = asyncio.create_task(pair.loop.look())
    await until(pair, [100, 0])
    assert not looking.done()
    hanging.set()
    await looking


@pytest.mark.parametrize("asked", ["before the look", "while it waits"])
async def test_an_abort_does_not_wait_for_a_history_that_hangs(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr("controller.history.HURRIED_SECONDS", 0.1)
    await rig.start(GOOD, minSamples=1_000_000)
    await rig.run(12)
    hangs, answer, record = Event(), Event(), history_rows.record

    def hanging(*arguments: Any) -> None:
        hangs.set()
        answer.wait(60)
        record(*arguments)

    monkeypatch.setattr("controller.history_rows.record", hanging)
    looking = asyncio.create_task(rig.run(0 if asked == "before the look" else 120))
    assert asked == "before the look" or await asyncio.to_thread(hangs.wait, 60)
    await rig.act("abort")
    async with asyncio.timeout(60):
        while await rig.weights() != [100, 0]:
            await (rig.looks(1) if looking.done() else asyncio.sleep(0.01))
    assert hangs.is_set()
    assert not answer.is_set()
    looking.cancel()
    await asyncio.wait([looking])
    monkeypatch.setattr("controller.history.HURRIED_SECONDS", 60)
    answer.set()
    assert rig.history._given_up is not None
    await rig.history._given_up
    await rig.run(5)
    assert (await rig.whole())["outcome"] == "RolledBack"


async def test_a_rollback_that_is_due_does_not_wait_for_another_rollouts_proxies(pair: Rig) -> None:
    hanging = asyncio.Event()

    async def unconfirmed(obj: Object) -> Applied:
        if obj["metadata"]["name"] == "other":
            await hanging.wait()
        return Applied(ok=True)

    pair.proxies.applied = unconfirmed  # type: ignore[method-assign]
    await pair.patch(ROUTE._replace(name="other"), "/spec/http/0/timeout", "3s")
    await pair.split(50, 50)  # drift of the one, which is corrected at once
    other = await pair.status("other")
    assert other.run is not None
    body = other.model_copy(update={"run": other.run.model_copy(update={"applied": False})}).dump()
    version = (await pair.store.get(OTHER))["metadata"]["resourceVersion"]
    pair.loop.changed(await pair.store.patch_status(OTHER, body, resource_version=version))
    looking = asyncio.create_task(pair.loop.look())
    await until(pair, [80, 20])
    assert not looking.done()
    hanging.set()
    await looking


async def test_what_is_gone_is_forgotten(pair: Rig) -> None:
    await pair.run(8)
    assert b'policy="default/other"' in pair.telemetry.exposition()
    for kind in ("RolloutPolicy", "VirtualService"):
        ref = Ref(kind, "default", "other")
        await pair.store.delete(ref, manager="folder")
    await pair.act("abort")
    await pair.run(2)
    gauges = [line for line in pair.telemetry.exposition().splitlines() if b"penstock_verdict{" in line]
    assert not [line for line in gauges if b'policy="default/other"' in line]
    assert (
        b'penstock_decisions_total{action="Start",policy="default/other"}' not in pair.telemetry.exposition()
    )
    assert b'penstock_decisions_total{action="Start",policy="default/ranker"}' in pair.telemetry.exposition()
    assert pair.loop._carrier._verdicts.keys() == {"default/ranker"}
    assert pair.loop._schedule._due.keys() == {"default/ranker"}
    assert not pair.collector._dossiers, "both runs are over"


async def test_who_leads_no_longer_tells_nothing_of_the_rollouts_but_what_it_did(pair: Rig) -> None:
    await pair.run(8)
    pair.telemetry.hide()
    told = [line for line in pair.telemetry.exposition().splitlines() if b'policy="default/' in line]
    assert {line.partition(b"{")[0] for line in told} == {b"penstock_decisions_total"}
    await pair.run(8)
    assert b'penstock_weight_percent{policy="default/other"' in pair.telemetry.exposition()


async def test_the_watch_starts_again_after_any_failure(rig: Rig) -> None:
    await rig.start(GOOD)
    failures: list[Exception] = [ConflictError("list again"), UnavailableError("locked"), KeyError("a bug")]
    watch, seen = rig.store.watch, asyncio.Event()

    async def failing(*args: Any) -> Any:
        if failures:
            raise failures.pop(0)
        seen.set()
        async for event in watch(*args):
            yield event

    rig.store.watch = failing  # type: ignore[method-assign]
    running = asyncio.create_task(rig.loop.run())
    async with asyncio.timeout(60):
        await seen.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not failures


async def test_without_policies_the_loop_rests(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.open()
    slept = asyncio.get_running_loop().create_future()

    async def sleep(seconds: float) -> None:
        slept.set_result(seconds)
        await asyncio.Event().wait()

    monkeypatch.setattr(rig.clock, "sleep", sleep)
    monkeypatch.setattr(rig.loop._follower, "run", asyncio.Event().wait)
    running = asyncio.create_task(rig.loop.run())
    try:
        async with asyncio.timeout(60):
            assert await slept == 3600
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    looks = [
        line for line in rig.telemetry.exposition().splitlines() if line.startswith(b"penstock_looks_total")
    ]
    assert looks == [b"penstock_looks_total 1.0"]


async def test_a_store_that_is_down_costs_one_look_a_second_and_holds_up_nothing_else(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.start(GOOD)
    await rig.run(3)

    async def down() -> None:
        raise UnavailableError("the mirror is old")  # at once, as mirrors say it

    monkeypatch.setattr(rig.loop._inventory, "refresh", down)
    before, since = _looks(rig), rig.clock.time
    running = asyncio.create_task(rig.loop.run())
    for _ in range(200):
        await asyncio.sleep(0)
    running.cancel()
    assert 1 < _looks(rig) - before <= rig.clock.time - since + 2


def _looks(rig: Rig) -> float:
    return rig.telemetry.looks._value.get()


async def test_a_rollout_that_cannot_even_be_begun_leaves_the_others_alone(
    pair: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Opening._rollout

    def broken(self: Opening, entry: Entry, now: float) -> Rollout:
        if entry.policy.metadata.name == "ranker":
            raise ArithmeticError
        return begin(self, entry, now)

    monkeypatch.setattr(Opening, "_rollout", broken)
    await pair.run(300, until=ended, name="other")
    assert ended(await pair.status("other"))
    assert not ended(await pair.status())


async def test_the_same_trouble_with_an_object_is_told_again_after_it_was_over(
    pair: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> int:
        return sum("RolloutPolicy/default/ranker" in record.message for record in caplog.records)

    caplog.set_level("INFO")
    good = (await pair.store.get(POLICY))["spec"]["service"]["host"]
    for number in (1, 2):
        await pair.patch(POLICY, "/spec/service/host", "")
        await pair.looks(5)
        assert told() == 2 * number - 1
        await pair.patch(POLICY, "/spec/service/host", good)
        await pair.looks(5)
        assert told() == 2 * number, "that it works again"
