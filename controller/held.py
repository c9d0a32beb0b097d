"""A run that merely holds: what must be so for it to be looked at in the lane, and what would end that. Pure.

Only what a decision to hold on rests on may change in the lane: time and evidence. Time is asked by `until`,
evidence by the kind of the verdict, by whether there are enough samples, and by whether harm was ever proven.
While none of these turns, `controller.machine.decide` comes to the same decision, and its status to the same
conditions: no rule that applies to a quiet run (`controller.open_run.QUIET`) looks at anything else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.mending import known
from controller.judgement import shows_harm
from controller.learning import is_owed_a_past
from controller.quiet import is_quiet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.design import Layout
    from analysis.verdict import Kind
    from controller.decision import Case
    from controller.evidence import Owed
    from controller.inventory import Entry
    from controller.plain import Plain
    from controller.rollout import Rollout

REASONS = frozenset({"Holding", "ProvingSafety", "TooFewSamples"})
"""Reasons to hold on that only time or evidence can end."""
MARGIN = 1e-6
"""So much below the bound, as ln E, harm is left to an ordinary look."""


@dataclass(frozen=True, eq=False, slots=True)
class Held:
    """A run in the lane."""

    entry: Entry
    owed: Owed
    plain: Plain
    dispersion: Mapping[str, tuple[float, ...]]
    """By what its evidence is divided."""
    kind: Kind
    enough: bool
    until: float
    """When time alone may bring another decision, unix seconds."""

    @property
    def key(self) -> str:
        """`namespace/name` of its policy."""
        return self.entry.policy.key

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """How the evidence of its metrics is laid out."""
        return tuple(metric.layout for metric in self.owed.dossier.design.metrics)

    def turns(self, kind: Kind, fewest: int, peak: float, now: float) -> bool:
        """Tell whether a look may come to another decision than to hold on for the same reason.

        `fewest`: the fewest requests of a version in a metric; `peak`: ln of the largest e-value for harm.
        """
        design = self.owed.dossier.design
        return (
            now >= self.until
            or kind != self.kind
            or (fewest >= design.min_samples) != self.enough
            or peak >= -math.log(design.false_rollback) - MARGIN
        )


def held(rollout: Rollout, owed: Owed, plain: Plain, window: tuple[int, int]) -> Held | None:
    """Return a run that was just looked at as it is held in the lane; None if it needs ordinary looks.

    `window`: start and end of what it is owed. In the lane the next interval begins where the last one ended:
    a run whose weights changed since then is owed a later one.
    """
    case, dossier = rollout.case, owed.dossier
    dispersion = None if plain.delayed else plain.divisor(dossier.calibration)
    if case is None or dispersion is None or window != (dossier.cursor, dossier.cursor):
        return None
    if not (_stands(rollout, case) and _is_measured(owed)):
        return None
    judgement, until = case.judgement, min(_until(case), rollout.entry.wording.due)
    return Held(rollout.entry, owed, plain, dispersion, judgement.kind, judgement.enough, until)


def _stands(rollout: Rollout, case: Case) -> bool:
    """Tell whether nothing but time and evidence is waited for, and nothing is left to write or to tell."""
    decision, entry = rollout.decision, rollout.entry
    return (
        decision is not None
        and decision.action == "Hold"
        and decision.reason in REASONS
        and decision.status is entry.status
        and entry.unchanged_by is not None
        and rollout.recorded
        and is_quiet(case)
        and not (rollout.overwritten or rollout.late or rollout.refused or rollout.error)
        and not (rollout.unready or rollout.failing)
    )


def _is_measured(owed: Owed) -> bool:
    """Tell whether the evidence is up to date and of a kind that can be kept as arrays."""
    dossier = owed.dossier
    evidence, design = dossier.evidence, dossier.design
    return (
        not (dossier.error or dossier.behind or dossier.unrecorded or dossier.news or dossier.warnings)
        and dossier.engine is None
        and evidence.end == dossier.cursor
        and not evidence.inconsistent
        and known(design, evidence) is None
        and not shows_harm(design, evidence)
        and not is_owed_a_past(owed.policy, dossier)
        and all(metric.kind != "mean" for metric in design.metrics)
    )


def _until(case: Case) -> float:
    """Return when the step has been held long enough, or the deadline is over, whatever comes first.

    What is over since less than an interval counts too: at that very moment the rules may not say so yet.
    """
    run, step = case.run, case.steps[min(case.run.step, len(case.steps) - 1)]
    held_enough = (run.step_started_at or case.now) + step.hold.seconds - run.held
    deadline = run.started_at + run.waited + case.policy.spec.decision.deadline.seconds
    return min((at for at in (held_enough, deadline) if at > case.now - case.interval), default=math.inf)
