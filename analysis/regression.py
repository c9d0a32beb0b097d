"""A difference of means by regression, with robust standard errors, and anytime-valid evidence about it.

The value is regressed on 1, being the candidate's, and the covariate less its mean: the coefficients are the
control's mean, the difference of means, and a slope. Covariances are robust to unequal variances (HC1):
n / (n - p) (X'X)^-1 X' diag(e^2) X (X'X)^-1. The t-mixture turns estimate and standard error of any
difference "candidate - (1 + share) control - amount" into e-values (Lindon, Ham, Tingley & Bojinov, arXiv
2210.08589, for HC1: asymptotically).

An arm whose variance rests on fewer than `FEWEST_PER_ARM` units gets that of both arms pooled, if it is
larger; if that rests on fewer than `FEWEST`, nothing is said. Pooling is right when the arms do not differ,
so it keeps harmless candidates from alarms; it widens when they do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.fieller import ratio_bounds
from analysis.t_mixture import log_one_sided_t_mixture, log_t_mixture, squared_t_width

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analysis.hypergeometric import Floats
    from analysis.means import Allowance

    Flags = NDArray[np.bool_]

FEWEST_PER_ARM, FEWEST = 20.0, 8.0
"""Units that a variance must rest on, as (sum e^2)^2 / sum e^4 of its residuals: for rare events, events."""
_ROUNDING = 1e-20
"""Residuals whose squares are below this share of the values' are rounding errors."""


class Regression(NamedTuple):
    """n units, p coefficients; the control's mean, the difference, and their variances and covariance."""

    n: int
    p: int
    control: float
    difference: float
    v_control: float
    v_both: float
    v_difference: float


class Estimate(NamedTuple):
    """An effect and the ends of its confidence sequence, which may be infinite."""

    estimate: float
    lower: float
    upper: float


def regress(treated: Flags, values: Floats, covariates: Floats | None = None) -> Regression | None:
    """Return the regression of values (n,), or None if it can say nothing.

    That is so when an arm is empty, when values vary too little, and when the covariate tells the arms apart.
    A covariate that does not vary is left out.
    """
    if not 0 < int(treated.sum()) < len(treated):
        return None
    design = _design(treated, covariates)
    products = design.T @ design
    if np.linalg.matrix_rank(products, hermitian=True) < len(products):
        return None
    inverse = np.asarray(np.linalg.inv(products), dtype=np.float64)
    coefficients = inverse @ (design.T @ values)
    residuals = values - design @ coefficients
    covariance = _covariance(treated, values, design, inverse, residuals)
    if covariance is None:
        return None
    return Regression(
        n=len(values),
        p=design.shape[1],
        control=float(coefficients[0]),
        difference=float(coefficients[1]),
        v_control=float(covariance[0, 0]),
        v_both=float(covariance[0, 1]),
        v_difference=float(covariance[1, 1]),
    )


def _design(treated: Flags, covariates: Floats | None) -> Floats:
    """Return the columns of the regression; the covariate has mean 0 and standard deviation 1."""
    columns = [np.ones(len(treated)), treated.astype(np.float64)]
    if covariates is not None:
        centred = covariates - covariates.mean()
        spread = float(np.sqrt(np.mean(centred**2)))
        if spread**2 > _ROUNDING * float(np.mean(covariates**2)):
            columns.append(centred / spread)
    return np.column_stack(columns)


def _covariance(
    treated: Flags, values: Floats, design: Floats, inverse: Floats, residuals: Floats
) -> Floats | None:
    """Return the coefficients' covariances, or None if nothing is known of them."""
    n, p = design.shape
    scores = design * residuals[:, None]
    robust = inverse @ (scores.T @ scores) @ inverse * (n / max(n - p, 1))
    known = min(_effective(residuals[arm], values) for arm in (treated, ~treated))
    if known >= FEWEST_PER_ARM:
        return np.asarray(robust)
    others = np.delete(design, 1, axis=1)
    errors = values - others @ np.linalg.lstsq(others, values)[0]
    if _effective(errors, values) < FEWEST:
        return None
    pooled = inverse * float(errors @ errors) / (n - p + 1)
    return np.asarray(robust if robust[1, 1] > pooled[1, 1] else pooled)


def _effective(residuals: Floats, values: Floats) -> float:
    """Return on how many units the variance of the residuals rests; 0 if they are rounding errors."""
    squares = residuals**2
    total = float(squares.sum())
    if total <= _ROUNDING * float(values @ values):
        return 0.0
    return total**2 / float(squares @ squares)


def log_e_no_difference(found: Regression, phi: float) -> float:
    """Return ln of the two-sided e-value against "the means do not differ"."""
    return log_t_mixture(found.difference / math.sqrt(found.v_difference), found.n, found.p, phi)


def log_e_harm(found: Regression, phi: float, tolerance: Allowance, *, higher_is_better: bool) -> float:
    """Return ln of the e-value against "the candidate is worse by at most the tolerance"."""
    t = _t(found, tolerance, higher_is_better=higher_is_better)
    return log_one_sided_t_mixture(t, found.n, found.p, phi)


def log_e_safe(found: Regression, phi: float, margin: Allowance, *, higher_is_better: bool) -> float:
    """Return ln of the e-value against "the candidate is worse by at least the margin"."""
    t = _t(found, margin, higher_is_better=higher_is_better)
    return log_one_sided_t_mixture(-t, found.n, found.p, phi)


def _t(found: Regression, allowance: Allowance, *, higher_is_better: bool) -> float:
    """Return by how many standard errors the candidate is worse than allowed.

    0 where a relative allowance meets a control's mean that is not above 0.
    """
    if allowance.relative and found.control <= 0:
        return 0.0
    sign = -1.0 if higher_is_better else 1.0
    share = allowance.amount if allowance.relative else 0.0
    allowed = share * found.control if allowance.relative else allowance.amount
    variance = found.v_difference - 2 * sign * share * found.v_both + share**2 * found.v_control
    return (sign * found.difference - allowed) / math.sqrt(variance)


def difference(found: Regression, phi: float, alpha: float) -> Estimate:
    """Return the difference of means and its confidence sequence."""
    reach = math.sqrt(squared_t_width(found.n, found.p, phi, alpha) * found.v_difference)
    return Estimate(found.difference, found.difference - reach, found.difference + reach)


def relative_difference(found: Regression, phi: float, alpha: float) -> Estimate | None:
    """Return the difference as a fraction of the control's mean; None unless that is above 0."""
    if found.control <= 0:
        return None
    estimate = found.difference / found.control
    width = squared_t_width(found.n, found.p, phi, alpha)
    if width == math.inf:
        return Estimate(estimate, -math.inf, math.inf)
    lower, upper = ratio_bounds(
        np.asarray(found.difference),
        np.asarray(found.control),
        top_top=np.asarray(width * found.v_difference),
        top_bottom=np.asarray(width * found.v_both),
        bottom_bottom=np.asarray(width * found.v_control),
    )
    return Estimate(estimate, float(lower), float(upper))
