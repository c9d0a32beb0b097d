"""What the API gets from the controller, on simulated traffic."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from controller.backend import ATTEMPTS, EVENTS, ControllerBackend
from controller.news import News
from controller.ports import ConflictError, Ref
from tests.support.rig import BAD, GOOD, Rig, ended

if TYPE_CHECKING:
    from controller.ports import Object


def backend(rig: Rig, **changes: Any) -> ControllerBackend:
    parts: dict[str, Any] = {
        "store": rig.store, "events": rig.store, "history": rig.history, "telemetry": rig.telemetry,
        "looks": rig.loop, "news": News(), "checks": {}, "findings": list,
    }  # fmt: skip
    return ControllerBackend(**parts | changes)


def contest(rig: Rig, times: int) -> None:
    """Let so many patches meet a policy that has moved on."""
    patch, left = rig.store.patch, [times]

    async def contested(*args: Any, **kwargs: Any) -> Object:
        left[0] -= 1
        if left[0] >= 0:
            raise ConflictError("the policy changed meanwhile")
        return await patch(*args, **kwargs)

    rig.store.patch = contested  # type: ignore[method-assign]


async def test_an_action_outlasts_a_policy_that_keeps_changing(rig: Rig) -> None:
    await rig.start(GOOD)
    await rig.run(3)
    contest(rig, ATTEMPTS - 1)
    nonce = await backend(rig).act("default", "ranker", "abort", "ann")
    status = await rig.run(2)
    assert status.last_action is not None
    assert (status.last_action.nonce, await rig.weights()) == (nonce, [100, 0])


async def test_an_action_does_not_try_for_ever(rig: Rig) -> None:
    await rig.start(GOOD)
    await rig.run(3)
    contest(rig, ATTEMPTS)
    with pytest.raises(ConflictError):
        await backend(rig).act("default", "ranker", "abort", "ann")


class Told:
    """A store of events: one of a quiet namespace, then many of another."""

    def __init__(self) -> None:
        names = ("ranker", "search") * EVENTS
        self.kept = [*(about("other", name) for name in names), about("ml", "ranker")]

    async def events(self, ref: Ref | None = None, limit: int = 100) -> list[Object]:
        return [each for each in self.kept if ref is None or each["object"] == ref._asdict()][:limit]


def about(namespace: str, name: str) -> Object:
    return {"reason": "Started", "object": Ref("RolloutPolicy", namespace, name)._asdict()}


@pytest.mark.parametrize(
    ("namespace", "name", "expected"),
    [
        ("ml", "ranker", {"ml/ranker"}),
        ("ml", None, {"ml/ranker"}),
        (None, "ranker", {"other/ranker"}),
        (None, "search", {"other/search"}),
        (None, None, {"other/ranker", "other/search"}),
    ],
)
async def test_events_can_be_asked_for_by_name_by_namespace_and_by_both(
    namespace: str | None, name: str | None, expected: set[str]
) -> None:
    parts: dict[str, Any] = dict.fromkeys(("store", "history", "telemetry", "looks", "findings"))
    asked = ControllerBackend(events=Told(), news=News(), checks={}, **parts)
    found = [each["object"] for each in await asked.events(namespace, name)]
    assert {f"{each['namespace']}/{each['name']}" for each in found} == expected
    assert len(found) <= EVENTS


@pytest.mark.parametrize(("verb", "words"), [("abort", "no run is in progress"), ("retry", "a run is")])
async def test_an_action_that_makes_no_sense_is_refused_in_words(rig: Rig, verb: Any, words: str) -> None:
    await rig.start(BAD)
    await rig.run(3 if verb == "retry" else 300, until=ended)
    with pytest.raises(ValueError, match=words):
        await backend(rig).act("default", "ranker", verb, "ann")


async def test_a_rollout_comes_with_the_verdict_of_its_own_run(rig: Rig) -> None:
    await rig.start(BAD)
    status = await rig.run(300, until=ended)
    assert status.run is not None
    shown = await backend(rig).rollout("default", "ranker")
    assert shown["status"]["lastVerdict"]["kind"] == "Harmful"
    await rig.act("retry")
    await rig.run(1)
    shown = await backend(rig).rollout("default", "ranker")
    assert shown["status"]["run"]["number"] == 2
    assert "lastVerdict" not in shown["status"], "that was the verdict of the run before"


async def test_a_part_that_does_not_answer_does_not_hold_up_the_health(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang() -> str:
        await asyncio.Event().wait()
        return "ok"

    async def works() -> str:
        return "ok"

    monkeypatch.setattr("controller.backend.CHECK_SECONDS", 0.01)
    await rig.start(GOOD)
    checks = {"objects": works, "prometheus": hang}
    health = await backend(rig, checks=checks, tolerated=("prometheus",)).health()
    assert health == {"objects": "ok", "prometheus": "no answer within 0.01 s", "ready": True}
