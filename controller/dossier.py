"""What is known of one run: how it is judged, the evidence so far, and how far that goes. Pure.

An edited policy asks another question, and old evidence does not answer it: a changed metric, margin or error
rate starts the evidence anew from where it stood in time. A longer deadline or another number of samples ask
the same question, and the evidence stays.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from analysis.judge import Design, Evidence, Interval, MetricDesign, RunVerdict, fresh, verdict
from controller.decision import Judgement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from policies.model import MetricTemplate, RolloutPolicy

SHARE_TEMPLATE = "istio-request-share"
DROPPED = "the policy was edited: what was measured until now does not answer it, and measuring starts anew"


@dataclass
class Dossier:
    """What is known of one run."""

    run: str
    design: Design
    evidence: Evidence
    cursor: int = 0
    """End of the last interval taken in, unix seconds."""
    judgement: Judgement = field(default_factory=Judgement)
    intervals: list[dict[str, Any]] = field(default_factory=list)
    """Tables taken in but not recorded yet, for the history."""
    error: str = ""
    """Why intervals could not be read."""
    behind: bool = False
    """Whether intervals that are long over have not been read yet."""
    news: str = ""
    """What a person should know of it, to be told once."""

    def take(self, state: Evidence, intervals: Sequence[Interval]) -> None:
        """Take in intervals that the judge has seen; `state` is the evidence after them."""
        judgement, rows = judgement_of(self.design, state), [r for each in intervals for r in tabulate(each)]
        self.evidence, self.judgement, self.intervals = state, judgement, rows
        self.cursor = max([self.cursor, *(interval.end for interval in intervals)])

    @cached_property
    def question(self) -> str:
        """What tells designs apart whose evidence differs."""
        return fingerprint(self.design)

    def stored(self) -> dict[str, Any]:
        """Return the evidence as it goes to the history."""
        return {
            "design": self.question,
            "plannedLooks": self.design.planned_looks,
            "state": self.evidence.to_dict(),
        }


def restored(run: str, design: Design, stored: tuple[int, Mapping[str, Any]] | None) -> Dossier:
    """Return the dossier of a run from what the history has of it: (cursor, evidence) or nothing."""
    if stored is None or not stored[1]:
        return Dossier(run, design, fresh(design))
    cursor, kept = stored
    if kept.get("design") == fingerprint(design):
        planned = replace(design, planned_looks=kept.get("plannedLooks", design.planned_looks))
        try:
            evidence = Evidence.from_dict(planned, kept["state"])
        except (ValueError, KeyError, TypeError):
            pass  # written by another version of Penstock: it cannot be used either
        else:
            return Dossier(run, planned, evidence, cursor, judgement_of(planned, evidence))
    return Dossier(run, design, fresh(design), cursor, news=DROPPED)


def fingerprint(design: Design) -> str:
    """Return what tells designs apart whose evidence differs."""
    question = replace(design, planned_looks=1, min_samples=0)
    return hashlib.sha256(repr(question).encode()).hexdigest()[:16]


def design_of(policy: RolloutPolicy, templates: Mapping[str, MetricTemplate]) -> Design:
    """Return what the judge must know of a policy; `templates` has those that it names.

    Raises KeyError for an unknown template, ValueError when nothing could be judged.
    """
    spec, metrics = policy.spec, []
    for metric in spec.metrics:
        template = templates[metric.template].spec
        if template.kind == "share":
            continue  # the split is always tested, and at an alpha of its own
        metrics.append(
            MetricDesign(
                name=metric.name or metric.template,
                kind="histogram" if template.kind == "histogram" else "proportion",
                edges=tuple(float(edge) for edge in metric.edges or template.edges),
                margin=metric.margin.fraction if metric.margin else None,
                tolerance=metric.tolerance.fraction,
                dispersion=metric.assumed_dispersion,
                unit=template.unit,
                tail=metric.tail.fraction,
            )
        )
    decision = spec.decision
    return Design(
        metrics=tuple(metrics),
        false_rollback=decision.false_rollback.fraction,
        false_promote=decision.false_promote.fraction,
        planned_looks=max(1, int(decision.deadline.seconds / decision.interval.seconds)),
        min_samples=decision.min_samples,
    )


def judgement_of(design: Design, evidence: Evidence) -> Judgement:
    """Return what a decision needs of the verdict on some evidence."""
    found: RunVerdict = verdict(design, evidence)
    ends = [metric.last_data for metric in found.metrics]
    counts = [arm.total for metric in found.metrics for arm in (metric.control, metric.candidate)]
    return Judgement(
        kind=found.kind,
        sentence=found.sentence,
        blame=found.blame,
        harm=_harm(found),
        enough=min(counts) >= design.min_samples,
        data_end=min((end for end in ends if end is not None), default=None) if None not in ends else None,
        numbers=found.as_dict(),
    )


def _harm(found: RunVerdict) -> str:
    """Return the harm that is proven, in words; empty when none is.

    The comparison is made within each interval, whatever the split was, so a wrong split does not undo it,
    and rolling back is the safe side.
    """
    if found.e_rollback_max < found.bound_rollback:
        return ""
    return next((metric.sentence for metric in found.metrics if metric.name == found.blame), found.sentence)


def tabulate(interval: Interval) -> list[dict[str, Any]]:
    """Return an interval's tables as rows for the history."""
    rows = [
        {
            "metric": name,
            "end": interval.end,
            "control": {"total": table.control.total, "events": list(table.control.events)},
            "candidate": {"total": table.candidate.total, "events": list(table.candidate.events)},
        }
        for name, table in interval.tables.items()
        if table is not None
    ]
    if interval.requests is not None:
        control, candidate = interval.requests
        rows.append(
            {
                "metric": SHARE_TEMPLATE, "end": interval.end, "intended": interval.intended,
                "control": {"total": control, "events": []}, "candidate": {"total": candidate, "events": []},
            }
        )  # fmt: skip
    return rows
