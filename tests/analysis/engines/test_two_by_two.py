import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import rel_entr
from scipy.stats import binom

from analysis.engines.engine import Counts
from analysis.engines.two_by_two import Edge, PlugIn, log_e_above, log_e_below, log_e_equal, projection

SEVENTY_NINE_A = "0100011100000020101122010111011020012111001010000000001000101102000101100000000"
SEVENTY_NINE_B = "1110110110101110010000101110001001001100001100001110010000000110100111110111000"


def blocks(events_b, events_c, n_b, n_c):
    """One run; events per block."""
    size = len(events_b)
    columns = (np.full(size, n_b), events_b, np.full(size, n_c), events_c)
    return Counts(*(np.array(column, dtype=float)[:, None] for column in columns))


def test_case_n27_vignette_of_safestats():
    found = log_e_equal(blocks([1, 1, 1, 1, 1, 1, 0, 1, 1, 1], [0, 0, 1, 0, 1, 0, 0, 0, 0, 0], 1, 1))
    assert math.exp(found[-1, 0]) == pytest.approx(11.150295, rel=1e-6)


def test_case_n26_vignette_with_unbalanced_blocks():
    """The data are R's `set.seed(692021); rbinom(79, 2, .2); rbinom(79, 1, .5)`, as in the vignette."""
    events = ([int(digit) for digit in digits] for digits in (SEVENTY_NINE_A, SEVENTY_NINE_B))
    found = log_e_equal(blocks(*events, 2, 1), prior=(0.18, 0.09))
    assert math.exp(found[-1, 0]) == pytest.approx(1.80969, rel=1e-5)


@pytest.mark.parametrize("edge", [Edge(), Edge(1.5), Edge(shift=0.1), Edge(0.8, -0.05)])
@pytest.mark.parametrize("rates", [(0.2, 0.6), (0.01, 0.02), (0.5, 0.3)])
def test_the_projection_is_the_closest_point_of_the_edge(edge, rates):
    sizes = (30, 4)
    given_sizes = blocks([0], [0], *sizes)
    found = projection(given_sizes, PlugIn(*(np.array([[rate]]) for rate in rates)), edge)

    def distance(x):
        point = (x, edge.slope * x + edge.shift)
        kl = (rel_entr(t, p) + rel_entr(1 - t, 1 - p) for t, p in zip(rates, point, strict=True))
        return sum(n * divergence for n, divergence in zip(sizes, kl, strict=True))

    limits = (max(0, -edge.shift / edge.slope), min(1, (1 - edge.shift) / edge.slope))
    best = minimize_scalar(distance, bounds=limits, method="bounded", options={"xatol": 1e-12})
    assert found.control[0, 0] == pytest.approx(best.x, abs=1e-6)
    assert found.candidate[0, 0] == pytest.approx(edge.slope * best.x + edge.shift, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([Edge(), Edge(1.5), Edge(shift=0.1), Edge(0.7, 0.05)]),
    st.floats(0.001, 0.999),
    st.floats(0, 1),
    st.tuples(st.integers(0, 6), st.integers(0, 3)),
    st.booleans(),
)
def test_the_expectation_under_the_null_is_at_most_one(edge, place, depth, history, above):
    """Given any first block, for any point of the null, at its edge (depth 0) or within."""
    low, high = max(0, -edge.shift / edge.slope), min(1, (1 - edge.shift) / edge.slope)
    control = low + place * (high - low)
    limit = edge.slope * control + edge.shift
    candidate = limit - depth * limit if above else limit + depth * (1 - limit)
    log_e = log_e_above if above else log_e_below
    expectation = 0.0
    for k_b, k_c in itertools.product(range(7), range(4)):
        chance = binom.pmf(k_b, 6, control) * binom.pmf(k_c, 3, candidate)
        found = log_e(blocks([history[0], k_b], [history[1], k_c], 6, 3), edge)
        expectation += chance * math.exp(found[1, 0] - found[0, 0])
    assert expectation <= 1 + 1e-9


def test_an_absolute_margin_is_proven():
    """1 % errors in both; at most half a percentage point more is asked for."""
    dice = np.random.default_rng(4)
    size = (180, 50)
    columns = (np.full(size, 1800), dice.binomial(1800, 0.01, size), np.full(size, 200))
    same, worse = (
        log_e_below(
            Counts(*(c.astype(float) for c in (*columns, dice.binomial(200, p, size)))), Edge(shift=0.005)
        )
        for p in (0.01, 0.015)
    )
    assert (same[-1] >= math.log(20)).mean() >= 0.9
    assert (worse.max(axis=0) >= math.log(20)).mean() <= 0.05
