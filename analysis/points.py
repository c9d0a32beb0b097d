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
    from analysis.hypergeometric import Floats, Ints


class Asked(NamedTuple):
    """What runs ask of their margin: the error rate of a false proof, and how many looks are planned."""

    alpha: Floats
    planned_looks: Ints


def advance_points(moments: Floats, counts: Ints, margin: float, asked: Asked, dispersion: Floats) -> Floats:
    """Return the moments (runs, TERMS + 1) after one interval.

    `counts` is (runs, 2, 2): control and candidate; requests and events that are bad. `dispersion` is the
    largest so far, (runs,).
    """
    n_b, k_b, n_c, k_c = counts.reshape(-1, 4).T
    sums = moments[:, :TERMS] + terms(n_c, k_c, n_b, k_b)
    r = moments[:, TERMS].copy()
    due = (sums[:, 0] >= BURN_IN) & (r == 0)
    if due.any():
        r[due] = _constant(sums[due], margin, Asked(*(each[due] for each in asked)), dispersion[due])
    return np.concatenate([sums, r[:, None]], axis=1)


def log_e_points(moments: Floats, margin: float, dispersion: Floats) -> Floats:
    """Return ln of the e-value against "worse by at least the margin", per run; 0 within the burn-in."""
    return log_e_below(moments[:, :TERMS], margin, moments[:, TERMS], dispersion)


def _constant(sums: Floats, margin: float, asked: Asked, dispersion: Floats) -> Floats:
    """Return the r with which a harmless candidate is proven about soonest, within the planned looks.

    At the bound S^2 = c V with c = V / r of the tightest place; S grows as margin x weight, so after s times
    the burn-in (margin W s)^2 = c V s.
    """
    spread = variance(sums, margin, dispersion)
    unit = np.array([float(precision(1.0, alpha)) for alpha in asked.alpha.tolist()])
    longest = np.maximum(asked.planned_looks / BURN_IN, 1.0)
    distance = margin * np.where(sums[:, 1] > 0, sums[:, 1], 1.0)
    return np.asarray(unit * spread * np.clip(spread / (unit * distance**2), 1.0, longest))
