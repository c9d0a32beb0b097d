"""What `penstock judge` does with rows of units: CSV or Parquet in, a verdict in numbers and words out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controller.cli.sources import STDIN, name, read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from analysis.means import Allowance
    from analysis.regression import Estimate
    from analysis.unit_rows import UnitRows
    from analysis.units import Comparison, Findings, UnitSettings, UnitsVerdict

_MAGIC = b"PAR1"


def is_units(header: Sequence[str]) -> bool:
    """Tell whether a table with this header has rows of units."""
    from analysis.unit_rows import is_header

    return is_header(header)


def is_parquet(file: Path) -> bool:
    """Tell whether a file is Parquet, by how it begins; False for stdin and for what cannot be read."""
    if file == STDIN:
        return False
    try:
        with file.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def read_units(file: Path) -> UnitRows:
    """Return the rows in a CSV or Parquet file.

    Raises ValueError, with the file's name and one line of words: the row, the column and what is allowed.
    """
    from analysis.table_text import TableError
    from analysis.unit_rows import from_columns, parse

    try:
        return from_columns(_parquet(file)) if is_parquet(file) else parse(read(file, "row"))
    except TableError as error:
        raise ValueError(f"{name(file)}: {error}") from error


def _parquet(file: Path) -> dict[str, list[Any]]:
    """Return the columns of a Parquet file, times as unix seconds. Raises ValueError."""
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError:
        words = "reading Parquet needs pyarrow: pip install 'penstock[parquet]'"
        raise ValueError(f"{name(file)}: {words}") from None
    try:
        table = parquet.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name(file)}: not a Parquet file that can be read: {error}") from error
    return dict(zip(table.column_names, map(_cells, table.columns), strict=True))


def _cells(column: Any) -> list[Any]:
    """Return a column's cells; times without a zone are taken to be UTC."""
    import pyarrow as pa

    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    microseconds = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64())
    return [None if cell is None else cell / 1e6 for cell in microseconds.to_pylist()]


