"""The rule that open and ended runs share: make true what the status wants, then have it confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.decision import Decision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.decision import Case


def settle(case: Case) -> Decision | None:
    """Make true what the status wants: our own unfinished write, or proxies that have not confirmed it."""
    run, world = case.run, case.world
    if world.live is None:
        return case.hold("RouteUnreadable", world.route_error or "the route cannot be read", warning=True)
    if run.applied:
        return None
    if dict(world.live) != run.weights:
        if world.overwritten or (run.contest and run.contest.until):
            return None  # it was written, and somebody changed it: `controller.drifting`
        return Decision("Settle", "Writing", "writing the weights", case.status, run.weights, notable=False)
    if not world.applied.ok:
        return case.hold("WaitingForProxies", world.applied.detail)
    message = f"the proxies run {words(run.weights)}"
    ended = None if run.active or run.copies else case.now
    return case.keep(
        "Confirm", "TrafficApplied", message, applied=True, step_started_at=case.now, ended_at=ended
    )


def words(weights: Mapping[str, int]) -> str:
    """Return weights for a message."""
    return ", ".join(f"{name} {weight}%" for name, weight in weights.items())
