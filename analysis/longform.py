"""Tables of counts in long form: a row per interval, version and pod.

CSV with the header `interval,variant,series,total,events`, and `edge` for latencies, in any order of columns
and rows. The variant `control` is the control, `history` its rows from before the run (whatever their
interval numbers), every other name a candidate. A series is a pod or an instance; those of a variant are
summed for the test, and apart they tell how much counts vary where nothing differs. A row that is missing
says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.table_text import LONG, TableError, columns, grouped, header
from analysis.tabular import CountTable, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.hypergeometric import Ints
    from analysis.table_text import Columns, Flags

CONTROL, HISTORY, CANDIDATE = "control", "history", "candidate"
_MOST_CELLS = 10_000_000
"""Intervals times series times edges, above which a series is no pod but a name per row."""


@dataclass(frozen=True, slots=True)
class SeriesCounts:
    """The control's counts by series: `totals` (intervals, series), `events` (intervals, series, lanes).

    Where a series misses an edge of an interval, it has no requests there.
    """

    totals: Ints
    events: Ints

    def until(self, interval: int) -> SeriesCounts:
        """Return the counts of the first intervals, as many as that."""
        return SeriesCounts(self.totals[:interval], self.events[:interval])


@dataclass(frozen=True, slots=True)
class LongTable:
    """A table per candidate, and the control's series during the run and before it.

    All but the history are over the same intervals, and all over the same edges. A text without any candidate
    has one called `candidate`, without requests.
    """

    intervals: tuple[int, ...]
    candidates: Mapping[str, CountTable]
    control: SeriesCounts
    history: SeriesCounts


def parse_any(text: str) -> CountTable | LongTable:
    """Return the table in a CSV text, in the form that its header says. Raises TableError."""
    names = header(text)
    return parse_long(text) if "variant" in names else parse(text)


def parse_long(text: str) -> LongTable:
    """Return the table in a CSV text. Raises TableError, with the row (counted as lines are, from 1)."""
    rows = _rows(columns(text, LONG))
    is_history = rows.of(HISTORY)
    intervals, times = np.unique(rows.intervals[~is_history], return_inverse=True)
    places = np.zeros(len(is_history), dtype=np.int64)
    places[~is_history] = times
    places[is_history] = np.unique(rows.intervals[is_history], return_inverse=True)[1]
    control = _summed(rows, rows.of(CONTROL), places, len(intervals))
    names = sorted(set(rows.variants) - {CONTROL, HISTORY}) or [CANDIDATE]
    arms = {name: _summed(rows, rows.of(name), places, len(intervals)) for name in names}
    numbers = tuple(intervals.tolist())
    return LongTable(
        numbers,
        {
            name: CountTable(numbers, rows.edges, np.concatenate([control, own], 2))
            for name, own in arms.items()
        },
        _by_series(rows, rows.of(CONTROL), places, len(intervals)),
        _by_series(rows, is_history, places, int(places[is_history].max(initial=-1)) + 1),
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows as arrays: interval numbers, positions of variant, series and edge, and the counts."""

    variants: tuple[str, ...]
    edges: tuple[float, ...]
    intervals: Ints
    variant: Ints
    series: Ints
    lane: Ints
    totals: Ints
    events: Ints

    @property
    def lanes(self) -> int:
        """How many edges there are; 1 without."""
        return max(1, len(self.edges))

    def of(self, name: str) -> Flags:
        """Tell which rows belong to a variant."""
        position = self.variants.index(name) if name in self.variants else -1
        return np.asarray(self.variant == position)


def _rows(cells: Columns) -> _Rows:
    """Return the checked rows."""
    totals, events = cells.counts("total"), cells.counts("events")
    cells.check_events("total", "events")
    intervals = cells.intervals(negative=True)
    variants, variant = _coded(cells.names("variant"))
    series = _coded(cells.names("series", empty=True))[1]
    edges, lane = np.unique(cells.edges(), return_inverse=True)
    times = np.unique(intervals, return_inverse=True)[1]
    unit = grouped([variant, series, times])
    cells.check_unique(
        [unit, lane],
        lambda row: ", ".join(
            f"{name} {cells.cells[name][row]}"
            for name in ("interval", "variant", "series", "edge")
            if name in cells.cells
        ),
    )
    _check_totals(cells, unit, totals)
    latency = tuple(edges.tolist()) if "edge" in cells.cells else ()
    return _Rows(variants, latency, intervals, variant, series, lane, totals, events)


def _coded(names: Sequence[str]) -> tuple[tuple[str, ...], Ints]:
    """Return the different names, sorted, and the position of each row's."""
    different = tuple(sorted(set(names)))
    place = {name: position for position, name in enumerate(different)}
    return different, np.array([place[name] for name in names], dtype=np.int64)


def _check_totals(cells: Columns, unit: Ints, totals: Ints) -> None:
    """Refuse edges of one histogram that disagree about its requests."""
    _, first, group = np.unique(unit, return_index=True, return_inverse=True)
    for row in np.flatnonzero(totals != totals[first][group])[:1].tolist():
        other = totals[first][group][row]
        cells.fail(row, f"total {totals[row]} differs from the {other} at another edge of the same series")


def _summed(rows: _Rows, own: Flags, places: Ints, intervals: int) -> Ints:
    """Return a variant's requests and events over its series: (intervals, lanes, 2)."""
    table = np.zeros((intervals, rows.lanes, 2), dtype=np.int64)
    np.add.at(table, (places[own], rows.lane[own]), np.stack([rows.totals[own], rows.events[own]], axis=-1))
    return table


def _by_series(rows: _Rows, own: Flags, places: Ints, intervals: int) -> SeriesCounts:
    """Return a variant's counts by series. Raises TableError."""
    names, series = np.unique(rows.series[own], return_inverse=True)
    shape = (intervals, len(names), rows.lanes)
    if intervals * len(names) * rows.lanes > _MOST_CELLS:
        raise TableError(f"{len(names)} series over {intervals} intervals are too many: a series is a pod")
    totals, events, seen = (np.zeros(size, dtype=np.int64) for size in (shape[:2], shape, shape))
    at = (places[own], series)
    totals[at] = rows.totals[own]
    events[(*at, rows.lane[own])] = rows.events[own]
    seen[(*at, rows.lane[own])] = 1
    complete = seen.min(axis=2)
    return SeriesCounts(totals * complete, events * complete[:, :, None])
