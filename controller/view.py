"""One picture of a rollout: what the CLI's tree, the API's JSON and the dashboard all show.

A view is made from a RolloutPolicy with status and its events, and nothing else: no clock, no I/O. It is
lenient, since a status may be younger, older or not there yet; what is missing is None or empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from controller.metric_view import MetricView, metric_views
from controller.numbers import unix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]

EXIT_CODES: Final[Mapping[str, int]] = {
    "Idle": 0,
    "Promoted": 0,
    "Pending": 3,
    "RollingOut": 3,
    "Progressing": 3,
    "Superseded": 3,
    "Paused": 4,
    "Waiting": 4,
}
"""Exit status of `penstock status` by state; every other state (RolledBack, Stalled, ...) is 1."""

NEXT_RUN: Final[Mapping[str, str]] = {"RollingOut": "RollingOut", "ProgressDeadlineExceeded": "Stalled"}
"""State by the reason of Ready, where it speaks of the next run: whatever came of the last one."""


@dataclass(frozen=True, slots=True)
class VariantView:
    """A version of the service and its share of the requests."""

    name: str
    role: str
    """control, candidate, or empty before the first run."""
    weight: int | None
    """Per cent wanted now."""
    destination: str
    """The subset or host that it is sent to."""


@dataclass(frozen=True, slots=True)
class StepView:
    """A stage of the canary."""

    number: int
    weight: int
    hold: str
    pause: bool
    state: str
    """done, current or next."""


@dataclass(frozen=True, slots=True)
class EventView:
    """Something that happened, with how often and when last."""

    type: str
    reason: str
    message: str
    count: int
    first_seen: str | None
    last_seen: str | None
    object: str
    """namespace/name of the rollout, as far as it is known."""


@dataclass(frozen=True, slots=True)
class WatchView:
    """The watch over a promoted version."""

    over: str
    """Why it ended; empty while it goes on."""
    surges: dict[str, str]
    """What has become more frequent than in the rollout, in words, by metric."""


@dataclass(frozen=True, slots=True)
class RunView:
    """The run in progress, or the last one."""

    id: str
    number: int
    step: int
    """Counts from 1 (in the status from 0)."""
    steps: int
    started_at: str | None
    ended_at: str | None
    outcome: str | None
    reason: str | None
    message: str | None
    applied: bool
    """Whether the proxies confirmed the weights."""
    watch: WatchView | None = None
    """After a promotion, if the policy asks for it."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in a list."""

    id: str
    policy: str
    """namespace/name of its rollout."""
    number: int
    control: str
    candidate: str
    started_at: str | None
    ended_at: str | None
    outcome: str | None
    """None while it goes on."""
    reason: str | None
    message: str | None
    verdict: str | None
    weights: dict[str, int]
    harm_holds: bool | None = None
    """Whether its harm holds among all runs of the list (false discovery rate 5 %); None without evidence."""


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout at a glance."""

    namespace: str
    name: str
    state: str
    """Pending, Idle, RollingOut, Progressing, Paused, Waiting, Stalled, or how the last run ended."""
    summary: str
    verdict: str | None
    sentence: str
    """The judge's last verdict in one sentence."""
    e_rollback: float | None
    bound_rollback: float | None
    run: RunView | None
    variants: tuple[VariantView, ...]
    steps: tuple[StepView, ...]
    metrics: tuple[MetricView, ...]
    conditions: tuple[Json, ...]
    events: tuple[EventView, ...]
    created_at: str | None
    resource_version: str
    object: Json | None = None
    """The RolloutPolicy itself, where it was asked for."""

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"

    @property
    def exit_code(self) -> int:
        """What `penstock status` exits with."""
        return EXIT_CODES.get(self.state, 1)

    @property
    def finished(self) -> bool:
        """Whether waiting longer is pointless: nothing runs, or a person has to repair something."""
        return self.exit_code in {0, 1}


def rollout_view(policy: Json, events: Sequence[Json] = (), *, with_object: bool = False) -> RolloutView:
    """Return the view of a RolloutPolicy object; `events` are those of this rollout, in any order."""
    metadata, status = policy.get("metadata") or {}, policy.get("status") or {}
    verdict, run = status.get("lastVerdict") or {}, _run(status.get("run"))
    return RolloutView(
        namespace=metadata.get("namespace") or "default",
        name=metadata.get("name") or "",
        state=_state(status),
        summary=status.get("summary") or "Waiting for the controller's first look",
        # while a run is open, the status may owe the newest word (`controller.wording`)
        verdict=(run and not run.outcome and verdict.get("kind")) or status.get("verdict"),
        sentence=verdict.get("sentence") or "",
        e_rollback=verdict.get("e_rollback"),
        bound_rollback=verdict.get("bound_rollback"),
        run=run,
        variants=_variants(policy.get("spec") or {}, status),
        steps=_steps(policy.get("spec") or {}, run),
        metrics=metric_views(verdict),
        conditions=tuple(status.get("conditions") or ()),
        events=event_views(events),
        created_at=metadata.get("creationTimestamp"),
        resource_version=str(metadata.get("resourceVersion") or ""),
        object=policy if with_object else None,
    )


