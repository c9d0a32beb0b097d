"""The decision as a table of situations: what is so, and what must follow. No clock, no process."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decision import Action, Decision, Judgement, World
from controller.machine import decide
from controller.ports import Applied
from controller.status import Roles, Status
from policies.model import RolloutPolicy
from tests.support.situations import NOW, UNDECIDED, judged, on_step, open_run, policy, world

ABORT = Action("n1", "abort", "ann")


def outcome(decision: Decision) -> tuple[str, str, object]:
    return decision.action, decision.reason, decision.write


def test_a_new_ready_candidate_starts_a_run_at_the_first_step() -> None:
    decision = decide(policy(), Status(), world(live={"stable": 100, "candidate": 0}), Judgement(), NOW)
    assert outcome(decision) == ("Start", "Started", {"stable": 95, "candidate": 5})
    run = decision.status.run
    assert run is not None
    assert (run.active, run.applied, run.number) == (True, False, 1)


def test_nothing_starts_without_a_ready_candidate_or_a_readable_route() -> None:
    for hindered in (
        world(revisions={"stable": "a"}, missing={"candidate": "no endpoint"}),
        world(live=None, route_error="no such route"),
    ):
        decision = decide(policy(), Status(), hindered, Judgement(), NOW)
        assert outcome(decision) == ("Hold", "NotReady", None)


def test_a_candidate_without_pods_before_the_first_release_is_awaited_not_wrong() -> None:
    why = "Deployment ranker-v2 is scaled to zero"
    rest = world(live={"stable": 100, "candidate": 0}, missing={"candidate": why}, asleep=("candidate",))
    decision = decide(policy(), Status(), rest, Judgement(), NOW)
    assert (*outcome(decision), decision.message) == ("Hold", "Idle", None, f"candidate: {why}")
    assert not decision.warning
    for amiss in (
        replace(rest, live=None, route_error="no such route"),
        replace(rest, missing={"stable": why}, asleep=("stable",)),
        replace(rest, missing={**rest.missing, "stable": why}, asleep=("stable", "candidate")),
    ):
        assert outcome(decide(policy(), Status(), amiss, Judgement(), NOW)) == ("Hold", "NotReady", None)


def test_a_candidate_that_was_judged_does_not_run_again_until_it_changes() -> None:
    rolled_back = decide(policy(), open_run(), world(), judged("Harmful"), NOW).status
    settled = decide(policy(), rolled_back, world(live={"stable": 100, "candidate": 0}), UNDECIDED, NOW)
    assert settled.action == "Confirm"
    rest = world(live={"stable": 100, "candidate": 0})
    assert decide(policy(), settled.status, rest, UNDECIDED, NOW).action == "Hold"
    newer = replace(rest, revisions={"stable": "a", "candidate": "c"})
    again = decide(policy(), settled.status, newer, UNDECIDED, NOW)
    assert again.action == "Start"
    assert again.status.run is not None
    assert again.status.run.number == 2


def test_proven_harm_rolls_back_in_one_decision_even_when_paused() -> None:
    for status in (open_run(), open_run(paused=True), open_run(applied=False)):
        decision = decide(policy(), status, world(), judged("Harmful"), NOW)
        assert outcome(decision) == ("RollBack", "Harmful", {"stable": 100, "candidate": 0})
        run = decision.status.run
        assert run is not None
        assert (run.outcome, run.blame, run.message) == ("RolledBack", "errors", "Harmful it is")


def test_a_wrong_split_does_not_protect_a_harmful_candidate() -> None:
    mismatch = judged("Invalid", harm="errors 9% against 1%: harm is proven")
    decision = decide(policy(), open_run(), world(), mismatch, NOW)
    assert outcome(decision) == ("RollBack", "Harmful", {"stable": 100, "candidate": 0})
    assert decision.message == "errors 9% against 1%: harm is proven"


@pytest.mark.parametrize(
    "hindrance",
    [
        world(metrics_error="Prometheus does not answer"),
        world(live=None, route_error="gone"),
        world(live={"stable": 50, "candidate": 50}, changed_by="kubectl-edit"),
        world(applied=Applied(ok=False)),
    ],
)
@pytest.mark.parametrize("status", [open_run(), open_run(paused=True), open_run(applied=False)])
def test_abort_works_whatever_else_is_wrong(hindrance: World, status: Status) -> None:
    decision = decide(policy(), status, replace(hindrance, action=ABORT), Judgement(), NOW)
    assert outcome(decision) == ("RollBack", "Aborted", {"stable": 100, "candidate": 0})
    assert decision.status.last_action is not None
    assert decision.status.last_action.nonce == "n1"


def test_an_action_happens_once() -> None:
    paused = decide(policy(), open_run(), world(action=Action("n", "pause")), UNDECIDED, NOW)
    assert paused.action == "Pause"
    again = decide(policy(), paused.status, world(action=Action("n", "pause")), UNDECIDED, NOW)
    assert outcome(again) == ("Hold", "Paused", None)


@pytest.mark.parametrize("verb", ["abort", "pause", "resume", "promote", "promote-full"])
def test_without_a_run_every_action_but_retry_is_refused_in_words(verb: str) -> None:
    status = Status(settled={"candidate": "b"})
    decision = decide(policy(), status, world(action=Action("n", verb)), Judgement(), NOW)
    assert outcome(decision) == ("Refuse", "ActionRefused", None)
    assert "no run is in progress" in decision.message


def test_retry_starts_a_settled_candidate_again() -> None:
    status = Status(settled={"candidate": "b"})
    decision = decide(policy(), status, world(action=Action("n", "retry", "ann")), Judgement(), NOW)
    assert decision.action == "Start"
    assert "retried by ann" in decision.message


STEP_CASES = [
    # step, since the step began, judgement -> action, reason
    (0, 30, UNDECIDED, "Hold", "Holding"),
    (0, 61, UNDECIDED, "Advance", "NoHarmShown"),
    (0, 61, judged("NoData", data_end=None), "Hold", "NoData"),
    (0, 20, judged("NoData", data_end=None), "Hold", "Holding"),
    (0, 30, judged("Undecided", enough=False), "Hold", "Holding"),
    (0, 61, judged("Invalid"), "Hold", "Invalid"),
    (0, 61, judged("Undecided", enough=False), "Hold", "TooFewSamples"),
    (1, 12, UNDECIDED, "Hold", "Measuring"),
    (0, 400, judged("Undecided", data_end=NOW - 200), "Hold", "NoData"),
    (1, 20, UNDECIDED, "AskApproval", "WaitingForApproval"),
    (2, 20, UNDECIDED, "Hold", "ProvingSafety"),
    (2, 20, judged("Safe"), "Promote", "Safe"),
]


@pytest.mark.parametrize(("step", "since", "judgement", "action", "reason"), STEP_CASES)
def test_a_step_goes_on_only_after_its_hold_with_fresh_evidence(
    step: int, since: float, judgement: Judgement, action: str, reason: str
) -> None:
    status, here = on_step(step, step_started_at=NOW - since)
    decision = decide(policy(), status, here, judgement, NOW)
    assert (decision.action, decision.reason) == (action, reason)


def test_promotion_swaps_the_roles_so_that_the_candidate_is_the_next_control() -> None:
    status, here = on_step(2)
    decision = decide(policy(), status, here, judged("Safe"), NOW)
    assert decision.write == {"stable": 0, "candidate": 100}
    assert decision.status.roles is not None
    assert (decision.status.roles.control, decision.status.roles.candidate) == ("candidate", "stable")
    done = decide(policy(), decision.status, world(live=decision.write), UNDECIDED, NOW + 1).status
    newer = world(live=decision.write, revisions={"stable": "c", "candidate": "b"})
    following = decide(policy(), done, newer, UNDECIDED, NOW + 60)
    assert following.write == {"candidate": 95, "stable": 5}


def test_a_pause_step_waits_for_approval_and_then_goes_on() -> None:
    status, here = on_step(1, step_started_at=NOW - 20)
    asked = decide(policy(), status, here, UNDECIDED, NOW)
    waiting = decide(policy(), asked.status, here, UNDECIDED, NOW)
    assert outcome(waiting) == ("Hold", "WaitingForApproval", None)
    approved = decide(policy(), asked.status, replace(here, action=Action("n", "promote")), UNDECIDED, NOW)
    assert approved.action == "Approve"
    following = decide(policy(), approved.status, here, UNDECIDED, NOW)
    assert outcome(following) == ("Advance", "NoHarmShown", {"stable": 50, "candidate": 50})


def test_promote_skips_a_hold_but_the_last_step_needs_proof_or_full() -> None:
    skipped = decide(policy(), open_run(), world(action=Action("n", "promote")), UNDECIDED, NOW)
    assert outcome(skipped) == ("Advance", "SkippedByHand", {"stable": 75, "candidate": 25})
    status, here = on_step(2)
    refused = decide(policy(), status, replace(here, action=Action("n", "promote")), UNDECIDED, NOW)
    assert refused.action == "Refuse"
    full = decide(policy(), status, replace(here, action=Action("m", "promote-full")), UNDECIDED, NOW)
    assert outcome(full) == ("Promote", "PromotedByHand", {"stable": 0, "candidate": 100})


def test_a_write_that_did_not_happen_is_made_up_for_and_then_confirmed() -> None:
    status = open_run(applied=False, step_started_at=None)
    before = world(live={"stable": 100, "candidate": 0})
    assert outcome(decide(policy(), status, before, UNDECIDED, NOW)) == (
        "Settle", "Writing", {"stable": 95, "candidate": 5},
    )  # fmt: skip
    waiting = decide(policy(), status, world(applied=Applied(ok=False, detail="old")), UNDECIDED, NOW)
    assert outcome(waiting) == ("Hold", "WaitingForProxies", None)
    confirmed = decide(policy(), status, world(), UNDECIDED, NOW)
    assert confirmed.action == "Confirm"
    assert confirmed.status.run is not None
    assert confirmed.status.run.step_started_at == NOW


@pytest.mark.parametrize(
    ("rule", "action", "written"),
    [
        ("correct", "Correct", {"stable": 95, "candidate": 5}),
        ("adopt", "Adopt", None),
        ("hold", "Hold", None),
    ],
)
def test_drift_is_named_and_handled_by_the_policy(rule: str, action: str, written: object) -> None:
    drifted = world(live={"stable": 50, "candidate": 50}, changed_by="kubectl-edit")
    decision = decide(policy(onDrift=rule), open_run(), drifted, UNDECIDED, NOW)
    assert (decision.action, decision.write) == (action, written)
    assert "kubectl-edit" in decision.message
    if rule == "adopt":
        assert decision.status.weights == {"stable": 50, "candidate": 50}


def test_a_candidate_that_cannot_take_traffic_is_rolled_back_with_that_reason() -> None:
    gone = world(revisions={"stable": "a"}, missing={"candidate": "no endpoint has the labels version=v2"})
    decision = decide(policy(), open_run(), gone, judged("Safe"), NOW)
    assert outcome(decision) == ("RollBack", "CandidateGone", {"stable": 100, "candidate": 0})
    assert "version=v2" in decision.message


@pytest.mark.parametrize("judgement", [judged("Harmful"), UNDECIDED, judged("Safe")])
def test_traffic_never_goes_back_to_a_control_that_is_not_there(judgement: Judgement) -> None:
    alone = world(revisions={"candidate": "b"}, missing={"stable": "no endpoint"}, action=ABORT)
    held = decide(policy(), open_run(), alone, judgement, NOW)
    assert outcome(held) == ("Hold", "ControlGone", None)
    back = decide(policy(), held.status, world(action=ABORT), judgement, NOW)
    assert back.action == "RollBack", "the abort was forgotten"
    full = replace(alone, action=Action("n2", "promote-full"))
    assert decide(policy(), open_run(), full, judgement, NOW).write == {"stable": 0, "candidate": 100}


def test_a_newer_candidate_starts_over_with_a_run_of_its_own() -> None:
    newer = world(revisions={"stable": "a", "candidate": "c"})
    ended = decide(policy(), open_run(), newer, UNDECIDED, NOW)
    assert outcome(ended) == ("Supersede", "NewRevision", {"stable": 100, "candidate": 0})
    settled = replace(newer, live={"stable": 100, "candidate": 0})
    confirmed = decide(policy(), ended.status, settled, UNDECIDED, NOW)
    fresh = decide(policy(), confirmed.status, settled, UNDECIDED, NOW)
    assert fresh.action == "Start"
    assert fresh.status.run is not None
    assert (fresh.status.run.number, fresh.status.run.step) == (2, 0)


@pytest.mark.parametrize(
    ("rule", "action"), [("hold", "Hold"), ("rollback", "RollBack"), ("promote", "Promote")]
)
def test_the_deadline_does_what_the_policy_says(rule: str, action: str) -> None:
    status, here = on_step(2, started_at=NOW - 4000)
    decision = decide(policy(onDeadline=rule), status, here, UNDECIDED, NOW)
    assert (decision.action, decision.reason) == (action, "DeadlineExceeded")


@pytest.mark.parametrize("rule", ["rollback", "promote"])
@pytest.mark.parametrize(("ask", "answer"), [("pause", "resume"), ("", "promote")])
def test_the_time_for_which_a_person_is_waited_for_is_not_counted_by_the_deadline(
    rule: str, ask: str, answer: str
) -> None:
    """`ask` makes it wait; without, the step does, since it needs an approval."""
    status, here = on_step(0 if ask else 1, started_at=NOW - 600)
    asked, day = policy(onDeadline=rule, deadline="1h"), 86_400.0

    def later(status: Status, seconds: float, verb: str = "") -> Decision:
        now, nonce = NOW + seconds, f"{verb}-{seconds}"
        there = replace(here, action=Action(nonce, verb, "ann") if verb else None)
        return decide(asked, status, there, judged("Undecided", data_end=now - 5), now)

    waiting = later(status, 0, ask).status
    assert waiting.run is not None
    assert waiting.run.paused or waiting.run.waiting_for_approval
    for hour in range(24):
        assert later(waiting, hour * 3600).action == "Hold"
    answered = later(waiting, day, answer).status
    assert later(answered, day + 1800).action not in {"RollBack", "Promote"}
    assert later(answered, day + 3100).reason == "DeadlineExceeded"


@pytest.mark.parametrize(("rule", "action"), [("hold", "Hold"), ("rollback", "RollBack")])
def test_silence_does_what_the_policy_says(rule: str, action: str) -> None:
    silent = judged("Undecided", data_end=NOW - 500)
    status = open_run(step_started_at=NOW - 600)
    decision = decide(policy(onNoData=rule, noDataTimeout="5m"), status, world(), silent, NOW)
    assert (decision.action, decision.reason) == (action, "NoData")


def renamed(status: Status, *, candidate: str = "older") -> Status:
    """The status as it was when the variants were called `old` and `older`."""
    names = {"stable": "old", "candidate": candidate}

    def rename(values: dict[str, object]) -> dict[str, object]:
        return {names.get(name, name): value for name, value in values.items()}

    run = status.run
    assert run is not None
    assert status.roles is not None
    changes = {"control": names[run.control], "candidate": names[run.candidate]}
    roles = Roles(control=names[status.roles.control], candidate=names[status.roles.candidate])
    maps = {"weights": rename(run.weights), "revisions": rename(run.revisions)}
    run = run.model_copy(update=changes | maps)
    settled = rename(status.settled)
    return status.model_copy(update={"roles": roles, "run": run, "weights": run.weights, "settled": settled})


def test_renamed_variants_end_the_run_and_the_next_one_has_a_number_of_its_own() -> None:
    left = decide(policy(), renamed(open_run()), world(), UNDECIDED, NOW)
    assert outcome(left) == ("Supersede", "VariantsChanged", None)
    assert left.status.run is not None
    assert (left.status.run.outcome, left.status.run.applied) == ("Superseded", True)
    again = decide(policy(), left.status, world(), UNDECIDED, NOW)
    assert outcome(again) == ("Start", "Started", {"stable": 95, "candidate": 5})
    assert again.status.run is not None
    assert (again.status.run.number, again.status.run.id) == (2, "ml.ranker.2")


def test_a_renamed_control_is_still_the_control_and_what_was_settled_stays_so() -> None:
    promoted = decide(policy(), on_step(2)[0], on_step(2)[1], judged("Safe"), NOW).status
    live = world(live={"stable": 0, "candidate": 100})
    rest = decide(policy(), decide(policy(), promoted, live, UNDECIDED, NOW).status, live, UNDECIDED, NOW)
    decision = decide(policy(), renamed(rest.status), live, UNDECIDED, NOW)
    assert decision.action == "Hold"
    assert decision.status.roles == Roles(control="candidate", candidate="stable")
    newer = replace(live, revisions={"stable": "c", "candidate": "b"})
    again = decide(policy(), decision.status, newer, UNDECIDED, NOW)
    assert outcome(again) == ("Start", "Started", {"candidate": 95, "stable": 5})


def test_a_policy_created_again_after_its_promotion_leaves_the_traffic_alone() -> None:
    live = world(live={"stable": 0, "candidate": 100})
    decision = decide(policy(), Status(), live, Judgement(), NOW)
    assert outcome(decision) == ("Hold", "Idle", None)
    assert decision.status.roles == Roles(control="candidate", candidate="stable")
    newer = replace(live, revisions={"stable": "new", "candidate": "b"})
    again = decide(policy(), decision.status, newer, Judgement(), NOW)
    assert outcome(again) == ("Start", "Started", {"candidate": 95, "stable": 5})


def test_roles_are_not_guessed_while_the_route_cannot_be_read() -> None:
    assert decide(policy(), Status(), world(live=None), Judgement(), NOW).status.roles is None


def test_a_drift_that_is_held_stops_the_clock_until_the_proxies_confirm_again() -> None:
    held = policy(onDrift="hold")
    drifted = world(live={"stable": 50, "candidate": 50}, changed_by="kubectl-edit")
    hold = decide(held, open_run(), drifted, UNDECIDED, NOW)
    assert outcome(hold) == ("Hold", "Drift", None)
    assert hold.status.run is not None
    assert hold.status.run.step_started_at is None
    back = decide(held, hold.status, world(), UNDECIDED, NOW + 60)
    assert outcome(back) == ("Return", "DriftOver", None)
    confirmed = decide(held, back.status, world(), UNDECIDED, NOW + 61)
    assert outcome(confirmed) == ("Confirm", "TrafficApplied", None)
    assert confirmed.status.run is not None
    assert confirmed.status.run.step_started_at == NOW + 61


def to_everything(**decision: object) -> RolloutPolicy:
    """A canary whose last step is 100 %."""
    whole = policy(**decision).model_dump(mode="json", by_alias=True, exclude_none=True)
    whole["spec"]["strategy"]["canary"]["steps"] = [{"weight": 50}, {"weight": 100, "hold": "20m"}]
    return RolloutPolicy.model_validate(whole)


def test_a_step_of_all_traffic_needs_proof_of_safety() -> None:
    half = open_run(weights={"stable": 50, "candidate": 50})
    live = world(live={"stable": 50, "candidate": 50})
    assert decide(to_everything(), half, live, UNDECIDED, NOW).reason == "ProvingSafety"
    assert outcome(decide(to_everything(), half, live, judged("Safe"), NOW)) == (
        "Advance", "NoHarmShown", {"stable": 0, "candidate": 100},
    )  # fmt: skip


def test_with_all_traffic_there_is_nothing_to_measure_and_silence_is_no_reason() -> None:
    patient = to_everything(onNoData="rollback", noDataTimeout="1m")
    live = world(live={"stable": 0, "candidate": 100})
    whole = open_run(step=1, weights={"stable": 0, "candidate": 100}, step_started_at=NOW - 600)
    silent = judged("Safe", data_end=NOW - 700)
    assert outcome(decide(patient, whole, live, silent, NOW)) == ("Hold", "Holding", None)
    later = decide(patient, whole, live, silent, NOW + 700)
    assert outcome(later) == ("Promote", "Safe", {"stable": 0, "candidate": 100})


def test_a_deadline_promotes_no_candidate_whose_pods_cannot_start():
    here, late = world(failing=UNSTARTED), policy(onDeadline="promote", deadline="1m")
    decision = decide(late, open_run(started_at=NOW - 600), here, UNDECIDED, NOW)
    assert (decision.action, decision.reason) == ("Hold", "CannotStart")
    decision = decide(late, open_run(started_at=NOW - 600), world(), UNDECIDED, NOW)
    assert (decision.action, decision.reason) == ("Promote", "DeadlineExceeded")


@pytest.mark.parametrize("rule", [{"onNoData": "rollback"}, {"onDeadline": "promote", "deadline": "2m"}])
def test_after_an_absence_no_rule_of_time_decides_before_all_is_read(rule: dict[str, str]) -> None:
    """The traffic went on while nobody looked; what it showed comes first, and harm wins even then."""
    old = judged("Undecided", data_end=NOW - 4000)
    status = open_run(started_at=NOW - 9000, step_started_at=NOW - 8000)
    assert outcome(decide(policy(**rule), status, world(behind=True), old, NOW)) == (
        "Hold", "CatchingUp", None,
    )  # fmt: skip
    assert decide(policy(**rule), status, world(), old, NOW).write is not None
    assert decide(policy(**rule), status, world(behind=True), judged("Harmful"), NOW).action == "RollBack"


def test_a_control_that_changed_during_the_run_is_not_the_next_candidate() -> None:
    status, live = on_step(2)
    hotfixed = replace(live, revisions={"stable": "a2", "candidate": "b"})
    noted = decide(policy(), status, hotfixed, judged("Safe"), NOW)
    assert outcome(noted) == ("Note", "ControlChanged", None)
    promoted = decide(policy(), noted.status, hotfixed, judged("Safe"), NOW).status
    rest = world(revisions=hotfixed.revisions, live={"stable": 0, "candidate": 100})
    confirmed = decide(policy(), promoted, rest, UNDECIDED, NOW).status
    assert outcome(decide(policy(), confirmed, rest, UNDECIDED, NOW)) == ("Hold", "Promoted", None)


@pytest.mark.parametrize("steps", [1, 2])
def test_steps_that_were_taken_away_leave_the_last_one_there_is(steps: int) -> None:
    whole = policy().model_dump(mode="json", by_alias=True, exclude_none=True)
    whole["spec"]["strategy"]["canary"]["steps"] = [{"weight": 5}, {"weight": 25}][:steps]
    fewer = RolloutPolicy.model_validate(whole)
    status, live = on_step(2)
    assert outcome(decide(fewer, status, live, UNDECIDED, NOW)) == ("Hold", "ProvingSafety", None)
    assert outcome(decide(fewer, status, live, judged("Safe"), NOW))[0] == "Promote"


KINDS = st.sampled_from(["Harmful", "Safe", "Undecided", "NoData", "Invalid"])
VERBS = st.sampled_from([None, "pause", "resume", "promote", "promote-full", "abort", "retry"])


@given(
    steps=st.lists(st.tuples(KINDS, VERBS, st.integers(0, 100), st.booleans()), max_size=25),
    rule=st.sampled_from(["correct", "adopt", "hold"]),
)
def test_wanted_weights_always_sum_to_100_and_never_skip_a_step(steps: list, rule: str) -> None:
    """A random walk through verdicts, actions, drift and lost writes; the shell is played by the test."""
    status, live, now = Status(), {"stable": 100, "candidate": 0}, NOW
    chosen = policy(onDrift=rule)
    for number, (kind, verb, drift, confirmed) in enumerate(steps):
        now += 70
        action = Action(str(number), verb) if verb else None
        seen = {"stable": 100 - drift, "candidate": drift} if drift % 7 == 1 else live
        here = world(live=seen, action=action, applied=Applied(ok=confirmed))
        decision = decide(chosen, status, here, judged(kind, data_end=now - 5), now)
        before, after = status.run, decision.status.run
        if decision.write is not None:
            assert sum(decision.write.values()) == 100
            assert all(weight >= 0 for weight in decision.write.values())
            live = dict(decision.write)
        if before and after and before.id == after.id:
            assert after.step - before.step in {0, 1}
        if after and after.outcome == "Promoted" and after.reason == "Safe":
            assert kind == "Safe"
        status = Status.model_validate(decision.status.dump())


GONE = {"candidate": "Deployment ranker-v2 has no ready endpoint"}
CRASH = {"CrashLoop": "container server of pod x was restarted 5 times"}
UNSTARTED = {"CannotStart": "container server of pod x waits: ImagePullBackOff"}
STUCK = {"ProgressDeadlineExceeded": "Deployment ranker-v2: no progress"}
NEWER = {"stable": "a", "candidate": "c"}


@pytest.mark.parametrize(
    ("here", "action", "reason"),
    [
        (world(missing=GONE), "RollBack", "CandidateGone"),
        (world(missing=GONE, failing=CRASH), "RollBack", "CrashLoop"),
        (world(failing=CRASH), "RollBack", "CrashLoop"),
        (world(failing=STUCK), "RollBack", "ProgressDeadlineExceeded"),
        (world(failing={**STUCK, **CRASH}), "RollBack", "CrashLoop"),
        (world(missing=GONE, failing=UNSTARTED), "RollBack", "CannotStart"),
        (world(failing=UNSTARTED), "Hold", "CannotStart"),
        (world(rolling={"candidate": "its last change has not been seen by its controller yet"}),
         "Hold", "WaitingForApproval"),
        (world(missing=GONE, failing=CRASH, revisions=NEWER), "Supersede", "NewRevision"),
        (world(missing=GONE, revisions={"stable": "a"}), "RollBack", "CandidateGone"),
    ],
)  # fmt: skip
def test_what_befalls_the_candidate_s_pods_decides_by_how_bad_it_is(
    here: World, action: str, reason: str
) -> None:
    """A run that waits for a person has nothing else to decide."""
    status, live = on_step(1, waiting_for_approval=True)
    decision = decide(policy(), status, replace(here, live=live.live), UNDECIDED, NOW)
    assert outcome(decision)[:2] == (action, reason)
    assert decision.write == (None if action == "Hold" else {"stable": 100, "candidate": 0})


@pytest.mark.parametrize("variant", ["stable", "candidate"])
@pytest.mark.parametrize("how", ["missing", "rolling"])
def test_a_run_starts_only_when_both_versions_are_wholly_there(variant: str, how: str) -> None:
    rest = world(live={"stable": 100, "candidate": 0})
    hindered = replace(rest, **{how: {variant: "not yet"}})
    for action in (None, Action("n1", "retry", "ann")):
        decision = decide(policy(), Status(), replace(hindered, action=action), Judgement(), NOW)
        assert decision.write is None
        assert f"{variant}: not yet" in decision.message


def test_a_candidate_that_had_its_run_may_rest_and_a_new_one_is_asked_for() -> None:
    rolled_back = decide(policy(), open_run(), world(), judged("Harmful"), NOW).status
    rest = world(live={"stable": 100, "candidate": 0})
    status = decide(policy(), rolled_back, rest, UNDECIDED, NOW).status
    why = "Deployment ranker-v2 is scaled to zero"
    asleep = replace(rest, missing={"candidate": why}, asleep=("candidate",))
    assert outcome(decide(policy(), status, asleep, UNDECIDED, NOW)) == ("Hold", "RolledBack", None)
    newer = replace(asleep, revisions=NEWER)
    assert outcome(decide(policy(), status, newer, UNDECIDED, NOW)) == ("Hold", "NotReady", None)


@pytest.mark.parametrize("before", [False, True])
def test_a_new_candidate_whose_first_pods_are_not_ready_yet_is_rolling_out(before: bool) -> None:
    """It may have to load a model for minutes; only its progress deadline says that it will not be ready."""
    status = decide(policy(), open_run(), world(), judged("Harmful"), NOW).status if before else Status()
    status = decide(policy(), status, world(live={"stable": 100, "candidate": 0}), UNDECIDED, NOW).status
    status = status if before else Status()
    loading = world(
        revisions=NEWER, live={"stable": 100, "candidate": 0}, missing={"candidate": "no ready endpoint"}
    )
    decision = decide(policy(), status, loading, Judgement(), NOW)
    assert (*outcome(decision), decision.warning) == ("Hold", "RollingOut", None, False)
    stuck = decide(policy(), status, replace(loading, failing=STUCK), Judgement(), NOW)
    assert (stuck.reason, stuck.warning) == ("ProgressDeadlineExceeded", True)
    alone = replace(loading, missing={**loading.missing, "stable": "no ready endpoint"})
    assert decide(policy(), status, alone, Judgement(), NOW).reason == "NotReady", "there is no control"


def test_a_new_revision_that_does_not_get_ready_is_told_with_its_reason() -> None:
    rest = world(live={"stable": 100, "candidate": 0}, rolling={"candidate": "1 of 3 updated"})
    decision = decide(policy(), Status(), rest, Judgement(), NOW)
    assert (decision.reason, decision.warning) == ("RollingOut", False)
    decision = decide(policy(), Status(), replace(rest, failing=STUCK), Judgement(), NOW)
    assert (decision.reason, decision.warning) == ("ProgressDeadlineExceeded", True)


TAKEN = "ml/older"


@pytest.mark.parametrize("status", [Status(), open_run(), open_run(applied=False), open_run(paused=True)])
@pytest.mark.parametrize("verb", [None, "abort", "promote-full", "retry"])
def test_a_policy_whose_route_is_taken_touches_nothing_and_leaves_actions_for_later(
    status: Status, verb: str | None
) -> None:
    here = world(taken=TAKEN, missing=GONE, action=Action("n1", verb, "ann") if verb else None)
    decision = decide(policy(), status, here, judged("Harmful"), NOW)
    assert outcome(decision) == ("Hold", "RouteTaken", None)
    assert TAKEN in decision.message
    assert decision.status.last_action is None


@pytest.mark.parametrize("kind", ["Safe", "Undecided", "NoData", "Invalid"])
@pytest.mark.parametrize("rule", ["correct", "adopt", "hold"])
def test_under_an_invalid_policy_nothing_moves_the_traffic_on(kind: str, rule: str) -> None:
    chosen = policy(onDrift=rule, onDeadline="promote", onNoData="rollback")
    for number in (0, 1, 2):
        status, live = on_step(number, started_at=NOW - 99_999)
        for split in (live.live, {"stable": 1, "candidate": 99}):
            here = replace(live, live=split, invalid="spec: no such field")
            assert outcome(decide(chosen, status, here, judged(kind), NOW)) == ("Hold", "PolicyInvalid", None)


def test_under_an_invalid_policy_harm_and_people_still_roll_back_and_writes_are_finished() -> None:
    invalid = world(invalid="spec: no such field")
    assert outcome(decide(policy(), open_run(), invalid, judged("Harmful"), NOW))[:2] == (
        "RollBack",
        "Harmful",
    )
    aborted = replace(invalid, action=ABORT)
    assert outcome(decide(policy(), open_run(), aborted, UNDECIDED, NOW))[:2] == ("RollBack", "Aborted")
    unfinished = replace(invalid, live={"stable": 100, "candidate": 0})
    decision = decide(policy(), open_run(applied=False), unfinished, UNDECIDED, NOW)
    assert outcome(decision) == ("Settle", "Writing", {"stable": 95, "candidate": 5})
    rest = replace(invalid, live={"stable": 100, "candidate": 0})
    assert outcome(decide(policy(), Status(), rest, UNDECIDED, NOW)) == ("Hold", "PolicyInvalid", None)


def test_each_new_revision_of_the_control_is_told_once() -> None:
    status, live = on_step(1, waiting_for_approval=True)
    for revision, action in [("a", "Hold"), ("a2", "Note"), ("a2", "Hold"), ("a3", "Note"), ("a", "Hold")]:
        here = replace(live, revisions={"stable": revision, "candidate": "b"})
        decision = decide(policy(), status, here, UNDECIDED, NOW)
        assert decision.action == action
        status = decision.status
    assert status.run is not None
    assert status.run.revisions == {"stable": "a", "candidate": "b"}
