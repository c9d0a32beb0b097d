"""A table of counts from anywhere: text in, e-values and a verdict out, by the bet of `analysis.eprocess`.

CSV with the header `interval,control_total,control_events,candidate_total,candidate_events`, in any order of
columns and rows; with a column `edge`, one row per interval and edge. A row that is missing says nothing.
Tables with a row per pod, several candidates or a history are `analysis.longform`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from analysis.confidence import confidence_bounds, mantel_haenszel, mantel_haenszel_terms
from analysis.eprocess import LARGEST, harm_odds_ratios, log_mean
from analysis.margin import comparable, control_shares
from analysis.table_evidence import Question, answers, arm_counts, margin_layout
from analysis.table_text import SHORT, TableError, columns
from analysis.table_verdict import MarginVerdict, TableVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.hypergeometric import Floats, Ints
    from analysis.table_evidence import Answer

_COUNTS = SHORT[1:]
_ODDS = 1e9
"""Odds ratios lie between 1 / this and this."""


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
    or all below (safety is looked for). `planned_looks` None: as many as there are intervals. `margin` is a
    fraction (0.5 is 50 %), of the odds or, with edges, of the time; None: safety is not asked for.
    """

    alpha: float = 0.05
    null_odds_ratio: float = 1.0
    odds_ratios: tuple[float, ...] | None = None
    dispersion: float = 1.0
    restart: bool = True
    planned_looks: int | None = None
    margin: float | None = None

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
        if self.margin is not None and not 0 < self.margin < _ODDS:
            raise ValueError(f"the margin must be above 0 and below {_ODDS:g}, not {self.margin:g}")
        if ratios is None:
            return
        if not ratios or not all(1 / _ODDS <= w <= _ODDS for w in ratios):
            raise ValueError(f"odds ratios must lie between {1 / _ODDS:g} and {_ODDS:g}")
        if not (min(ratios) > null or max(ratios) < null):
            raise ValueError(f"odds ratios must be all above or all below the null odds ratio {null:g}")
        if self.margin is not None and max(ratios) < null:
            raise ValueError("with a margin, which asks for safety, the odds ratios must lie above the null")

    @property
    def looks_for_harm(self) -> bool:
        """Whether crossing the bound means Harmful, not Safe."""
        return self.odds_ratios is None or min(self.odds_ratios) > self.null_odds_ratio

    def alternatives(self, *, latency: bool) -> tuple[float, ...]:
        """Return the odds ratios of the mixture."""
        return self.odds_ratios or harm_odds_ratios(self.null_odds_ratio, latency=latency)


def parse(text: str) -> CountTable:
    """Return the table in a CSV text. Raises TableError, with the row (counted as lines are, from 1)."""
    cells = columns(text, SHORT)
    counts = np.stack([cells.counts(name) for name in _COUNTS], axis=-1)
    for arm in ("control", "candidate"):
        cells.check_events(f"{arm}_total", f"{arm}_events")
    latency = "edge" in cells.cells
    intervals, times = np.unique(cells.intervals(), return_inverse=True)
    edges, lanes = np.unique(cells.edges(), return_inverse=True)
    edge = [f" with edge {edge:g}" if latency else "" for edge in edges]
    cells.check_unique([times, lanes], lambda row: f"interval {intervals[times[row]]}{edge[lanes[row]]}")
    table = np.zeros((len(intervals), max(1, len(edges)), 4), dtype=np.int64)
    table[times, lanes] = counts
    return CountTable(tuple(intervals.tolist()), tuple(edges.tolist()) if latency else (), table)


class Case(NamedTuple):
    """A table to be judged, and the dispersion as it was known at every interval (None: the settings')."""

    table: CountTable
    settings: Settings
    dispersion: Floats | None = None


def judge_table(table: CountTable, settings: Settings) -> TableVerdict:
    """Return what a table says under the settings. Raises TableError as `check_margin` does."""
    return judge_tables([Case(table, settings)])[0]


def judge_tables(cases: Sequence[Case]) -> list[TableVerdict]:
    """Return what every table says; many at once cost less than one by one.

    Raises TableError as `check_margin` does.
    """
    questions = [_question(case) for case in cases]
    return [_table_verdict(*parts) for parts in zip(cases, questions, answers(questions), strict=True)]


