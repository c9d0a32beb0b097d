"""Means by interval differences. The evidence is checked against its formulas written out, not only against
itself; error rates on small simulations, with a bound that a chance failure does not reach."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from analysis.boundaries import best_r
from analysis.fieller import ratio_bounds
from analysis.means import (
    FEWEST,
    Allowance,
    MeanSums,
    advance_means,
    difference,
    fresh_means,
    log_e_harm,
    log_e_safe,
    relative_difference,
)

PLANNED = 60
counts = st.integers(0, 500)
amounts = st.floats(-1e6, 1e6)
interval = st.tuples(counts, amounts, counts, amounts, st.floats(-5, 5))


def taken_in(rows, sums=None):
    sums = fresh_means(1) if sums is None else sums
    for n_b, sum_b, n_c, sum_c, *covariate in rows:
        sums = advance_means(sums, n_b, sum_b, n_c, sum_c, covariate=covariate[0] if covariate else 0.0)
    return sums


def noisy(intervals=20, effect=0.0, seed=0, level=5.0, n=(90, 10)):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(intervals):
        b, c = rng.poisson(n)
        rows.append((b, rng.normal(level, 1, b).sum(), c, rng.normal(level + effect, 1, c).sum()))
    return rows


def by_hand(rows, theta, share=0.0):
    """ln M for "candidate - (1 + share) control <= theta", by the formulas of the module's docstring."""
    n_b, s_b, n_c, s_c = np.array(rows, dtype=float).T
    w = n_b * n_c / (n_b + n_c)
    d = s_c / n_c - (1 + share) * s_b / n_b
    t = w.sum() ** 2 / (w**2).sum()
    mean = (w * d).sum() / w.sum()
    spread = (w**2 * (d - mean) ** 2).sum() * t / (t - 1)
    v = spread + (w.sum() * (mean - theta)) ** 2 / t
    r = best_r(PLANNED, one_sided=True) * w[:FEWEST].mean()
    total = w.sum()
    q = total * (mean - theta) / math.sqrt(v * (1 + r / total))
    return math.log(2) + 0.5 * math.log(r / (total + r)) + q**2 / 2 + norm.logcdf(q)


def equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("effect", [-0.4, 0.0, 0.7])
def test_e_values_are_those_computed_by_hand(effect):
    rows = noisy(effect=effect)
    sums = taken_in(rows)
    assert log_e_harm(sums, planned_looks=PLANNED)[0] == pytest.approx(by_hand(rows, 0))
    tolerated = log_e_harm(sums, planned_looks=PLANNED, tolerance=Allowance(0.1))[0]
    assert tolerated == pytest.approx(by_hand(rows, 0.1))
    relative = log_e_harm(sums, planned_looks=PLANNED, tolerance=Allowance(0.02, relative=True))[0]
    assert relative == pytest.approx(by_hand(rows, 0, share=0.02))


def test_the_sequence_holds_what_the_two_sided_mixture_does_not_exclude():
    rows = noisy(30, effect=0.5)
    found = difference(taken_in(rows), alpha=0.05, planned_looks=PLANNED)
    n_b, s_b, n_c, s_c = np.array(rows, dtype=float).T
    w = n_b * n_c / (n_b + n_c)
    d = s_c / n_c - s_b / n_b
    t, total = w.sum() ** 2 / (w**2).sum(), w.sum()
    mean = (w * d).sum() / total
    r = best_r(PLANNED, one_sided=False) * w[:FEWEST].mean()
    for end in (found.lower[0], found.upper[0]):
        v = (w**2 * (d - mean) ** 2).sum() * t / (t - 1) + (total * (mean - end)) ** 2 / t
        bound = v * (1 + r / total) * math.log((total + r) / (r * 0.05**2))
        assert (total * (mean - end)) ** 2 == pytest.approx(bound)
    assert found.estimate[0] == pytest.approx(mean)


@given(st.lists(interval, max_size=20), st.integers(0, 20))
def test_the_state_does_not_depend_on_where_looks_are_cut(rows, cut):
    assert equal(taken_in(rows[cut:], taken_in(rows[:cut])), taken_in(rows))


@given(st.lists(st.lists(interval, min_size=12, max_size=12), min_size=2, max_size=5))
def test_runs_do_not_depend_on_their_company(runs):
    together = fresh_means(len(runs))
    for step in zip(*runs, strict=True):
        n_b, s_b, n_c, s_c, z = np.array(step, dtype=float).T
        together = advance_means(together, n_b, s_b, n_c, s_c, covariate=z)
    for row, rows in enumerate(runs):
        alone = taken_in(rows)
        assert equal(alone, MeanSums(*(field[[row]] for field in together)))
        assert log_e_harm(alone, planned_looks=9)[0] == log_e_harm(together, planned_looks=9)[row]


