"""One rollout in one pass of the loop: what was read of it, what is known of its run, what was decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from controller.actions import pending
from controller.chores import FINALIZER
from controller.crashes import CRASH_LOOP
from controller.decision import NOT_APPLIED, Case, Decision, Judgement, World
from controller.machine import decide
from controller.ports import Applied, Finite, Ref, Tick
from controller.replay import kept
from controller.roles import with_roles
from controller.standing import sides
from controller.status import Run, to_rfc3339
from controller.watching import Watch, begin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.decision import Action
    from controller.dossier import Dossier
    from controller.inventory import Entry
    from controller.ports import Look
    from controller.scene import Scene
    from controller.status import Status
    from controller.workloads import Selection

UNRECORDED = frozenset({"Confirm", "Refuse", "Release"})
"""Decisions that say nothing about the run worth keeping."""
UNDELAYED = frozenset({"RollBack", "Settle", "Confirm", "Delete", "Release"})
"""Decisions that are carried out even when they cannot be recorded."""


@dataclass(eq=False)
class Rollout:
    """One rollout in one pass."""

    entry: Entry
    scene: Scene
    dossier: Dossier | None = None
    error: str = ""
    """Why nothing can be measured, beside what the dossier says."""
    case: Case | None = None
    decision: Decision | None = None
    tick: Tick | None = None
    """What this pass leaves in the history; None when there is nothing new."""
    recorded: bool = True
    carried_out: bool = False
    """Whether all that was decided is written."""
    watch: Watch | None = None
    """The watch over the version that the run promoted."""
    failing: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with the candidate's pods, in words, by reason."""
    unwatchable: str = ""
    """Why there is none, where there should be one."""
    in_use: str = ""
    """What else uses the workloads of the version without traffic."""
    overwritten: bool = False
    """Whether the wanted weights were written here, and somebody changed the route since."""
    late: bool = False
    """Whether another process of Penstock wrote the route last."""
    refused: str = ""
    """Why the store refused the last write for this rollout."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return self.entry.policy.key

    @property
    def ref(self) -> Ref:
        """The policy's identity in the store."""
        meta = self.entry.policy.metadata
        return Ref("RolloutPolicy", meta.namespace, meta.name)

    @property
    def run(self) -> Run | None:
        """The run as it was when the pass began."""
        return self.entry.status.run

    @cached_property
    def action(self) -> Action | None:
        """The manual action that waits for an answer."""
        return pending(self.entry.obj, self.entry.status)

    @property
    def asked(self) -> bool:
        """Whether a person waits for an answer."""
        return self.action is not None

    @cached_property
    def standing(self) -> Status:
        """The status as it was when the pass began, with roles as the decision will know them."""
        status, scene = self.entry.status, self.scene
        if status.run and status.run.active:
            return status
        return with_roles(self.entry.policy, status, World(revisions=scene.revisions, live=scene.live))

    @property
    def candidate(self) -> Selection | None:
        """The workloads of the candidate, if it has any business with workloads."""
        status = self.standing
        roles = status.run if status.run and status.run.active else status.roles
        return self.scene.selections.get(roles.candidate) if roles else None

    @property
    def unready(self) -> Selection | None:
        """The workloads of an open run's candidate, if not all their pods are ready."""
        run, candidate = self.run, self.candidate
        return candidate if run and run.active and candidate and not candidate.full else None

    @property
    def coming(self) -> Selection | None:
        """The workloads of a new candidate that waits for its run, if some of its pods are not ready."""
        status, run, candidate = self.standing, self.run, self.candidate
        if status.roles is None or candidate is None or (run and (run.active or run.copies)):
            return None
        revision = self.scene.revisions.get(status.roles.candidate)
        awaited = revision is not None and revision != status.settled.get(status.roles.candidate)
        waits = not candidate.full or candidate.rolling or candidate.missing
        return candidate if awaited and candidate.begun and waits else None

    @property
    def lost(self) -> bool:
        """Whether an open run has lost its candidate, for which no metric needs to be asked."""
        run = self.run
        if run is None or not run.active or run.control in self.scene.missing:
            return False
        return run.candidate in self.scene.missing or CRASH_LOOP in self.failing

    @property
    def measurable(self) -> bool:
        """Whether the traffic now runs as the status wants it, so that what is counted can be judged."""
        run = self.run
        return (
            run is not None
            and run.applied
            and self.scene.live == run.weights
            and {run.control, run.candidate} <= self.scene.arms.keys()
        )

    @property
    def waits(self) -> bool:
        """Whether the decision depends on what the proxies say, and they have not been asked."""
        return self.decision is not None and self.decision.reason == "WaitingForProxies"

    @property
    def may_go_on(self) -> bool:
        """Whether the decision may be carried out: it is recorded, or it never waits for that."""
        return self.recorded or self.is_undelayed

    @property
    def is_undelayed(self) -> bool:
        """Whether the decision never waits for its record."""
        return self.decision is not None and self.decision.action in UNDELAYED

    def decide(self, now: float, applied: Applied = NOT_APPLIED) -> None:
        """Take the decision for this moment."""
        scene, dossier = self.scene, self.dossier
        world = World(
            revisions=scene.revisions, missing=scene.missing, live=scene.live, route_error=scene.route_error,
            rolling=scene.rolling, asleep=scene.asleep, failing=self._failing(), taken=self.entry.taken,
            invalid=self.entry.invalid, changed_by=scene.changed_by,
            overwritten=self.overwritten, late=self.late, applied=applied,
            behind=any(known.behind for known in (dossier, self.watch) if known),
            metrics_error=self.error or (dossier.error if dossier else ""),
            action=self.action,
            surges=self.watch.alarms if self.watch else {}, unwatchable=self.unwatchable,
            **self._surroundings(),
        )  # fmt: skip
        judgement = dossier.judgement if dossier else Judgement()
        self.case = Case(self.entry.policy, self.entry.status, world, judgement, now)
        self.decision = decide(*self.case.inputs)
        self._begin_watch(self.decision)
        self.tick = _tick(self, self.case, self.decision)

    def _surroundings(self) -> dict[str, Any]:
        """Return what is so of the policy's life and its workloads, as far as this policy can mind."""
        meta, status, promotion = (
            self.entry.obj["metadata"],
            self.entry.status,
            self.entry.policy.spec.promotion,
        )
        copies = promotion.mode == "copy" or (status.run is not None and status.run.copies)
        minds = copies or promotion.scale_down_after is not None or status.idle is not None
        return {
            "sides": sides(self.scene.selections) if minds else {},
            "in_use": self.in_use,
            "refused": self.refused,
            "deleting": "deletionTimestamp" in meta,
            "held": FINALIZER in (meta.get("finalizers") or ()),
        }

    def _failing(self) -> Mapping[str, str]:
        stuck = self.candidate.stuck if self.candidate else ""
        return {**self.failing, "ProgressDeadlineExceeded": stuck} if stuck else self.failing

    def _begin_watch(self, decision: Decision) -> None:
        """Lay down the watch over a version that is being promoted, if it is to have one."""
        wanted, dossier = self.entry.policy.spec.watch, self.dossier
        if decision.action == "Promote" and wanted and dossier:
            step = int(self.entry.policy.spec.decision.interval.seconds)
            self.watch = begin(dossier, wanted, step)


