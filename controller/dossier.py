"""What is known of one run: how it is judged, the evidence so far, and how far that goes. Pure.

An edited policy asks another question, and old evidence does not answer it: a changed metric, margin or error
rate starts the evidence anew from where it stood in time. A longer deadline or another number of samples ask
the same question, and the evidence stays.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.glance import glances
from analysis.judge import Design, Evidence, Interval, MetricDesign, fresh
from analysis.mending import known
from analysis.words import mended_sentence
from controller.calibration import Calibration
from controller.coverage import Coverage, covered, news
from controller.decision import Judgement
from controller.engines import SEQUENTIAL, EngineRun
from controller.judgement import Found, judgement_of, shows_harm
from controller.ports import Finite
from controller.prior import EDGES, at_edges, with_edges
from controller.tabulated import latencies, tabulate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.glance import Glance
    from controller.intake import Intake, Rows
    from controller.ports import Look
    from policies.model import MetricTemplate, RolloutPolicy

DROPPED = "the policy was edited: what was measured until now does not answer it, and measuring starts anew"
FOREIGN = (
    "another version of Penstock wrote down what was measured until now, and this one cannot read it: "
    "measuring starts anew"
)
LOST = (
    "the history has nothing of this run: what was measured until now counts no more, and measuring starts "
    "anew with what Prometheus has of the present step"
)


@dataclass
class Dossier:
    """What is known of one run."""

    run: str
    design: Design
    evidence: Evidence
    cursor: int = 0
    """End of the last interval taken in, unix seconds."""
    judgement: Judgement = field(default_factory=Judgement)
    intervals: Sequence[Mapping[str, Any]] = ()
    """Tables taken in but not recorded yet, for the history."""
    earlier: Sequence[Look] = ()
    """Looks that were taken in the lane and not recorded yet, before the one that `intervals` are of."""
    error: str = ""
    """Why intervals could not be read."""
    behind: bool = False
    """Whether intervals that are long over have not been read yet."""
    news: str = ""
    """What a person should know of it, to be told once."""
    question: str = ""
    """What tells designs apart whose evidence differs; by default that of `design`."""
    edges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Per histogram the edges that are judged instead of all that the policy names."""
    calibration: Calibration | None = None
    """By what evidence is divided, where the policy wants that measured; None before it is known."""
    weight: int = 0
    """The candidate's share in per cent in the last interval."""
    intake: Intake | None = None
    """The intervals that the judge is about to see."""
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    """Per metric how many intervals were read, and lost."""
    read: Sequence[Interval] = ()
    """The intervals of `intake` as they were read, before any were left out."""
    engine: EngineRun | None = None
    """Who judges error rates instead of the judge, if the policy names one."""
    warnings: list[tuple[str, str]] = field(default_factory=list)
    """Reasons and words of what a person should know of how it is judged, to be told once."""
    _stored: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    _asked: tuple[Design, dict[str, Any]] | None = None
    """The design as it is stored; while dispersion is learnt, all else that seldom changes is made often."""
    """What was stored last of what seldom changes, and what it was made of."""

    def __post_init__(self) -> None:
        self.question = self.question or fingerprint(self.design)
        if self.engine is None and self.design.engine != SEQUENTIAL:
            self.engine = EngineRun(self.design.engine, since=self.cursor)

    def take(self, state: Evidence, intervals: Sequence[Interval]) -> None:
        """Take in intervals that the judge has seen; `state` is the evidence after them."""
        series: Sequence[Rows] = [{} for _ in intervals]
        if self.intake is not None:
            series, self.calibration = self.intake.series, self.intake.calibration
        self.intervals = [
            row for each, own in zip(intervals, series, strict=True) for row in tabulate(each, own)
        ]
        for interval in intervals:
            self.cursor, self.weight = max(self.cursor, interval.end), round(100 * interval.intended)
        self._begin_anew(state)
        if self.engine:
            self.engine.take(self.design, intervals)
        self._cover(self.read or intervals)
        self.evidence, self.intake, self.read = state, None, ()

    def _begin_anew(self, state: Evidence) -> None:
        """Tell that a wrong split has become right again, if it just has.

        An engine that adds up intervals forgets those of another split.
        """
        wrong, last = known(self.design, state), self.evidence.end
        if wrong is None or wrong.since is None or (last is not None and wrong.since <= last):
            return
        self.warnings.append(("SplitRestored", mended_sentence(wrong.episodes[-1])))
        if self.engine:
            self.engine = EngineRun(self.engine.name, since=wrong.since)

    def follow(self, evidence: Evidence, glance: Glance) -> None:
        """Take over the evidence of a run that was looked at in the lane, where no interval is lost."""
        more = evidence.looks - self.evidence.looks
        if more and evidence.end is not None:
            self.evidence, self.cursor = evidence, evidence.end
            self.coverage = {name: each.measured(more) for name, each in self.coverage.items()}
            self.judge(glance)

    def succeed(self, former: Dossier) -> None:
        """Go on where the dossier of another question ended, whose looks may still have to be recorded."""
        self.cursor, self.earlier = max(self.cursor, former.cursor), former.earlier

    @property
    def unrecorded(self) -> bool:
        """Whether anything was taken in that is not recorded yet."""
        return bool(self.intervals or self.earlier)

    def recorded(self) -> None:
        """Forget what was to be recorded, and is."""
        self.intervals = self.earlier = ()

    def _cover(self, intervals: Sequence[Interval]) -> None:
        """Count what was lost, and lay by what a person should know of it."""
        after = covered(self.coverage, (metric.name for metric in self.design.metrics), intervals)
        self.warnings += [("IntervalsLost", words) for words in news(self.coverage, after)]
        self.coverage = after

    def judge(self, glance: Glance | None = None) -> None:
        """Read the evidence as a judgement; `glance` is one at it, if it was taken with those of others."""
        glance = glance or glances([(self.design, self.evidence)])[0]
        if self.engine or shows_harm(self.design, self.evidence):
            found = judgement_of(self.design, self.evidence, self.engine)
            self.judgement = replace(found, numbers={**found.numbers, **self.basis()})
        else:
            basis = partial(_basis, self.calibration, self.weight, self.edges, self.coverage)
            self.judgement = Found(self.design, self.evidence, glance, basis)

    def basis(self) -> dict[str, Any]:
        """Return by what evidence is divided and which edges are judged, where that was measured."""
        return _basis(self.calibration, self.weight, self.edges, self.coverage)

    def learn(self, calibration: Calibration, edges: Mapping[str, Sequence[float]]) -> None:
        """Go by what the control's past shows, from the next interval on; edges only before the first."""
        if self.calibration is not None or self.evidence.looks:
            known = self.calibration
            self.calibration = known.with_past(calibration) if known else calibration
            return
        self.calibration, self.edges = at_edges(calibration, self.design, edges), edges
        self.design = with_edges(self.design, edges)
        self.evidence = fresh(self.design)

    def stored(self) -> dict[str, Any]:
        """Return the evidence as it goes to the history."""
        changing = {
            "state": self.evidence.to_dict(),
            "latencies": latencies(self.design, self.evidence),
            "weight": self.weight,
            "engine": self.engine.stored() if self.engine else None,
            "coverage": {name: each.stored() for name, each in self.coverage.items()},
        }
        everything = {**self._fixed(), **changing}
        return everything if self.engine else Finite(everything)

    def _fixed(self) -> dict[str, Any]:
        """Return what is stored and seldom changes."""
        basis = self.design, self.calibration, self.edges
        if self._stored is None or any(a is not b for a, b in zip(self._stored[0], basis, strict=True)):
            if self._asked is None or self._asked[0] is not self.design:
                self._asked = self.design, asdict(self.design)
            self._stored = basis, {
                "design": self.question,
                "asked": self._asked[1],
                "plannedLooks": self.design.planned_looks,
                "calibration": self.calibration.to_dict() if self.calibration else None,
                "edges": {name: list(edges) for name, edges in self.edges.items()},
            }  # fmt: skip
        return self._stored[1]


