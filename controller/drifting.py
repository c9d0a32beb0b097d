"""Weights that somebody else changed: put right, adopted or held, and never fought over. Pure rules.

During a run the policy's `onDrift` says what is done. A correction that somebody undoes soon is a contest, as
with a GitOps tool that applies its own weights all the time: after `FREE` of them in a row each further one
waits, twice as long as the one before. Meanwhile the run holds and says who it is. A decision that moves the
traffic (a rollback, a step) is no correction: it is written at once, and starts the count again.

After a run its weights are made true once, by the same rules. If somebody changes them later it is told, and
left so: nothing is on trial then, and whoever changes weights between runs means it.

Weights that Penstock itself wrote last, but another process of it than this one, are nobody's wish: a leader
that was deposed wrote them late. They are put right at any time, whatever `onDrift` says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from controller.scene import MANAGER
from controller.settling import words
from controller.status import Contest

if TYPE_CHECKING:
    from controller.decision import Case, Decision

STOOD = 30.0
"""A correction that has lasted so many seconds was not contested."""
FREE = 5
"""Corrections in a row that are made at once, though each was undone soon."""
FIRST_PAUSE = 10.0
LONGEST_PAUSE = 120.0
"""Seconds before the next correction, once they are contested."""
ADVICE = "let one of the two own the weights: see GitOps in docs/install.md"


def drift(case: Case) -> Decision | None:
    """Do what the policy says when the weights of an open run are not the wanted ones."""
    run, live, rule = case.run, dict(case.world.live or {}), case.policy.spec.decision.on_drift
    if live == run.weights:
        # after a drift that was held, the step's clock goes on when the proxies confirm
        over = "the weights are the wanted ones again"
        again = {"applied": False, "contest": None}
        return None if run.step_started_at else case.keep("Return", "DriftOver", over, **again)
    if rule == "correct" or case.world.late:
        return correct(case, "Correct")
    if rule == "adopt" and sum(live.values()) == 100:
        changed = {"weights_changed_at": case.now, "applied": False, "step_started_at": None, "held": 0.0}
        decision = case.keep("Adopt", "DriftAdopted", _what(case), weights=live, **changed)
        status = decision.status.model_copy(update={"weights": live})
        return replace(decision, status=status, warning=True)
    return _hold(case, "Drift", _what(case))


def correct(case: Case, action: str) -> Decision:
    """Write the wanted weights again, unless that was undone too often just now."""
    contest = _contest(case)
    left = 0.0 if contest.until is None else contest.until - case.now
    if 0 < left <= LONGEST_PAUSE:  # more is left only if the clock was set back
        what = f"{_what(case)}. This was put right again and again and did not last; {ADVICE}"
        return _hold(case, "Contested", what, contest=contest)
    made = Contest(count=contest.count + 1, at=case.now)
    changed = {"weights_changed_at": case.now, "applied": False, **_stopped(case), "contest": made}
    decision = case.keep(action, "DriftCorrected", _what(case), **changed)
    return replace(decision, write=case.run.weights, warning=True)


def undone(case: Case) -> Decision | None:
    """Tell when the weights that a run ended with were changed since; they are left as they are."""
    run, live = case.status.run, case.world.live
    if run is None or not run.applied or run.outcome == "Superseded" or live is None:
        return None
    if live.keys() != run.weights.keys() or dict(live) == run.weights:
        return None
    if case.world.late:
        return correct(case, "Correct")
    left = f"{_what(case)}, as the last run ended. They are left so; {ADVICE}"
    return case.hold("Drift", left, warning=True)


def _contest(case: Case) -> Contest:
    """Return how the contest stands, now that the weights are not the wanted ones."""
    known, fresh = case.run.contest, Contest(count=0, at=case.now)
    if known is None or known.until is not None:
        return known or fresh
    if case.now - known.at >= STOOD:
        return fresh
    if known.count < FREE:
        return known
    pause = min(FIRST_PAUSE * 2 ** min(known.count - FREE, 10), LONGEST_PAUSE)
    return known.model_copy(update={"until": case.now + pause})


def _hold(case: Case, reason: str, message: str, **changes: Any) -> Decision:
    """Leave the weights to others for now; what was to be written was written, and is not so any more."""
    # what runs now is not what was wanted, so it must not be measured as if it were
    changes |= {"applied": case.run.active, **_stopped(case)}
    return replace(case.keep("Hold", reason, message, **changes), notable=False, warning=True)


def _stopped(case: Case) -> dict[str, Any]:
    """Stop the step's clock; the time that the step has had counts."""
    began = case.run.step_started_at
    held = case.run.held + (0.0 if began is None else max(case.now - began, 0.0))
    return {"step_started_at": None, "held": held}


def _what(case: Case) -> str:
    live, weights = case.world.live or {}, case.run.weights
    wanted = {name: weights.get(name, 0) for name in live}  # in the same order
    who = f"a late write of another {MANAGER}" if case.world.late else case.world.changed_by
    return f"{who} changed the weights to {words(live)}; wanted: {words(wanted)}"
