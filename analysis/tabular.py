"""A table of counts from anywhere, judged as the loop judges a metric: text in, e-values and a verdict out.

CSV with the header `interval,control_total,control_events,candidate_total,candidate_events`, in any order of
columns and rows; with a column `edge`, one row per interval and edge. A row that is missing says nothing.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.confidence import NODES, confidence_bounds, mantel_haenszel, mantel_haenszel_terms
from analysis.eprocess import LARGEST, e_value, harm_odds_ratios, log_mean, mixture_path
from analysis.hypergeometric import Floats, Ints, log_likelihood_ratios
from analysis.words import effect, percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_COUNTS = ("control_total", "control_events", "candidate_total", "candidate_events")
_COLUMNS = ("interval", *_COUNTS)
_LARGEST = 10**12
"""Counts above this are taken for mistakes."""
_LAST = 10**15
"""The same for interval numbers, which may be times in microseconds."""
_ODDS = 1e9
"""Odds ratios lie between 1 / this and this."""


class TableError(ValueError):
    """The text is no table of counts; the message says where and why."""


@dataclass(frozen=True, slots=True)
class CountTable:
    """Counts per interval and edge: `counts[t, e]` has n_b, k_b, n_c, k_c. Without edges e is 0."""

    intervals: tuple[int, ...]
    edges: tuple[float, ...]
    counts: Ints


@dataclass(frozen=True, slots=True)
class Settings:
    """How a table is judged. Raises ValueError when the settings contradict each other.

    `odds_ratios` None: the loop's defaults above the null. They lie all above the null (harm is looked for)
    or all below (safety is looked for). `planned_looks` None: as many as there are intervals.
    """

    alpha: float = 0.05
    null_odds_ratio: float = 1.0
    odds_ratios: tuple[float, ...] | None = None
    dispersion: float = 1.0
    restart: bool = True
    planned_looks: int | None = None

    def __post_init__(self) -> None:
        null, ratios = self.null_odds_ratio, self.odds_ratios
        if not 1 / LARGEST <= self.alpha < 1:
            raise ValueError(f"alpha must be above 0 and below 1, not {self.alpha:g}")
        if not 1 / _ODDS <= null <= _ODDS:
            raise ValueError(
                f"the null odds ratio must lie between {1 / _ODDS:g} and {_ODDS:g}, not {null:g}"
            )
        if not 1 <= self.dispersion < math.inf:
            raise ValueError(f"the dispersion must be at least 1, not {self.dispersion:g}")
        if self.planned_looks is not None and self.planned_looks < 1:
            raise ValueError(f"planned looks must be at least 1, not {self.planned_looks}")
        if ratios is None:
            return
        if not ratios or not all(1 / _ODDS <= w <= _ODDS for w in ratios):
            raise ValueError(f"odds ratios must lie between {1 / _ODDS:g} and {_ODDS:g}")
        if not (min(ratios) > null or max(ratios) < null):
            raise ValueError(f"odds ratios must be all above or all below the null odds ratio {null:g}")

    def alternatives(self, *, latency: bool) -> tuple[float, ...]:
        """Return the odds ratios of the mixture."""
        return self.odds_ratios or harm_odds_ratios(self.null_odds_ratio, latency=latency)


@dataclass(frozen=True, slots=True)
class TableVerdict:
    """What a table says: the e-values after every interval, and the effect over all of them.

    With edges, `odds_ratio`, `confidence_sequence` and the events are those of `worst_edge`, the edge with
    most evidence for the alternatives; `edges` has them all.
    """

    verdict: str
    log_e_values: tuple[float, ...]
    crossed_at: int | None
    bound: float
    odds_ratio: float | None
    confidence_sequence: tuple[float, float | None]
    totals: dict[str, int]
    worst_edge: float | None
    edges: tuple[dict[str, Any], ...]
    intervals: tuple[int, ...]
    assumed: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values; e-values are cut off at 1e300, their logarithms are not."""
        extra = {} if self.worst_edge is None else {"worst_edge": self.worst_edge, "edges": list(self.edges)}
        return {
            "verdict": self.verdict,
            "crossed_at": self.crossed_at,
            "alpha": self.assumed["alpha"],
            "bound": self.bound,
            "odds_ratio": self.odds_ratio,
            "confidence_sequence": list(self.confidence_sequence),
            "totals": self.totals,
            **extra,
            "intervals": len(self.intervals),
            "interval_numbers": list(self.intervals),
            "e_values": [e_value(log_e) for log_e in self.log_e_values],
            "log_e_values": list(self.log_e_values),
            "assumed": self.assumed,
        }

    def sentence(self) -> str:
        """Return the verdict for people."""
        if self.verdict == "NoData":
            return "NoData: no requests to compare"
        totals = self.totals
        rates = [
            percent(totals[f"{arm}_events"] / n if (n := totals[f"{arm}_total"]) else None)
            for arm in ("candidate", "control")
        ]
        edge = "" if self.worst_edge is None else f"above {self.worst_edge:g}: "
        size = effect(self.odds_ratio, self.confidence_sequence, 1 - self.assumed["alpha"])
        reached = (
            "never crossed"
            if self.crossed_at is None
            else f"crossed in interval {self.intervals[self.crossed_at]}"
        )
        peak = e_value(max(self.log_e_values))
        return (
            f"{self.verdict}: {edge}{rates[0]} against {rates[1]} ({size}); e-value against "
            f'"{self.assumed["null"]}" at most {peak:.3g}, bound {self.bound:.4g} {reached}'
        )