def _tick(rollout: Rollout, case: Case, decision: Decision) -> Tick | None:
    run, dossier = decision.status.run, rollout.dossier
    news = decision.notable and decision.action not in UNRECORDED
    watch = rollout.watch if run and rollout.watch and rollout.watch.run == run.id else None
    if run is None or not (news or (dossier and dossier.unrecorded) or (watch and watch.advanced)):
        return None
    known = watch or dossier
    return Tick(
        run=run.id, policy=rollout.key, at=case.now, cursor=known.cursor if known else 0,
        weights=Finite((rollout.run or run).weights if decision.action != "Start" else run.weights),
        intervals=dossier.intervals if dossier else (), evidence=known.stored() if known else {},
        verdict=dict(case.judgement.numbers) if news else case.judgement.brief,
        decision=kept(decision, case) if news else None,
        is_look=watch is None or dossier is not None, run_facts=_facts(rollout.entry, run, watch),
        earlier=dossier.earlier if dossier else (),
    )  # fmt: skip


def tick_of_hold(entry: Entry, run: Run, dossier: Dossier, looks: Sequence[Look]) -> Tick:
    """Return what looks of an open run leave in the history at which nothing was decided but to hold on."""
    *earlier, last = looks
    return Tick(
        run=run.id, policy=entry.policy.key, at=last.at, cursor=last.cursor, weights=Finite(run.weights),
        intervals=last.intervals, evidence=dossier.stored(), verdict=last.verdict,
        run_facts=_facts(entry, run, None), earlier=earlier,
    )  # fmt: skip


def _facts(entry: Entry, run: Run, watch: Watch | None) -> dict[str, Any]:
    """Return the run as a whole, as it is kept."""
    facts = {
        "number": run.number, "control": run.control, "candidate": run.candidate, "revisions": run.revisions,
        "startedAt": to_rfc3339(run.started_at),
        "endedAt": to_rfc3339(run.decided_at) if run.decided_at else None,
        "outcome": run.outcome, "reason": run.reason, "message": run.message, "blame": run.blame,
        "policy": entry.document, "watch": _watch_facts(run, watch),
    }  # fmt: skip
    return facts if watch else Finite(facts)


def _watch_facts(run: Run, watch: Watch | None) -> dict[str, Any] | None:
    """Return what was found by the watch after a promotion."""
    if run.watch is None or watch is None:
        return None
    since = to_rfc3339(run.step_started_at) if run.step_started_at else None
    return {"since": since, "over": run.watch.over, **watch.facts()}
