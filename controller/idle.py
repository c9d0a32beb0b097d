"""The version without traffic: scaled to zero some time after a run, and back before anything needs it. Pure.

    phase       means
    Down        wanted: its workloads go to zero replicas, each with a note of how many it had
    Asleep      they are at zero
    LeftAlone   somebody else scaled them up again: told once, and left alone until the next run
    Waking      wanted: they get their replicas back; over when the version takes traffic again

It is woken when a new revision appears, by `retry`, when it gets traffic from whomever, when the policy asks
for no scaling any more, and when the policy is deleted (`controller.deletion`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.chores import Scale
from controller.decision import Decision
from controller.standing import Side, Standing
from controller.status import Idle
from controller.workloads import Name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.decision import Case
    from controller.status import Status
    from policies.model import RolloutPolicy


def due(policy: RolloutPolicy, status: Status) -> float | None:
    """Return when the version without traffic is to be scaled down, in unix seconds; None if never."""
    after, run = policy.spec.promotion.scale_down_after, status.run
    if after is None or status.idle is not None or run is None or run.active or run.copies:
        return None
    return None if run.ended_at is None or not run.applied else run.ended_at + after.seconds


def rest(case: Case) -> Decision | None:
    """Scale the version without traffic down, once it has been without long enough."""
    at, roles = due(case.policy, case.status), case.status.roles
    if at is None or roles is None or case.now < at:
        return None
    name = roles.candidate
    side = case.world.sides.get(name, Side())
    known = case.world.revisions.get(name) == case.status.settled.get(name)
    if not known or _has_traffic(case, name) or all(each.asleep for each in side.workloads):
        return None
    if case.world.in_use:
        return case.hold("StillInUse", f"{name} is not scaled down: {case.world.in_use}", warning=True)
    awake = [each for each in side.workloads if not each.asleep]
    idle = Idle(variant=name, revision=side.revision, workloads=tuple(map(_key, awake)), phase="Down")
    message = f"{name} has had no traffic since the end of the run: scaling down {_listed(awake)}"
    return _scale_down(case, message, idle, awake)


def tend(case: Case) -> Decision | None:
    """Look after a version that was scaled down."""
    idle = case.status.idle
    if idle is None:
        return None
    found = workloads(case, idle)
    if idle.phase == "Waking":
        return _waking(case, idle, found)
    why = _needed(case, idle)
    if why and (idle.phase != "LeftAlone" or any(each.noted for each in found)):
        return wake(case, idle, why)
    if idle.phase == "LeftAlone":
        return _forget_notes(case, found)
    return _going_down(case, idle, found)


def wake(case: Case, idle: Idle, why: str) -> Decision:
    """Scale a version up again; what was noted on each workload says how far."""
    message = f"scaling {idle.variant} up again: {why}"
    waking = idle.model_copy(update={"phase": "Waking"})
    status = case.status.model_copy(update={"idle": waking})
    return Decision("ScaleUp", "ScalingUp", message, status, chores=(Scale(_names(idle), down=False),))


def workloads(case: Case, idle: Idle) -> list[Standing]:
    """Return how the workloads that were scaled down stand, also when their variant was renamed."""
    found = {_key(each): each for side in case.world.sides.values() for each in side.workloads}
    return [found[key] for key in idle.workloads if key in found]


def _needed(case: Case, idle: Idle) -> str:
    """Return why a version that was scaled down has to come back; empty when it can rest."""
    roles, action = case.status.roles, case.action
    side = case.world.sides.get(idle.variant, Side())
    if case.policy.spec.promotion.scale_down_after is None:
        return "the policy asks for no scaling any more"
    if roles is None or roles.candidate != idle.variant:
        return "it is not the candidate any more"
    if side.workloads and side.revision != idle.revision:
        return "it is new"
    if _has_traffic(case, idle.variant):
        return "it has traffic"
    return f"retried by {action.actor}" if action and action.verb == "retry" else ""


def _has_traffic(case: Case, name: str) -> bool:
    """Tell whether a variant has traffic, is to have some, or may have for all that is known."""
    live = case.world.live
    return live is None or bool(live.get(name)) or bool(case.status.weights.get(name))


def _going_down(case: Case, idle: Idle, found: Sequence[Standing]) -> Decision | None:
    up = [each for each in found if not each.asleep]
    if idle.phase == "Asleep" or any(each.noted for each in up):
        return _leave_alone(case, idle, up) if up else None
    if case.world.refused:
        why = f"{idle.variant} cannot be scaled down: {case.world.refused}"
        return _leave(case, idle, "ScaleDownRefused", why)
    if up:
        return replace(_scale_down(case, "scaling down", idle, up), notable=False)
    status = case.status.model_copy(update={"idle": idle.model_copy(update={"phase": "Asleep"})})
    return Decision("Rest", "ScaledDown", f"{idle.variant} is scaled to zero", status, notable=False)


def _leave_alone(case: Case, idle: Idle, up: Sequence[Standing]) -> Decision:
    message = f"somebody else scaled {_listed(up)} up again: left alone until the next run has ended"
    return _leave(case, idle, "ScaledUpByOthers", message)


def _leave(case: Case, idle: Idle, reason: str, message: str) -> Decision:
    status = case.status.model_copy(update={"idle": idle.model_copy(update={"phase": "LeftAlone"})})
    return Decision("LeaveAlone", reason, message, status, warning=True)


def _forget_notes(case: Case, found: Sequence[Standing]) -> Decision | None:
    """Take the notes off the workloads that others scaled up."""
    noted = [each for each in found if each.noted and not each.asleep]
    if not noted or case.world.refused:
        return None
    chores = (Scale(tuple(each.key for each in noted), down=False),)
    return Decision("LeaveAlone", "LeftAlone", "taking notes off", case.status, chores=chores, notable=False)


def _waking(case: Case, idle: Idle, found: Sequence[Standing]) -> Decision | None:
    if any(each.noted for each in found):
        if case.world.refused:
            why = f"{idle.variant} cannot be scaled up: {case.world.refused}"
            return case.hold("ScaleUpRefused", why, warning=True)
        return replace(wake(case, idle, ""), notable=False)
    if not found or idle.variant not in case.world.missing:
        status = case.status.model_copy(update={"idle": None})
        return Decision("Awake", "ScaledUp", f"{idle.variant} is there again", status)
    if case.action is not None and case.action.verb == "retry":
        return case.hold("ScalingUp", f"waiting for {idle.variant}: {case.world.missing[idle.variant]}")
    return None


def _scale_down(case: Case, message: str, idle: Idle, found: Sequence[Standing]) -> Decision:
    status = case.status.model_copy(update={"idle": idle})
    chores = (Scale(tuple(each.key for each in found), down=True),)
    return Decision("ScaleDown", "ScaledDown", message, status, chores=chores)


def _key(workload: Standing) -> str:
    return "/".join(workload.key)


def _names(idle: Idle) -> tuple[Name, ...]:
    return tuple(Name(*key.split("/", 1)) for key in idle.workloads)


def _listed(found: Sequence[Standing]) -> str:
    return ", ".join(str(each.key) for each in found)
