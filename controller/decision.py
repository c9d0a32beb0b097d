"""What a decision is made of: the world, the judgement, and the decision itself, all plain data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from controller.ports import Applied
from controller.standing import uncopyable
from controller.status import Copying, Outcome, Roles, Run, Status, Watching

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.chores import Chore
    from controller.standing import Side
    from policies.model import RolloutPolicy, Step

Kind = Literal["Harmful", "Safe", "Undecided", "NoData", "Invalid"]
NOT_APPLIED = Applied(ok=False, detail="the proxies have not confirmed yet")


@dataclass(frozen=True, slots=True)
class Action:
    """What a person asked for; the nonce makes it happen once."""

    nonce: str
    verb: str
    actor: str = "unknown"


@dataclass(frozen=True, slots=True)
class World:
    """What is so, as far as it can be read."""

    revisions: Mapping[str, str] = field(default_factory=dict)
    """What each variant is, if that is known; also of one that takes no traffic now."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Variants that take no traffic, and why."""
    rolling: Mapping[str, str] = field(default_factory=dict)
    """Variants whose pods are not all there in the present revision, and why."""
    asleep: Sequence[str] = ()
    """Variants that are scaled to zero."""
    failing: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with the pods of the candidate of an open run, in words, by reason."""
    taken: str = ""
    """The older policy that has the route, if there is one."""
    invalid: str = ""
    """Why the policy cannot be used as it stands; the last valid one is used instead."""
    live: Mapping[str, int] | None = None
    """Weights in force in the VirtualService, per variant; None when the route cannot be read."""
    route_error: str = ""
    changed_by: str = "unknown"
    """Who wrote the route last, when it is not as we left it."""
    overwritten: bool = False
    """Whether the wanted weights were written here, and somebody changed the route since."""
    late: bool = False
    """Whether Penstock wrote the route last, but not this process: a write of an earlier leader, late."""
    applied: Applied = NOT_APPLIED
    metrics_error: str = ""
    behind: bool = False
    """Whether intervals that are long over have not all been read yet."""
    action: Action | None = None
    surges: Mapping[str, str] = field(default_factory=dict)
    """What the watch over a promoted version has found so far, in words, by metric."""
    unwatchable: str = ""
    """Why a promoted version cannot be watched at all."""
    sides: Mapping[str, Side] = field(default_factory=dict)
    """The workloads of each variant, where the policy copies or scales them."""
    in_use: str = ""
    """What else uses the workloads of the version without traffic, when it is to be scaled down."""
    refused: str = ""
    """Why the store refused what was to be written last."""
    deleting: bool = False
    """Whether the policy is being deleted."""
    held: bool = False
    """Whether our finalizer keeps the policy."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge says, as far as a decision needs it."""

    kind: Kind = "NoData"
    sentence: str = "no requests have been counted yet"
    blame: str | None = None
    harm: str = ""
    """Proven harm in words; it counts also when the split is not the intended one (kind Invalid)."""
    enough: bool = False
    """Whether control and candidate have had the least number of requests."""
    data_end: float | None = None
    """End of the last interval in which every metric had data, unix seconds."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """The whole verdict, for the history."""

    @property
    def known(self) -> bool:
        """Whether there is a verdict at all."""
        return bool(self.numbers)

    @property
    def brief(self) -> Mapping[str, Any]:
        """As much of `numbers` as the history keeps of a look that holds."""
        return self.numbers


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, as data. `write` is None when traffic stays as it is."""

    action: str
    reason: str
    message: str
    status: Status
    write: Mapping[str, int] | None = None
    chores: tuple[Chore, ...] = ()
    """What else is to be written, after the weights."""
    notable: bool = True
    """Whether it is an event and goes to the history; a plain hold is not."""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """Everything a rule may look at, and the few ways in which it can decide."""

    policy: RolloutPolicy
    status: Status
    world: World
    judgement: Judgement
    now: float

    @property
    def inputs(self) -> tuple[RolloutPolicy, Status, World, Judgement, float]:
        """Everything that a decision is made of, in the order that `decide` takes it."""
        return self.policy, self.status, self.world, self.judgement, self.now

    @property
    def run(self) -> Run:
        """The present run; ValueError when there is none."""
        if self.status.run is None:
            raise ValueError("this rule is for a run")
        return self.status.run

    @property
    def steps(self) -> tuple[Step, ...]:
        """The canary's steps."""
        canary = self.policy.spec.strategy.canary
        return canary.steps if canary else ()

    @property
    def interval(self) -> float:
        """Seconds between looks."""
        return self.policy.spec.decision.interval.seconds

    @property
    def compares(self) -> bool:
        """Whether both versions are meant to get traffic, so that there is something to measure."""
        return 0 < self.run.candidate_weight < sum(self.run.weights.values())

    @property
    def action(self) -> Action | None:
        """The manual action that has not been seen yet."""
        action = self.world.action
        return None if action is None or self.status.has_answered(action.nonce) else action

    def hold(self, reason: str, message: str, *, warning: bool = False) -> Decision:
        """Change nothing, and say why."""
        return Decision("Hold", reason, message, self.status, notable=False, warning=warning)

    def route_taken(self) -> Decision | None:
        """Hold while an older policy has one of the routes."""
        if not self.world.taken:
            return None
        message = f"{self.world.taken} is older and manages the same route; this policy waits for its end"
        return self.hold("RouteTaken", message, warning=True)

    def policy_invalid(self) -> Decision:
        """Hold until the policy is valid again."""
        return self.hold("PolicyInvalid", f"the policy is invalid: {self.world.invalid}", warning=True)

    def refuse(self, message: str) -> Decision:
        """Turn a manual action down."""
        return Decision("Refuse", "ActionRefused", message, self.status, warning=True)

    def keep(self, action: str, reason: str, message: str, **run: Any) -> Decision:
        """Change the run but not the traffic."""
        return Decision(action, reason, message, self._status(**run))

    def shift(self, action: str, reason: str, message: str, *, weight: int, **run: Any) -> Decision:
        """Change the split: `weight` per cent for the candidate."""
        weights = {self.run.control: 100 - weight, self.run.candidate: weight}
        status = self._status(
            weights=weights, applied=False, weights_changed_at=self.now, step_started_at=None, held=0.0,
            contest=None, **run,
        )  # fmt: skip
        status = status.model_copy(update={"weights": weights})
        return Decision(action, reason, message, status, write=weights)

    def roll_back(self, reason: str, message: str) -> Decision:
        """End the run with all traffic on the control."""
        return replace(self._end("RollBack", "RolledBack", reason, message, weight=0), warning=True)

    def promote(self, reason: str, message: str) -> Decision:
        """Send all traffic to the candidate.

        With `swap` this is the end of the run, and it is the control of the next one; with `copy`, its pod
        template is the next thing to go to the control (`controller.promotion`).
        """
        decision = self._end("Promote", "Promoted", reason, message, weight=100)
        watch, copying = Watching() if self.policy.spec.watch else None, self._copying()
        run = (decision.status.run or self.run).model_copy(update={"watch": watch, "copying": copying})
        roles = Roles(control=self.run.candidate, candidate=self.run.control)
        if run.copies:
            roles = Roles(control=self.run.control, candidate=self.run.candidate)
        return replace(decision, status=decision.status.model_copy(update={"roles": roles, "run": run}))

    def _copying(self) -> Copying | None:
        if self.policy.spec.promotion.mode != "copy":
            return None
        why = uncopyable(self.world.sides, (self.run.control, self.run.candidate))
        return Copying(phase="Skipped" if why else "Writing", since=self.now, message=why)

    def withdraw(self, message: str) -> Decision:
        """End the run, since the policy is being deleted, with all traffic on the control."""
        return self._end("Delete", "Superseded", "Deleted", message, weight=0)

    def supersede(self, reason: str, message: str) -> Decision:
        """End the run without a verdict on the candidate: its new revision will be judged afresh."""
        decision = self._end("Supersede", "Superseded", reason, message, weight=0)
        settled = {self.run.control: decision.status.settled[self.run.control]}
        return replace(decision, status=decision.status.model_copy(update={"settled": settled}))

    def leave(self, reason: str, message: str) -> Decision:
        """End the run without a verdict and without touching the traffic."""
        over = self._ended("Superseded", reason, message) | {"applied": True, "ended_at": self.now}
        return Decision("Supersede", reason, message, self._status(**over), warning=True)

    def _end(self, action: str, outcome: Outcome, reason: str, message: str, *, weight: int) -> Decision:
        decision = self.shift(action, reason, message, weight=weight)
        run = decision.status.run
        ended = run and run.model_copy(update=self._ended(outcome, reason, message))
        # the control is not on trial: as it is now, it needs no run
        control = self.run.control
        present = self.world.revisions.get(control, self.run.revisions[control])
        settled = {**self.run.revisions, control: present}
        status = decision.status.model_copy(update={"run": ended, "settled": settled})
        return replace(decision, status=status)

    def _ended(self, outcome: Outcome, reason: str, message: str) -> dict[str, Any]:
        return {
            "outcome": outcome, "reason": reason, "message": message, "decided_at": self.now,
            "blame": self.judgement.blame if reason == "Harmful" else None,
            "paused": False, "waiting_for_approval": False,
        }  # fmt: skip

    def _status(self, **changes: Any) -> Status:
        return self.status.model_copy(update={"run": self.run.model_copy(update=changes)})
