"""Promotion by copy: the control's workload takes the candidate's pod template, then the traffic. Pure rules.

A promoted run goes through these phases; what is wanted is in the status before it is written.

    phase       traffic     goes on when
    Writing     candidate   the copy is on the control -> RollingOut; it cannot be written -> Failed
    RollingOut  candidate   the control is ready -> Returning; it is stuck, changed or late -> Failed
    Returning   -> control  the proxies confirm it -> Done: the run is over, and the roles stay as they were
    Failed      candidate   `retry` -> Writing; the control is ready with the copy after all -> Returning

And in every phase but Returning:

    `abort`, the control is what it was         all traffic to the control: RolledBack
    `abort`, the control has (some of) the copy the candidate keeps the traffic, as with swap: GivenUp
    the policy says swap now                    as with swap: GivenUp
    the candidate is gone                       all traffic to the control, if that serves
    the candidate is new                        before the copy was written, or after it failed: start over
                                                with the control as it is; else the copy goes on, then start
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.chores import CopyTemplate
from controller.decision import Decision
from controller.standing import only, uncopyable
from controller.status import Copying, Roles

if TYPE_CHECKING:
    from controller.decision import Case
    from controller.standing import Standing

ADVICE = "the traffic stays on the candidate; `retry` tries again, `abort` leaves it at that"


def answer(case: Case) -> Decision | None:
    """Answer a manual action while a copy is under way; whatever the proxies do, nobody waits."""
    run, action = case.status.run, case.action
    if run is None or run.copying is None or not run.copies or action is None:
        return None
    if action.verb == "retry" and run.copying.phase == "Failed":
        again = Copying(phase="Writing", since=case.now, attempt=run.copying.attempt + 1)
        return case.keep("RetryCopy", "CopyRetried", f"retried by {action.actor}", copying=again)
    if action.verb != "abort":
        return case.refuse(f"cannot {action.verb}: run {run.number} is promoted and is being copied")
    if run.copying.phase == "Returning":
        return case.refuse(f"{run.control} has the promoted version already and gets the traffic")
    return _take_back(case, "Aborted", f"aborted by {action.actor}")


def copy(case: Case) -> Decision | None:
    """Go on with a copy, once the proxies run the weights that the status wants."""
    run = case.status.run
    if run is None or run.copying is None or not run.copies:
        return None
    if {run.control, run.candidate} - {variant.name for variant in case.policy.spec.variants}:
        over = _phase(case, "GivenUp", message="the policy has other variants now")
        return case.keep("GiveUpCopy", "VariantsChanged", over.message, copying=over, ended_at=case.now)
    if run.copying.phase == "Returning":
        return _done(case)
    if case.policy.spec.promotion.mode != "copy":
        return _give_up(case, "CopyGivenUp", "the policy asks for no copy any more")
    rule = {"Writing": _write, "RollingOut": _roll_out, "Failed": _failed}[run.copying.phase]
    return _gone(case) or _superseded(case) or rule(case)


def _take_back(case: Case, reason: str, message: str) -> Decision:
    """Send all traffic to the control if it is what it was; otherwise leave it where it is."""
    if _serves(case) and case.world.revisions[case.run.control] == case.run.revisions[case.run.control]:
        return given_up(case, case.roll_back(reason, message))
    return _give_up(case, reason, message)


def _serves(case: Case) -> bool:
    control = case.run.control
    return control in case.world.revisions and control not in case.world.missing


def given_up(case: Case, decision: Decision) -> Decision:
    """Return a decision that ends the run otherwise than by a copy, without its copy."""
    run = decision.status.run
    if run is None or not run.copies or run.copying is None:
        return decision
    over = run.copying.model_copy(update={"phase": "GivenUp", "since": case.now, "message": decision.message})
    run = run.model_copy(update={"copying": over, "watch": None})
    return replace(decision, status=decision.status.model_copy(update={"run": run}))


def _give_up(case: Case, reason: str, why: str) -> Decision:
    """Leave the traffic with the candidate, which is the control from now on, as with swap."""
    run = case.run
    message = f"{why}; {run.candidate} keeps the traffic and is the control from now on"
    ended = case.now if run.applied else None
    over = _phase(case, "GivenUp", message=message)
    decision = case.keep("GiveUpCopy", reason, message, copying=over, ended_at=ended)
    roles = Roles(control=run.candidate, candidate=run.control)
    # what the old control is by now came from here: it needs no run
    settled = {**case.status.settled, **_present(case, run.control)}
    status = decision.status.model_copy(update={"roles": roles, "settled": settled})
    return replace(decision, status=status, warning=True)


def _present(case: Case, variant: str) -> dict[str, str]:
    revision = case.world.revisions.get(variant)
    return {variant: revision} if revision else {}


def _phase(case: Case, phase: str, **changes: object) -> Copying:
    copying = case.run.copying or Copying(phase="Writing", since=case.now)
    return copying.model_copy(update={"phase": phase, "since": case.now, "message": "", **changes})


def _gone(case: Case) -> Decision | None:
    run, why = case.run, case.world.missing.get(case.run.candidate)
    if not why:
        return None
    message = f"{run.candidate} cannot take traffic: {why}"
    if not _serves(case):
        return case.hold("CandidateGone", message, warning=True)
    if case.world.revisions[run.control] == run.revisions[run.control]:
        return given_up(case, case.roll_back("CandidateGone", message))
    return _return(case, "CandidateGone", message)


def _superseded(case: Case) -> Decision | None:
    """Start over with a new candidate, unless what was promoted is on its way to the control."""
    run = case.run
    if case.world.revisions.get(run.candidate) in {None, run.revisions.get(run.candidate)}:
        return None
    phase = run.copying.phase if run.copying else ""
    if phase == "RollingOut" or (phase == "Writing" and _written(case)):
        return None
    message = f"{run.candidate} changed before it was copied"
    if not _serves(case):
        return _fail(case, message) if phase == "Writing" else None
    return given_up(case, case.supersede("NewRevision", f"{message}; starting over with the new revision"))


def _token(case: Case) -> str:
    return f"{case.run.id}/{case.run.copying.attempt if case.run.copying else 0}"


def _written(case: Case) -> Standing | None:
    """Return the control's workload if this attempt's copy is on it."""
    control = only(case.world.sides, case.run.control)
    return control if control and control.copied == _token(case) else None


def _write(case: Case) -> Decision:
    run, found = case.run, case.world.sides
    written = _written(case)
    if written:
        message = f"{written.key} has the pod template of {run.candidate}; waiting until it is rolled out"
        rolling = _phase(case, "RollingOut", revision=written.revision)
        return case.keep("RollOut", "CopyWritten", message, copying=rolling)
    why = case.world.refused or uncopyable(found, (run.control, run.candidate))
    source, target = only(found, run.candidate), only(found, run.control)
    if why or source is None or target is None:
        return _fail(case, why)
    keep = tuple(sorted({*found[run.candidate].labels, *found[run.control].labels}))
    chore = CopyTemplate(source.key, source.revision, target.key, keep, _token(case))
    message = f"copying the pod template of {source.key} to {target.key}"
    return Decision("Copy", "Copying", message, case.status, chores=(chore,), notable=False)


def _roll_out(case: Case) -> Decision:
    run, control = case.run, only(case.world.sides, case.run.control)
    began, revision = (run.copying.since, run.copying.revision) if run.copying else (case.now, "")
    deadline = case.policy.spec.decision.deadline
    if control is None:
        return _fail(case, f"{run.control} has no workload of its own any more")
    if control.revision != revision:
        return _fail(case, f"somebody changed the pod template of {control.key} after the copy")
    if control.rolled_out and _serves(case):
        return _return(case, "Copied", f"{control.key} runs what was promoted")
    # at first the words may still be about what was there before
    if control.stuck and case.now - began > case.interval:
        return _fail(case, f"{control.key} does not get ready: {control.stuck}")
    if case.now - began > deadline.seconds:
        return _fail(case, f"{control.key} was not ready within {deadline}: {control.rolling}")
    return case.hold("CopyRollingOut", f"waiting for {control.key}: {control.rolling or 'not ready yet'}")


def _failed(case: Case) -> Decision:
    run, control = case.run, only(case.world.sides, case.run.control)
    copying = run.copying
    if control and copying and control.revision == copying.revision and control.rolled_out and _serves(case):
        return _return(case, "Copied", f"{control.key} runs what was promoted after all")
    return case.hold("CopyFailed", copying.message if copying else "", warning=True)


def _fail(case: Case, why: str) -> Decision:
    message = f"the copy to {case.run.control} failed: {why}; {ADVICE}"
    failed = _phase(case, "Failed", message=message)
    return replace(case.keep("FailCopy", "CopyFailed", message, copying=failed), warning=True)


def _return(case: Case, reason: str, message: str) -> Decision:
    """Send the traffic back to the control, which runs what was promoted."""
    message = f"{message}; the traffic goes back to {case.run.control}"
    return case.shift("Return", reason, message, weight=0, copying=_phase(case, "Returning"))


def _done(case: Case) -> Decision:
    """End the run: what the control is now needs no run of its own."""
    message = f"{case.run.control} runs what was promoted and has all traffic again"
    decision = case.keep("EndCopy", "CopyDone", message, copying=_phase(case, "Done"), ended_at=case.now)
    settled = {**case.status.settled, **_present(case, case.run.control)}
    return replace(decision, status=decision.status.model_copy(update={"settled": settled}))