def run_summary(run: Mapping[str, Any]) -> RunSummary:
    """Return a run of the history (`ports.History.runs`) as it is listed."""
    return RunSummary(
        id=str(run.get("id") or ""),
        policy=policy_key(run),
        number=run.get("number") or 0,
        control=run.get("control") or "",
        candidate=run.get("candidate") or "",
        started_at=run.get("startedAt"),
        ended_at=run.get("endedAt"),
        outcome=run.get("outcome"),
        reason=run.get("reason"),
        message=run.get("message"),
        verdict=(run.get("verdict") or {}).get("kind"),
        weights=dict(run.get("weights") or {}),
    )


def policy_key(run: Mapping[str, Any]) -> str:
    """Return `namespace/name` of a run's policy, which the history keeps whole or as that key."""
    policy = run.get("policy") or ""
    if isinstance(policy, str):
        return policy
    metadata = policy.get("metadata") or {}
    return f"{metadata.get('namespace') or 'default'}/{metadata.get('name') or ''}"


def event_views(events: Sequence[Json]) -> tuple[EventView, ...]:
    """Return events as views, the latest first."""
    views = [_event(event) for event in events]
    return tuple(sorted(views, key=lambda event: unix(event.last_seen) or 0.0, reverse=True))


def condition(status: Json, type_: str) -> Json:
    """Return a condition of a status, or an empty one."""
    found: Json = next((c for c in status.get("conditions") or () if c.get("type") == type_), {})
    return found


def _state(status: Json) -> str:
    run = status.get("run") or {}
    if next_ := NEXT_RUN.get(condition(status, "Ready").get("reason", "")):
        return next_
    if run.get("outcome"):
        return str(run["outcome"])
    if condition(status, "Stalled").get("status") == "True":
        return "Stalled"
    if not status:
        return "Pending"
    if not run:
        return "Idle"
    if run.get("paused"):
        return "Paused"
    return "Waiting" if run.get("waitingForApproval") else "Progressing"


def _run(run: Json | None) -> RunView | None:
    if not run:
        return None
    return RunView(
        id=str(run.get("id") or ""),
        number=run.get("number") or 0,
        step=(run.get("step") or 0) + 1,
        steps=run.get("steps") or 0,
        started_at=run.get("startedAt"),
        ended_at=run.get("endedAt"),
        outcome=run.get("outcome"),
        reason=run.get("reason"),
        message=run.get("message"),
        applied=bool(run.get("applied")),
        watch=_watch(run.get("watch")),
    )


def _watch(watch: Json | None) -> WatchView | None:
    return WatchView(watch.get("over") or "", dict(watch.get("surges") or {})) if watch else None


def _variants(spec: Json, status: Json) -> tuple[VariantView, ...]:
    roles = {name: role for role, name in (status.get("roles") or {}).items()}
    weights = status.get("weights") or {}
    return tuple(
        VariantView(
            name=str(variant.get("name")),
            role=roles.get(variant.get("name"), ""),
            weight=weights.get(variant.get("name")),
            destination=str(variant.get("subset") or variant.get("host") or ""),
        )
        for variant in spec.get("variants") or ()
    )


def _steps(spec: Json, run: RunView | None) -> tuple[StepView, ...]:
    current, outcome = (run.step, run.outcome) if run else (0, None)
    steps = ((spec.get("strategy") or {}).get("canary") or {}).get("steps") or ()
    return tuple(
        StepView(
            number=number,
            weight=step.get("weight") or 0,
            hold=str(step.get("hold") or "0s"),
            pause=bool(step.get("pause")),
            state=_step_state(number, current, outcome),
        )
        for number, step in enumerate(steps, start=1)
    )


def _step_state(number: int, current: int, outcome: str | None) -> str:
    if outcome == "Promoted" or number < current:
        return "done"
    return "current" if number == current and outcome is None else "next"


def _place(object_: Json | str | None) -> str:
    """Return namespace/name of the object that an event is about."""
    if isinstance(object_, dict):
        return f"{object_.get('namespace') or 'default'}/{object_.get('name') or ''}"
    return object_ or ""


def _event(event: Json) -> EventView:
    return EventView(
        type=event.get("type") or "Normal",
        reason=event.get("reason") or "",
        message=event.get("message") or "",
        count=event.get("count") or 1,
        first_seen=event.get("firstSeen"),
        last_seen=event.get("lastSeen"),
        object=_place(event.get("object")),
    )
