"""Many decisions at once: a few together, in their order, each with its own luck, and none half cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from controller.carrying import AT_ONCE, Carrier
from controller.ports import ConflictError, UnavailableError
from tests.support.policies import changed
from tests.support.rig import GOOD, POLICY, ROUTE, Rig, manifests
from tests.support.simulated import Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from controller.ports import Object, Ref

NAMES = [f"r{number:02}" for number in range(20)]
WRITES = {"patch", "patch_status", "event"}


class Slow:
    """Wraps a store: its writes take a while; tells which policies' writes are under way."""

    def __init__(self, inner: Any, before: Callable[[str, Ref], Awaitable[None]]) -> None:
        self._inner, self._before = inner, before
        self.under_way: list[str] = []
        self.most = 0
        self.begun: list[str] = []
        """Names of policies, in the order of their first writes."""

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if name not in WRITES:
            return attribute

        async def write(ref: Ref, *args: Any, **kwargs: Any) -> Any:
            self.under_way.append(ref.name)
            self.most = max(self.most, len(self.under_way))
            self.begun += [ref.name] if ref.name not in self.begun else []
            try:
                await self._before(name, ref)
                return await attribute(ref, *args, **kwargs)
            finally:
                self.under_way.remove(ref.name)

        return write


async def turns(_what: str, _ref: Ref) -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def many(rig: Rig, before: Callable[[str, Ref], Awaitable[None]]) -> Slow:
    """Open a rig with as many rollouts as there are names, all about to start, on a slow store."""
    await rig.open(*(Service(name, GOOD) for name in NAMES))
    for name in NAMES:
        await rig.put(*manifests(name))
    await rig.mesh.run(2)
    slow = Slow(rig.store, before)
    rig.store = slow  # type: ignore[assignment]
    rig.crash()
    return slow


async def moved(rig: Rig) -> list[str]:
    return [name for name in NAMES if await rig.weights(name) == [80, 20]]


async def test_a_few_are_carried_out_at_once_in_their_order_and_all_are_done(rig: Rig) -> None:
    slow = await many(rig, turns)
    await rig.loop.look()
    assert await moved(rig) == NAMES
    assert slow.most == AT_ONCE
    assert slow.begun == NAMES
    await rig.run(2, name=NAMES[0])
    runs = [(await rig.status(name)).run for name in NAMES]
    assert all(run and run.applied for run in runs)


async def test_a_rollback_does_not_stand_behind_the_starts_of_others() -> None:
    told: list[str] = []

    class Papers:
        """Journal and writer, which note who comes to them; nothing is written in the end."""

        async def record(self, rollouts: list[Any]) -> None:
            told.extend(f"record {rollout.key}" for rollout in rollouts)

        async def carry_out(self, rollout: Any, *_: Any) -> None:
            told.append(f"write {rollout.key}")
            raise ConflictError

    papers: Any = Papers()
    carrier = Carrier(
        journal=papers, writer=papers, watcher=Mock(), collector=Mock(), recorder=Mock(), schedule=Mock(),
        clock=Mock(),
    )  # fmt: skip
    rollouts: list[Any] = [
        Mock(key=key, is_undelayed=key == "rollback", carried_out=False, watch=None)
        for key in ("one", "two", "rollback", "three")
    ]
    await carrier.carry_out(rollouts)
    assert told == [
        "record rollback", "write rollback", "record one", "record two", "record three", "write one",
        "write two", "write three",
    ]  # fmt: skip


async def test_a_conflict_or_a_refusal_of_one_is_its_own(rig: Rig) -> None:
    trouble: dict[str, Exception] = {
        "r03": ConflictError("somebody was faster"), "r07": UnavailableError("the webhook hangs"),
        "r11": KeyError("a bug"),
    }  # fmt: skip
    left = dict(trouble)

    async def sometimes(what: str, ref: Ref) -> None:
        await turns(what, ref)
        if ref.kind == "VirtualService" and ref.name in left:
            raise left.pop(ref.name)

    await many(rig, sometimes)
    await rig.loop.look()
    assert await moved(rig) == [name for name in NAMES if name not in trouble]
    await rig.run(3, name=NAMES[0])
    assert await moved(rig) == NAMES
    assert not left