def test_a_state_restored_from_its_numbers_goes_on_bit_for_bit():
    rows = noisy(20)
    half = taken_in(rows[:9])
    restored = MeanSums(*(np.array(json.loads(json.dumps(field.tolist()))) for field in half))
    assert equal(taken_in(rows[9:], restored), taken_in(rows))
    assert sum(field[0].size for field in half) == 22


@given(st.lists(interval, max_size=20))
def test_intervals_without_traffic_of_an_arm_change_nothing(rows):
    there = [row for row in rows if row[0] and row[2]]
    assert equal(taken_in(rows), taken_in(there))


def test_nothing_is_said_before_eight_intervals():
    rows = noisy(FEWEST, effect=3.0, n=(1000, 1000))
    assert log_e_harm(taken_in(rows[:-1]), planned_looks=PLANNED)[0] == 0.0
    assert difference(taken_in(rows[:-1]), alpha=0.5, planned_looks=8).upper[0] == math.inf
    assert log_e_harm(taken_in(rows), planned_looks=PLANNED)[0] > 0


def test_nothing_is_said_while_one_interval_outweighs_all_others():
    rows = [*noisy(20, effect=1.0), (10**6, 5e6, 10**6, 6e6)]
    assert log_e_harm(taken_in(rows[:-1]), planned_looks=PLANNED)[0] > 1
    assert log_e_harm(taken_in(rows), planned_looks=PLANNED)[0] == 0.0


@pytest.mark.parametrize(
    "rows",
    [[], [(0, 0, 0, 0)] * 20, [(10, 1, 0, 0)] * 20, [(10, 1.0, 5, 2.0)] * 20, [(30, 0.1, 7, 1e6 / 3)] * 50],
)
def test_no_traffic_and_constant_values_say_nothing(rows):
    sums = taken_in(rows)
    assert log_e_harm(sums, planned_looks=PLANNED)[0] == 0.0
    assert log_e_safe(sums, planned_looks=PLANNED, margin=Allowance(100.0))[0] == 0.0
    for found in (f(sums, alpha=0.05, planned_looks=PLANNED) for f in (difference, relative_difference)):
        assert (found.lower[0], found.upper[0]) == (-math.inf, math.inf)


def test_scores_where_higher_is_better_are_mirrored():
    rows = noisy(30, effect=-1.0)
    mirrored = [(b, -s_b, c, -s_c) for b, s_b, c, s_c in rows]
    up = log_e_harm(taken_in(rows), planned_looks=PLANNED, higher_is_better=True)[0]
    assert up == pytest.approx(log_e_harm(taken_in(mirrored), planned_looks=PLANNED)[0])
    assert up > math.log(20) > log_e_harm(taken_in(rows), planned_looks=PLANNED)[0]
    tenth = Allowance(0.1, relative=True)
    lower = log_e_safe(taken_in(rows), planned_looks=PLANNED, margin=tenth, higher_is_better=True)[0]
    assert lower < 0 < log_e_safe(taken_in(rows), planned_looks=PLANNED, margin=tenth)[0]


def test_harm_within_the_tolerance_is_none_and_safety_needs_the_margin():
    sums = taken_in(noisy(60, effect=1.0, level=10))
    percent = {share: Allowance(share, relative=True) for share in (0.05, 0.1, 0.2)}
    harm = {k: log_e_harm(sums, planned_looks=PLANNED, tolerance=a)[0] for k, a in percent.items()}
    safe = {k: log_e_safe(sums, planned_looks=PLANNED, margin=a)[0] for k, a in percent.items()}
    assert harm[0.05] > math.log(20) > harm[0.1] > harm[0.2]
    assert safe[0.2] > math.log(20) > safe[0.1] > safe[0.05]


def test_a_relative_margin_needs_a_control_above_zero():
    sums = taken_in(noisy(30, effect=2.0, level=-5.0))
    tenth = Allowance(0.1, relative=True)
    assert log_e_harm(sums, planned_looks=PLANNED, tolerance=tenth)[0] == 0.0
    assert math.isnan(relative_difference(sums, alpha=0.05, planned_looks=PLANNED).estimate[0])


@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_the_unit_of_the_metric_does_not_matter(scale, shift):
    rows = noisy(20, effect=0.3)
    other = [(b, scale * s_b + shift * b, c, scale * s_c + shift * c) for b, s_b, c, s_c in rows]
    one, two = (log_e_harm(taken_in(each), planned_looks=PLANNED)[0] for each in (rows, other))
    assert one == pytest.approx(two, rel=1e-5, abs=1e-7)


def test_dispersion_multiplies_the_variance():
    sums = taken_in(noisy(40, effect=0.6))
    plain, spread = (difference(sums, alpha=0.05, planned_looks=PLANNED, dispersion=d) for d in (1, 4))
    assert (spread.upper - spread.lower)[0] == pytest.approx(2 * (plain.upper - plain.lower)[0])
    assert log_e_harm(sums, planned_looks=PLANNED, dispersion=4)[0] < log_e_harm(sums, planned_looks=PLANNED)


