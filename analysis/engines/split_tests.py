"""Other people's tests of the split of traffic (SRM): chi-square for one look, a Dirichlet mixture for all.

The judge's own is `analysis.srm`, for shares that change.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

from scipy.special import chdtrc

from analysis.srm import dirichlet_multinomial_log_bayes_factor

if TYPE_CHECKING:
    from collections.abc import Sequence


def chi_square_p_value(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return the p-value of Pearson's test that counts follow shares (positive, sum 1): for a single look."""
    total = sum(counts)
    pairs = zip(counts, shares, strict=True)
    statistic = sum((count - total * share) ** 2 / (total * share) for count, share in pairs)
    return float(chdtrc(len(counts) - 1, statistic))


def sequential_p_values(
    batches: Sequence[Sequence[int]], shares: Sequence[float], concentration: float = 10_000
) -> list[float]:
    """Return the p-value after each batch of counts, valid at any of them: min(1, 1 / max B so far).

    Lindon & Malek (2022, arXiv 2011.03567), as in Optimizely's ssrm and GrowthBook.
    """
    sums = accumulate(batches, lambda old, new: [a + b for a, b in zip(old, new, strict=True)])
    evidence = (dirichlet_multinomial_log_bayes_factor(counts, shares, concentration) for counts in sums)
    return [math.exp(-peak) for peak in accumulate(evidence, max, initial=0.0)][1:]
