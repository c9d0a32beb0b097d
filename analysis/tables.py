"""Counts of one interval as frozen values that add up: requests of two arms, and the events among them.

A proportion has one kind of event; a histogram has one per judged edge (requests slower than the edge). A
mean has observations and their sum instead: `MeanArm` and `MeanTable`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arm:
    """What one version did: its requests, and how many of them were events (one number per kind or edge).

    Raises ValueError unless every number of events lies between 0 and the total.
    """

    total: int
    events: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.events and not 0 <= min(self.events) <= max(self.events) <= self.total:
            raise ValueError(f"events {self.events} do not lie between 0 and the total {self.total}")
        if self.total < 0:
            raise ValueError(f"the total {self.total} is negative")

    def __add__(self, other: Arm) -> Arm:
        pairs = zip(self.events, other.events, strict=True)
        return Arm(self.total + other.total, tuple(a + b for a, b in pairs))


@dataclass(frozen=True, slots=True)
class Table:
    """Control and candidate over the same interval, which ended at `end` (unix seconds)."""

    end: int
    control: Arm
    candidate: Arm

    def __add__(self, other: Table) -> Table:
        """Add the counts; the sum ends when the later of the two ended."""
        return Table(max(self.end, other.end), self.control + other.control, self.candidate + other.candidate)


@dataclass(frozen=True, slots=True)
class MeanArm:
    """What one version was observed to be worth: `total` observations that add up to `sum`.

    Raises ValueError for a negative number of observations, and for a sum that is not finite.
    """

    total: int
    sum: float

    def __post_init__(self) -> None:
        if self.total < 0 or not math.isfinite(self.sum):
            raise ValueError(f"{self.total} observations cannot have the sum {self.sum}")

    def __add__(self, other: MeanArm) -> MeanArm:
        return MeanArm(self.total + other.total, self.sum + other.sum)


@dataclass(frozen=True, slots=True)
class MeanTable:
    """The observations of control and candidate over the same interval, which ended at `end`."""

    end: int
    control: MeanArm
    candidate: MeanArm

    def __add__(self, other: MeanTable) -> MeanTable:
        """Add the observations; the sum ends when the later of the two ended."""
        return MeanTable(
            max(self.end, other.end), self.control + other.control, self.candidate + other.candidate
        )