def with_covariate(effect, intervals, runs=200):
    """Differences of which a covariate explains four fifths of the variance."""
    rng = np.random.default_rng(5)
    sums, crossed = fresh_means(runs), np.zeros(runs, dtype=bool)
    for _ in range(intervals):
        z = rng.normal(size=runs)
        noise = 0.2 * z + 0.1 * rng.normal(size=runs)
        sums = advance_means(sums, 900, 900.0, 100, 100 * (1 + effect + noise), covariate=z)
        crossed |= log_e_harm(sums, planned_looks=intervals) >= math.log(20)
    return sums, crossed


def test_a_covariate_narrows_the_sequence_and_keeps_the_truth():
    sums, crossed = with_covariate(0.1, 60)
    with_it, without = (difference(sums, alpha=0.05, planned_looks=60, adjusted=a) for a in (True, False))
    ratio = (with_it.upper - with_it.lower).mean() / (without.upper - without.lower).mean()
    assert ratio == pytest.approx(math.sqrt(0.2), rel=0.1)
    assert with_it.estimate.std() < 0.6 * without.estimate.std()
    assert ((with_it.lower < 0.1) & (with_it.upper > 0.1)).mean() > 0.95
    assert crossed.mean() > 0.9


def test_a_covariate_raises_no_alarms():
    _, crossed = with_covariate(0.0, 60, runs=500)
    assert crossed.mean() <= 0.05


SHARES = {"constant": lambda i: 0.1, "steps": lambda i: 0.02 if i < 20 else 0.1 if i < 50 else 0.5}


@pytest.mark.parametrize("values", ["normal", "skewed", "rare"])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("mirrored", [False, True])
def test_identical_versions_cross_with_a_chance_of_at_most_alpha(values, share, mirrored):
    rng, runs, looks = np.random.default_rng(3), 800, 100

    def total(n, shared):
        if values == "normal":
            return n * shared + rng.normal(0, np.sqrt(n))
        return rng.gamma(0.3 * np.maximum(n, 1e-9)) * shared if values == "skewed" else rng.binomial(n, 0.02)

    sums, crossed = fresh_means(runs), np.zeros(runs, dtype=bool)
    for look in range(looks):
        n_c = rng.binomial(800, SHARES[share](look), runs)
        shared = 1 + 0.6 * math.sin(look / 9)
        n_b = 800 - n_c
        sums = advance_means(sums, n_b, total(n_b, shared), n_c, total(n_c, shared))
        log_e = log_e_harm(sums, planned_looks=looks, higher_is_better=mirrored)
        crossed |= log_e >= math.log(20)
    assert crossed.mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)


def test_a_candidate_at_the_margin_is_called_safe_with_a_chance_of_at_most_alpha():
    rng, runs, looks = np.random.default_rng(4), 800, 100
    sums, safe, covered = fresh_means(runs), np.zeros(runs, dtype=bool), np.ones(runs, dtype=bool)
    margin = Allowance(0.2, relative=True)
    for _ in range(looks):
        totals = rng.gamma(180, size=runs), 1.2 * rng.gamma(20, size=runs)
        sums = advance_means(sums, 900, totals[0], 100, totals[1])
        safe |= log_e_safe(sums, planned_looks=looks, margin=margin) >= math.log(20)
        found = relative_difference(sums, alpha=0.05, planned_looks=looks)
        covered &= (found.lower <= 0.2) & (found.upper >= 0.2)
    assert safe.mean() <= 0.05
    assert covered.mean() >= 0.95
    assert np.isfinite(found.upper).all()


@given(st.floats(-5, 5), st.floats(0.5, 5), st.floats(0.01, 2), st.floats(-0.9, 0.9), st.floats(0.01, 2))
def test_fieller_bounds_solve_their_equation(top, bottom, top_top, correlation, bottom_bottom):
    top_bottom = correlation * math.sqrt(top_top * bottom_bottom)
    low, high = ratio_bounds(
        np.array(top),
        np.array(bottom),
        top_top=np.array(top_top),
        top_bottom=np.array(top_bottom),
        bottom_bottom=np.array(bottom_bottom),
    )
    if bottom**2 <= bottom_bottom:
        assert (low, high) == (-math.inf, math.inf)
        return
    assert low <= top / bottom <= high
    for rho in (float(low), float(high)):
        variance = top_top - 2 * rho * top_bottom + rho**2 * bottom_bottom
        assert (top - rho * bottom) ** 2 == pytest.approx(variance, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("bad", [(-1, 1, 1, 1), (1, math.nan, 1, 1), (1, 1, 1, math.inf)])
def test_numbers_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        advance_means(fresh_means(1), *bad)
