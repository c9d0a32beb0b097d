"""The mean of a metric (a score, revenue, seconds) from counters `_sum` and `_count`, for many runs at once.

Counters tell no variance within an interval, so each interval yields one difference, and the intervals
themselves tell how much it varies. With n_b, n_c observations of control and candidate in interval i,

    delta_i = sum_c / n_c - sum_b / n_b,      w_i = n_c n_b / (n_c + n_b),      W = sum w_i
    S = sum w_i (delta_i - theta),            V = sum w_i^2 (delta_i - theta)^2

S is a martingale under the null, whatever both arms share in an interval; w_i is the weight that suits its
variance. The one-sided normal mixture, with R fixed once,

    M = 2 sqrt(R / (W + R)) exp(q^2 / 2) Phi(q),    q = S / sqrt(V (1 + R / W))

is asymptotically an e-process for "the effect is at most theta", and {theta: S^2 < V (1 + R / W)
ln((W + R) / (R alpha^2))} a confidence sequence (Howard, Ramdas, McAuliffe & Sekhon 2021, arXiv 1810.08240;
Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, arXiv 2103.06476, with W as the clock). Taking V around
theta instead of around the estimate makes S / sqrt(V) self-normalised: at most sqrt(t) after t intervals,
however small their variance happens to be.

Guarantees: approximate, since the variance is estimated. Nothing is said before `FEWEST` intervals with
traffic in both arms, nor while the weight rests on fewer than `FEWEST_EFFECTIVE` of them (just after a jump
of the candidate's share), nor about values that never vary. Errors exceed alpha slightly where most intervals
of the candidate miss what the mean is made of (a rare sale). Noise of one arm that lasts longer than an
interval is not seen: `dispersion`, by which the variance is multiplied, has to account for it.

The state is sums: it does not depend on how intervals are cut into looks, nor on which runs advance together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.boundaries import OneSidedNormal, TwoSidedNormal, best_r
from analysis.fieller import ratio_bounds

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from analysis.hypergeometric import Floats

    Flags = NDArray[np.bool_]

FEWEST = 8
"""Intervals with traffic in both arms before anything is said."""
FEWEST_EFFECTIVE = 6.0
"""The same for W^2 / sum w_i^2, the number of equal intervals that would weigh as much."""
_HALF_NORMAL, _NORMAL = OneSidedNormal(1.0), TwoSidedNormal(1.0)
"""Variances are given to them in units of R."""
_ROUNDING = 1e-12
"""Variances below this share of the squares that they are the difference of are rounding errors."""
_ONE, _DIFFERENCE, _LEVEL, _COVARIATE = range(4)


class MeanSums(NamedTuple):
    """What is known of one metric in each run: 22 numbers a run, all of them sums.

    With u_i = (1, delta_i, the control's mean, the covariate) of interval i: `intervals` (runs,) counts those
    with traffic in both arms; `early` (runs,) is the sum of w_i over the first `FEWEST` of them; `first`
    (runs, 4) the sum of w_i u_i; `second` (runs, 4, 4) the sum of w_i^2 u_i u_i'.
    """

    intervals: Floats
    early: Floats
    first: Floats
    second: Floats


class Allowance(NamedTuple):
    """How much worse the candidate's mean may be: in the metric's unit, or as a fraction of the control's."""

    amount: float
    relative: bool = False


NOTHING = Allowance(0.0)


class Effect(NamedTuple):
    """An effect in each run, (runs,) each, with the ends of its confidence sequence.

    `estimate` is NaN without traffic; the ends are infinite as long as nothing can be said.
    """

    estimate: Floats
    lower: Floats
    upper: Floats


def fresh_means(runs: int) -> MeanSums:
    """Return the state before the first interval."""
    return MeanSums(np.zeros(runs), np.zeros(runs), np.zeros((runs, 4)), np.zeros((runs, 4, 4)))


def advance_means(
    sums: MeanSums,
    n_b: ArrayLike,
    sum_b: ArrayLike,
    n_c: ArrayLike,
    sum_c: ArrayLike,
    *,
    covariate: ArrayLike = 0.0,
) -> MeanSums:
    """Return the state after one interval, from counts and sums of control (b) and candidate (c), (runs,).

    The covariate is a number per interval that tells of its noise and has expectation 0 whichever version is
    better: the difference between the arms of something settled before the version acts (the requests'
    size), or of the same series before the run. 0 where there is none. It must not be a plain level, such as
    the control's own value: that would hide noise instead of explaining it.

    An interval in which an arm has no traffic changes nothing. Raises ValueError on numbers that are not
    finite, and on negative counts.
    """
    given = (n_b, sum_b, n_c, sum_c, covariate)
    numbers = np.array(np.broadcast_arrays(*(np.asarray(each, dtype=np.float64) for each in given)))
    if not np.isfinite(numbers).all() or (numbers[[0, 2]] < 0).any():
        raise ValueError("counts and sums must be finite, and counts not negative")
    b, total_b, c, total_c, extra = numbers
    both = (b > 0) & (c > 0)
    weight = np.where(both, b * c / np.where(both, b + c, 1.0), 0.0)
    level = np.where(both, total_b / np.where(both, b, 1.0), 0.0)
    difference = np.where(both, total_c / np.where(both, c, 1.0), 0.0) - level
    units = np.stack([np.ones_like(weight), difference, level, extra], axis=-1)
    weighted = weight[..., None] * units
    return MeanSums(
        sums.intervals + both,
        sums.early + np.where(sums.intervals < FEWEST, weight, 0.0),
        sums.first + weighted,
        sums.second + weighted[..., :, None] * weighted[..., None, :],
    )


def log_e_harm(
    sums: MeanSums,
    *,
    planned_looks: ArrayLike,
    tolerance: Allowance = NOTHING,
    higher_is_better: bool = False,
    dispersion: ArrayLike = 1.0,
) -> Floats:
    """Return ln of the e-value against "the candidate is worse by at most the tolerance", per run.

    0 as long as nothing can be said, also where a relative tolerance meets a control's mean that is not
    above 0. The test is sharpest after `planned_looks` intervals like the first ones. Planned looks and
    dispersion are one number, or one for each run.
    """
    found = _moments(sums, planned_looks, dispersion, one_sided=True)
    worse, variance, speaks = _shortfall(found, tolerance, higher_is_better=higher_is_better)
    return _log_evidence(found, worse, variance, speaks)


def log_e_safe(
    sums: MeanSums,
    *,
    planned_looks: ArrayLike,
    margin: Allowance,
    higher_is_better: bool = False,
    dispersion: ArrayLike = 1.0,
) -> Floats:
    """Return ln of the e-value against "the candidate is worse by at least the margin", per run."""
    found = _moments(sums, planned_looks, dispersion, one_sided=True)
    worse, variance, speaks = _shortfall(found, margin, higher_is_better=higher_is_better)
    return _log_evidence(found, -worse, variance, speaks)


def difference(
    sums: MeanSums,
    *,
    alpha: float,
    planned_looks: ArrayLike,
    dispersion: ArrayLike = 1.0,
    adjusted: bool = True,
) -> Effect:
    """Return the candidate's mean less the control's, averaged over intervals with weights w_i.

    Without `adjusted` the covariate is left out.
    """
    found = _moments(sums, planned_looks, dispersion, one_sided=False, adjusted=adjusted)
    squared_width = _squared_width(found, alpha)
    bounded = (squared_width < math.inf) & (found.v_dd > _rounding(found))
    reach = np.where(bounded, np.sqrt(np.where(bounded, squared_width * found.v_dd, 0.0)), math.inf)
    middle = np.where(np.isnan(found.difference), 0.0, found.difference)
    return Effect(found.difference, middle - reach, middle + reach)


def relative_difference(
    sums: MeanSums,
    *,
    alpha: float,
    planned_looks: ArrayLike,
    dispersion: ArrayLike = 1.0,
    adjusted: bool = True,
) -> Effect:
    """Return the difference as a fraction of the control's mean; the sequence is Fieller's set.

    NaN and unbounded where the control's mean is not above 0.
    """
    found = _moments(sums, planned_looks, dispersion, one_sided=False, adjusted=adjusted)
    positive = found.level > 0
    ratio = np.where(positive, found.difference / np.where(positive, found.level, 1.0), math.nan)
    squared_width = _squared_width(found, alpha)
    speaks = (squared_width < math.inf) & positive & (found.v_dd > _rounding(found))
    width = np.where(speaks, squared_width, 0.0)
    lower, upper = ratio_bounds(
        found.difference,
        found.level,
        top_top=width * found.v_dd,
        top_bottom=width * found.v_db,
        bottom_bottom=width * found.v_bb,
    )
    return Effect(ratio, np.where(speaks, lower, -math.inf), np.where(speaks, upper, math.inf))


class _Moments(NamedTuple):
    """Means over intervals, (runs,) each, their variances, and the squares that those were taken from."""

    difference: Floats
    level: Floats
    v_dd: Floats
    v_db: Floats
    v_bb: Floats
    information: Floats
    effective: Floats
    square_d: Floats
    square_b: Floats
    speaks: Flags


def _moments(
    sums: MeanSums, planned_looks: ArrayLike, dispersion: ArrayLike, *, one_sided: bool, adjusted: bool = True
) -> _Moments:
    """Return the means at covariate 0, and their variances around themselves."""
    weight = sums.first[:, _ONE]
    known = weight > 0
    scale = np.where(known, weight, 1.0)
    squares = sums.second[:, _ONE, _ONE]
    effective = weight**2 / np.where(known, squares, 1.0)
    mean = sums.first / np.where(known, weight, math.nan)[:, None]
    mean, residual = _residuals(sums, mean, effective, adjusted=adjusted)
    variance = residual * (np.asarray(dispersion) / scale**2)[:, None, None]
    precision = best_r(1.0, one_sided=one_sided) * np.asarray(planned_looks) * sums.early / FEWEST
    return _Moments(
        difference=mean[:, _DIFFERENCE],
        level=mean[:, _LEVEL],
        v_dd=variance[:, _DIFFERENCE, _DIFFERENCE],
        v_db=variance[:, _DIFFERENCE, _LEVEL],
        v_bb=variance[:, _LEVEL, _LEVEL],
        information=scale / np.where(known, precision, 1.0),
        effective=effective,
        square_d=sums.second[:, _DIFFERENCE, _DIFFERENCE] / scale**2,
        square_b=sums.second[:, _LEVEL, _LEVEL] / scale**2,
        speaks=(sums.intervals >= FEWEST) & (effective >= FEWEST_EFFECTIVE),
    )


def _residuals(sums: MeanSums, mean: Floats, effective: Floats, *, adjusted: bool) -> tuple[Floats, Floats]:
    """Return the means with the covariate taken out, and sum w^2 e e' of the residuals.

    Residuals fall short of the errors: with p numbers fitted to t intervals, t / (t - p) makes up for it
    (exactly so for independent observations, whatever the weights, with t = W^2 / sum w^2). An intercept at
    covariate 0 is less certain than a plain mean, by z^2 sum w^2 / C_zz.
    """
    squares = sums.second[:, _ONE, _ONE]
    cross = mean[:, :, None] * sums.second[:, None, _ONE, :]
    outer = mean[:, :, None] * mean[:, None, :]
    central = sums.second - cross - cross.transpose(0, 2, 1) + outer * squares[:, None, None]
    spread = central[:, _COVARIATE, _COVARIATE]
    explains = adjusted & (spread > _ROUNDING * sums.second[:, _COVARIATE, _COVARIATE])
    divisor = np.where(explains, spread, 1.0)
    slope = np.where(explains[:, None], central[:, _COVARIATE] / divisor[:, None], 0.0)
    z = mean[:, _COVARIATE]
    fitted = np.where(explains, 2.0, 1.0)
    freedom = np.maximum(effective - fitted, 1.0)
    lever = np.where(explains, z**2 * squares / divisor, 0.0)
    factor = (1 + lever) * np.maximum(effective, 1.0) / freedom
    residual = (central - slope[:, :, None] * central[:, _COVARIATE, None, :]) * factor[:, None, None]
    return mean - slope * z[:, None], residual


def _rounding(found: _Moments, share: float = 0.0) -> Floats:
    """Return the variance of "difference - share x control's mean" that rounding alone could make."""
    return _ROUNDING * (found.square_d + (share**2 + _ROUNDING) * found.square_b)


def _shortfall(
    found: _Moments, allowance: Allowance, *, higher_is_better: bool
) -> tuple[Floats, Floats, Flags]:
    """Return by how much the candidate is worse than allowed, the variance of that, and whether it counts."""
    sign = -1.0 if higher_is_better else 1.0
    share = allowance.amount if allowance.relative else 0.0
    allowed = share * found.level if allowance.relative else allowance.amount
    variance = found.v_dd - 2 * sign * share * found.v_db + share**2 * found.v_bb
    varies = variance > _rounding(found, share)
    speaks = found.speaks & varies & ((found.level > 0) | (not allowance.relative))
    return sign * found.difference - allowed, variance, speaks


def _log_evidence(found: _Moments, effect: Floats, variance: Floats, speaks: Flags) -> Floats:
    """Return ln M for an effect above 0; 0 where nothing can be said."""
    around_zero = variance + effect**2 / np.where(speaks, found.effective, 1.0)
    z = np.where(speaks, effect, 0.0) / np.sqrt(np.where(speaks, around_zero, 1.0))
    log_e = _HALF_NORMAL.log_value(z * np.sqrt(found.information), found.information)
    return np.where(speaks, log_e, 0.0)


def _squared_width(found: _Moments, alpha: float) -> Floats:
    """Return (half-width / standard error)^2 of the two-sided sequence; infinite when it is unbounded.

    With variances around the estimate, q^2 < k around theta becomes q^2 < k / (1 - k / t).
    """
    k = _NORMAL.bound(found.information, alpha) ** 2 / found.information
    bounded = found.speaks & (k < found.effective)
    rest = 1 - k / np.where(bounded, found.effective, math.inf)
    return np.where(bounded, k / rest, math.inf)
