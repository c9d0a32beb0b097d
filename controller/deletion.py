"""A policy that is deleted: our finalizer keeps it until its traffic is as `onDeletion` says. Pure rules.

    there is                          onDeletion: rollback                   onDeletion: keep
    an open run, or a copy under way  all traffic to the control, one write  traffic as it is
    an unfinished write               it is written                          traffic as it is
    a version scaled to zero          it gets its replicas back              the same
    nothing (more) to do              the policy goes                        the same

A deletion never hangs: where the traffic cannot be moved (the VirtualService is gone or cannot be read or
written, the control takes no traffic, an older policy has the route), it is left as it is, an event says so,
and the policy goes. An open run is kept in the history as Superseded, Deleted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.chores import Release
from controller.decision import Decision
from controller.idle import wake, workloads
from controller.promotion import given_up
from controller.settling import words

if TYPE_CHECKING:
    from controller.decision import Case


def withdraw(case: Case) -> Decision | None:
    """Do what is left to do for a policy that is being deleted, step by step; the last is to let it go."""
    if not case.world.deleting:
        return None
    if not case.world.held:
        return case.hold("Deleted", "the policy is being deleted")
    return _end(case) or _write(case) or _wake(case) or _release(case)


def _end(case: Case) -> Decision | None:
    run = case.status.run
    if run is None or not (run.active or run.copies):
        return None
    stuck = _immovable(case, run.control)
    if case.policy.spec.on_deletion == "keep":
        message = (
            f"the policy was deleted; it says onDeletion: keep: the traffic stays at {words(run.weights)}"
        )
    elif stuck:
        message = f"the policy was deleted; the traffic is left as it is: {stuck}"
    else:
        message = f"the policy was deleted: all traffic to {run.control}"
        return given_up(case, case.withdraw(message))
    return given_up(case, replace(case.leave("Deleted", message), action="Delete", warning=bool(stuck)))


def _immovable(case: Case, variant: str) -> str:
    """Return why all traffic cannot go to a variant; empty when it can."""
    world = case.world
    if world.taken:
        return f"{world.taken} manages the same route"
    if world.live is None:
        return world.route_error or "the route cannot be read"
    return f"{variant} takes no traffic: {world.missing[variant]}" if variant in world.missing else ""


def _write(case: Case) -> Decision | None:
    run, world = case.status.run, case.world
    if run is None or run.applied or case.policy.spec.on_deletion == "keep":
        return None
    if world.refused or _immovable(case, run.carrier) or dict(world.live or {}) == run.weights:
        return None
    return Decision("Settle", "Writing", "writing the weights", case.status, run.weights, notable=False)


def _wake(case: Case) -> Decision | None:
    idle = case.status.idle
    if idle is None or case.world.refused:
        return None
    if idle.phase == "Waking" and not any(each.noted for each in workloads(case, idle)):
        return None
    return wake(case, idle, "the policy is being deleted")


def _release(case: Case) -> Decision:
    world, run = case.world, case.status.run
    message = "the policy may go"
    if world.refused:
        message = f"{message}, though not all could be written: {world.refused}"
    elif run is not None and not run.applied and dict(world.live or {}) != run.weights:
        message = f"{message}; the traffic is left as it is"
    return Decision(
        "Release", "Released", message, case.status, chores=(Release(),), warning=bool(world.refused)
    )