def restored(run: str, design: Design, stored: tuple[int, Mapping[str, Any]] | None) -> Dossier:
    """Return the dossier of a run from what the history has of it: (cursor, evidence) or nothing."""
    if stored is None:  # a run is recorded before it starts
        return Dossier(run, design, fresh(design), news=LOST)
    if not stored[1]:
        return Dossier(run, design, fresh(design))
    cursor, kept = stored
    if kept.get("design") != fingerprint(design):
        return Dossier(run, design, fresh(design), cursor, news=DROPPED)
    try:
        return _kept(run, design, cursor, kept)
    except (ValueError, KeyError, TypeError):
        return Dossier(run, design, fresh(design), cursor, news=FOREIGN)


def _kept(run: str, design: Design, cursor: int, kept: Mapping[str, Any]) -> Dossier:
    """Return the dossier that `Dossier.stored` wrote."""
    edges = {name: tuple(each) for name, each in kept.get("edges", {}).items()}
    planned = replace(design, planned_looks=kept.get("plannedLooks", design.planned_looks))
    judged = with_edges(planned, edges)
    known = kept.get("calibration")
    dossier = Dossier(
        run, judged, Evidence.from_dict(judged, kept["state"]), cursor, question=kept["design"], edges=edges,
        calibration=Calibration.from_dict(known) if known else None, weight=kept.get("weight", 0),
        engine=EngineRun.restored(kept["engine"]) if kept.get("engine") else None,
        coverage={name: Coverage(**each) for name, each in kept.get("coverage", {}).items()},
    )  # fmt: skip
    dossier.judge()
    return dossier


