"""How the times of simulated runs lie: quantiles, and how well a median is known. Pure."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

QUANTILES = (10, 25, 50, 75, 90)
"""Per cent of the runs."""


def quantile(times: Sequence[float], part: float) -> float:
    """Return the time within which `part` per cent of sorted times lie: one of them, as looks have a grid."""
    return times[min(len(times) - 1, max(0, math.ceil(part / 100 * len(times)) - 1))]


def median_error(times: Sequence[float]) -> float | None:
    """Return the Monte Carlo error (one standard error) of the median of sorted times; None for less than 2.

    Half the distance of the order statistics that lie one binomial standard error around the middle.
    """
    if len(times) < 2:
        return None
    middle, apart = (len(times) - 1) / 2, math.sqrt(len(times)) / 2
    low, high = max(0, math.floor(middle - apart)), min(len(times) - 1, math.ceil(middle + apart))
    return (times[high] - times[low]) / 2


def distribution(times: Sequence[float]) -> dict[str, Any]:
    """Return how sorted times (seconds) lie, as JSON values; nothing of none."""
    if not times:
        return {}
    return {
        "medianError": median_error(times),
        "quantiles": {str(part): quantile(times, part) for part in QUANTILES},
        "times": [[seconds, count] for seconds, count in Counter(times).items()],
    }
