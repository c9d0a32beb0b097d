"""A table in long form judged: every candidate against the control, under one alpha.

With m candidates each has the share alpha/m: it is Harmful when its e-value reaches m/alpha, and the run when
the average of all reaches 1/alpha, which is no later. Averages of e-values are e-values whatever their
dependence (Vovk & Wang, "E-values: calibration, combination and applications", 2021, section 3); the control,
which all share, makes them dependent. The proof of safety has the same shares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.eprocess import e_value, log_mean
from analysis.longform import LongTable
from analysis.table_dispersion import given, measured
from analysis.tabular import Case, CountTable, first_at_least, judge_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.table_dispersion import Dispersion
    from analysis.table_verdict import TableVerdict
    from analysis.tabular import Settings


@dataclass(frozen=True, slots=True)
class LongVerdict:
    """What a table says of every candidate, and of the run: the average of their e-values.

    `blame` is the candidate with most evidence when the run was proven harmful: together the candidates may
    prove it before any does by itself.
    """

    verdict: str
    candidates: Mapping[str, TableVerdict]
    log_e_values: tuple[float, ...]
    crossed_at: int | None
    blame: str | None
    alpha: float
    dispersion: Dispersion

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values: a single candidate's own fields, or the run's and an object per candidate."""
        own = {name: verdict.as_dict() for name, verdict in self.candidates.items()}
        dispersion = {"dispersion": self.dispersion.as_dict()}
        if len(own) == 1:
            [(name, fields)] = own.items()
            return {"candidate": name, **fields, **dispersion}
        first = next(iter(self.candidates.values()))
        return {
            "verdict": self.verdict,
            "crossed_at": self.crossed_at,
            "alpha": self.alpha,
            "bound": 1 / self.alpha,
            "blame": self.blame,
            "intervals": len(first.intervals),
            "interval_numbers": list(first.intervals),
            "e_values": [e_value(log_e) for log_e in self.log_e_values],
            "log_e_values": list(self.log_e_values),
            "candidates": own,
            **dispersion,
        }

    def sentences(self) -> tuple[str, ...]:
        """Return the verdict for people: a line for the run if it has several candidates, a line for each."""
        own = [f"{name}: {verdict.sentence()}" for name, verdict in self.candidates.items()]
        if len(own) == 1:
            return (f"{own[0]}; {self.dispersion.sentence()}",)
        return (f"{self.verdict}: {self._run_words()}; {self.dispersion.sentence()}", *own)

    def _run_words(self) -> str:
        peak = e_value(max(self.log_e_values, default=0.0))
        words = f"{len(self.candidates)} candidates, average e-value at most {peak:.3g}"
        if self.crossed_at is None:
            return f"{words}, bound {1 / self.alpha:.4g} never crossed"
        interval = next(iter(self.candidates.values())).intervals[self.crossed_at]
        blame = "" if self.blame is None else f", most of it from {self.blame}"
        return f"{words}, bound {1 / self.alpha:.4g} crossed in interval {interval}{blame}"


def judge_long(table: LongTable, settings: Settings, *, measure: bool = False) -> LongVerdict:
    """Return what a table says; `judge_longs` for one."""
    return judge_longs([table], settings, measure=measure)[0]


def judge_longs(tables: Sequence[LongTable], settings: Settings, *, measure: bool) -> list[LongVerdict]:
    """Return what every table says. `settings.alpha` is that of all candidates of a table together.

    With `measure` the dispersion is measured on the control's series; without history it is no less than that
    of the settings. Raises TableError as `analysis.tabular.check_margin` does.
    """
    dispersions = [(measured if measure else given)(table, settings.dispersion) for table in tables]
    cases = [
        Case(counts, replace(settings, alpha=settings.alpha / len(table.candidates)), dispersion.path)
        for table, dispersion in zip(tables, dispersions, strict=True)
        for counts in table.candidates.values()
    ]
    verdicts = iter(judge_tables(cases))
    return [
        _together({name: next(verdicts) for name in table.candidates}, settings, dispersion)
        for table, dispersion in zip(tables, dispersions, strict=True)
    ]


def judge_all(
    tables: Sequence[CountTable | LongTable], settings: Settings, *, measure: bool
) -> list[TableVerdict | LongVerdict]:
    """Return what every table says, whatever its form. `measure` concerns those in long form."""
    long = [table for table in tables if isinstance(table, LongTable)]
    longs = iter(judge_longs(long, settings, measure=measure))
    short = [Case(table, settings) for table in tables if isinstance(table, CountTable)]
    shorts = iter(judge_tables(short))
    return [next(longs) if isinstance(table, LongTable) else next(shorts) for table in tables]


def _together(
    candidates: Mapping[str, TableVerdict], settings: Settings, dispersion: Dispersion
) -> LongVerdict:
    """Return the verdict on a run from those on its candidates."""
    paths = np.array([verdict.log_e_values for verdict in candidates.values()])
    average = log_mean(paths.T)
    crossed_at = first_at_least(average, settings.alpha)
    harm = crossed_at is not None and settings.looks_for_harm
    return LongVerdict(
        verdict="Harmful" if harm else _common([verdict.verdict for verdict in candidates.values()]),
        candidates=candidates,
        log_e_values=tuple(average.tolist()),
        crossed_at=crossed_at,
        blame=list(candidates)[int(np.argmax(paths[:, crossed_at]))] if harm else None,
        alpha=settings.alpha,
        dispersion=dispersion,
    )


def _common(verdicts: Sequence[str]) -> str:
    """Return what candidates of which none is Harmful have in common, those without data aside."""
    told = {verdict for verdict in verdicts if verdict != "NoData"}
    return next(iter(told)) if len(told) == 1 else ("Undecided" if told else "NoData")
