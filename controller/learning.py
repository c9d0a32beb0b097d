"""How a run comes to know by what its evidence is divided, and which edges it judges: once, and then kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from controller.prior import (
    calibration_of,
    choose_edges,
    measured_metrics,
    question_of,
    too_noisy,
    uncalibrated,
    weights_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.design import Design
    from controller.baseline import Baselines
    from controller.calibration import Calibration
    from controller.dossier import Dossier
    from controller.filing import ArmKey
    from controller.past import Past
    from controller.status import Run
    from policies.model import MetricTemplate, RolloutPolicy

STILL_READING = "the control's past is still being read"


@dataclass(frozen=True, slots=True)
class Asker:
    """A run that asks for its control's past; `templates` are those of its metrics, by metric."""

    policy: RolloutPolicy
    run: Run
    dossier: Dossier
    templates: Mapping[str, MetricTemplate]
    control: ArmKey


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a past teaches: by what evidence is divided, which edges are judged, and what is too noisy."""

    calibration: Calibration
    edges: Mapping[str, tuple[float, ...]]
    noisy: Sequence[str]


def is_owed_a_past(policy: RolloutPolicy, dossier: Dossier) -> bool:
    """Tell whether a run wants to know the control's past and does not yet."""
    known = dossier.calibration
    return (known is None or known.failed) and bool(measured_metrics(policy, dossier.design))


def learn(baselines: Baselines, asker: Asker, now: float) -> None:
    """Give a run what is known of the control's past by now.

    What a person should know of it is left in the dossier's warnings.
    """
    policy, run, dossier = asker.policy, asker.run, asker.dossier
    question = question_of(policy, dossier.design, asker.templates, asker.control, run.started_at)
    found = baselines.ask(run.id, question, partial(lessons, policy, dossier.design), now)
    if isinstance(found, Lessons):
        dossier.learn(found.calibration, found.edges)
        dossier.warnings += [("TooNoisy", words) for words in found.noisy]
    elif dossier.calibration is None and not baselines.waits(run.id, now):
        why = found or STILL_READING
        dossier.learn(uncalibrated(question, weights_of(policy), why), {})
        dossier.warnings.append(("DispersionAssumed", f"{why}; until it is, `assume` of the policy holds"))


def lessons(policy: RolloutPolicy, design: Design, past: Past) -> Lessons:
    """Return what a past teaches. Pure, and long enough to be done in a thread."""
    calibration = calibration_of(measured_metrics(policy, design), past, weights_of(policy))
    edges = choose_edges(policy, design, calibration, past)
    return Lessons(calibration, edges, too_noisy(policy, design, calibration, past))