async def test_what_fails_after_the_writes_of_one_is_its_own_too(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many(rig, turns)
    tell = rig.loop._recorder.news.tell

    def failing(type_: str, obj: Any) -> None:
        if type_ == "rollout" and obj["metadata"]["name"] == "r03":
            raise KeyError("a bug")
        tell(type_, obj)

    monkeypatch.setattr(rig.loop._recorder.news, "tell", failing)
    await rig.loop.look()
    assert await moved(rig) == NAMES
    assert rig.loop._schedule._due.keys() == {f"default/{name}" for name in NAMES}


@pytest.mark.parametrize("kind", ["RolloutPolicy", "VirtualService"])
async def test_a_term_that_ends_in_the_middle_leaves_nothing_running_and_the_next_goes_on(
    rig: Rig, kind: str
) -> None:
    full, hang = asyncio.Event(), asyncio.Semaphore(AT_ONCE)

    async def hanging(what: str, ref: Ref) -> None:
        await turns(what, ref)
        if ref.kind == kind and NAMES.index(ref.name) >= 5:
            await hang.acquire()
            if hang.locked():
                full.set()
            await asyncio.Event().wait()

    slow = await many(rig, hanging)
    running = asyncio.create_task(rig.loop.run())
    async with asyncio.timeout(60):
        await full.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert slow.under_way == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert slow.begun == NAMES[: 5 + AT_ONCE]
    assert await moved(rig) == NAMES[:5]
    rig.store = slow._inner
    rig.crash()
    await rig.run(5, name=NAMES[0])
    assert await moved(rig) == NAMES
    assert [len(await rig.history.runs(f"default/{name}")) for name in NAMES] == [1] * len(NAMES)


def shared_route() -> Object:
    """One VirtualService with a named route for each of two services."""
    both = [manifests(name)[1]["spec"]["http"][0] | {"name": name} for name in ("one", "two")]
    made = manifests("both")[1]
    return {**made, "spec": {**made["spec"], "hosts": ["one", "two"], "http": both}}


async def test_two_rollouts_that_share_a_virtual_service_both_end_right(rig: Rig) -> None:
    """The second write of the same pass was made for another version: it is a conflict, and made up for."""
    await rig.open(Service("one", GOOD), Service("two", GOOD))
    await rig.put(shared_route())
    for name in ("one", "two"):
        policy, _, *rest = manifests(name)
        named = {"name": "both", "routes": [name]}
        await rig.put(changed(policy, "spec.virtualService", named), *rest)
    rig.store = Slow(rig.store, turns)  # type: ignore[assignment]
    rig.crash()
    await rig.looks(10)
    http = (await rig.store.get(ROUTE._replace(name="both")))["spec"]["http"]
    assert [[to["weight"] for to in each["route"]] for each in http] == [[80, 20], [80, 20]]
    for name in ("one", "two"):
        status = await rig.status(name)
        assert status.run is not None
        assert (status.run.number, status.run.applied) == (1, True)
        assert set(await rig.reasons(name)).isdisjoint({"DriftCorrected", "Drift"})


async def test_policies_that_cannot_be_used_say_so_a_few_at_once(rig: Rig) -> None:
    await rig.open()
    for name in NAMES:
        await rig.put(changed(manifests(name)[0], "spec.strategy", {"lottery": {}}))
    slow = Slow(rig.store, turns)
    rig.store = slow  # type: ignore[assignment]
    rig.crash()
    await rig.loop.look()
    for name in NAMES:
        stalled = (await rig.status(name)).condition("Stalled")
        assert stalled is not None
        assert stalled.reason == "PolicyInvalid"
    assert slow.most == AT_ONCE
    assert POLICY.name not in slow.begun