def in_full(run: dict[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run of the history with all numbers and words of its last verdict, from its evidence.

    A look that held left only what is drawn of it (`controller.judgement`).
    """
    if not run["verdict"] or "sentence" in run["verdict"]:
        return run
    verdict, ticks = told(stored) or run["verdict"], [*run["ticks"]]
    if ticks and ticks[-1]["cursor"] == run["cursor"]:
        ticks[-1] = {**ticks[-1], "verdict": verdict}
    return {**run, "verdict": verdict, "ticks": ticks}


def told(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the whole verdict on stored evidence; nothing if it was written by another version."""
    try:
        metrics = [
            MetricDesign(**{**each, "edges": (*each["edges"],)}) for each in stored["asked"]["metrics"]
        ]
        design = Design(**{**stored["asked"], "metrics": (*metrics,)})
        return dict(_kept("", design, 0, stored).judgement.numbers)
    except (ValueError, KeyError, TypeError):
        return {}


def _basis(
    calibration: Calibration | None,
    weight: int,
    edges: Mapping[str, Sequence[float]],
    coverage: Mapping[str, Coverage],
) -> dict[str, Any]:
    known = calibration.as_dict(weight) if calibration else {}
    chosen = {name: {"judged": list(each), "why": EDGES} for name, each in edges.items()}
    counted = {name: each.as_dict() for name, each in coverage.items()}
    found = {"dispersion": known, "edges": chosen, "coverage": counted}
    return {name: each for name, each in found.items() if each}


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
                kind=template.kind,
                edges=tuple(float(edge) for edge in metric.edges or template.edges),
                margin=metric.margin.fraction if metric.margin else None,
                tolerance=metric.tolerance.fraction,
                dispersion=metric.assumed_dispersion,
                unit=template.unit,
                tail=metric.tail.fraction,
                margin_points=metric.margin_points.fraction if metric.margin_points else None,
                higher_is_better=template.direction == "higherIsBetter",
            )
        )
    decision = spec.decision
    return Design(
        metrics=tuple(metrics),
        false_rollback=decision.false_rollback.fraction,
        false_promote=decision.false_promote.fraction,
        planned_looks=max(1, int(decision.deadline.seconds / decision.interval.seconds)),
        min_samples=decision.min_samples,
        engine=decision.engine,
    )
