"""The rules while no run is open, in their order: finish the last one, start the next one, watch, or rest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.decision import Case, Decision
from controller.settling import settle
from controller.status import Run, Watching

if TYPE_CHECKING:
    from policies.model import Metadata

PATIENCE = 3600.0
"""Seconds for which a watch that is over waits for metrics that cannot be read."""


def _finish(case: Case) -> Decision | None:
    return settle(case) if case.status.run is not None and not case.status.run.applied else None


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
    if revisions.get(run.candidate, run.revisions.get(run.candidate)) != run.revisions.get(run.candidate):
        return "NewRevision", f"{run.candidate} is no longer what was promoted"
    # the last interval is read a moment after its end
    until = (run.ended_at or case.now) + wanted.duration.seconds + case.interval
    unread = case.world.metrics_error
    if case.now < until + (PATIENCE if unread else 0.0) or case.world.behind:
        return "", ""
    found = f"surges of {', '.join(watch.surges)}" if watch.surges else "nothing became more frequent"
    lost = f", but the end could not be read: {unread}" if unread else ""
    return "WatchOver", f"{run.candidate} was watched for {wanted.duration}: {found}{lost}"


def _idle(case: Case) -> Decision:
    run = case.status.run
    if case.world.live is None or case.world.missing:
        return case.hold("NotReady", _why_not(case), warning=True)
    return case.hold(run.outcome or "Idle", run.message) if run else case.hold("Idle", "nothing to roll out")


def _why_not(case: Case) -> str:
    reasons = [f"{name}: {why}" for name, why in sorted(case.world.missing.items())]
    return "; ".join(reasons) or case.world.route_error or "nothing is known of it yet"


NO_RUN = (_finish, _retry, _start, _watch, _idle)
