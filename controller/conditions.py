"""From a decision to what humans and scripts read: conditions and the one-line summary. Pure.

Conditions follow kstatus, so `kubectl wait`, Flux and Argo CD understand them: Ready (nothing in progress
and nothing wrong), Reconciling (a run is going on, or a new revision is on its way to one), Stalled (it
cannot go on by itself), and our own: Progressing, Paused, Healthy (no harm shown, and no surge after a
promotion), TrafficApplied, MetricsAvailable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.crashes import CANNOT_START, CRASH_LOOP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.decision import Decision, Judgement, World
    from controller.status import Run, Status, Truth

STALLED = frozenset(
    {
        "RouteUnreadable",
        "ControlGone",
        "Drift",
        "Contested",
        "Invalid",
        "DeadlineExceeded",
        "MetricsUnavailable",
        "NoData",
        "NotReady",
        CRASH_LOOP,
        CANNOT_START,
        "ProgressDeadlineExceeded",
        "RouteTaken",
        "PolicyInvalid",
        "CopyFailed",
        "ScaleUpRefused",
    }
)
"""Reasons to hold that do not pass by themselves."""
COPY_REASONS = {
    "Writing": "Copying",
    "RollingOut": "CopyRollingOut",
    "Returning": "CopyReturning",
    "Failed": "CopyFailed",
    "Done": "CopyDone",
    "GivenUp": "CopyGivenUp",
    "Skipped": "NothingToCopy",
}
"""How a copy stands, as a reason."""
WORDS = {"NoData": "no data"}
"""What a verdict is called in a sentence, where its own name is none."""
PROGRESS = frozenset({"Ready", "Reconciling", "Stalled", "Progressing"})
REWORDED = frozenset(
    {
        "RouteUnreadable",
        "ControlGone",
        "Drift",
        "Contested",
        "NotReady",
        "ProgressDeadlineExceeded",
        "RouteTaken",
        "PolicyInvalid",
        "CopyFailed",
        "ScaleUpRefused",
    }
)
"""Reasons whose words are told again when they change: they hold no numbers that move by themselves, and
whoever repairs one thing has to read what is the next."""
OUTRANKING = frozenset({"RouteTaken", "PolicyInvalid", "ProgressDeadlineExceeded"})
"""Those that matter more than how the last run ended."""
HINDERED = {CRASH_LOOP: "crash again and again", CANNOT_START: "cannot start"}
"""What is wrong with the pods of a new candidate, in words without numbers; before its run, these too matter
more than how the last one ended."""
DRIFTED = frozenset({"Drift", "Contested"})
"""Those that say that the weights are not the wanted ones, and who changed them."""
PASSING = frozenset({"Writing", "WaitingForProxies", "CatchingUp", "Measuring"})
"""Reasons that pass by themselves, mostly within seconds: the words before them stay while they are true."""
ROLLING_OUT = "RollingOut"
"""Reason to hold while a new revision rolls out, which makes how the last run ended a thing of the past."""
DECIDED = PROGRESS | {"Paused"}
"""Conditions that say what was decided last."""
ENDINGS = frozenset({"RollBack", "Promote", "Supersede", "Delete"})
"""Decisions that end a run."""
ASIDE = frozenset({"Alarm", "EndWatch"})
"""Decisions about a version that was promoted before: they say nothing of how far the next one is."""


def _truth(value: bool | None) -> Truth:
    return "Unknown" if value is None else "True" if value else "False"


def with_conditions(
    decision: Decision, world: World, judgement: Judgement, *, now: float, generation: int
) -> Status:
    """Return the decision's status with generation, verdict, summary and all conditions.

    To turn an action down says nothing of how the rollout stands: all that is left as the last look found it.
    """
    if decision.action == "Refuse":
        return decision.status
    status, run = decision.status, decision.status.run
    table = _table(decision, world, judgement)
    told = _told(status, table) if decision.reason in PASSING else {}
    if decision.reason == ROLLING_OUT:
        told = dict.fromkeys(PROGRESS, (ROLLING_OUT, _awaited(decision)))
    aside = {each.type for each in status.conditions if each.type in PROGRESS and decision.action in ASIDE}
    for type_, value in table:
        if type_ in aside:
            continue
        reason, message = (
            _why_copy(type_, run) or told.get(type_) or _why(type_, decision, world, judgement, run)
        )
        status = status.with_condition(
            type_, _truth(value), reason, message, now=now, generation=generation, reword=reason in REWORDED
        )
    # an ended run keeps the verdict that ended it
    judged = (run is not None and run.active) or decision.action in ENDINGS
    verdict = judgement.kind if judged else status.verdict
    return status.model_copy(
        update={
            "observed_generation": generation,
            "verdict": verdict,
            "summary": summary(decision, judgement),
        }
    )


def _table(decision: Decision, world: World, judgement: Judgement) -> tuple[tuple[str, bool | None], ...]:
    """Return how each condition stands; None is unknown."""
    run = decision.status.run
    active = run is not None and run.active
    coming = decision.reason == ROLLING_OUT
    busy = active or coming or (run is not None and run.copies)
    failed = run is not None and run.outcome == "RolledBack"
    stalled = (failed and not coming) or decision.reason in STALLED
    silent = bool(world.metrics_error) or (active and "NoData" in {judgement.kind, decision.reason})
    harmed = failed and run is not None and run.reason == "Harmful"
    invalid = active and judgement.kind == "Invalid"
    table: tuple[tuple[str, bool | None], ...] = (
        ("Ready", not busy and not stalled and (run is None or run.applied)),
        ("Reconciling", busy and not stalled),
        ("Stalled", stalled),
        ("Progressing", busy and not stalled and not (run and run.paused)),
        ("Paused", bool(run and run.paused)),
        ("Healthy", None if run is None else not (harmed or _surges(run) or invalid)),
        ("TrafficApplied", run.applied and decision.reason not in DRIFTED if run else None),
        ("MetricsAvailable", not silent if active else None),
    )
    if run is not None and run.copying is not None:
        return (*table, ("Copied", run.copying.phase == "Done"))
    return table


def _told(status: Status, table: tuple[tuple[str, bool | None], ...]) -> Mapping[str, tuple[str, str]]:
    """Return the words of what was decided last; none when they are no longer true."""
    known = {each.type: each for each in status.conditions if each.type in DECIDED}
    now = {type_: _truth(value) for type_, value in table if type_ in DECIDED}
    if {type_: each.status for type_, each in known.items()} != now:
        return {}
    return {type_: (each.reason, each.message) for type_, each in known.items()}


def looked_at(decision: Decision, world: World, judgement: Judgement, generation: int) -> tuple[object, ...]:
    """Return all that `with_conditions` looks at beside the status and the time.

    If it changed nothing before, it changes nothing for the same status while this stays the same.
    """
    told = decision.status.run is None or decision.reason in STALLED or decision.reason in OUTRANKING
    message = decision.message if told else ""
    return (
        decision.action, decision.reason, message, judgement.kind, world.metrics_error, world.applied.detail,
        generation,
    )  # fmt: skip


def _why_copy(type_: str, run: Run | None) -> tuple[str, str] | None:
    """Return how the copy stands, for the conditions that it decides."""
    if run is None or run.copying is None or type_ not in {"Copied", *(PROGRESS if run.copies else ())}:
        return None
    return COPY_REASONS[run.copying.phase], run.copying.message


def _why(
    type_: str, decision: Decision, world: World, judgement: Judgement, run: Run | None
) -> tuple[str, str]:
    """Return the reason and the message of a condition; messages hold no numbers that move at every look."""
    if type_ == "MetricsAvailable":
        if world.metrics_error:
            return "MetricsUnavailable", world.metrics_error
        silent = decision.reason == "NoData"
        return ("NoData", "the last intervals have had no data") if silent else (judgement.kind, "")
    if type_ == "Healthy":
        if run and _surges(run):
            return "Surge", "; ".join(_surges(run).values())
        return ("Judged", "") if run and run.active else (run.reason if run else "NoRun", "")
    drifted = decision.reason in DRIFTED
    if type_ == "TrafficApplied" and not drifted:
        return ("Applied", "") if run and run.applied else ("Pending", world.applied.detail)
    unopened = not (run and run.active) and (drifted or decision.reason in HINDERED)
    if decision.reason in OUTRANKING or unopened:
        return decision.reason, decision.message
    if run is not None and not run.active:
        return run.reason or str(run.outcome), run.message
    reason = (
        "Holding" if decision.action == "Confirm" else decision.reason
    )  # that is what it does from now on
    return reason, decision.message if decision.reason in STALLED - {"NoData"} else ""


def summary(decision: Decision, judgement: Judgement) -> str:
    """Return one line for humans."""
    run = decision.status.run
    if decision.reason in HINDERED and not (run and run.active):
        return f"{_candidate(decision)} is new, but its pods {HINDERED[decision.reason]}"
    if run is None or decision.reason in OUTRANKING:
        return decision.message
    if decision.reason == ROLLING_OUT:
        return _awaited(decision)
    if not run.active:
        changed = decision.reason in DRIFTED
        since = ", but the weights were changed since" if changed else _afterwards(run)
        return f"{run.outcome} ({run.reason}){since}"
    place = f"Step {run.step + 1}/{run.steps}, {run.candidate_weight}% to {run.candidate}"
    mixture = ", against a control that changed" if run.control_revision else ""
    if decision.reason in DRIFTED:
        return f"{place}: {decision.reason.lower()}"
    verdict = WORDS.get(judgement.kind, judgement.kind.lower())
    return f"{place}: {'paused' if run.paused else verdict}{mixture}"


def _awaited(decision: Decision) -> str:
    """Return what a rollout waits for whose candidate rolls out; without counts, which move by themselves."""
    return f"{_candidate(decision)} is new; its run begins when all pods are ready"


def _candidate(decision: Decision) -> str:
    roles = decision.status.roles
    return roles.candidate if roles else "the candidate"


def _afterwards(run: Run) -> str:
    """Return what there is to say of an ended run beside how it ended."""
    if not run.applied:
        return ", the proxies are not there yet"
    if run.copying and run.copies:
        failed = run.copying.phase == "Failed"
        return f", the copy to {run.control} failed" if failed else f", being copied to {run.control}"
    if _surges(run):
        return f", surge of {', '.join(_surges(run))}"
    return ", being watched" if run.watched else ""


def _surges(run: Run) -> Mapping[str, str]:
    """Return what has become more frequent after the promotion, in words, by metric."""
    return run.watch.surges if run.watch else {}
