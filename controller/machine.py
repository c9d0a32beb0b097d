"""The decision: a pure function of policy, status, world, judgement and time.

The rules, in order of priority; the first that has something to say decides:

    an open run                                    no open run
    1  taken        an older policy's route: hold  1  taken     an older policy's route: hold
    2  renamed      other variants: start over     2  answer    what a person asks of a copy under way
    3  cornered     control not there: hold        3  settle    finish the last write, then confirm it
    4  abort        a person aborts: roll back     4  copy      bring the promoted template to the control
    5  gone         candidate gone, or crashes:    5  unusable  the policy is invalid: hold
                    roll back                      6  tend      look after a version scaled to zero
    6  harm         harm is proven: roll back      7  retry     starts a run; other actions are refused
    7  superseded   a newer candidate: start over  8  start     the candidate is new and ready
    8  unusable     the policy is invalid: hold    9  watch     tell of surges after a promotion
    9  mixture      the control changed: tell it   10 rest      scale down what has no traffic
    10 silence      no data too long: policy's     11 undone    others changed the weights: tell it
                    rule                           12 idle
    11 deadline     too long undecided: policy's rule
    12 manual       pause, resume, promote
    13 settle       write what is wanted, then wait until the proxies confirm it
    14 drift        somebody changed the weights: correct, adopt or hold
    15 paused       hold
    16 unable       pods of the candidate cannot start: hold
    17 blind        no fresh or no valid evidence: hold
    18 step         hold, go on, or promote

Before all of them: a policy that is being deleted does what is left to do (`controller.deletion`).

Nothing here reads a clock, a network or a file: a decision can be replayed from the history.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.decision import Case, Decision, Judgement, World
from controller.deletion import withdraw
from controller.no_run import NO_RUN
from controller.open_run import OPEN_RUN, QUIET
from controller.quiet import is_quiet
from controller.roles import with_roles
from controller.status import LastAction, Status

if TYPE_CHECKING:
    from policies.model import RolloutPolicy

UNANSWERED = frozenset(
    {"WaitingForProxies", "ControlGone", "VariantsChanged", "RouteTaken", "ScalingUp", "Contested"}
)
"""Reasons to hold that leave a manual action for later."""
SILENT = frozenset({"Settle", "Confirm", "ScaleDown", "ScaleUp", "Rest", "LeaveAlone", "Awake"})
"""Decisions that come first and answer no action."""


def decide(policy: RolloutPolicy, status: Status, world: World, judgement: Judgement, now: float) -> Decision:
    """Return the one decision for this moment; the same inputs give the same decision."""
    is_open = status.run is not None and status.run.active
    case = Case(policy, status if is_open else with_roles(policy, status, world), world, judgement, now)
    rules = QUIET if is_open and is_quiet(case) else (withdraw, *(OPEN_RUN if is_open else NO_RUN))
    decision = next(decision for rule in rules if (decision := rule(case)) is not None)
    return _acknowledged(decision, case)


def _acknowledged(decision: Decision, case: Case) -> Decision:
    """Mark the manual action as seen, so that it happens once."""
    action = case.action
    if action is None or decision.action in SILENT or decision.reason in UNANSWERED:
        return decision
    seen = LastAction(nonce=action.nonce, verb=action.verb, result=f"{decision.reason}: {decision.message}")
    return replace(decision, status=decision.status.with_answer(seen), notable=True)
