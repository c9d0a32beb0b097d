"""The decision: a pure function of policy, status, world, judgement and time.

The rules, in order of priority; the first that has something to say decides:

    an open run                                    no open run
    1  cornered     control not there: hold        1  settle    finish the last write, then confirm it
    2  abort        a person aborts: roll back     2  retry     starts a run; other actions are refused
    3  gone         candidate not there: roll back 3  start     the candidate is new and ready
    4  harm         harm is proven: roll back      4  idle
    5  superseded   a newer candidate: start over
    6  silence      no data too long: policy's rule
    7  deadline     too long undecided: policy's rule
    8  manual       pause, resume, promote
    9  settle       write what is wanted, then wait until the proxies confirm it
    10 drift        somebody changed the weights: correct, adopt or hold
    11 paused       hold
    12 blind        no fresh or no valid evidence: hold
    13 step         hold, go on, or promote

Nothing here reads a clock, a network or a file: a decision can be replayed from the history.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.decision import Case, Decision, Judgement, World
from controller.status import LastAction, Roles, Run, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import Metadata, RolloutPolicy

STALE_INTERVALS = 3
"""Data older than this many intervals (and some seconds for late scrapes) is no data."""
STALE_SLACK = 5.0
UNANSWERED = frozenset({"WaitingForProxies", "ControlGone"})
"""Reasons to hold that leave a manual action for later."""


def decide(policy: RolloutPolicy, status: Status, world: World, judgement: Judgement, now: float) -> Decision:
    """Return the one decision for this moment; the same inputs give the same decision."""
    case = Case(policy, _with_roles(policy, status), world, judgement, now)
    rules = _OPEN if case.status.run is not None and case.status.run.active else _CLOSED
    decision = next(decision for rule in rules if (decision := rule(case)) is not None)
    return _acknowledged(decision, case)


def _with_roles(policy: RolloutPolicy, status: Status) -> Status:
    """Give a new policy its roles; variants that were renamed start over."""
    names = [variant.name for variant in policy.spec.variants]
    if status.roles and {status.roles.control, status.roles.candidate} <= set(names):
        return status
    return status.model_copy(update={"roles": Roles(control=names[0], candidate=names[1]), "run": None})


def _acknowledged(decision: Decision, case: Case) -> Decision:
    """Mark the manual action as seen, so that it happens once; settling comes first and answers nothing."""
    action = case.action
    if action is None or decision.action in {"Settle", "Confirm"} or decision.reason in UNANSWERED:
        return decision
    seen = LastAction(nonce=action.nonce, verb=action.verb, result=f"{decision.reason}: {decision.message}")
    status = decision.status.model_copy(update={"last_action": seen})
    return replace(decision, status=status, notable=True)


# --- an open run


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
    why = case.world.missing.get(case.run.candidate)
    return (
        case.roll_back("CandidateGone", f"{case.run.candidate} cannot take traffic: {why}") if why else None
    )


def _harm(case: Case) -> Decision | None:
    harmful = case.judgement.kind == "Harmful"
    return case.roll_back("Harmful", case.judgement.sentence) if harmful else None


def _superseded(case: Case) -> Decision | None:
    name = case.run.candidate
    if case.world.revisions.get(name) in {None, case.run.revisions.get(name)}:
        return None
    return case.supersede(
        "NewRevision", f"{name} changed during the run; starting over with the new revision"
    )


def _silence(case: Case) -> Decision | None:
    rule = case.policy.spec.decision
    silent = case.now - max(case.judgement.data_end or 0.0, case.run.step_started_at or case.now)
    if case.run.paused or rule.on_no_data == "hold" or silent <= rule.no_data_timeout.seconds:
        return None
    return case.roll_back("NoData", f"no data for {silent:.0f} s; the policy says onNoData: rollback")


def _deadline(case: Case) -> Decision | None:
    rule = case.policy.spec.decision
    if case.run.paused or not _late(case) or rule.on_deadline == "hold":
        return None
    message = (
        f"no decision within {rule.deadline}: {case.judgement.sentence}; "
        f"the policy says onDeadline: {rule.on_deadline}"
    )
    decide_now = case.roll_back if rule.on_deadline == "rollback" else case.promote
    return decide_now("DeadlineExceeded", message)


def _late(case: Case) -> bool:
    return case.now - case.run.started_at > case.policy.spec.decision.deadline.seconds


def _manual(case: Case) -> Decision | None:
    action, run = case.action, case.run
    if action is None:
        return None
    match action.verb:
        case "pause":
            return case.keep("Pause", "Paused", f"paused by {action.actor}", paused=True)
        case "resume":
            return case.keep("Resume", "Resumed", f"resumed by {action.actor}", paused=False)
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
        return case.keep("Approve", "Approved", message, approved=True, waiting_for_approval=False)
    if run.step + 1 < len(case.steps):
        return _advance(case, "SkippedByHand", f"the rest of step {run.step + 1} was skipped by {actor}")
    return case.refuse("this is the last step: full promotion needs proof of safety, or `promote --full`")


def _settle(case: Case) -> Decision | None:
    """Make true what the status wants: our own unfinished write, or proxies that have not confirmed it."""
    run, world = case.run, case.world
    if world.live is None:
        return case.hold("RouteUnreadable", world.route_error or "the route cannot be read", warning=True)
    if run.applied:
        return None
    if dict(world.live) != run.weights:
        return Decision("Settle", "Writing", "writing the weights", case.status, run.weights, notable=False)
    if not world.applied.ok:
        return case.hold("WaitingForProxies", world.applied.detail)
    message = f"the proxies run {_words(run.weights)}"
    ended = None if run.active else case.now
    return case.keep(
        "Confirm", "TrafficApplied", message, applied=True, step_started_at=case.now, ended_at=ended
    )


def _drift(case: Case) -> Decision | None:
    run, live, rule = case.run, dict(case.world.live or {}), case.policy.spec.decision.on_drift
    if live == run.weights:
        return None
    what = f"{case.world.changed_by} changed the weights to {_words(live)}; wanted: {_words(run.weights)}"
    changed = {"weights_changed_at": case.now, "applied": False, "step_started_at": None}
    if rule == "correct":
        decision = case.keep("Correct", "DriftCorrected", what, **changed)
        return replace(decision, write=run.weights, warning=True)
    if rule == "adopt" and sum(live.values()) == 100:
        decision = case.keep("Adopt", "DriftAdopted", what, weights=live, **changed)
        status = decision.status.model_copy(update={"weights": live})
        return replace(decision, status=status, warning=True)
    return case.hold("Drift", what, warning=True)


def _paused(case: Case) -> Decision | None:
    return case.hold("Paused", "paused; `resume` goes on, `abort` rolls back") if case.run.paused else None


def _blind(case: Case) -> Decision | None:
    judgement, reason, message = case.judgement, "", ""
    began = case.run.step_started_at or case.now
    silent = case.now - max(judgement.data_end or began, began)
    if case.world.metrics_error:
        reason, message = "MetricsUnavailable", case.world.metrics_error
    elif judgement.kind == "Invalid":
        reason, message = "Invalid", judgement.sentence
    elif silent > STALE_INTERVALS * case.interval + STALE_SLACK:
        reason, message = "NoData", f"no data for {silent:.0f} s"
    elif judgement.data_end is None or judgement.data_end - case.interval < began:
        reason, message = "Measuring", "waiting for a whole interval with data at this weight"
    elif not judgement.enough:
        reason, message = "TooFewSamples", judgement.sentence
    warning = reason not in {"Measuring", "TooFewSamples"}
    return case.hold(reason, message, warning=warning) if reason else None


def _step(case: Case) -> Decision:
    run, step = case.run, case.steps[min(case.run.step, len(case.steps) - 1)]
    held, safe = case.now - (run.step_started_at or case.now), case.judgement.kind == "Safe"
    last = run.step + 1 >= len(case.steps)
    if held < step.hold.seconds:
        return case.hold("Holding", f"step {run.step + 1}: {held:.0f} s of {step.hold}")
    if not safe and (last or step.require == "safe"):
        late = last and _late(case)
        reason = "DeadlineExceeded" if late else "ProvingSafety"
        return case.hold(reason, case.judgement.sentence, warning=late)
    if step.pause and not run.approved:
        return _ask(case)
    if last:
        return case.promote("Safe", case.judgement.sentence)
    return _advance(case, "NoHarmShown", case.judgement.sentence)


def _ask(case: Case) -> Decision:
    message = f"step {case.run.step + 1} is done; `penstock promote {case.policy.metadata.name}` goes on"
    if case.run.waiting_for_approval:
        return case.hold("WaitingForApproval", message)
    return case.keep("AskApproval", "WaitingForApproval", message, waiting_for_approval=True)


def _advance(case: Case, reason: str, why: str) -> Decision:
    number, weight = case.run.step + 1, case.steps[case.run.step + 1].weight
    message = f"step {number + 1} of {len(case.steps)}, {weight}% to {case.run.candidate}: {why}"
    fresh = {"step": number, "waiting_for_approval": False, "approved": False}
    return case.shift("Advance", reason, message, weight=weight, **fresh)


# --- no open run


def _finish(case: Case) -> Decision | None:
    return _settle(case) if case.status.run is not None and not case.status.run.applied else None


def _retry(case: Case) -> Decision | None:
    action = case.action
    if action is None:
        return None
    if action.verb != "retry":
        return case.refuse(f"cannot {action.verb}: no run is in progress")
    return _begin(case, f"retried by {action.actor}") or case.refuse("not ready: " + _why_not(case))


def _start(case: Case) -> Decision | None:
    roles = case.status.roles
    revision = case.world.revisions.get(roles.candidate) if roles else None
    if roles is None or revision is None or case.status.settled.get(roles.candidate) == revision:
        return None
    return _begin(case, f"{roles.candidate} is new")


def _begin(case: Case, why: str) -> Decision | None:
    """Start a run, if control and candidate can take traffic and the route can be written."""
    roles, revisions = case.status.roles, dict(case.world.revisions)
    if roles is None or {roles.control, roles.candidate} - revisions.keys() or case.world.live is None:
        return None
    number = case.status.run.number + 1 if case.status.run else 1
    weight, meta = case.steps[0].weight, case.policy.metadata
    weights = {roles.control: 100 - weight, roles.candidate: weight}
    run = Run(
        id=_run_id(meta, number),
        number=number, control=roles.control, candidate=roles.candidate, revisions=revisions,
        steps=len(case.steps), weights=weights, started_at=case.now, weights_changed_at=case.now,
    )  # fmt: skip
    message = f"run {number}, step 1 of {run.steps}, {weight}% to {roles.candidate}: {why}"
    status = case.status.model_copy(update={"run": run, "weights": weights})
    return Decision("Start", "Started", message, status, weights)


def _run_id(meta: Metadata, number: int) -> str:
    """Name a run so that a start that is decided again after a crash is the same run."""
    return ".".join(part for part in (meta.namespace, meta.name, str(number), meta.uid[:8]) if part)


def _idle(case: Case) -> Decision:
    run = case.status.run
    if case.world.live is None or case.world.missing:
        return case.hold("NotReady", _why_not(case), warning=True)
    return case.hold(run.outcome or "Idle", run.message) if run else case.hold("Idle", "nothing to roll out")


def _why_not(case: Case) -> str:
    reasons = [f"{name}: {why}" for name, why in sorted(case.world.missing.items())]
    return "; ".join(reasons) or case.world.route_error or "nothing is known of it yet"


def _words(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {weight}%" for name, weight in weights.items())


_OPEN = (
    _cornered, _abort, _gone, _harm, _superseded, _silence, _deadline, _manual, _settle, _drift, _paused,
    _blind, _step,
)  # fmt: skip
_CLOSED = (_finish, _retry, _start, _idle)