def parse(text: str) -> CountTable:
    """Return the table in a CSV text. Raises TableError, with the row (counted as lines are, from 1)."""
    header: list[str] = []
    rows: dict[tuple[int, float], list[int]] = {}
    for line, cells in _rows(text.removeprefix("\ufeff")):
        if not header:
            header = _checked_header(cells, line)
            continue
        key, values = _row(header, cells, line)
        if key in rows:
            words = f"interval {key[0]}" + (f" with edge {key[1]:g}" if "edge" in header else "")
            raise TableError(f"row {line}: {words} is there twice")
        rows[key] = values
    if not header:
        _checked_header([], 1)
    return _table(rows, latency="edge" in header)


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield every row that is not blank: its line, and its cells without spaces around them."""
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise TableError(f"row {reader.line_num}: {error}") from error


def _table(rows: Mapping[tuple[int, float], list[int]], *, latency: bool) -> CountTable:
    intervals = sorted({interval for interval, _ in rows})
    edges = sorted({edge for _, edge in rows}) or [0.0]
    places = {interval: row for row, interval in enumerate(intervals)}
    lanes = {edge: lane for lane, edge in enumerate(edges)}
    counts = np.zeros((len(intervals), len(edges), 4), dtype=np.int64)
    for (interval, edge), values in rows.items():
        counts[places[interval], lanes[edge]] = values
    return CountTable(tuple(intervals), tuple(edges) if latency else (), counts)


def _checked_header(cells: list[str], line: int) -> list[str]:
    """Return the header. Raises TableError when it is another one."""
    if sorted(cells) not in (sorted(_COLUMNS), sorted((*_COLUMNS, "edge"))):
        found = f"found {','.join(cells)[:200]!r}" if cells else "found nothing"
        raise TableError(
            f"row {line}: the header must be {','.join(_COLUMNS)}, with edge if there are edges; {found}"
        )
    return cells


def _row(header: list[str], cells: list[str], line: int) -> tuple[tuple[int, float], list[int]]:
    """Return a row's interval and edge (0 without), and its four counts."""
    if len(cells) != len(header):
        raise TableError(f"row {line}: {len(cells)} columns instead of {len(header)}")
    values = dict(zip(header, cells, strict=True))
    edge = _edge(values["edge"], line) if "edge" in values else 0.0
    interval = _whole("interval", values["interval"], line, _LAST)
    counts = [_whole(name, values[name], line, _LARGEST) for name in _COUNTS]
    for arm, (total, events) in {"control": counts[:2], "candidate": counts[2:]}.items():
        if events > total:
            raise TableError(f"row {line}: {arm}_events {events} is above {arm}_total {total}")
    return (interval, edge), counts


