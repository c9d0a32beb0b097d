"""The rules for an open run, in their order: the first that has something to say decides.

Each is a pure function of the case; `controller.machine` says what they are for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from controller.crashes import CANNOT_START, CRASH_LOOP
from controller.drifting import drift
from controller.intake import settling_seconds
from controller.settling import settle

if TYPE_CHECKING:
    from controller.decision import Case, Decision

STALE_INTERVALS = 3
"""Data older than this many intervals (and some seconds for late scrapes) is no data."""
STALE_SLACK = 5.0
FULL = 100
FATAL = (CRASH_LOOP, "ProgressDeadlineExceeded")
"""What is wrong with a candidate that is rolled back for it even while some of its pods are ready."""


def _renamed(case: Case) -> Decision | None:
    """Leave a run whose variants the policy no longer knows; the traffic stays until the next one."""
    run, names = case.run, {variant.name for variant in case.policy.spec.variants}
    gone = ", ".join(name for name in (run.control, run.candidate) if name not in names)
    if not gone:
        return None
    message = f"the policy has no variant {gone} any more; starting over with those it has"
    return case.leave("VariantsChanged", message)


def _taken(case: Case) -> Decision | None:
    """Touch nothing while an older policy has the route."""
    return case.route_taken()


def _cornered(case: Case) -> Decision | None:
    """Without the control there is nowhere to roll back to: traffic never goes where nothing answers."""
    run, why = case.run, case.world.missing.get(case.run.control)
    if not why:
        return None
    if case.action is not None and case.action.verb == "promote-full":
        return case.promote("PromotedByHand", f"promoted by {case.action.actor}, the control being gone")
    return case.hold("ControlGone", f"cannot roll back: {run.control} takes no traffic: {why}", warning=True)


def _abort(case: Case) -> Decision | None:
    if case.action is None or case.action.verb != "abort":
        return None
    return case.roll_back("Aborted", f"aborted by {case.action.actor}")


def _gone(case: Case) -> Decision | None:
    """Roll back a candidate that takes no traffic or crashes, and say the most that is known of why.

    While a newer revision is rolled out that is no wonder: `_superseded` says so.
    """
    name, failing = case.run.candidate, case.world.failing
    why = case.world.missing.get(name)
    if _is_new(case):
        return None
    for reason in (*FATAL, CANNOT_START):
        if reason in failing and (why or reason in FATAL):
            return case.roll_back(reason, f"{name}: {failing[reason]}")
    return case.roll_back("CandidateGone", f"{name} cannot take traffic: {why}") if why else None


def _is_new(case: Case) -> bool:
    name = case.run.candidate
    return case.world.revisions.get(name) not in {None, case.run.revisions.get(name)}


def _harm(case: Case) -> Decision | None:
    """Roll back for proven harm, also when something else about the evidence is wrong."""
    judgement = case.judgement
    if judgement.kind != "Harmful" and not judgement.harm:
        return None
    return case.roll_back("Harmful", judgement.harm or judgement.sentence)


def _superseded(case: Case) -> Decision | None:
    message = f"{case.run.candidate} changed during the run; starting over with the new revision"
    return case.supersede("NewRevision", message) if _is_new(case) else None


def _unusable(case: Case) -> Decision | None:
    """Hold a run whose policy was made invalid: it can be rolled back, by a person too, and nothing else."""
    if not case.world.invalid:
        return None
    if not case.run.applied and (unfinished := settle(case)):
        return unfinished  # what was decided before is made true
    if case.action is not None:
        return case.refuse(f"cannot {case.action.verb}: the policy is invalid; `abort` rolls back")
    return case.policy_invalid()


def _mixture(case: Case) -> Decision | None:
    """Tell that the control is no longer one revision; it is not on trial, so the run goes on."""
    name, run = case.run.control, case.run
    now = case.world.revisions.get(name)
    if now is None or now in {run.revisions.get(name), run.control_revision}:
        return None
    message = f"{name} changed during the run: the candidate is compared with a mixture of its revisions"
    return replace(case.keep("Note", "ControlChanged", message, control_revision=now), warning=True)


def _silence(case: Case) -> Decision | None:
    rule = case.policy.spec.decision
    if case.run.paused or case.world.behind or rule.on_no_data == "hold" or not case.compares:
        return None
    silent = case.now - max(case.judgement.data_end or 0.0, _heard_from(case))
    if silent <= rule.no_data_timeout.seconds:
        return None
    return case.roll_back("NoData", f"no data for {silent:.0f} s; the policy says onNoData: rollback")


def _heard_from(case: Case) -> float:
    """Return from when on every metric should have data: after the weights were confirmed, and warm-up."""
    began = case.run.step_started_at
    return case.now if began is None else began + max(settling_seconds(case.policy).values(), default=0.0)


def _deadline(case: Case) -> Decision | None:
    rule = case.policy.spec.decision
    if _person(case) or case.world.behind or not _late(case) or rule.on_deadline == "hold":
        return None
    if rule.on_deadline == "promote" and CANNOT_START in case.world.failing:
        return None  # all traffic would be too much for those of its pods that are there
    message = (
        f"no decision within {rule.deadline}: {case.judgement.sentence}; "
        f"the policy says onDeadline: {rule.on_deadline}"
    )
    decide_now = case.roll_back if rule.on_deadline == "rollback" else case.promote
    return decide_now("DeadlineExceeded", message)


def _person(case: Case) -> bool:
    """Tell whether the run waits for a person, and not for evidence."""
    return case.run.paused or case.run.waiting_for_approval


def _late(case: Case) -> bool:
    """Tell whether the deadline is over; the time for which a person was waited for does not count."""
    run = case.run
    waited = run.waited + (0.0 if run.waiting_since is None else max(case.now - run.waiting_since, 0.0))
    return case.now - run.started_at - waited > case.policy.spec.decision.deadline.seconds


def _waits(case: Case, **changes: bool) -> dict[str, Any]:
    """Return changes of `paused` and `waiting_for_approval`, with how long a person was waited for."""
    run, since = case.run, case.run.waiting_since
    after = {"paused": run.paused, "waiting_for_approval": run.waiting_for_approval, **changes}
    if any(after.values()):
        return {**changes, "waiting_since": case.now if since is None else since}
    waited = 0.0 if since is None else max(case.now - since, 0.0)
    return {**changes, "waiting_since": None, "waited": run.waited + waited}


def _manual(case: Case) -> Decision | None:
    action, run = case.action, case.run
    if action is None:
        return None
    match action.verb:
        case "pause":
            return case.keep("Pause", "Paused", f"paused by {action.actor}", **_waits(case, paused=True))
        case "resume":
            return case.keep("Resume", "Resumed", f"resumed by {action.actor}", **_waits(case, paused=False))
        case "promote-full":
            return case.promote("PromotedByHand", f"promoted by {action.actor}, whatever the evidence")
        case "promote":
            return _approve(case, action.actor)
        case _:
            return case.refuse(f"cannot {action.verb}: run {run.number} is in progress")


def _approve(case: Case, actor: str) -> Decision:
    """`promote` without --full: give the approval that is waited for, or skip the rest of this step."""
    run = case.run
    if run.waiting_for_approval:
        message = f"step {run.step + 1} approved by {actor}"
        waits = _waits(case, waiting_for_approval=False)
        return case.keep("Approve", "Approved", message, approved=True, **waits)
    if run.step + 1 < len(case.steps):
        return _advance(case, "SkippedByHand", f"the rest of step {run.step + 1} was skipped by {actor}")
    return case.refuse("this is the last step: full promotion needs proof of safety, or `promote --full`")


def _paused(case: Case) -> Decision | None:
    return case.hold("Paused", "paused; `resume` goes on, `abort` rolls back") if case.run.paused else None


def _unable(case: Case) -> Decision | None:
    """Hold while pods of the candidate cannot start: all traffic would be too much for the others."""
    why = case.world.failing.get(CANNOT_START)
    return case.hold(CANNOT_START, f"{case.run.candidate}: {why}", warning=True) if why else None


def _blind(case: Case) -> Decision | None:
    """Hold while there is no evidence that could be gone by."""
    judgement, reason, message = case.judgement, "", ""
    silent = case.now - max(judgement.data_end or _began(case), _heard_from(case))
    if not case.compares:
        return None
    if case.world.metrics_error:
        reason, message = "MetricsUnavailable", case.world.metrics_error
    elif case.world.behind:
        reason, message = "CatchingUp", "reading what happened while nobody looked"
    elif judgement.kind == "Invalid":
        reason, message = "Invalid", judgement.sentence
    elif silent > STALE_INTERVALS * case.interval + STALE_SLACK:
        reason, message = "NoData", f"no data for {silent:.0f} s"
    return case.hold(reason, message, warning=reason != "CatchingUp") if reason else None


def _thin(case: Case) -> Decision | None:
    """Hold at the end of a step that was not measured enough."""
    judgement = case.judgement
    if not case.compares:
        return None
    if judgement.data_end is None or judgement.data_end - case.interval < _began(case):
        return case.hold("Measuring", "waiting for a whole interval with data at this weight")
    return None if judgement.enough else case.hold("TooFewSamples", judgement.sentence)


def _began(case: Case) -> float:
    return case.run.step_started_at or case.now


def _step(case: Case) -> Decision:
    run, step = case.run, case.steps[min(case.run.step, len(case.steps) - 1)]
    held = run.held + case.now - _began(case)
    safe = case.judgement.kind == "Safe"
    last = run.step + 1 >= len(case.steps)
    # a step of 100 % is full promotion: nothing can be compared there any more
    leap = last or case.steps[run.step + 1].weight == FULL
    if held < step.hold.seconds:
        return case.hold("Holding", f"step {run.step + 1}: {held:.0f} s of {step.hold}")
    if thin := _thin(case):
        return thin
    if not safe and (leap or step.require == "safe"):
        late = leap and _late(case)
        reason = "DeadlineExceeded" if late else "ProvingSafety"
        # the words are made only where they are read: holding on is told to nobody
        message = case.judgement.sentence if late else "safety is not proven yet"
        return case.hold(reason, message, warning=late)
    if step.pause and not run.approved:
        return _ask(case)
    if last:
        return case.promote("Safe", case.judgement.sentence)
    return _advance(case, "NoHarmShown", case.judgement.sentence)


def _ask(case: Case) -> Decision:
    message = f"step {case.run.step + 1} is done; `penstock promote {case.policy.metadata.name}` goes on"
    if case.run.waiting_for_approval:
        return case.hold("WaitingForApproval", message)
    return case.keep("AskApproval", "WaitingForApproval", message, **_waits(case, waiting_for_approval=True))


def _advance(case: Case, reason: str, why: str) -> Decision:
    number, weight = case.run.step + 1, case.steps[case.run.step + 1].weight
    message = f"step {number + 1} of {len(case.steps)}, {weight}% to {case.run.candidate}: {why}"
    fresh = {"step": number, "approved": False, **_waits(case, waiting_for_approval=False)}
    return case.shift("Advance", reason, message, weight=weight, **fresh)


OPEN_RUN = (
    _taken, _renamed, _cornered, _abort, _gone, _harm, _superseded, _unusable, _mixture, _silence, _deadline,
    _manual, settle, drift, _paused, _unable, _blind, _step,
)  # fmt: skip
QUIET = (_renamed, _silence, _deadline, _blind, _step)
"""Those of them that may have something to say of a run that is quiet (`controller.quiet`)."""
