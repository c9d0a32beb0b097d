"""Rollouts of one policy on made-up traffic, decided by the code that decides on real traffic.

A policy that wants dispersion measured measures it in each run on hours before it (`simulated_past`).

Traffic comes from `analysis.simulate` (or, for `penstock replay`, from what really happened to the control);
`analysis.judge` takes it in, `controller.machine` decides, and every write is in force at once. As in the
loop, a look comes a second after an interval has ended, and an interval counts when it lies wholly after the
weights were confirmed. Who has to approve a step does so at once. A run that is open when its deadline has
passed counts as held.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from analysis.judge import advance, fresh
from analysis.kinds import kinds
from analysis.simulate import Streams
from controller.decision import Action, Judgement, World
from controller.endings import Ending, Result
from controller.engines import SEQUENTIAL, EngineRun
from controller.intake import screened
from controller.judgement import judgement_of
from controller.machine import decide
from controller.ports import Applied
from controller.prior import measured_metrics
from controller.simulated_past import Calibrated, runs_at_once
from controller.status import Status
from policies.explain import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from analysis.design import Design, Interval
    from analysis.evidence import Evidence
    from analysis.hypergeometric import Floats
    from analysis.simulate import Behaviour
    from analysis.verdict import Kind
    from controller.decision import Decision
    from controller.endings import Outcome
    from policies.model import MetricTemplate, RolloutPolicy

START = 1_700_000_000
"""Unix time at which simulated runs start, but for the alignment to whole intervals."""
SETTLE = 1.0
"""Seconds from the end of an interval to the look at it."""

_ENDED: Mapping[str | None, Outcome] = {"Promoted": "promoted", "RolledBack": "rolledBack"}


class Traffic(Protocol):
    """What several runs see, interval by interval."""

    def draw(self, share: Floats, seconds: float, end: int) -> list[Interval]:
        """Return the next interval of every run; `share`: (runs,), the candidate's share of requests."""


def onset(policy: RolloutPolicy, templates: Mapping[str, MetricTemplate]) -> float:
    """Return the middle of the shortest way to full promotion, in seconds from the start of the run."""
    return explain(policy, templates).earliest_promotion.seconds / 2


def looks(policy: RolloutPolicy) -> int:
    """Return how many looks a run takes at most: the last one comes after the deadline."""
    rule = policy.spec.decision
    return math.ceil(rule.deadline.milliseconds / rule.interval.milliseconds)


def simulate(
    policy: RolloutPolicy,
    design: Design,
    behaviour: Behaviour,
    *,
    runs: int,
    seed: int,
    looked: Callable[[], None] = lambda: None,
) -> Result:
    """Return what becomes of `runs` runs; the same arguments give the same result.

    `looked` is called after every look. Raises ValueError when the design cannot be simulated.
    """
    # each effect has a seed of its own, so that its result does not depend on which others are asked for
    own = (seed, round(behaviour.effect * 1e6))
    if measured_metrics(policy, design):
        endings = _calibrated(policy, design, behaviour, runs=runs, seed=own, looked=looked)
        return Result(behaviour.effect, endings)
    streams = Streams(design, behaviour, runs, own)
    endings = follow(policy, [design] * runs, streams, most=looks(policy), looked=looked)
    return Result(behaviour.effect, endings)


def _calibrated(
    policy: RolloutPolicy,
    design: Design,
    behaviour: Behaviour,
    *,
    runs: int,
    seed: tuple[int, int],
    looked: Callable[[], None],
) -> tuple[Ending, ...]:
    """Return how runs end that measure the dispersion on a past of their own; some at a time, for space."""
    endings: list[Ending] = []
    size = runs_at_once(policy, design, behaviour)
    for first in range(0, runs, size):
        streams = Streams(design, behaviour, min(size, runs - first), (*seed, first))
        traffic = Calibrated(policy, design, streams)
        last = first + size >= runs
        tell = looked if last else lambda: None
        endings += follow(policy, traffic.designs, traffic, most=looks(policy), looked=tell)
    return tuple(endings)


def follow(
    policy: RolloutPolicy,
    designs: Sequence[Design],
    traffic: Traffic,
    *,
    most: int,
    looked: Callable[[], None] = lambda: None,
) -> tuple[Ending, ...]:
    """Return how every run ends on some traffic, after at most `most` looks.

    A run has a design of its own, since a dispersion may have been measured before it.
    """
    seconds = int(policy.spec.decision.interval.seconds)
    start = START // seconds * seconds
    rollouts = [_Rollout(policy, design) for design in designs]
    for rollout in rollouts:
        rollout.look("NoData", start)
    for end in range(start + seconds, start + (most + 1) * seconds, seconds):
        shares = np.array([rollout.share for rollout in rollouts])
        _look(rollouts, traffic.draw(shares, seconds, end), end - seconds)
        looked()
        if not any(rollout.open for rollout in rollouts):
            break
    return tuple(rollout.ending(start) for rollout in rollouts)


