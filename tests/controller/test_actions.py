"""Manual actions: where they are asked for, that each happens once, and that none is ignored in silence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from controller.actions import ANNOTATION, ignored, is_asked, pending, request, untimely
from controller.decision import Action, Judgement
from controller.machine import decide
from controller.status import KEPT_ANSWERS, Copying, LastAction, Status
from tests.support.rig import GOOD, POLICY, Rig, manifests
from tests.support.situations import NOW, UNDECIDED, open_run, policy, world

if TYPE_CHECKING:
    from controller.ports import Object

FRESH = Status()
COPYING = Copying(phase="RollingOut", since=NOW)
SLOW = {"minSamples": 1_000_000}


def asking(text: str | None = None, spec: Any = None) -> Object:
    annotations = {} if text is None else {ANNOTATION: text}
    metadata = {"name": "ranker", "resourceVersion": "7", "annotations": annotations}
    return {"metadata": metadata, "spec": {"action": spec} if spec else {}}


def answered(*actions: str) -> Status:
    status = FRESH
    for action in actions:
        verb, _, nonce = action.partition(":")
        status = status.with_answer(LastAction(nonce=nonce, verb=verb, result="done"))
    return status


@pytest.mark.parametrize(
    ("text", "spec", "expected"),
    [
        ('{"verb": "abort", "nonce": "n", "actor": "ann"}', None, Action("n", "abort", "ann")),
        ('{"verb": "abort", "nonce": 7}', None, Action("7", "abort", "unknown")),
        ("abort:2026-11-22T10:00:00Z", None, Action("2026-11-22T10:00:00Z", "abort", "annotation")),
        (" promote-full:1 ", None, Action("1", "promote-full", "annotation")),
        (None, {"verb": "pause", "nonce": "n"}, Action("n", "pause", "the policy's spec")),
        ("pause:1", {"verb": "abort", "nonce": "2"}, Action("2", "abort", "the policy's spec")),
        ("pause:1", {"verb": "resume", "nonce": "2"}, Action("1", "pause", "annotation")),
        (None, None, None),
        ("", None, None),
    ],
)
def test_an_action_is_read_from_the_annotation_or_the_spec_and_an_abort_goes_first(
    text: str | None, spec: dict[str, str] | None, expected: Action | None
) -> None:
    assert pending(asking(text, spec), FRESH) == expected
    assert ignored(asking(text, spec), FRESH) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abort", "neither VERB:NONCE nor JSON"),
        ("{", "neither VERB:NONCE nor JSON"),
        ("abort: 1 2", "neither VERB:NONCE nor JSON"),
        ("[]", "has a verb and a nonce"),
        ('{"verb": "abort"}', "has a verb and a nonce"),
        ('{"nonce": "1"}', "has a verb and a nonce"),
        ("explode:1", "unknown verb 'explode'; there are pause, resume"),
        (f"abort:{'x' * 64}", "at most 63 characters"),
        ("[" * 100_000, "more than 1024 characters"),
        ('{"verb": "abort", "nonce": "\\ud800"}', "all of them printable"),
        ('{"verb": "abort", "nonce": "a\\nb"}', "all of them printable"),
    ],
)
def test_what_is_malformed_is_no_action_and_is_told(text: str, words: str) -> None:
    assert pending(asking(text), FRESH) is None
    assert words in ignored(asking(text), FRESH)


def test_who_asks_cannot_command_the_terminal_of_whoever_reads_it() -> None:
    text = json.dumps({"verb": "abort", "nonce": "1", "actor": "ann\x1b[2J\n\ud800"})
    assert pending(asking(text), FRESH) == Action("1", "abort", "ann�[2J �")


@pytest.mark.parametrize(("obj", "expected"), [
    (asking("abort:1"), True),
    (asking(spec={"verb": "abort", "nonce": "1"}), True),
    ({**asking("abort:1"), "status": {"answered": ["abort:1"]}}, False),
    ({**asking("abort:1"), "status": {"run": 7}}, False),
    ({"metadata": {}}, False),
])  # fmt: skip
def test_whether_somebody_waits_for_an_answer_can_be_told_of_any_object(obj: Any, expected: bool) -> None:
    assert is_asked(obj) is expected


def test_a_malformed_annotation_does_not_hide_the_action_of_the_spec() -> None:
    obj = asking("nonsense", {"verb": "abort", "nonce": "1"})
    assert pending(obj, FRESH) == Action("1", "abort", "the policy's spec")


@pytest.mark.parametrize("wanted", ["abort", {"verb": "abort"}, {"verb": "shrug", "nonce": "2"}])
def test_a_malformed_action_of_the_spec_does_not_hide_the_annotation_and_is_told(wanted: Any) -> None:
    obj = asking("pause:1", wanted)
    assert pending(obj, FRESH) == Action("1", "pause", "annotation")
    assert ignored(obj, FRESH).startswith("spec.action: ")


@pytest.mark.parametrize(
    ("status", "verb", "words"),
    [
        (FRESH, "abort", "no run is in progress"),
        (FRESH, "retry", ""),
        (open_run(), "abort", ""),
        (open_run(), "retry", "a run is in progress"),
        (open_run(outcome="Promoted"), "pause", "no run is in progress"),
        (open_run(outcome="Promoted"), "retry", ""),
        (open_run(outcome="Promoted", copying=COPYING), "abort", ""),
        (open_run(outcome="Promoted", copying=COPYING), "retry", ""),
    ],
)
def test_whoever_asks_for_what_makes_no_sense_now_is_told_so(status: Status, verb: str, words: str) -> None:
    assert untimely(verb, {"status": status.dump()}) == words


@pytest.mark.parametrize(
    ("verb", "status", "words"),
    [
        ("resume", open_run(), "the abort that ann asked for is not answered yet"),
        ("promote", open_run(), "the abort that ann asked for is not answered yet"),
        ("retry", open_run(), "the abort that ann asked for is not answered yet"),
        ("abort", open_run(), ""),
        ("promote-full", open_run(), ""),
        ("resume", open_run().with_answer(LastAction(nonce="n", verb="abort", result="")), ""),
    ],
)
def test_an_abort_that_nobody_has_seen_yet_is_not_replaced_by_less(
    verb: str, status: Status, words: str
) -> None:
    asked = asking('{"verb": "abort", "nonce": "n", "actor": "ann"}')
    assert untimely(verb, {**asked, "status": status.dump()}) == words


def test_both_places_may_hold_actions_that_were_answered_long_ago() -> None:
    status = answered("pause:1", "resume:2", "promote:3")
    assert pending(asking("pause:1", {"verb": "resume", "nonce": "2"}), status) is None
    assert pending(asking("pause:1", {"verb": "abort", "nonce": "4"}), status) == Action(
        "4", "abort", "the policy's spec"
    )


def test_a_nonce_that_was_used_for_something_else_does_nothing_and_is_told() -> None:
    obj = asking("abort:1")
    assert pending(obj, answered("promote:1")) is None
    assert ignored(obj, answered("promote:1")) == "nonce 1 of abort was used before: choose another one"
    assert ignored(obj, answered("abort:1")) == ""


def test_what_is_remembered_is_bounded_and_the_newest() -> None:
    status = answered(*(f"pause:{number}" for number in range(KEPT_ANSWERS + 5)))
    assert len(status.answered) == KEPT_ANSWERS
    assert not status.has_answered("4")
    assert status.has_answered("5")


def test_a_status_of_an_earlier_version_knows_its_last_action() -> None:
    old = Status.model_validate({"lastAction": {"nonce": "n", "verb": "pause", "result": "Paused"}})
    assert pending(asking("pause:n"), old) is None
    again = old.with_answer(LastAction(nonce="m", verb="resume", result="Resumed"))
    assert again.answered == ("pause:n", "resume:m")
    assert Status.model_validate(json.loads(json.dumps(again.dump()))) == again


def test_the_decision_remembers_what_it_answered() -> None:
    paused = decide(policy(), open_run(), world(action=Action("a", "pause")), UNDECIDED, NOW)
    resumed = decide(policy(), paused.status, world(action=Action("b", "resume")), UNDECIDED, NOW)
    assert resumed.action == "Resume"
    again = decide(policy(), resumed.status, world(action=Action("a", "pause")), UNDECIDED, NOW)
    assert again.action != "Pause"
    assert decide(policy(), again.status, world(), Judgement(), NOW).status.answered == (
        "pause:a",
        "resume:b",
    )


def test_a_request_is_read_back_as_what_was_asked() -> None:
    nonce, operations = request(asking("pause:1"), "abort", "ann")
    assert operations[0] == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    assert pending(asking(operations[1]["value"][ANNOTATION]), FRESH) == Action(nonce, "abort", "ann")


async def annotate(rig: Rig, text: str) -> None:
    operations: list[dict[str, Any]] = [
        {"op": "add", "path": "/metadata/annotations", "value": {ANNOTATION: text}}
    ]
    rig.loop.changed(await rig.store.patch(POLICY, operations, manager="kubectl-annotate"))


async def test_an_action_in_the_spec_acts_once_however_often_it_is_applied(rig: Rig) -> None:
    await rig.start(GOOD, **SLOW)
    await rig.run(3)
    wanted = manifests(**SLOW)[0]
    wanted["spec"]["action"] = {"verb": "pause", "nonce": "release-7"}
    await rig.put(wanted)
    await rig.run(2)
    await rig.act("resume")
    await rig.run(2)
    await rig.put(wanted)
    rig.crash()
    status = await rig.run(5)
    assert status.run is not None
    assert not status.run.paused
    assert (await rig.reasons()).count("Paused") == 1


async def test_a_re_apply_that_drops_and_restores_an_old_annotation_repeats_nothing(rig: Rig) -> None:
    await rig.start(GOOD, **SLOW)
    await rig.run(3)
    for text in ("pause:1", "resume:2", "", "pause:1", "resume:2", "pause:1"):
        await annotate(rig, text)
        status = await rig.run(2)
    assert status.run is not None
    assert not status.run.paused
    reasons = await rig.reasons()
    assert (reasons.count("Paused"), reasons.count("Resumed")) == (1, 1)


async def test_a_malformed_annotation_is_told_once_and_the_next_one_acts(rig: Rig) -> None:
    await rig.start(GOOD, **SLOW)
    await annotate(rig, "please abort")
    await rig.run(20)
    [event] = [each for each in await rig.store.events(POLICY) if each["reason"] == "ActionIgnored"]
    assert event["count"] == 1
    assert "please abort" in event["message"]
    await annotate(rig, "abort:1")
    status = await rig.run(3)
    assert status.run is not None
    assert status.run.reason == "Aborted"
