"""What some series of a reading counted in each of its intervals: counts, requests, resets. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.counters import Count, histogram, mean, proportion
from analysis.tables import Arm
from controller.filing import NO_EDGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from analysis.counters import MeanCount
    from controller.observe import IndexedReading


def counts_of(
    reading: IndexedReading, rows: Sequence[int], edges: Sequence[float]
) -> Sequence[Count | MeanCount]:
    """Return one version's counts, of its series `rows`, in every interval; `edges` are those to judge.

    A native histogram (`Series.native`) is read at its exact edges, and does not stand in for other kinds.
    """
    native = "; ".join(dict.fromkeys(filter(None, (reading.read.native[row] for row in rows))))
    if native and reading.spec.kind != "histogram":
        refused = Count(Arm(0, (0,)), f"a {reading.spec.kind} is not read from {native}")
        return [refused] * reading.growth.values.shape[1]
    if reading.spec.kind == "mean":
        sums = [row for row in rows if not reading.filing.whole[row]]
        return mean(
            reading.growth, reading.filing.instances, [row for row in rows if row not in {*sums}], sums
        )
    if reading.spec.kind != "histogram":
        return proportion(reading.growth, rows, [row for row in rows if reading.filing.events[row]])
    buckets: dict[float, list[int]] = defaultdict(list)
    for row in rows:
        edge = reading.filing.edges[row]
        # of a native histogram's edges only those that are asked for have to be exact
        if edge != NO_EDGE and (not reading.read.native[row] or edge in edges or edge == math.inf):
            buckets[edge].append(row)
    counts = histogram(reading.growth, buckets, edges)
    return [_told(count, native) for count in counts] if native else counts


def _told(count: Count, native: str) -> Count:
    """Return a count whose inconsistency, if any, also says what the buckets were made of."""
    return replace(count, inconsistent=f"{count.inconsistent} ({native})") if count.inconsistent else count


def resets_of(reading: IndexedReading, rows: Sequence[int]) -> dict[int, int]:
    """Return, by interval, how many processes began to count from 0 again, where any did."""
    processes: dict[int, set[str]] = defaultdict(set)
    for place, column in np.argwhere(reading.growth.fell[rows]).tolist():
        processes[column].add(reading.filing.instances[rows[place]])
    return {column: len(instances) for column, instances in processes.items()}


def requests_of(reading: IndexedReading, rows: Sequence[int]) -> NDArray[np.int64]:
    """Return how many requests some series counted in every interval; sums and buckets count none."""
    every = reading.spec.kind != "histogram"
    counting = [row for row in rows if reading.filing.whole[row]]
    counts = [row for row in counting if every or reading.filing.edges[row] == math.inf]
    requests: NDArray[np.int64] = reading.growth.values[counts].sum(axis=0)
    return requests
