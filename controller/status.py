"""The status of a rollout: what is wanted, how far it is, and conditions that humans and scripts wait for.

The status is written before traffic is moved (docs/architecture.md), so it can be ahead of the VirtualService
(`applied: false`), never behind it. It holds no numbers that change at every look: a rollout that holds costs
no write.
"""

from __future__ import annotations

import operator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator
from pydantic.alias_generators import to_camel

from controller.words import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping


def to_rfc3339(seconds: float) -> str:
    """Print unix seconds as RFC 3339 with microseconds, as Kubernetes' MicroTime."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_rfc3339(value: str | float) -> float:
    """Read RFC 3339 (or unix seconds) as unix seconds; ValueError."""
    return value if isinstance(value, (int, float)) else datetime.fromisoformat(value).timestamp()


Time = Annotated[float, PlainValidator(from_rfc3339), PlainSerializer(to_rfc3339)]

Outcome = Literal["Promoted", "RolledBack", "Superseded"]
Truth = Literal["True", "False", "Unknown"]
COPY_OVER = frozenset({"Done", "GivenUp", "Skipped"})
LONGEST_MESSAGE = 4096
"""Kubernetes takes 32768 characters in a condition, and refuses the whole status for one more."""
KEPT_ANSWERS = 32
"""How many manual actions are remembered, so that none happens twice."""


class Part(BaseModel):
    """Base of the parts of the status: frozen, camelCase in JSON; unknown fields are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Condition(Part):
    """One condition, as in Kubernetes: the transition time moves only when the status does."""

    type: str
    status: Truth
    reason: str
    message: str
    last_transition_time: Time
    observed_generation: int


class LastAction(Part):
    """The last manual action that was seen, and what came of it."""

    nonce: str
    verb: str
    result: str


class Copying(Part):
    """How far the copy of the promoted version to the control is (`controller.promotion`)."""

    phase: Literal["Writing", "RollingOut", "Returning", "Failed", "Done", "GivenUp", "Skipped"]
    since: Time
    """When the phase began."""
    attempt: int = 1
    revision: str = ""
    """What the control is since the copy was written."""
    message: str = ""
    """Why it failed, was given up, or is not needed."""


class Idle(Part):
    """The version without traffic, scaled to zero (`controller.idle`)."""

    variant: str
    revision: str
    """What it was when it was scaled down; another one is scaled up again."""
    workloads: tuple[str, ...] = ()
    """Those that were scaled down, as KIND/NAME."""
    phase: Literal["Down", "Asleep", "Waking", "LeftAlone"]


class Watching(Part):
    """The watch over a promoted version."""

    over: str = ""
    """Why it ended; empty while it goes on."""
    surges: dict[str, str] = Field(default_factory=dict)
    """What has become more frequent than in the rollout, in words, by metric."""


class Contest(Part):
    """Corrections of the weights that somebody undoes (`controller.drifting`)."""

    count: int
    """How many were made in a row."""
    at: Time
    """When the last one was made."""
    until: Time | None = None
    """From when on the next one may be made; nothing while the last one stands."""


class Run(Part):
    """One attempt to bring one candidate revision to all traffic."""

    id: str
    number: int
    control: str
    candidate: str
    revisions: dict[str, str]
    step: int = 0
    steps: int
    weights: dict[str, int]
    applied: bool = False
    started_at: Time
    step_started_at: Time | None = None
    """When the proxies confirmed the present weights; the step's clock."""
    held: float = 0.0
    """Seconds that the step had at its weights before somebody changed them."""
    contest: Contest | None = None
    """Since the present weights were decided."""
    weights_changed_at: Time
    """When the present weights were decided."""
    control_revision: str = ""
    """What the control is now, if it changed during the run."""
    paused: bool = False
    waiting_for_approval: bool = False
    approved: bool = False
    waiting_since: Time | None = None
    """Since when the run waits for a person, to resume it or to approve its next step."""
    waited: float = 0.0
    """Seconds for which it waited for a person before; the deadline does not count them."""
    outcome: Outcome | None = None
    reason: str = ""
    message: str = ""
    blame: str | None = None
    decided_at: Time | None = None
    ended_at: Time | None = None
    watch: Watching | None = None
    """After a promotion, if the policy asks for it."""
    copying: Copying | None = None
    """After a promotion by copy."""

    @property
    def copies(self) -> bool:
        """Whether the promoted version is still being copied to the control."""
        return self.copying is not None and self.copying.phase not in COPY_OVER

    @property
    def carrier(self) -> str:
        """Return the variant that is to have most of the traffic."""
        return max(self.weights, key=lambda name: self.weights[name])

    @property
    def watched(self) -> bool:
        """Whether the promoted version is being watched."""
        return self.watch is not None and not self.watch.over

    @property
    def active(self) -> bool:
        """Whether the run is still open."""
        return self.outcome is None

    @property
    def candidate_weight(self) -> int:
        """The candidate's intended share in per cent."""
        return self.weights.get(self.candidate, 0)


