"""How simulated and replayed runs ended: one by one, and as shares with their Monte Carlo error."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from controller.distribution import distribution

Outcome = Literal["promoted", "rolledBack", "held"]
OUTCOMES: tuple[Outcome, ...] = ("promoted", "rolledBack", "held")


@dataclass(frozen=True, slots=True)
class Ending:
    """How one run ended: the reason is the decision's, or why it held last; seconds since the start."""

    outcome: Outcome
    reason: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `runs` runs, and the median of their seconds (None without any)."""

    count: int
    runs: int
    median: float | None = None

    @property
    def share(self) -> float:
        """The share of the runs."""
        return self.count / self.runs

    @property
    def error(self) -> float:
        """The Monte Carlo error (one standard error) of the share.

        From (count + 1) / (runs + 2), so that it is not 0 when none or all of a few runs ended so.
        """
        likely = (self.count + 1) / (self.runs + 2)
        return math.sqrt(likely * (1 - likely) / self.runs)

    def exceeds(self, asked: float) -> bool:
        """Tell whether the true share is above `asked` for all we can see: by more than two errors."""
        return self.share - 2 * self.error > asked


@dataclass(frozen=True, slots=True)
class Result:
    """What became of all runs with one effect."""

    effect: float
    endings: tuple[Ending, ...]

    def share(self, outcome: Outcome, reason: str | None = None) -> Share:
        """Return the runs that ended so, for this reason or any."""
        those = [e for e in self.endings if e.outcome == outcome and reason in {None, e.reason}]
        times = [ending.seconds for ending in those if ending.seconds is not None]
        return Share(len(those), len(self.endings), median(times) if times else None)

    @property
    def median(self) -> float | None:
        """The median time to a decision over all runs, in seconds; None when half of them had none."""
        middle = median(math.inf if e.seconds is None else e.seconds for e in self.endings)
        return middle if math.isfinite(middle) else None

    def times(self, outcome: Outcome) -> list[float]:
        """Return the seconds that the runs with this outcome took, in order."""
        return sorted(e.seconds for e in self.endings if e.outcome == outcome and e.seconds is not None)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "effect": self.effect,
            "runs": len(self.endings),
            **{outcome: self._outcome(outcome) for outcome in OUTCOMES},
            "medianSeconds": self.median,
        }

    def _outcome(self, outcome: Outcome) -> dict[str, Any]:
        found = self.share(outcome)
        return {
            "count": found.count,
            "share": found.share,
            "error": found.error,
            "medianSeconds": found.median,
            "reasons": dict(Counter(e.reason for e in self.endings if e.outcome == outcome)),
            **distribution(self.times(outcome)),
        }
