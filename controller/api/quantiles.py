"""Quantiles of a run's latencies for the report: a picture, which decides nothing. Pure.

All requests of a run are one histogram here, over all its steps and hours, so a control and a candidate that
were equal at every moment can differ in it. The judge compares within each interval instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.quantiles import quantile_intervals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

QUANTILES = (0.5, 0.95, 0.99)
ROLES = ("control", "candidate")
TIGHTEST = 10_000.0
"""The number of (independent) requests at which the intervals are about narrowest; fixed before any data."""


@dataclass(frozen=True, slots=True)
class QuantileRow:
    """One quantile of one version, in the metric's unit; None: above the last bucket edge."""

    quantile: float
    role: str
    """control or candidate."""
    estimate: tuple[float, float | None]
    """The neighbouring edges (0 below the first) between which the quantile of the counted requests lies."""
    low: float
    """The quantile is greater than this and at most `high`, at all looks with the run's confidence."""
    high: float | None


def quantile_rows(latency: Mapping[str, Any], *, alpha: float, dispersion: float) -> tuple[QuantileRow, ...]:
    """Return the quantiles of a metric from its counts, `{edges, control, candidate}`.

    The counts of a version are its requests, then those above each edge. All intervals of both versions hold
    together at all looks but with chance `alpha`, if requests come in clusters no larger than `dispersion`.
    """
    edges = [float(edge) for edge in latency["edges"]]
    rows: list[QuantileRow] = []
    for role in ROLES:
        total, *above = latency[role]
        if not total:
            continue
        worth = [count / dispersion for count in (total, *above)]
        brackets = quantile_intervals(edges, worth[1:], worth[0], alpha / 2, QUANTILES, t_opt=TIGHTEST)
        rows += [
            QuantileRow(quantile, role, _between(edges, above, total, quantile), low, high)
            for quantile, (low, high) in zip(QUANTILES, brackets, strict=True)
        ]
    return tuple(rows)


def _between(
    edges: Sequence[float], above: Sequence[float], total: float, quantile: float
) -> tuple[float, float | None]:
    """Return the neighbouring edges around a quantile of the counted requests."""
    reached = [total - count >= quantile * total for count in above]
    first = reached.index(True) if any(reached) else len(edges)
    return (edges[first - 1] if first else 0.0), (edges[first] if first < len(edges) else None)
