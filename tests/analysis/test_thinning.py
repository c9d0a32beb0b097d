"""Placebos keep what they are made of: some of the requests, with the rates they had, or with known harm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.thinning import Counts, thinned, worsened

SHARES = np.array([0.5, 0.1, 0.01])
RUNS = 40_000


def histogram(seed=1, requests=200, runs=RUNS):
    """Counts of runs whose lanes have the shares SHARES."""
    bins = np.random.default_rng(seed).multinomial(requests, [0.5, 0.4, 0.09, 0.01], runs)
    kept = bins[:, ::-1].cumsum(axis=1)[:, ::-1]
    return Counts(kept[:, 0], kept[:, 1:])


def odds(share):
    return share / (1 - share)


@given(
    requests=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    keep=st.floats(0, 1),
    odds_ratio=st.floats(0.05, 20),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_every_result_is_possible(requests, keep, odds_ratio, seed):
    dice, total = np.random.default_rng(seed), np.array(requests)
    lane = total // 2
    counts = Counts(total, np.stack([lane, lane // 2, lane // 4], axis=1))
    shares = counts.events / np.maximum(total, 1)[:, None]
    for found in (
        thinned(dice, counts, np.full(total.size, keep)),
        worsened(dice, counts, shares, odds_ratio),
    ):
        assert (found.events[:, 0] <= found.requests).all()
        assert (np.diff(found.events, axis=1) <= 0).all()
        assert (found.events >= 0).all()
        assert (found.requests <= total).all()


def test_thinning_chooses_requests_without_regard_to_their_outcome():
    counts = histogram()
    kept = thinned(np.random.default_rng(2), counts, np.full(RUNS, 0.1))
    assert kept.requests.mean() == pytest.approx(20, rel=0.01)
    assert kept.events.sum(axis=0) / kept.requests.sum() == pytest.approx(SHARES, rel=0.03)
    # given how many are kept, the events among them are hypergeometric
    few = Counts(np.full(RUNS, 10), np.full((RUNS, 1), 4))
    half = thinned(np.random.default_rng(3), few, np.full(RUNS, 0.5))
    five = half.events[half.requests == 5, 0]
    assert five.mean() == pytest.approx(2.0, rel=0.02)
    assert five.var() == pytest.approx(5 * 0.4 * 0.6 * 5 / 9, rel=0.05)


def test_all_is_kept_or_nothing():
    counts = histogram(runs=5)
    everything = thinned(np.random.default_rng(1), counts, np.ones(5))
    assert (everything.requests == counts.requests).all()
    assert (everything.events == counts.events).all()
    rest = counts.less(everything)
    assert rest.requests.sum() == rest.events.sum() == 0
    assert thinned(np.random.default_rng(1), counts, np.zeros(5)).requests.sum() == 0


@pytest.mark.parametrize("odds_ratio", [0.4, 1.0, 1.5, 3.0])
def test_every_lane_gets_the_odds_that_are_asked_for(odds_ratio):
    found = worsened(np.random.default_rng(4), histogram(), np.broadcast_to(SHARES, (RUNS, 3)), odds_ratio)
    observed = found.events.mean(axis=0) / 200
    assert odds(observed) / odds(SHARES) == pytest.approx(np.full(3, odds_ratio), rel=0.02)
    assert (found.requests == 200).all()


def test_an_odds_ratio_of_one_changes_nothing():
    counts = histogram(runs=50)
    found = worsened(np.random.default_rng(5), counts, np.broadcast_to(SHARES, (50, 3)), 1.0)
    assert (found.events == counts.events).all()


def test_without_any_events_there_is_nothing_to_make_more_of():
    counts = Counts(np.array([100, 0]), np.zeros((2, 2), dtype=np.int64))
    found = worsened(np.random.default_rng(6), counts, np.zeros((2, 2)), 5.0)
    assert found.events.sum() == 0
