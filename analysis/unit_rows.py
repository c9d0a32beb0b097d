"""Rows of units (users, sessions, labelled predictions): checked, cut to equal age, gathered by unit.

Columns: `variant` and `value`, and perhaps `covariate` (known before the exposure), `unit` (rows of one unit
belong together), `exposed_at` and `labelled_at` (unix seconds; empty as long as there is no label).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from analysis.table_text import TableError, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from analysis.hypergeometric import Floats

    Flags = NDArray[np.bool_]
    Names = NDArray[np.str_]

REQUIRED = ("variant", "value")
OPTIONAL = ("covariate", "unit", "exposed_at", "labelled_at")
_LONGEST_NAME = 253
_LARGEST = 1e15
"""Numbers beyond this are taken for mistakes."""

LeftOut = dict[str, dict[str, int]]
"""How many were left out: by reason, then by variant."""


@dataclass(frozen=True, eq=False, slots=True)
class UnitRows:
    """Columns of equal length. A value is NaN where there is no label, `labelled_at` too."""

    variants: Names
    values: Floats
    covariates: Floats | None = None
    units: Names | None = None
    exposed_at: Floats | None = None
    labelled_at: Floats | None = None

    def __len__(self) -> int:
        return len(self.values)

    def where(self, kept: Flags) -> UnitRows:
        """Return the rows that are kept."""
        return UnitRows(
            self.variants[kept],
            self.values[kept],
            None if self.covariates is None else self.covariates[kept],
            None if self.units is None else self.units[kept],
            None if self.exposed_at is None else self.exposed_at[kept],
            None if self.labelled_at is None else self.labelled_at[kept],
        )

    def counted(self, those: Flags) -> dict[str, int]:
        """Return how many of those rows each variant has, leaving out the variants without."""
        names, numbers = np.unique(self.variants[those], return_counts=True)
        return dict(zip(names.tolist(), numbers.tolist(), strict=True))


def is_header(cells: Sequence[str]) -> bool:
    """Tell whether a table with this header has rows of units."""
    return set(REQUIRED) <= set(cells)


def parse(text: str) -> UnitRows:
    """Return the rows in a CSV text. Raises TableError, with the row (counted as lines are, from 1)."""
    table = rows_of(text)
    line, header = next(table, (1, []))
    _check_header(header, line)
    lines, rows = [], []
    for line, cells in table:
        if len(cells) != len(header):
            raise TableError(f"row {line}: {len(cells)} columns instead of {len(header)}")
        lines.append(line)
        rows.append(cells)
    columns = zip(*rows, strict=True) if rows else ((),) * len(header)
    return from_columns(dict(zip(header, columns, strict=True)), lines)


def from_columns(columns: Mapping[str, Sequence[Any]], lines: Sequence[int] | None = None) -> UnitRows:
    """Return rows from columns of texts or numbers; None and an empty text are missing cells.

    `lines` are the rows' numbers in messages, from 1 if there are none. Raises TableError.
    """
    _check_header(list(columns), 1)
    cells = _Cells(columns, lines or range(1, len(columns["value"]) + 1))
    labelled = "labelled_at" in columns
    rows = UnitRows(
        variants=cells.names("variant"),
        values=cells.numbers("value", missing=labelled),
        covariates=cells.numbers("covariate") if "covariate" in columns else None,
        units=cells.names("unit") if "unit" in columns else None,
        exposed_at=cells.numbers("exposed_at") if labelled else None,
        labelled_at=cells.numbers("labelled_at", missing=True) if labelled else None,
    )
    if rows.exposed_at is not None and rows.labelled_at is not None:
        cells.refuse("labelled_at", rows.labelled_at < rows.exposed_at, "at or after exposed_at, or empty")
        no_value = np.isnan(rows.values) & ~np.isnan(rows.labelled_at)
        cells.refuse("value", no_value, "a finite number where there is a labelled_at")
    return rows


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cells by column, and the number of each row. Methods raise TableError for the first bad cell."""

    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int]

    def names(self, name: str) -> Names:
        """Return a column of names."""
        texts = ["" if cell is None else str(cell) for cell in self.columns[name]]
        wrong = np.array([not 0 < len(text) <= _LONGEST_NAME for text in texts], dtype=bool)
        self.refuse(name, wrong, f"a name of 1 to {_LONGEST_NAME} characters")
        return np.array(texts, dtype=np.str_)

    def numbers(self, name: str, *, missing: bool = False) -> Floats:
        """Return a column of numbers; NaN where a cell is missing."""
        values = np.array([_number(cell) for cell in self.columns[name]], dtype=np.float64)
        wrong = ~(np.abs(values) <= _LARGEST)
        if missing:
            wrong &= ~np.array([_is_missing(cell) for cell in self.columns[name]], dtype=bool)
        self.refuse(name, wrong, "a finite number" + (" or empty" if missing else ""))
        return values

    def refuse(self, name: str, wrong: Flags, allowed: str) -> None:
        """Raise the error of the first wrong row, if there is any."""
        rows = np.flatnonzero(wrong)
        if rows.size:
            row = int(rows[0])
            cell = self.columns[name][row]
            found = "" if cell is None else str(cell)[:40]
            raise TableError(f"row {self.lines[row]}: {name} must be {allowed}, not {found!r}")