def _look(rollouts: Sequence[_Rollout], intervals: Sequence[Interval], began: int) -> None:
    """Let every open run take in its interval, if it is owed it, and decide."""
    owed = [pair for pair in zip(rollouts, intervals, strict=True) if pair[0].is_owed(began)]
    states = advance([(each.design, each.evidence, [each.screened(interval)]) for each, interval in owed])
    for (rollout, interval), evidence in zip(owed, states, strict=True):
        rollout.take(evidence, interval)
    still: dict[Design, list[_Rollout]] = defaultdict(list)
    for rollout in rollouts:
        if rollout.open:
            still[rollout.design].append(rollout)
    for design, alike in still.items():
        found = kinds(design, [rollout.evidence for rollout in alike])
        for rollout, kind in zip(alike, found, strict=True):
            rollout.look(kind, intervals[0].end + SETTLE)


class _Rollout:
    """One simulated rollout: its status, its evidence and the weights in force."""

    def __init__(self, policy: RolloutPolicy, design: Design) -> None:
        control, candidate = (variant.name for variant in policy.spec.variants)
        self._policy, self.design = policy, design
        self.evidence = fresh(design)
        self._engine = None if design.engine == SEQUENTIAL else EngineRun(design.engine)
        self._status = Status()
        self._held = ""
        self._world = World(
            revisions={control: "old", candidate: "new"},
            live={control: 100, candidate: 0},
            applied=Applied(ok=True),
        )

    @property
    def open(self) -> bool:
        """Whether the run goes on."""
        return self._status.run is None or self._status.run.active

    @property
    def share(self) -> float:
        """The candidate's share of the traffic now."""
        return self._status.run.candidate_weight / 100 if self._status.run else 0.0

    def is_owed(self, began: int) -> bool:
        """Tell whether an interval that began then counts: wholly after the weights were confirmed."""
        confirmed = self._status.run.step_started_at if self._status.run else None
        return self.open and confirmed is not None and began >= confirmed

    def take(self, evidence: Evidence, interval: Interval) -> None:
        """Take in an interval that the judge has seen; `evidence` is what it made of it."""
        self.evidence = evidence
        if self._engine:
            self._engine.take(self.design, [interval])

    def screened(self, interval: Interval) -> Interval:
        """Return an interval without what the policy leaves out after a change of weights."""
        run = self._status.run
        return interval if run is None else screened(self._policy, run, interval)

    def look(self, kind: Kind, now: float) -> None:
        """Decide and carry it out, and again until there is nothing more to do now.

        Most looks hold, and whether to hold follows from the kind of the verdict. All else is decided on the
        whole verdict. An engine that the policy names is heard instead of the kind.
        """
        if self._engine:
            kind = judgement_of(self.design, self.evidence, self._engine).kind
        first = decide(self._policy, self._status, self._world, self._briefly(kind), now)
        self._held = first.reason
        if not first.notable:
            return
        judgement = judgement_of(self.design, self.evidence, self._engine)
        while self.open and self._carry_out(decide(self._policy, self._status, self._world, judgement, now)):
            pass

    def _carry_out(self, decision: Decision) -> bool:
        """Make true what was decided; tell whether it was more than to hold."""
        live = self._world.live if decision.write is None else decision.write
        self._held, self._status = decision.reason, decision.status
        self._world = replace(self._world, live=live, action=self._approval())
        return decision.notable

    def ending(self, start: float) -> Ending:
        """Return how the run ended."""
        run = self._status.run
        outcome = _ENDED.get(run.outcome if run else None, "held")
        if run is None or outcome == "held":
            return Ending("held", self._held, None)
        return Ending(outcome, run.reason, None if run.decided_at is None else run.decided_at - start)

    def _approval(self) -> Action | None:
        run = self._status.run
        waits = run is not None and run.waiting_for_approval
        return Action(nonce=f"step {run.step}", verb="promote", actor="simulation") if run and waits else None

    def _briefly(self, kind: Kind) -> Judgement:
        """Return the judgement as far as it decides whether to hold."""
        ends = [metric.last_data for metric in self.evidence.metrics]
        known = [end for end in ends if end is not None]
        fewest = min(int(metric.counts[:, 0].min()) for metric in self.evidence.metrics)
        return Judgement(
            kind=kind,
            enough=fewest >= self.design.min_samples,
            data_end=min(known) if len(known) == len(ends) else None,
        )
