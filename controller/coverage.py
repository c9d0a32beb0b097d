"""How much of a run was measured: per metric, intervals without a table, the longest gap, resets. Pure.

An interval is lost when Prometheus lacks a sample at one of its ends (a scrape that failed) or its counters
cannot be right. Evidence does not mind: what is not there is not judged. A person should know, though, since
a candidate that is hard to scrape when it is in trouble hides just that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from analysis.judge import Interval

RECENT = 30
TOLERATED = 0.2
"""The share of the last `RECENT` intervals that may be lost before a person is told."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """One metric's intervals so far."""

    intervals: int = 0
    lost: int = 0
    longest: int = 0
    """The longest gap, in intervals."""
    gap: int = 0
    """The gap up to now."""
    recent: str = ""
    """The last `RECENT` intervals, oldest first: `-` for a lost one, `+` for one with a table."""
    sparse: bool = False
    """Whether there ever were too many lost ones among them."""
    resets: int = 0
    """How often a process began to count from 0 again."""

    def after(self, *, lost: bool, resets: int = 0) -> Coverage:
        """Return the coverage with one more interval."""
        gap = self.gap + 1 if lost else 0
        recent = (self.recent + "+-"[lost])[-RECENT:]
        return Coverage(
            intervals=self.intervals + 1,
            lost=self.lost + lost,
            longest=max(self.longest, gap),
            gap=gap,
            recent=recent,
            sparse=self.sparse or recent.count("-") > TOLERATED * RECENT,
            resets=self.resets + resets,
        )

    def measured(self, intervals: int) -> Coverage:
        """Return the coverage with more intervals, none of which was lost or saw a restart."""
        if not intervals:
            return self
        return replace(
            self,
            intervals=self.intervals + intervals,
            gap=0,
            recent=(self.recent + "+" * intervals)[-RECENT:],
        )

    def as_dict(self) -> dict[str, int]:
        """Return what is shown of it."""
        return {
            "intervals": self.intervals,
            "lost": self.lost,
            "longest_gap": self.longest,
            "resets": self.resets,
        }

    def stored(self) -> dict[str, Any]:
        """Return it as it is kept, for `Coverage(**kept)`."""
        return {name: getattr(self, name) for name in self.__slots__}


def covered(
    known: Mapping[str, Coverage], metrics: Iterable[str], intervals: Sequence[Interval]
) -> dict[str, Coverage]:
    """Return the coverage of each metric with more intervals, as they were read, oldest first."""
    result = {}
    for name in metrics:
        coverage = known.get(name, Coverage())
        for interval in intervals:
            lost, resets = interval.tables.get(name) is None, interval.resets.get(name, 0)
            coverage = coverage.after(lost=lost, resets=resets)
        result[name] = coverage
    return result


def news(before: Mapping[str, Coverage], after: Mapping[str, Coverage]) -> list[str]:
    """Return what a person should be told, once per metric: too many of the last intervals were lost."""
    return [
        f"{name}: {coverage.lost} of {coverage.intervals} intervals could not be measured; the longest gap "
        f"is {coverage.longest}. Are all processes scraped?"
        for name, coverage in after.items()
        if coverage.sparse and not before.get(name, Coverage()).sparse
    ]