@dataclass(frozen=True, slots=True)
class JudgedUnits:
    """A verdict on rows of units, and what it was asked; `any_age`: labels were not cut to equal age."""

    found: UnitsVerdict
    settings: UnitSettings
    any_age: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values: a single candidate's own fields, or an object per candidate.

        Ends of sequences that are unbounded, and effects that are unknown, are None.
        """
        own = {each.candidate: self._comparison(each) for each in self.found.comparisons}
        [single] = own.items() if len(own) == 1 else [("", {})]
        return {
            "verdict": self.found.verdict,
            "kind": "proportion" if self.found.is_proportion else "mean",
            "alpha": self.settings.alpha,
            "bound": self.found.bound,
            "level": self.found.level,
            **({"candidate": single[0], **single[1]} if len(own) == 1 else {"candidates": own}),
            "left_out": self.found.left_out,
            "assumed": self._assumed(),
        }

    def sentences(self) -> tuple[str, ...]:
        """Return the verdict for people: a line per candidate, and one about what was left out."""
        if not self.found.comparisons:
            return ("NoData: no rows of a candidate", *self._notes())
        own = [f"{each.candidate}: {self._sentence(each)}" for each in self.found.comparisons]
        return (*own, *self._notes())

    def _comparison(self, each: Comparison) -> dict[str, Any]:
        adjusted = each.adjusted is not None
        plain = None if each.unadjusted is None else each.unadjusted.difference
        return {
            "verdict": each.verdict,
            "control_units": each.units[0],
            "candidate_units": each.units[1],
            "control_mean": each.means[0],
            "candidate_mean": each.means[1],
            **_numbers(each.findings),
            "adjusted": adjusted,
            "unadjusted": {"estimate": _end(plain and plain.estimate), "confidence_sequence": _range(plain)},
        }

    def _assumed(self) -> dict[str, Any]:
        asked = self.settings
        return {
            "control": asked.control,
            "higher_is_better": asked.higher_is_better,
            "tolerance": _allowance(asked.tolerance),
            "margin": None if asked.margin is None else _allowance(asked.margin),
            "planned_units": asked.planned_units,
            "per_unit": asked.per_unit,
            "label_age": asked.label_age,
            "unlabelled": asked.unlabelled,
        }

    def _sentence(self, each: Comparison) -> str:
        """Return the verdict on one candidate."""
        if each.verdict == "NoData":
            arms = zip(("control", each.candidate), each.units, strict=True)
            return f"NoData: no units of {' and of '.join(arm for arm, units in arms if not units)}"
        control, candidate = (self._value(mean) for mean in each.means)
        of = f"{each.units[1]} units against {each.units[0]}"
        findings = each.findings
        if findings is None:
            return f"{each.verdict}: {candidate} against {control} ({of}): values vary too little to tell"
        size = self._size(findings, adjusted=each.adjusted is not None)
        return f"{each.verdict}: {candidate} against {control} ({of}; {size}): {self._claim(each, findings)}"

    def _size(self, findings: Findings, *, adjusted: bool) -> str:
        found = findings.difference
        low, high = (self._value(end) if math.isfinite(end) else "unbounded" for end in found[1:])
        by = " adjusted by the covariate" if adjusted else ""
        level = f"{100 * self.found.level:.4g}%"
        return f"difference {self._value(found.estimate)}{by}, {level} sequence {low} to {high}"

    def _claim(self, each: Comparison, findings: Findings) -> str:
        bound = f"{self.found.bound:.4g}"
        if each.verdict == "Harmful":
            beyond = f" beyond {_words(self.settings.tolerance)}" if self.settings.tolerance.amount else ""
            return f"harm{beyond} is proven, e = {_e(findings.log_e_harm):.3g} over bound {bound}"
        if each.verdict == "Safe" and self.settings.margin is not None and findings.log_e_safe is not None:
            e = f"e = {_e(findings.log_e_safe):.3g} over bound {bound}"
            return f"not worse by {_words(self.settings.margin)}, {e}"
        harm = f"harm is not proven, e = {_e(findings.log_e_harm):.3g} of {bound}"
        if self.settings.margin is None or findings.log_e_safe is None:
            return harm
        margin = _words(self.settings.margin)
        return f"{harm}; nor is the margin of {margin}, e = {_e(findings.log_e_safe):.3g} of {bound}"

    def _notes(self) -> tuple[str, ...]:
        reasons = [
            f"{sum(counts.values())} {reason} ({', '.join(f'{n} of {arm}' for arm, n in counts.items())})"
            for reason, counts in self.found.left_out.items()
        ]
        lines = [f"left out: {'; '.join(reasons)}"] if reasons else []
        if self.any_age:
            lines.append("labels of all ages count; with an age, only equal ones are compared")
        return tuple(lines)

    def _value(self, value: float | None) -> str:
        if value is None:
            return "none"
        return f"{100 * value:.3g}%" if self.found.is_proportion else f"{value:.4g}"


def judge_units(rows: UnitRows, settings: UnitSettings) -> JudgedUnits:
    """Return what rows of units say. Raises ValueError when no row is of the control."""
    from analysis.units import compare

    any_age = rows.labelled_at is not None and settings.label_age is None
    return JudgedUnits(compare(rows, settings), settings, any_age)


def allowance(text: str, option: str) -> Allowance:
    """Return a margin or tolerance: `2%` is of the control's mean, `0.02` in the value's unit.

    Raises ValueError, with the option's name.
    """
    from analysis.means import Allowance

    try:
        amount = float(text.removesuffix("%"))
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:
        words = "a percentage of the control's mean such as 2%, or a number in the value's unit such as 0.02"
        raise ValueError(f"{option} must be {words}, not {text[:40]!r}")
    return Allowance(amount / 100, relative=True) if text.endswith("%") else Allowance(amount)


def _numbers(findings: Findings | None) -> dict[str, Any]:
    """Return the effect and the evidence; without findings, those of having seen nothing."""
    if findings is None:
        effects = {"estimate": None, "confidence_sequence": [None, None]}
        return {**effects, "relative": dict(effects), "e_value": 1.0, "log_e_value": 0.0, "p_value": 1.0} | {
            "e_harm": 1.0,
            "e_safe": None,
        }
    relative = findings.relative
    return {
        "estimate": findings.difference.estimate,
        "confidence_sequence": _range(findings.difference),
        "relative": {
            "estimate": _end(relative and relative.estimate),
            "confidence_sequence": _range(relative),
        },
        "e_value": _e(findings.log_e),
        "log_e_value": findings.log_e,
        "p_value": math.exp(min(0.0, -findings.log_e)),
        "e_harm": _e(findings.log_e_harm),
        "e_safe": None if findings.log_e_safe is None else _e(findings.log_e_safe),
    }


def _e(log_e: float) -> float:
    from analysis.eprocess import e_value

    return e_value(log_e)


def _end(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _range(found: Estimate | None) -> list[float | None]:
    return [None, None] if found is None else [_end(found.lower), _end(found.upper)]


def _allowance(asked: Allowance) -> dict[str, Any]:
    return {"amount": asked.amount, "relative": asked.relative}


def _words(asked: Allowance) -> str:
    return f"{100 * asked.amount:.3g}% of the control's mean" if asked.relative else f"{asked.amount:.4g}"