def check_margin(table: CountTable) -> None:
    """Refuse a table that a margin of time cannot be judged by, since an edge misses requests of an interval.

    Raises TableError.
    """
    totals = table.counts[:, :, ::2]
    wrong = (totals != totals[:, :1]).any(axis=(1, 2))
    if table.edges and wrong.any():
        interval = table.intervals[int(np.argmax(wrong))]
        raise TableError(f"interval {interval}: for a margin, every edge must have the same totals")


def _question(case: Case) -> Question:
    table, settings, dispersion = case
    if settings.margin is not None:
        check_margin(table)
    planned = settings.planned_looks or max(1, len(table.intervals))
    known = np.full(len(table.intervals), settings.dispersion) if dispersion is None else dispersion
    return Question(
        counts=table.counts,
        edges=table.edges,
        null=settings.null_odds_ratio,
        alternatives=settings.alternatives(latency=bool(table.edges)),
        margin=settings.margin,
        planned=planned if settings.restart else None,
        dispersion=known,
    )


def _table_verdict(case: Case, question: Question, answer: Answer) -> TableVerdict:
    """Return the verdict from a table's evidence."""
    table, settings, _ = case
    lanes = [_lane(table, *lane, settings.alpha) for lane in enumerate(answer.likelihood)]
    worst = int(np.argmax(log_mean(answer.gains)))
    crossed_at = first_at_least(answer.path, settings.alpha)
    empty = not table.counts[:, :, 0].any() or not table.counts[:, :, 2].any()
    margin = None if answer.safe is None else _margin_verdict(question, answer.safe, settings.alpha, empty)
    return TableVerdict(
        verdict=_kind(empty, crossed_at, margin, harm=settings.looks_for_harm),
        log_e_values=tuple(answer.path.tolist()),
        crossed_at=crossed_at,
        bound=1 / settings.alpha,
        odds_ratio=lanes[worst]["odds_ratio"],
        confidence_sequence=tuple(lanes[worst]["confidence_sequence"]),
        totals=lanes[worst]["totals"],
        worst_edge=table.edges[worst] if table.edges else None,
        edges=tuple({"edge": edge, **lane} for edge, lane in zip(table.edges, lanes, strict=False)),
        intervals=table.intervals,
        assumed=_assumed(settings, question),
        margin=margin,
    )


def first_at_least(log_e_values: Floats, alpha: float) -> int | None:
    """Return the first interval, from 0, at which an e-value reached 1/alpha."""
    reached = np.flatnonzero(log_e_values >= -math.log(alpha))
    return int(reached[0]) if reached.size else None


def _kind(empty: bool, crossed_at: int | None, margin: MarginVerdict | None, *, harm: bool) -> str:
    """Return the verdict; proven harm outranks proven safety, whichever came first."""
    if empty:
        return "NoData"
    if crossed_at is not None:
        return "Harmful" if harm else "Safe"
    return "Safe" if margin is not None and margin.safe_at is not None else "Undecided"


def _margin_verdict(question: Question, path: Floats, alpha: float, empty: bool) -> MarginVerdict:
    margin = question.margin or 0.0
    return MarginVerdict(
        margin=margin,
        log_e_values=tuple(path.tolist()),
        safe_at=None if empty else first_at_least(path, alpha),
        proven=_proven_margin(question) if question.edges else None,
    )


def _proven_margin(question: Question) -> float | None:
    """Return how much slower than the control a candidate may be that the telling edges call safe."""
    layout = margin_layout(question.edges, question.margin)
    if not layout.pairs:
        return None
    shares = control_shares(layout, arm_counts(question.counts).sum(axis=0)[None])[0]
    pairs = [layout.pairs[pair] for pair in np.flatnonzero(comparable(layout, shares))]
    edges = question.edges
    return max((edges[far] / edges[near] - 1 for near, far in pairs), default=None)


def _assumed(settings: Settings, question: Question) -> dict[str, Any]:
    margin = {} if settings.margin is None else {"margin": settings.margin}
    return {
        "alpha": settings.alpha,
        "null": f"odds ratio {'<=' if settings.looks_for_harm else '>='} {settings.null_odds_ratio:g}",
        "null_odds_ratio": settings.null_odds_ratio,
        "odds_ratios": list(question.alternatives),
        "dispersion": float(question.dispersion[-1]) if question.dispersion.size else settings.dispersion,
        "restart": settings.restart,
        "planned_looks": question.planned,
        "averaged_over_edges": list(question.edges),
        **margin,
    }


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
