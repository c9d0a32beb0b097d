"""Rows of units compared between variants: anytime-valid differences of means, adjusted by a covariate.

Units are users, sessions or labelled predictions; values of 0 and 1 are proportions (accuracy,
click-through). Each candidate is compared with the control by `analysis.regression`. A covariate that was
known before the exposure narrows the confidence sequence and biases nothing.

Guarantees: one `alpha` for all candidates and all looks together, each candidate with an equal share; for
large samples, if units are independent. The chance of a false `Harmful` is at most alpha, and so is that of a
false `Safe`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.means import NOTHING, Allowance
from analysis.regression import (
    Estimate,
    Regression,
    difference,
    log_e_harm,
    log_e_no_difference,
    log_e_safe,
    regress,
    relative_difference,
)
from analysis.t_mixture import best_phi
from analysis.unit_rows import LeftOut, UnitRows, at_equal_age, by_unit

_TUNED_FOR = 0.05
"""The level at which the sequences are narrowest for the planned number of units."""

Kind = Literal["Harmful", "Safe", "Undecided", "NoData"]


@dataclass(frozen=True, slots=True)
class UnitSettings:
    """How rows are judged. Raises ValueError when a number makes no sense.

    The sequences are narrowest for `planned_units` of both variants together, to be chosen before the data.
    `label_age` (seconds) and `unlabelled` as in `unit_rows.at_equal_age`; `per_unit` is what becomes of the
    rows of one unit.
    """

    alpha: float = 0.05
    tolerance: Allowance = NOTHING
    margin: Allowance | None = None
    higher_is_better: bool = False
    control: str = "control"
    planned_units: int = 5000
    per_unit: Literal["mean", "sum"] = "mean"
    label_age: float | None = None
    unlabelled: float | None = None

    def __post_init__(self) -> None:
        checks = {
            f"alpha must be above 0 and below 1, not {self.alpha:g}": 1e-300 <= self.alpha < 1,
            f"planned units must be at least 10, not {self.planned_units}": self.planned_units >= 10,
            f"the tolerance must be 0 or more, not {self.tolerance.amount:g}": 0
            <= self.tolerance.amount
            < math.inf,
            "the margin must be above 0": self.margin is None or 0 < self.margin.amount < math.inf,
            "the label age must be above 0": self.label_age is None or 0 < self.label_age < math.inf,
            "the value of unlabelled rows must be finite": self.unlabelled is None
            or math.isfinite(self.unlabelled),
            f"{self.per_unit} is no way to gather a unit's rows: mean, sum": self.per_unit in {"mean", "sum"},
        }
        for words, holds in checks.items():
            if not holds:
                raise ValueError(words)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a regression says of one candidate at its share of alpha.

    `log_e` is against "no difference"; `log_e_harm` against "worse by at most the tolerance", `log_e_safe`
    against "worse by at least the margin" (None without one). `relative` is None unless the control's mean is
    above 0.
    """

    difference: Estimate
    relative: Estimate | None
    log_e: float
    log_e_harm: float
    log_e_safe: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One candidate against the control: units and plain means of control and candidate, and findings.

    `adjusted` is with the covariate (None without one), `unadjusted` without. Both are None as long as
    nothing can be said.
    """

    candidate: str
    verdict: Kind
    units: tuple[int, int]
    means: tuple[float | None, float | None]
    unadjusted: Findings | None
    adjusted: Findings | None

    @property
    def findings(self) -> Findings | None:
        """Those that the verdict rests on: with the covariate, where there is one."""
        return self.adjusted or self.unadjusted


@dataclass(frozen=True, slots=True)
class UnitsVerdict:
    """All candidates against the control.

    `bound` is what an e-value must reach for a claim, `level` that of each confidence sequence.
    """

    verdict: Kind
    comparisons: tuple[Comparison, ...]
    bound: float
    level: float
    is_proportion: bool
    left_out: LeftOut


def compare(rows: UnitRows, settings: UnitSettings) -> UnitsVerdict:
    """Return what the rows say under the settings. Raises ValueError when no row is of the control."""
    if len(rows) and settings.control not in rows.variants:
        raise ValueError(f"no row has the variant {settings.control!r}, which is the control")
    names = sorted(set(rows.variants.tolist()) - {settings.control})
    aged, wrong_age = at_equal_age(rows, settings.label_age, unlabelled=settings.unlabelled)
    units, mixed = by_unit(aged, settings.per_unit)
    share = settings.alpha / max(1, len(names))
    comparisons = tuple(_compare(units, name, settings, share) for name in names)
    return UnitsVerdict(
        verdict=_overall([each.verdict for each in comparisons]),
        comparisons=comparisons,
        bound=1 / share,
        level=1 - share,
        is_proportion=bool(len(units)) and bool(np.isin(units.values, (0.0, 1.0)).all()),
        left_out=wrong_age | mixed,
    )


def _overall(verdicts: list[Kind]) -> Kind:
    """Return the verdict on all candidates: harm of any, safety of all."""
    if "Harmful" in verdicts:
        return "Harmful"
    if not verdicts or set(verdicts) == {"NoData"}:
        return "NoData"
    return "Safe" if set(verdicts) == {"Safe"} else "Undecided"


def _compare(rows: UnitRows, candidate: str, settings: UnitSettings, alpha: float) -> Comparison:
    """Return one comparison at the candidate's share of alpha."""
    pair = rows.where((rows.variants == candidate) | (rows.variants == settings.control))
    treated = pair.variants == candidate
    arms = [pair.values[~treated], pair.values[treated]]
    unadjusted = _findings(regress(treated, pair.values), settings, alpha)
    adjusted = None
    if pair.covariates is not None:
        adjusted = _findings(regress(treated, pair.values, pair.covariates), settings, alpha)
    means = [float(arm.mean()) if arm.size else None for arm in arms]
    return Comparison(
        candidate=candidate,
        verdict=_verdict(adjusted or unadjusted, alpha) if all(arm.size for arm in arms) else "NoData",
        units=(arms[0].size, arms[1].size),
        means=(means[0], means[1]),
        unadjusted=unadjusted,
        adjusted=adjusted,
    )


def _findings(found: Regression | None, settings: UnitSettings, alpha: float) -> Findings | None:
    """Return what a regression says; None without one."""
    if found is None:
        return None
    phi = best_phi(settings.planned_units, found.p, _TUNED_FOR)
    mirrored, margin = settings.higher_is_better, settings.margin
    return Findings(
        difference=difference(found, phi, alpha),
        relative=relative_difference(found, phi, alpha),
        log_e=log_e_no_difference(found, phi),
        log_e_harm=log_e_harm(found, phi, settings.tolerance, higher_is_better=mirrored),
        log_e_safe=None if margin is None else log_e_safe(found, phi, margin, higher_is_better=mirrored),
    )


def _verdict(findings: Findings | None, alpha: float) -> Kind:
    """Return what the e-values prove; harm goes first."""
    bound = -math.log(alpha)
    if findings is None:
        return "Undecided"
    if findings.log_e_harm >= bound:
        return "Harmful"
    safe = findings.log_e_safe is not None and findings.log_e_safe >= bound
    return "Safe" if safe else "Undecided"
