"""The rules while no run is open, in their order: finish the last one, start the next one, watch, or rest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.crashes import CANNOT_START, CRASH_LOOP
from controller.decision import Case, Decision
from controller.drifting import correct, undone
from controller.idle import rest, tend
from controller.promotion import answer, copy
from controller.settling import settle
from controller.status import Run, Watching

if TYPE_CHECKING:
    from policies.model import Metadata

HINDRANCES = (CRASH_LOOP, CANNOT_START, "ProgressDeadlineExceeded")
"""What is wrong with a new candidate that does not pass by itself, the most telling first."""
PATIENCE = 3600.0
"""Seconds for which a watch that is over waits for metrics that cannot be read."""


def _taken(case: Case) -> Decision | None:
    """Touch nothing while an older policy has the route."""
    return case.route_taken()


def _finish(case: Case) -> Decision | None:
    run = case.status.run
    return None if run is None or run.applied else settle(case) or correct(case, "Settle")


def _unusable(case: Case) -> Decision | None:
    """Begin nothing by a policy that is invalid."""
    if not case.world.invalid:
        return None
    if case.action is not None:
        return case.refuse(f"cannot {case.action.verb}: the policy is invalid: {case.world.invalid}")
    return case.policy_invalid()


def _retry(case: Case) -> Decision | None:
    action = case.action
    if action is None:
        return None
    if action.verb != "retry":
        return case.refuse(f"cannot {action.verb}: no run is in progress")
    return _begin(case, f"retried by {action.actor}") or case.refuse("not ready: " + _why_not(case))


def _start(case: Case) -> Decision | None:
    roles = case.status.roles
    return _begin(case, f"{roles.candidate} is new") if roles and _awaited(case) else None


def _awaited(case: Case) -> bool:
    """Tell whether the candidate is of a revision that has had no run, as far as that is known."""
    roles = case.status.roles
    revision = case.world.revisions.get(roles.candidate) if roles else None
    return roles is not None and revision is not None and case.status.settled.get(roles.candidate) != revision


def _begin(case: Case, why: str) -> Decision | None:
    """Start a run, if control and candidate take traffic as they are and the route can be written."""
    roles, revisions, world = case.status.roles, dict(case.world.revisions), case.world
    if roles is None or world.live is None or {roles.control, roles.candidate} - revisions.keys():
        return None
    if {roles.control, roles.candidate} & (world.missing.keys() | world.rolling.keys()) or _hindrance(case):
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
    status = case.status.model_copy(update={"run": run, "weights": weights, "idle": None})
    return Decision("Start", "Started", message, status, weights)


def _run_id(meta: Metadata, number: int) -> str:
    """Name a run so that a start that is decided again after a crash is the same run."""
    return ".".join(part for part in (meta.namespace, meta.name, str(number), meta.uid[:8]) if part)


def _watch(case: Case) -> Decision | None:
    """Tell of what the watch over a promoted version finds, and end it; traffic is never touched.

    Going back is not for a machine to decide: the old version may be gone, or be older than its data.
    """
    run = case.status.run
    if run is None or run.watch is None or run.watch.over:
        return None
    new = {name: words for name, words in case.world.surges.items() if name not in run.watch.surges}
    if new:
        watch = Watching(surges={**run.watch.surges, **new})
        message = f"{'; '.join(new.values())}. The traffic is left as it is"
        return replace(case.keep("Alarm", "Surge", message, watch=watch), warning=True)
    reason, message = _watch_over(case, run, run.watch)
    if not reason:
        return None
    return case.keep("EndWatch", reason, message, watch=run.watch.model_copy(update={"over": message}))


def _watch_over(case: Case, run: Run, watch: Watching) -> tuple[str, str]:
    """Return why a watch is over, in a word and a sentence; empty while it goes on."""
    wanted, revisions = case.policy.spec.watch, case.world.revisions
    if wanted is None:
        return "WatchRemoved", "the policy asks for no watch any more"
    if case.world.unwatchable:
        return "NotWatched", case.world.unwatchable
    promoted = case.status.settled.get(run.carrier)
    if revisions.get(run.carrier, promoted) != promoted:
        return "NewRevision", f"{run.carrier} is no longer what was promoted"
    # the last interval is read a moment after its end
    until = (run.ended_at or case.now) + wanted.duration.seconds + case.interval
    unread = case.world.metrics_error
    if case.now < until + (PATIENCE if unread else 0.0) or case.world.behind:
        return "", ""
    found = f"surges of {', '.join(watch.surges)}" if watch.surges else "nothing became more frequent"
    lost = f", but the end could not be read: {unread}" if unread else ""
    return "WatchOver", f"{run.carrier} was watched for {wanted.duration}: {found}{lost}"


def _idle(case: Case) -> Decision:
    run, world = case.status.run, case.world
    if hindrance := _hindrance(case):
        return case.hold(*hindrance, warning=True)
    if _unreleased(case):
        return case.hold("Idle", _why_not(case))
    if world.live is None or _wanting(case):
        return case.hold("NotReady", _why_not(case), warning=True)
    if _awaited(case) and (world.rolling or world.missing):
        return case.hold("RollingOut", _why_not(case))
    return case.hold(run.outcome or "Idle", run.message) if run else case.hold("Idle", "nothing to roll out")


def _hindrance(case: Case) -> tuple[str, str] | None:
    """Return why a new candidate will not be ready by itself, in a word and in a sentence."""
    failing = case.world.failing if _awaited(case) else {}
    return next(((reason, failing[reason]) for reason in HINDRANCES if reason in failing), None)


def _unreleased(case: Case) -> bool:
    """Tell whether there was no release yet, and nothing is amiss: the candidate is there, without pods."""
    roles, world = case.status.roles, case.world
    if roles is None or case.status.run is not None or world.live is None:
        return False
    return world.missing.keys() == {roles.candidate} and roles.candidate in world.asleep


def _wanting(case: Case) -> set[str]:
    """Return the variants that should take traffic and do not.

    A candidate that had its run may rest; the first pod of a new one may load a model for minutes.
    """
    roles, missing = case.status.roles, set(case.world.missing)
    if roles is None or roles.candidate not in case.world.revisions:
        return missing
    if _awaited(case) and roles.candidate in case.world.asleep:
        return missing
    return missing - {roles.candidate}


def _why_not(case: Case) -> str:
    world, hindrance = case.world, _hindrance(case)
    if hindrance:
        return hindrance[1]
    reasons = [f"{name}: {why}" for name, why in sorted({**world.rolling, **world.missing}.items())]
    return "; ".join(reasons) or case.world.route_error or "nothing is known of it yet"


NO_RUN = (_taken, answer, _finish, copy, _unusable, tend, _retry, _start, _watch, rest, undone, _idle)
