import math

import numpy as np
import pytest

from analysis.risk_difference import (
    BURN_IN,
    TERMS,
    bounds,
    difference,
    log_e_above,
    log_e_below,
    precision,
    terms,
    variance,
)


def stream(looks, runs, *, control=0.01, candidate=0.01, share=0.1, cluster=1, seed=1):
    """Return the sums at every look, (looks, runs, TERMS); `share` may be one number per look."""
    dice = np.random.default_rng(seed)
    share = np.broadcast_to(share, looks)[:, None]
    n_c = dice.poisson(2000 * share, (looks, runs))
    n_b = dice.poisson(2000 * (1 - share), (looks, runs))
    k_c, k_b = (
        np.minimum(cluster * dice.binomial(n, p / cluster), n) for n, p in ((n_c, candidate), (n_b, control))
    )
    return terms(n_c, k_c, n_b, k_b).cumsum(axis=0)


def constant(sums, alpha=0.05, looks=60):
    return precision(variance(sums[BURN_IN - 1]) * looks / BURN_IN, alpha)


def test_the_estimate_is_cochran_mantel_haenszels():
    sums = terms(*(np.array(x) for x in ([200, 50], [4, 2], [1800, 150], [17, 1]))).sum(axis=0)
    weights = np.array([200 * 1800 / 2000, 50 * 150 / 200])
    assert difference(sums) == pytest.approx(
        np.average([4 / 200 - 17 / 1800, 2 / 50 - 1 / 150], weights=weights)
    )


def test_changing_weights_and_rates_do_not_mislead_the_estimate():
    """Candidate and control are equal in both intervals; the pooled rates are 1.9 % and 9.1 %."""
    sums = terms(*(np.array(x) for x in ([100, 900], [10, 9], [900, 100], [90, 1]))).sum(axis=0)
    assert difference(sums) == pytest.approx(0)


def test_an_interval_with_one_empty_arm_adds_nothing():
    assert not terms(np.array([0, 5]), np.array([0, 1]), np.array([9, 0]), np.array([2, 0])).any()
    nothing = np.zeros(TERMS)
    assert np.isnan(difference(nothing))
    assert bounds(nothing, 0.05, 1.0) == (-1, 1)


@pytest.mark.parametrize("cluster", [1, 4])
def test_the_variance_is_that_of_the_sums_over_many_runs(cluster):
    sums = stream(60, 1500, cluster=cluster)[-1]
    assert variance(sums).mean() == pytest.approx(sums[:, 2].var(), rel=0.12)


def test_the_bounds_are_close_to_the_two_sided_formula():
    sums = stream(120, 1, candidate=0.02)
    r, alpha = float(constant(sums, 0.025)[0]), 0.05
    last = sums[-1, 0]
    v = float(variance(last))
    half = math.sqrt((v + r) * math.log((v + r) / (r * alpha**2))) / last[1]
    low, high = bounds(last, alpha, r)
    assert difference(last) - low == pytest.approx(half, rel=0.06)
    assert high - difference(last) == pytest.approx(half, rel=0.06)
    assert log_e_above(last, low, r) == pytest.approx(math.log(2 / alpha), abs=1e-6)
    assert log_e_below(last, high, r) == pytest.approx(math.log(2 / alpha), abs=1e-6)


def test_nothing_is_claimed_within_the_burn_in():
    sums = stream(BURN_IN, 5, candidate=0.5)
    assert not log_e_above(sums[:-1], 0.0, 1.0).any()
    assert log_e_above(sums[-1], 0.0, 1.0).all()


def test_without_any_event_a_margin_is_proven_only_by_enough_requests():
    """At the margin of 0.1 %, 14 intervals of 200 requests have no event with a chance of 6 %."""
    sums = terms(*(np.full(200, x) for x in (200, 0, 1800, 0))).cumsum(axis=0)
    crossed = np.flatnonzero(log_e_below(sums, 0.001, 1.0) >= math.log(20))
    assert crossed[0] >= 14


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param({"control": 0.01, "candidate": 0.015}, id="1 % against 1.5 %"),
        pytest.param({"control": 0.0005, "candidate": 0.0055}, id="rare"),
        pytest.param(
            {"control": 0.01, "candidate": 0.015, "share": np.repeat([0.05, 0.25, 0.5], 30)}, id="steps"
        ),
        pytest.param({"control": 0.01, "candidate": 0.015, "cluster": 4}, id="clusters of 4"),
    ],
)  # fmt: skip
def test_a_candidate_at_the_margin_is_seldom_called_safe(setting):
    """Clusters have to be known: from their scatter alone, 10 % are called safe."""
    sums = stream(90, 500, seed=6, **setting)
    claimed = log_e_below(sums, 0.005, constant(sums), setting.get("cluster", 1)) >= math.log(20)
    assert claimed.any(axis=0).mean() <= 0.05


def test_harmless_candidates_are_safe_and_harm_is_found():
    same, worse = stream(180, 50), stream(60, 50, candidate=0.03)
    assert (log_e_below(same[-1], 0.005, constant(same)) >= math.log(20)).mean() >= 0.9
    assert (log_e_above(worse[-1], 0.005, constant(worse)) >= math.log(20)).all()


def test_confidence_sequences_hold_the_true_difference_at_all_looks():
    sums = stream(90, 200, candidate=0.02, seed=9)
    low, high = bounds(sums, 0.05, constant(sums, 0.025))
    missed = ((low > 0.01) | (high < 0.01)).any(axis=0)
    assert missed.mean() <= 0.05
