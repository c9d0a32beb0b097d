"""What a table of counts says, as numbers for programs and as a sentence for people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from analysis.eprocess import e_value
from analysis.words import effect, percent


@dataclass(frozen=True, slots=True)
class MarginVerdict:
    """The proof that a candidate is not worse than a margin.

    `margin` is a fraction, of the odds or, with edges, of the time. `log_e_values` are against "worse than
    the margin", after every interval (-inf: no edge tells of it), `safe_at` is the first of them that reached
    the bound. `proven` is, with edges, the margin that they can show: at least the one asked for.
    """

    margin: float
    log_e_values: tuple[float, ...]
    safe_at: int | None
    proven: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; a logarithm is null where nothing tells of the margin."""
        return {
            "margin": self.margin,
            "proven_margin": self.proven,
            "safe_at": self.safe_at,
            "e_safe": [e_value(log_e) for log_e in self.log_e_values],
            "log_e_safe": [log_e if math.isfinite(log_e) else None for log_e in self.log_e_values],
        }

    def words(self, intervals: tuple[int, ...], bound: float) -> str:
        """Return the proof in words."""
        peak = max(self.log_e_values, default=-math.inf)
        name = f"margin of {percent(self.margin)}"
        if self.proven is not None and self.proven > self.margin * 1.001:
            name = f"margin of {percent(self.proven)} (asked for {percent(self.margin)}; no edges lie closer)"
        if peak == -math.inf:
            return f"no edge tells of the {name}"
        reached = (
            "never reached" if self.safe_at is None else f"reached in interval {intervals[self.safe_at]}"
        )
        return f"{name}: e-value at most {e_value(peak):.3g}, bound {bound:.4g} {reached}"


@dataclass(frozen=True, slots=True)
class TableVerdict:
    """What a table says: the e-values after every interval, and the effect over all of them.

    With edges, `odds_ratio`, `confidence_sequence` and the events are those of `worst_edge`, the edge with
    most evidence for the alternatives; `edges` has them all. `crossed_at` and `safe_at` of the margin count
    intervals from 0.
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
    margin: MarginVerdict | None = None

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
            **({} if self.margin is None else self.margin.as_dict()),
            "assumed": self.assumed,
        }

    def sentences(self) -> tuple[str, ...]:
        """Return the verdict for people, a line each."""
        return (self.sentence(),)

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
        margin = "" if self.margin is None else f"; {self.margin.words(self.intervals, self.bound)}"
        return (
            f"{self.verdict}: {edge}{rates[0]} against {rates[1]} ({size}); e-value against "
            f'"{self.assumed["null"]}" at most {peak:.3g}, bound {self.bound:.4g} {reached}{margin}'
        )
