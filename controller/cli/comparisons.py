"""What `penstock judge` is given: files with tables of counts or rows of units, and what to ask of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from controller.cli.sources import name, read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from analysis.longform import LongTable
    from analysis.tabular import CountTable, Settings
    from analysis.unit_rows import UnitRows
    from analysis.units import UnitSettings

    Input: TypeAlias = "CountTable | LongTable | UnitRows"

_AUTO = "auto"


class Verdict(Protocol):
    """What every kind of comparison ends in."""

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""

    def sentences(self) -> tuple[str, ...]:
        """Return the verdict for people, a line each."""


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What is asked of tables of counts, as it was typed; methods raise ValueError."""

    alpha: float
    margin: str | None
    null_odds_ratio: float
    odds_ratios: str | None
    dispersion: str
    assume: float | None
    restart: bool
    planned_looks: int | None

    @property
    def measure(self) -> bool:
        """Whether the dispersion is to be measured."""
        return self.dispersion == _AUTO

    def settings(self) -> Settings:
        """Return the settings of the judge."""
        from analysis.tabular import Settings

        return Settings(
            alpha=self.alpha,
            null_odds_ratio=self.null_odds_ratio,
            odds_ratios=_ratios(self.odds_ratios),
            dispersion=self._stated(),
            restart=self.restart,
            planned_looks=self.planned_looks,
            margin=None if self.margin is None else _margin(self.margin),
        )

    def _stated(self) -> float:
        if self.measure:
            return 1.0 if self.assume is None else self.assume
        if self.assume is not None:
            raise ValueError(f"--assume goes with --dispersion {_AUTO} only")
        return _number("--dispersion", self.dispersion, f"a number from 1 or {_AUTO}")


@dataclass(frozen=True, slots=True)
class UnitOptions:
    """What is asked of rows of units, as it was typed; methods raise ValueError."""

    alpha: float
    margin: str | None
    tolerance: str | None
    higher_is_better: bool
    age: str | None
    unlabelled: float | None
    per_unit: Literal["mean", "sum"]
    planned_units: int

    def settings(self) -> UnitSettings:
        """Return the settings of the comparison."""
        from analysis.means import NOTHING
        from analysis.units import UnitSettings
        from controller.cli.units import allowance

        return UnitSettings(
            alpha=self.alpha,
            tolerance=NOTHING if self.tolerance is None else allowance(self.tolerance, "--tolerance"),
            margin=None if self.margin is None else allowance(self.margin, "--margin"),
            higher_is_better=self.higher_is_better,
            planned_units=self.planned_units,
            per_unit=self.per_unit,
            label_age=None if self.age is None else _seconds("--age", self.age),
            unlabelled=self.unlabelled,
        )


def read_input(file: Path) -> Input:
    """Return what is in a file, by its header. Raises ValueError, with the file's name."""
    from analysis.longform import parse_any
    from analysis.table_text import TableError, header
    from analysis.unit_rows import is_header, parse
    from controller.cli.units import is_parquet, read_units

    if is_parquet(file):
        return read_units(file)
    text = read(file, "row")
    try:
        return parse(text) if is_header(header(text)) else parse_any(text)
    except TableError as error:
        raise ValueError(f"{name(file)}: {error}") from error


def has_units(inputs: Sequence[Input]) -> bool:
    """Tell whether there are rows of units."""
    from analysis.unit_rows import UnitRows

    return any(isinstance(each, UnitRows) for each in inputs)


def has_tables(inputs: Sequence[Input]) -> bool:
    """Tell whether there are tables of counts."""
    from analysis.unit_rows import UnitRows

    return any(not isinstance(each, UnitRows) for each in inputs)


def judge_inputs(
    files: Sequence[Path], inputs: Sequence[Input], of_tables: TableOptions, of_units: UnitOptions
) -> list[Verdict]:
    """Return the verdict on every file, all tables in one step. Raises ValueError."""
    from analysis.unit_rows import UnitRows

    named = [(name(file), each) for file, each in zip(files, inputs, strict=True)]
    rows = [(file, each) for file, each in named if isinstance(each, UnitRows)]
    tables = [(file, each) for file, each in named if not isinstance(each, UnitRows)]
    units, counts = iter(_judge_units(rows, of_units)), iter(_judge_tables(tables, of_tables))
    return [next(units if isinstance(each, UnitRows) else counts) for each in inputs]


def _judge_tables(
    tables: Sequence[tuple[str, CountTable | LongTable]], asked: TableOptions
) -> Sequence[Verdict]:
    from analysis.longform_judge import judge_all

    if not tables:
        return []
    settings = asked.settings()
    for file, table in tables:
        _check_table(file, table, asked)
    return judge_all([table for _, table in tables], settings, measure=asked.measure)


def _check_table(file: str, table: CountTable | LongTable, asked: TableOptions) -> None:
    """Refuse a table that cannot answer what is asked."""
    from analysis.longform import LongTable
    from analysis.table_text import TableError
    from analysis.tabular import check_margin

    pairs = list(table.candidates.values()) if isinstance(table, LongTable) else [table]
    try:
        if asked.measure and not isinstance(table, LongTable):
            raise TableError(f"--dispersion {_AUTO} needs the long form, where the control has its series")
        for pair in pairs if asked.margin is not None else []:
            check_margin(pair)
    except TableError as error:
        raise ValueError(f"{file}: {error}") from error


def _judge_units(rows: Sequence[tuple[str, UnitRows]], asked: UnitOptions) -> Sequence[Verdict]:
    from controller.cli.units import judge_units

    found: list[Verdict] = []
    for file, each in rows:
        settings = asked.settings()
        try:
            found.append(judge_units(each, settings))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
    return found


def _number(option: str, text: str, allowed: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} must be {allowed}, not {text[:40]!r}") from None


def _ratios(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    return tuple(_number("--odds-ratios", part, "numbers with commas between") for part in text.split(","))


def _margin(text: str) -> float:
    """Return a margin as a fraction: 50%, 0.5 and the odds ratio 1.5 are the same."""
    allowed = "a percentage such as 50%, a fraction below 1 such as 0.5, or an odds ratio above 1 such as 1.5"
    value = _number("--margin", text.removesuffix("%"), allowed)
    if text.endswith("%"):
        value /= 100
    elif value >= 1:
        value -= 1
    if not value > 0:
        raise ValueError(f"--margin must be {allowed}, not {text[:40]!r}")
    return value


def _seconds(option: str, text: str) -> float:
    """Return a duration such as 24h, or a plain number of seconds."""
    from policies.units import Duration

    try:
        return Duration.parse(text).seconds
    except ValueError:
        return _number(option, text, f"{Duration.allowed}, or seconds")
