"""Evidence read as a judgement: what a decision needs at once, the whole verdict when somebody reads it.

Most looks only hold, and nobody reads what they found in words. So the words and most numbers of a verdict
are made when they are asked for, and a look that holds leaves only what a report draws of it (`Found.brief`).
All that follows from the evidence, which is kept, can be made again (`controller.dossier.told`).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.effects import difference_of
from analysis.eprocess import e_value
from analysis.glance import odds_ratio_interval
from analysis.judge import verdict
from controller.decision import Judgement
from controller.engines import by_engine, harm_found
from controller.ports import Finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from analysis.design import Design, MetricDesign
    from analysis.evidence import Evidence
    from analysis.glance import Glance, MetricGlance
    from analysis.verdict import RunVerdict
    from controller.engines import EngineRun


class Later(Mapping[str, Any]):
    """Numbers that are made when somebody reads them, once."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._make = make
        self._made: Mapping[str, Any] | None = None

    @property
    def _numbers(self) -> Mapping[str, Any]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __getitem__(self, key: str) -> Any:
        return self._numbers[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class Found(Judgement):
    """The judgement of a run that shows no harm, from a glance at its evidence."""

    __slots__ = ("_brief",)
    _brief: Callable[[], Mapping[str, Any]]

    def __init__(self, design: Design, evidence: Evidence, glance: Glance, basis: Callable[[], Any]) -> None:
        """Read the evidence; `basis` gives what is told beside the verdict: what the numbers rest on."""
        fewest = min(metric.fewest for metric in glance.metrics)
        known = {
            "kind": glance.kind,
            "blame": None if evidence.blame is None else design.metrics[evidence.blame].name,
            "harm": "",
            "enough": fewest >= design.min_samples,
            "data_end": _data_end(metric.last_data for metric in evidence.metrics),
            "numbers": Later(lambda: {**verdict(design, evidence).as_dict(), **basis()}),
            "_brief": lambda: _brief_of(design, evidence, glance),
        }
        for name, value in known.items():
            object.__setattr__(self, name, value)

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        return str(self.numbers["sentence"])

    @property
    def known(self) -> bool:
        """There is one; it need not be made to know that."""
        return True

    @property
    def brief(self) -> Mapping[str, Any]:
        """What a look that holds leaves."""
        return self._brief()


def judgement_of(design: Design, evidence: Evidence, engine: EngineRun | None = None) -> Judgement:
    """Return what a decision needs of the verdict on some evidence, and of what an engine makes of it."""
    found: RunVerdict = verdict(design, evidence)
    numbers = {}
    if engine is not None:
        found, numbers = by_engine(design, evidence, found, engine), {"engine": engine.as_dict()}
    counts = [arm.total for metric in found.metrics for arm in (metric.control, metric.candidate)]
    return Judgement(
        kind=found.kind,
        sentence=found.sentence,
        blame=found.blame,
        harm=harm_found(design, found) if engine else _harm(design, found),
        enough=min(counts) >= design.min_samples,
        data_end=_data_end(metric.last_data for metric in found.metrics),
        numbers={**found.as_dict(), **numbers},
    )


def shows_harm(design: Design, evidence: Evidence) -> bool:
    """Tell whether harm was ever proven; then `judgement_of` says which, in words."""
    return e_value(evidence.peak) >= 1 / design.false_rollback


def _harm(design: Design, found: RunVerdict) -> str:
    """Return the harm that is proven, in words; empty when none is, or by too few samples to say so.

    The comparison is made within each interval, whatever the split was, so a wrong split does not undo it,
    and rolling back is the safe side.
    """
    if found.e_rollback_max < found.bound_rollback:
        return ""
    blamed = next((metric for metric in found.metrics if metric.name == found.blame), None)
    if blamed is None:
        return found.sentence
    fewest = min(blamed.control.total, blamed.candidate.total)
    return blamed.sentence if fewest >= design.min_samples else ""


def _data_end(ends: Iterable[int | None]) -> int | None:
    """Return the end of the last interval in which every metric had data."""
    known = [*ends]
    return None if None in known else min((end for end in known if end is not None), default=None)


def _brief_of(design: Design, evidence: Evidence, glance: Glance) -> dict[str, Any]:
    """Return what a report draws of a look."""
    found = brief(design, glance, evidence.log_e, [own.log_e for own in evidence.metrics])
    for metric, own, told in zip(design.metrics, evidence.metrics, found["metrics"], strict=True):
        if metric.kind == "mean":
            effect = difference_of(design, own.layout, own)
            told |= {"difference": effect.estimate, "difference_interval": effect.interval}
    return found


def brief(design: Design, glance: Glance, log_e: float, own: Sequence[float]) -> dict[str, Any]:
    """Return what a report draws of a look, as JSON values named as in the verdict's numbers; not of means.

    `log_e` is that of the run, `own` those of its metrics. In the place of an odds ratio's `interval` stands
    what `interval_of` makes it of.
    """
    everything = zip(design.metrics, glance.metrics, own, strict=True)
    return Finite(
        kind=glance.kind,
        e_rollback=e_value(log_e),
        metrics=[_brief_metric(design, *each) for each in everything],
    )


def _brief_metric(design: Design, metric: MetricDesign, glance: MetricGlance, log_e: float) -> dict[str, Any]:
    told = {
        "name": metric.name,
        "measure": metric.kind,
        "e_share": e_value(log_e + math.log(1 / len(design.metrics))),
        "e_safe": None if glance.log_e_safe is None else e_value(glance.log_e_safe),
    }
    if metric.kind == "mean":
        return told
    likelihood = base64.b64encode(glance.likelihood.astype("<f4").tobytes()).decode("ascii")
    return {
        **told,
        "odds_ratio": glance.odds_ratio,
        "likelihood": likelihood,
        "level": design.false_rollback,
    }


def interval_of(brief: Mapping[str, Any]) -> tuple[float, float | None]:
    """Return the confidence sequence for the odds ratio of a metric that `Found.brief` gave."""
    likelihood = np.frombuffer(base64.b64decode(brief["likelihood"]), dtype="<f4")
    return odds_ratio_interval(likelihood, brief["level"])
