"""Quantile bands: published radii, brackets on small histograms, the truth inside at all looks together."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.quantiles import band_radius, native_buckets, quantile_band, quantile_intervals, quantile_radii

EDGES = np.array([10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0])


def counts_above(latencies, edges=EDGES):
    return (np.asarray(latencies)[:, None] > edges).sum(axis=0)


@pytest.mark.parametrize(
    ("total", "radius", "closed_form"),
    [(100, 0.2667214, 0.2691758), (1000, 0.0858061, 0.0865691), (10_000, 0.0274724, 0.0277107)],
)
def test_the_radius_of_the_band_is_the_published_one(total, radius, closed_form):
    """And a little below the closed form .85 sqrt((lnln(e t) + .8 ln(1612 / alpha)) / t)."""
    assert band_radius(total, 0.05) == pytest.approx(radius, abs=5e-8)
    form = 0.85 * math.sqrt((math.log(math.log(math.e * total)) + 0.8 * math.log(1612 / 0.05)) / total)
    assert form == pytest.approx(closed_form, abs=5e-8)


def test_a_band_that_begins_later_is_narrower():
    assert band_radius(1000, 0.05, t_min=100) == pytest.approx(0.08204769, abs=1e-6)
    assert band_radius(99, 0.05, t_min=100) == math.inf


@pytest.mark.parametrize(
    ("q", "total", "below", "above"),
    [
        (0.5, 1000, 0.04795, 0.04795),
        (0.95, 1000, 0.022581, 0.019209),
        (0.99, 1000, 0.011388, 0.007647),
        (0.95, 10_000, 0.007275, 0.006873),
    ],
)
def test_the_radii_of_one_quantile_are_the_published_ones(q, total, below, above):
    assert quantile_radii(q, total, 0.05, t_opt=1000) == pytest.approx((below, above), abs=5e-7)


@given(st.floats(0.01, 0.99), st.floats(30, 1e6))
def test_radii_of_mirrored_quantiles_are_mirrored(q, total):
    mirrored = quantile_radii(1 - q, total, 0.05, 1000)[::-1]
    assert quantile_radii(q, total, 0.05, 1000) == pytest.approx(mirrored)


@given(st.floats(1, 1e7), st.floats(1e-6, 0.5), st.floats(1.1, 10))
def test_the_band_narrows_with_requests_and_widens_with_confidence(total, alpha, factor):
    assert band_radius(total * factor, alpha) < band_radius(total, alpha)
    assert band_radius(total, alpha / factor) > band_radius(total, alpha)


def test_a_quantile_lies_between_the_edges_that_are_clearly_below_and_above():
    above = [9000, 7000, 5000, 3000, 1000, 100, 0]
    assert quantile_band(EDGES, above, 10_000, 0.05, [0.5, 0.6]) == [(25.0, 100.0), (50.0, 100.0)]
    assert quantile_intervals(EDGES, above, 10_000, 0.05, [0.5, 0.99], t_opt=5000) == [(25, 100), (250, 1000)]


def test_the_tail_is_unbounded_for_the_band_and_not_for_its_own_interval():
    above = [9000, 5000, 2500, 1000, 200, 20, 0]
    assert quantile_band(EDGES, above, 10_000, 0.05, [0.99]) == [(100.0, None)]
    assert quantile_intervals(EDGES, above, 10_000, 0.05, [0.99], t_opt=10_000) == [(250.0, 500.0)]


def test_the_slowest_bucket_bounds_from_below_only():
    assert quantile_band(EDGES, [5000] * 7, 5000, 0.05, [0.5]) == [(1000.0, None)]


@pytest.mark.parametrize("total", [0, 1, 2])
def test_next_to_no_requests_say_nothing(total):
    """Even if all are fast: the largest share there can be is no evidence yet."""
    for above in (np.zeros(7), np.full(7, total)):
        assert quantile_band(EDGES, above, total, 0.05, [0.5, 0.9]) == [(0.0, None)] * 2
        assert quantile_intervals(EDGES, above, total, 0.05, [0.5, 0.9], t_opt=1000) == [(0.0, None)] * 2


def test_quantiles_share_alpha():
    above = counts_above(np.random.default_rng(1).lognormal(4, 1, 3000))
    alone = quantile_intervals(EDGES, above, 3000, 0.01, [0.9], t_opt=1000)
    together = quantile_intervals(EDGES, above, 3000, 0.02, [0.9, 0.5], t_opt=1000)
    assert together[0] == alone[0]


@given(st.lists(st.integers(0, 400), min_size=7, max_size=7), st.floats(0.01, 0.99))
def test_brackets_contain_the_empirical_quantile(bucket_counts, q):
    above = np.cumsum(bucket_counts[::-1])[::-1]
    total = int(above[0]) + 5
    share = 1 - above / total
    first = np.flatnonzero(share >= q)
    for low, high in (
        quantile_band(EDGES, above, total, 0.05, [q])[0],
        quantile_intervals(EDGES, above, total, 0.05, [q], t_opt=500)[0],
    ):
        assert low < (EDGES[first[0]] if first.size else math.inf)
        assert high is None or (first.size and high >= EDGES[first[0]])


def test_at_all_looks_together_the_truth_is_missed_seldom():
    """Both methods, on 100 runs of 8 looks; the edges are quantiles, so the worst case for coverage."""
    rng, quantiles, alpha = np.random.default_rng(2), [0.5, 0.9], 0.2
    edges = np.linspace(0.02, 0.98, 97)
    missed = np.zeros(2)
    for _ in range(100):
        latencies = rng.random((8, 250))
        above = np.cumsum([counts_above(batch, edges) for batch in latencies], axis=0)
        wrong = [False, False]
        for look in range(8):
            total = 250 * (look + 1)
            found = (
                quantile_band(edges, above[look], total, alpha, quantiles),
                quantile_intervals(edges, above[look], total, alpha, quantiles, t_opt=1000),
            )
            for index, brackets in enumerate(found):
                pairs = zip(brackets, quantiles, strict=True)
                wrong[index] |= any(not low < q <= (high or 1) for (low, high), q in pairs)
        missed += wrong
    assert np.all(missed / 100 <= alpha)


def test_with_many_requests_the_band_closes_in_on_neighbouring_edges():
    edges = np.linspace(0.01, 0.99, 99)
    above = counts_above(np.random.default_rng(4).random(100_000), edges)
    ((low, high),) = quantile_band(edges, above, 100_000, 0.05, [0.505])
    assert 0.48 < low < 0.505 < high < 0.53


def test_native_buckets_are_powers_of_two():
    edges, above, total = native_buckets(0, 1, [1, 2, 3], zero_count=4)
    assert edges.tolist() == [1, 2, 4, 8]
    assert above.tolist() == [6, 5, 3, 0]
    assert total == 10


def test_a_finer_schema_has_more_edges_and_the_same_powers():
    """2^schema buckets per doubling: index 8 of schema 2 ends where index 2 of schema 0 does."""
    edges, _, _ = native_buckets(2, 5, [1] * 4)
    assert edges[[0, -1]] == pytest.approx([2, 4])
    assert np.diff(np.log2(edges)) == pytest.approx(0.25)
    assert native_buckets(-1, 0, [1])[0].tolist() == [0.25, 1.0]


def test_native_buckets_can_be_drawn():
    edges, above, total = native_buckets(3, 30, [10, 200, 4000, 4000, 200, 10], zero_count=20)
    ((low, high),) = quantile_band(edges, above, total, 0.05, [0.5])
    assert edges[1] <= low < high <= edges[5]


@pytest.mark.parametrize("schema", [-5, 9, -53])
def test_schemas_without_powers_are_errors(schema):
    with pytest.raises(ValueError, match="not exponential"):
        native_buckets(schema, 0, [1])


@pytest.mark.parametrize(
    ("edges", "above", "total"),
    [
        ([1, 1], [2, 1], 5),
        ([1, math.inf], [2, 0], 5),
        ([1, 2], [1, 2], 5),
        ([1, 2], [6, 2], 5),
        ([1, 2], [1, -1], 5),
        ([1, 2], [1], 5),
    ],
)
def test_impossible_histograms_are_errors(edges, above, total):
    with pytest.raises(ValueError, match=r"edges|counts"):
        quantile_band(edges, above, total, 0.05, [0.5])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: band_radius(10, 0),
        lambda: band_radius(10, 0.05, t_min=0.5),
        lambda: quantile_radii(1.0, 10, 0.05, 10),
        lambda: quantile_radii(0.5, 0, 0.05, 10),
        lambda: quantile_band([1], [1], 2, 0.05, [95]),
        lambda: quantile_intervals([1], [0], 0, 0.05, [0.0], t_opt=10),
    ],
)
def test_impossible_parameters_are_errors(wrong):
    with pytest.raises(ValueError, match="must"):
        wrong()