def _number(cell: Any) -> float:
    """Return a cell as a number; NaN if it is none."""
    try:
        return math.nan if isinstance(cell, str) and "_" in cell else float(cell)
    except (TypeError, ValueError):
        return math.nan


def _is_missing(cell: Any) -> bool:
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def _check_header(header: Sequence[str], line: int) -> None:
    """Raise TableError unless the columns are those that are known, each once."""
    allowed = f"{','.join(REQUIRED)} and perhaps {','.join(OPTIONAL)}"
    if not is_header(header) or not set(header) <= {*REQUIRED, *OPTIONAL} or len(set(header)) < len(header):
        found = f"found {','.join(header)[:200]!r}" if header else "found nothing"
        raise TableError(f"row {line}: the header must be {allowed}, each once; {found}")
    if ("exposed_at" in header) != ("labelled_at" in header):
        raise TableError(f"row {line}: exposed_at and labelled_at need each other")


def at_equal_age(
    rows: UnitRows, age: float | None, *, unlabelled: float | None = None
) -> tuple[UnitRows, LeftOut]:
    """Return the rows whose labels can be compared, and how many were left out, by reason.

    Labels come late, and a variant that began later has fewer of them: with an age (seconds), a row counts
    only if it was exposed that long before the last time in the data, and its label only if it came within
    that time of its exposure. A row without such a label counts as `unlabelled` (0 for a purchase that did
    not happen), or not at all if that is None. Without an age all labels count.
    """
    if rows.exposed_at is None or rows.labelled_at is None:
        return rows, {}
    has_label = ~np.isnan(rows.labelled_at)
    limit = math.inf if age is None else age
    end = max(rows.exposed_at.max(initial=-math.inf), rows.labelled_at[has_label].max(initial=-math.inf))
    young = np.zeros(len(rows), dtype=bool) if age is None else rows.exposed_at > end - age
    late = ~young & has_label & (rows.labelled_at - rows.exposed_at > limit)
    never = ~young & ~has_label
    reasons = {"exposed too late to be of that age": young}
    if unlabelled is None:
        reasons |= {"labelled later than that age": late, "without a label": never}
    else:
        rows = replace(rows, values=np.where(late | never, unlabelled, rows.values))
    left_out = {reason: rows.counted(those) for reason, those in reasons.items() if those.any()}
    return rows.where(~np.any(list(reasons.values()), axis=0)), left_out


def by_unit(rows: UnitRows, how: Literal["mean", "sum"]) -> tuple[UnitRows, LeftOut]:
    """Return a row per unit, with the mean or sum of its values and the mean of its covariate.

    Units that were seen in several variants are left out of all of them, and counted for each.
    """
    if rows.units is None:
        return rows, {}
    names, first, unit = np.unique(rows.units, return_index=True, return_inverse=True)
    mixed = np.bincount(unit, rows.variants != rows.variants[first][unit], len(names)) > 0
    sizes = np.bincount(unit, minlength=len(names))
    values = np.bincount(unit, rows.values, len(names)) / (sizes if how == "mean" else 1)
    covariates = None if rows.covariates is None else np.bincount(unit, rows.covariates, len(names)) / sizes
    gathered = UnitRows(rows.variants[first], values, covariates, names)
    left_out = _once_per_unit(rows.where(mixed[unit]), unit[mixed[unit]])
    return gathered.where(~mixed), {"seen in several variants": left_out} if left_out else {}


def _once_per_unit(rows: UnitRows, unit: NDArray[np.int64]) -> dict[str, int]:
    """Return how many units (numbered from 0) each variant has."""
    names, variant = np.unique(rows.variants, return_inverse=True)
    pairs = np.unique(unit * max(1, len(names)) + variant)
    numbers = np.bincount(pairs % max(1, len(names)), minlength=len(names))
    return dict(zip(names.tolist(), numbers.tolist(), strict=True))
