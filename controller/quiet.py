"""An open run about which nothing is out of the ordinary: only few rules need to be asked of it.

These are `controller.open_run.QUIET`. Each rule that is left out has nothing to say here, for one of the
reasons in `is_quiet`; the tests hold that the decision is always the one that all rules would have come to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.decision import Case


def is_quiet(case: Case) -> bool:
    """Tell whether an open run stands as it should: nobody asks, nothing is missing, the traffic is right."""
    world, judgement, run = case.world, case.judgement, case.run
    return (
        not (world.deleting or world.taken or world.missing or world.failing or world.invalid)
        and world.action is None
        and judgement.kind != "Harmful"
        and not judgement.harm
        and run.applied
        and not run.paused
        and bool(run.step_started_at)
        and world.live == run.weights
        and world.revisions == run.revisions
    )