class Roles(Part):
    """Which variant is which now; promotion swaps them."""

    control: str
    candidate: str


class Status(Part):
    """The whole status of a RolloutPolicy."""

    observed_generation: int = 0
    summary: str = ""
    verdict: str = ""
    roles: Roles | None = None
    weights: dict[str, int] = Field(default_factory=dict, exclude_if=operator.not_)
    """What is wanted; before the first run nothing, which `kubectl get` would print as {}."""
    run: Run | None = None
    settled: dict[str, str] = Field(default_factory=dict)
    """Revision per variant that needs no run: it was judged, or it was the control."""
    last_action: LastAction | None = None
    answered: tuple[str, ...] = ()
    """The last manual actions, oldest first, as VERB:NONCE."""
    idle: Idle | None = None
    """The version without traffic, if it was scaled down."""
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def of(cls, policy: Mapping[str, Any]) -> Status:
        """Read the status of a stored object; an empty one is a new rollout."""
        return cls.model_validate(policy.get("status") or {})

    def dump(self) -> dict[str, Any]:
        """Return the status as JSON values."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def has_answered(self, nonce: str) -> bool:
        """Tell whether a manual action was answered before."""
        return any(each.partition(":")[2] == nonce for each in self._answers())

    def answered_otherwise(self, nonce: str, verb: str) -> bool:
        """Tell whether a nonce was used, but for another verb only."""
        return self.has_answered(nonce) and f"{verb}:{nonce}" not in self._answers()

    def with_answer(self, answer: LastAction) -> Status:
        """Return the status that remembers the answer to a manual action."""
        answered = (*self._answers(), f"{answer.verb}:{answer.nonce}")[-KEPT_ANSWERS:]
        short = answer.model_copy(update={"result": shortened(answer.result, LONGEST_MESSAGE)})
        return self.model_copy(update={"last_action": short, "answered": answered})

    def _answers(self) -> tuple[str, ...]:
        """Return all that is remembered; older versions of Penstock kept the last action only."""
        last = self.last_action
        known = () if last is None else (f"{last.verb}:{last.nonce}",)
        return self.answered if set(known) <= set(self.answered) else (*self.answered, *known)

    def condition(self, type_: str) -> Condition | None:
        """Return one condition, or None."""
        return next((condition for condition in self.conditions if condition.type == type_), None)

    def with_condition(
        self, type_: str, status: Truth, reason: str, message: str, *, now: float, generation: int,
        reword: bool = False,
    ) -> Status:  # fmt: skip
        """Return the status with one condition set; one with the same status and reason stays as it is.

        `reword`: unless its message is another one.
        """
        old, message = self.condition(type_), shortened(message, LONGEST_MESSAGE)
        same = old and (old.status, old.reason, old.observed_generation) == (status, reason, generation)
        if old and same and (old.message == message or not reword):
            return self
        since = old.last_transition_time if old and old.status == status else now
        new = Condition(
            type=type_,
            status=status,
            reason=reason,
            message=message,
            last_transition_time=since,
            observed_generation=generation,
        )
        rest = tuple(condition for condition in self.conditions if condition.type != type_)
        return self.model_copy(update={"conditions": tuple(sorted((*rest, new), key=lambda c: c.type))})
