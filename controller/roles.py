"""Which variant is the control and which the candidate, when no run is open. Pure.

The status knows it from the last run. A policy without such a status (new, created again, or with renamed
variants) gets its roles from what is there: a renamed variant is known by its revision, and a candidate that
has all the traffic was promoted before. Otherwise the first variant is the control, as the policy says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.status import Roles

if TYPE_CHECKING:
    from controller.decision import World
    from controller.status import Status
    from policies.model import RolloutPolicy

EVERYTHING = 100


def with_roles(policy: RolloutPolicy, status: Status, world: World) -> Status:
    """Return a status whose roles are variants of the policy; without a readable route it stays as it is."""
    first, second = (variant.name for variant in policy.spec.variants[:2])
    if (status.roles and {status.roles.control, status.roles.candidate} <= {first, second}) or not world.live:
        return status
    known = _known(status)
    renamed = {name: known[rev] for name, rev in world.revisions.items() if rev in known}
    control = next((name for name, old in renamed.items() if old == _control(status)), first)
    settled = {
        name: world.revisions[name]
        for name, old in renamed.items()
        if status.settled.get(old) == world.revisions[name]
    }
    if status.roles is None and world.live.get(second) == EVERYTHING:
        control, settled = second, dict(world.revisions)
    roles = Roles(control=control, candidate=second if control == first else first)
    # the last run keeps its number, and what it wanted under other names is nobody's wish any more
    run = status.run and status.run.model_copy(update={"applied": True})
    return status.model_copy(update={"roles": roles, "settled": settled, "weights": {}, "run": run})


def _known(status: Status) -> dict[str, str]:
    """Return the old name of each revision that the status knows."""
    revisions = (status.run.revisions if status.run else {}) | status.settled
    return {revision: name for name, revision in revisions.items()}


def _control(status: Status) -> str | None:
    return status.roles.control if status.roles else None
