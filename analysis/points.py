"""A margin in percentage points for many runs at once: the proof that the candidate is less than that worse.

The sums and the e-value are those of `analysis.risk_difference`. Its constant r is chosen once, at the end of
the burn-in, from the variance and the weight seen until then and never from the difference: the sequence is
tightest when a candidate as good as the control would just prove the margin. What is kept of a run are the
`TERMS` sums and r (`analysis.design.POINTS_MOMENTS` numbers), in double precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.risk_difference import BURN_IN, TERMS, log_e_below, precision, terms, variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.hypergeometric import Floats, Ints


class Asked(NamedTuple):
    """What a run asks of its margin: the error rate of a false proof, and how many looks are planned."""

    alpha: float
    planned_looks: int


def advance_points(
    moments: Floats, counts: Ints, margin: float, asked: Sequence[Asked], dispersion: Floats
) -> Floats:
    """Return the moments (runs, TERMS + 1) after one interval.

    `counts` is (runs, 2, 2): control and candidate; requests and events that are bad. `dispersion` is the
    largest so far, (runs,).
    """
    n_b, k_b, n_c, k_c = counts.reshape(-1, 4).T
    sums = moments[:, :TERMS] + terms(n_c, k_c, n_b, k_b)
    r = moments[:, TERMS]
    chosen = np.where((sums[:, 0] >= BURN_IN) & (r == 0), _constant(sums, margin, asked, dispersion), r)
    return np.concatenate([sums, chosen[:, None]], axis=1)


def log_e_points(moments: Floats, margin: float, dispersion: Floats) -> Floats:
    """Return ln of the e-value against "worse by at least the margin", per run; 0 within the burn-in."""
    return log_e_below(moments[:, :TERMS], margin, moments[:, TERMS], dispersion)


def _constant(sums: Floats, margin: float, asked: Sequence[Asked], dispersion: Floats) -> Floats:
    """Return the r with which a harmless candidate is proven about soonest, within the planned looks.

    At the bound S^2 = c V with c = V / r of the tightest place; S grows as margin x weight, so after s times
    the burn-in (margin W s)^2 = c V s.
    """
    spread = variance(sums, margin, dispersion)
    unit = np.array([float(precision(1.0, each.alpha)) for each in asked])
    longest = np.maximum([each.planned_looks / BURN_IN for each in asked], 1.0)
    distance = margin * np.where(sums[:, 1] > 0, sums[:, 1], 1.0)
    return np.asarray(unit * spread * np.clip(spread / (unit * distance**2), 1.0, longest))