def _whole(name: str, text: str, line: int, largest: int) -> int:
    if not re.fullmatch(r"[0-9]{1,16}", text, re.ASCII) or int(text) > largest:
        raise TableError(f"row {line}: {name} must be a whole number from 0 to {largest}, not {text[:40]!r}")
    return int(text)


def _edge(text: str, line: int) -> float:
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", text, re.ASCII) or float(text) == 0:
        raise TableError(f"row {line}: edge must be a positive number, not {text[:40]!r}")
    return float(text)


def judge_table(table: CountTable, settings: Settings) -> TableVerdict:
    """Return what a table says under the settings."""
    latency = bool(table.edges)
    alternatives = settings.alternatives(latency=latency)
    planned = settings.planned_looks or max(1, len(table.intervals))
    odds_ratios = np.concatenate([np.exp(NODES), [settings.null_odds_ratio], alternatives])
    log_ratios = _log_ratios(table, odds_ratios) / settings.dispersion
    gains = log_ratios[:, :, NODES.size + 1 :] - log_ratios[:, :, NODES.size, None]
    likelihood = log_ratios[:, :, : NODES.size].sum(axis=0)
    has_news = bool(log_ratios.any())
    flat = gains.reshape(len(gains), len(likelihood) * len(alternatives))
    path = mixture_path(flat, planned if settings.restart else None) * has_news
    crossings = np.flatnonzero(path >= -math.log(settings.alpha))
    lanes = [_lane(table, lane, likelihood[lane], settings.alpha) for lane in range(len(likelihood))]
    worst = int(np.argmax(log_mean(gains.sum(axis=0))))
    harm = min(alternatives) > settings.null_odds_ratio
    return TableVerdict(
        verdict=_verdict(table, crossed=bool(crossings.size), harm=harm),
        log_e_values=tuple(path.tolist()),
        crossed_at=int(crossings[0]) if crossings.size else None,
        bound=1 / settings.alpha,
        odds_ratio=lanes[worst]["odds_ratio"],
        confidence_sequence=tuple(lanes[worst]["confidence_sequence"]),
        totals=lanes[worst]["totals"],
        worst_edge=table.edges[worst] if latency else None,
        edges=tuple({"edge": edge, **lane} for edge, lane in zip(table.edges, lanes, strict=False)),
        intervals=table.intervals,
        assumed={
            "alpha": settings.alpha,
            "null": f"odds ratio {'<=' if harm else '>='} {settings.null_odds_ratio:g}",
            "null_odds_ratio": settings.null_odds_ratio,
            "odds_ratios": list(alternatives),
            "dispersion": settings.dispersion,
            "restart": settings.restart,
            "planned_looks": planned if settings.restart else None,
            "averaged_over_edges": list(table.edges),
        },
    )


def _verdict(table: CountTable, *, crossed: bool, harm: bool) -> str:
    if not table.counts[:, :, 0].any() or not table.counts[:, :, 2].any():
        return "NoData"
    if not crossed:
        return "Undecided"
    return "Harmful" if harm else "Safe"


def _log_ratios(table: CountTable, odds_ratios: Floats) -> Floats:
    """Return the log-likelihood ratios, (intervals, lanes, odds ratios)."""
    n_b, k_b, n_c, k_c = (table.counts[:, :, column].ravel() for column in range(4))
    flat = log_likelihood_ratios(n_c, k_c, n_b, k_b, odds_ratios)
    return flat.reshape(*table.counts.shape[:2], odds_ratios.size)


def _lane(table: CountTable, lane: int, likelihood: Floats, alpha: float) -> dict[str, Any]:
    """Return the effect at one edge over all intervals."""
    n_b, k_b, n_c, k_c = (table.counts[:, lane, column].astype(np.float64) for column in range(4))
    sums = mantel_haenszel_terms(n_c, k_c, n_b, k_b).sum(axis=0)
    totals = table.counts[:, lane].sum(axis=0).tolist()
    return {
        "odds_ratio": mantel_haenszel(*sums.tolist()),
        "confidence_sequence": confidence_bounds(likelihood, alpha),
        "totals": dict(zip(_COUNTS, totals, strict=True)),
    }
