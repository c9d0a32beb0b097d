"""CSV text as checked columns of numbers and names: what all tables of counts have in common.

Columns come in any order, and blank rows say nothing. An error names the row (counted as lines are, from 1),
the column, what is allowed and what was found. Columns are checked whole, and searched only when wrong.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from analysis.hypergeometric import Floats, Ints

    Flags = NDArray[np.bool_]

_LARGEST = 10**12
"""Counts above this are taken for mistakes."""
_LAST = 10**15
"""The same for interval numbers, which may be times in microseconds."""
_LONGEST_NAME = 253
"""Characters of a name; those of Kubernetes objects have no more."""


SHORT = ("interval", "control_total", "control_events", "candidate_total", "candidate_events")
LONG = ("interval", "variant", "series", "total", "events")
"""The columns of the two forms; both may have `edge`, too."""


class TableError(ValueError):
    """The text is no table of counts; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Columns:
    """A table's cells by column, and the line of each row. All methods raise TableError."""

    lines: Sequence[int]
    cells: Mapping[str, Sequence[str]]

    def fail(self, row: int, words: str) -> NoReturn:
        """Raise the error of a row (counted from 0, without the header)."""
        raise TableError(f"row {self.lines[row]}: {words}")

    def counts(self, name: str) -> Ints:
        """Return a column of requests or events."""
        return self._wholes(name, 0, _LARGEST)

    def intervals(self, *, negative: bool = False) -> Ints:
        """Return the column `interval`."""
        return self._wholes("interval", -_LAST if negative else 0, _LAST)

    def edges(self) -> Floats:
        """Return the column `edge`; zeros when there is none."""
        if "edge" not in self.cells:
            return np.zeros(len(self.lines))
        allowed = "a positive number"
        self._check("edge", r"[0-9]{1,15}(?:\.[0-9]{1,15})?", allowed)
        values = np.array([float(cell) for cell in self.cells["edge"]], dtype=np.float64)
        self._refuse("edge", values == 0, allowed)
        return values

    def names(self, name: str, *, empty: bool = False) -> Sequence[str]:
        """Return a column of names."""
        least = 0 if empty else 1
        allowed = f"a name of {least} to {_LONGEST_NAME} characters"
        self._check(name, f".{{{least},{_LONGEST_NAME}}}", allowed)
        return self.cells[name]

    def check_events(self, total: str, event: str) -> None:
        """Refuse rows with more events than requests."""
        totals, events = self.counts(total), self.counts(event)
        row = _first(events > totals)
        if row is not None:
            self.fail(row, f"{event} {events[row]} is above {total} {totals[row]}")

    def check_unique(self, keys: Sequence[Ints], words: Callable[[int], str]) -> None:
        """Refuse a row with the same keys (from 0) as one before; `words` names what is there twice."""
        again = np.ones(len(self.lines), dtype=bool)
        again[np.unique(grouped(keys), return_index=True)[1]] = False
        row = _first(again)
        if row is not None:
            self.fail(row, f"{words(row)} is there twice")

    def _wholes(self, name: str, lowest: int, highest: int) -> Ints:
        allowed = f"a whole number from {lowest} to {highest}"
        self._check(name, f"{'-?' if lowest < 0 else ''}[0-9]{{1,16}}", allowed)
        values = np.array([int(cell) for cell in self.cells[name]], dtype=np.int64)
        self._refuse(name, (values < lowest) | (values > highest), allowed)
        return values

    def _check(self, name: str, pattern: str, allowed: str) -> None:
        cells = self.cells[name]
        if not re.fullmatch(f"(?:{pattern}\n)*+", "".join(f"{cell}\n" for cell in cells), re.ASCII):
            self._refuse(name, [not re.fullmatch(pattern, cell, re.ASCII) for cell in cells], allowed)

    def _refuse(self, name: str, wrong: Sequence[bool] | Flags, allowed: str) -> None:
        row = _first(wrong)
        if row is not None:
            self.fail(row, f"{name} must be {allowed}, not {self.cells[name][row][:40]!r}")


def grouped(keys: Sequence[Ints]) -> Ints:
    """Return a number per row, from 0, that is the same for rows with the same keys (from 0)."""
    groups = np.zeros_like(keys[0])
    for key in keys:
        groups = np.unique(groups * (int(key.max(initial=0)) + 1) + key, return_inverse=True)[1]
    return groups


def _first(flags: Sequence[bool] | Flags) -> int | None:
    """Return the first row that is true, if any."""
    rows = np.flatnonzero(flags)
    return int(rows[0]) if rows.size else None


def header(text: str) -> tuple[str, ...]:
    """Return the cells of the first row that is not blank; none if there is none. Raises TableError."""
    return next((tuple(cells) for _, cells in rows_of(text)), ())


def columns(text: str, required: Sequence[str]) -> Columns:
    """Return a text's columns: the required ones, and perhaps `edge`. Raises TableError."""
    rows = rows_of(text)
    line, first = next(rows, (1, []))
    if sorted(first) not in (sorted(required), sorted((*required, "edge"))):
        found = f"found {','.join(first)[:200]!r}" if first else "found nothing"
        forms = f"{','.join(SHORT)} or, in long form, {','.join(LONG)}"
        raise TableError(f"row {line}: the header must be {forms}, with edge if there are edges; {found}")
    lines, table = [], []
    for line, cells in rows:
        if len(cells) != len(first):
            raise TableError(f"row {line}: {len(cells)} columns instead of {len(first)}")
        lines.append(line)
        table.append(cells)
    by_column = zip(*table, strict=True) if table else ((),) * len(first)
    return Columns(lines, dict(zip(first, by_column, strict=True)))


def rows_of(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield every row that is not blank: its line, and its cells without spaces around them."""
    reader = csv.reader(text.removeprefix("\ufeff").splitlines(), strict=True)
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise TableError(f"row {reader.line_num}: {error}") from error
