"""What calibration reads from the control's series, with counts whose true dispersion is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.dispersion import LEAST_BLOCKS, calibrate, placebo_groups

SERIES, REQUESTS, RATE = 10, 200, 0.02


def independent(dice, intervals=180, series=SERIES, lanes=1, rate=RATE):
    """Totals (intervals, series) and independent events (intervals, series, lanes)."""
    totals = dice.poisson(REQUESTS, (intervals, series))
    return totals, dice.binomial(totals[..., None], np.broadcast_to(rate, (*totals.shape, lanes)))


def clustered(dice, size, intervals=1080):
    """Errors in clusters of exactly `size`, or of sizes drawn from a list."""
    totals = dice.poisson(REQUESTS, (intervals, SERIES))
    sizes = np.atleast_1d(size)
    clusters = dice.binomial(totals[..., None], RATE / sizes.sum(), (*totals.shape, sizes.size))
    return totals, (clusters * sizes).sum(axis=-1)[..., None]


def wandering(dice, correlation, sd, intervals=1080):
    """Every series' error rate wanders by itself: exp(AR(1))."""
    totals = dice.poisson(REQUESTS, (intervals, SERIES))
    noise = np.empty(totals.shape)
    noise[0] = dice.standard_normal(SERIES)
    for t in range(1, intervals):
        noise[t] = correlation * noise[t - 1] + math.sqrt(1 - correlation**2) * dice.standard_normal(SERIES)
    rates = RATE * np.exp(sd * noise - sd**2 / 2)
    return totals, dice.binomial(totals, rates)[..., None]


def test_independent_requests_mostly_have_dispersion_1_and_never_much_more():
    found = [calibrate(*independent(np.random.default_rng(seed)), share=0.1) for seed in range(30)]
    values = [each.dispersion for each in found]
    assert values.count(1.0) >= 20
    assert max(values) < 2.2
    assert {each.method for each in found} == {"placebo"}


def test_what_all_series_share_is_no_dispersion():
    dice = np.random.default_rng(3)
    totals = dice.poisson(REQUESTS, (360, SERIES))
    swing = (
        RATE
        * (1 + 0.9 * np.sin(np.arange(360) / 20))[:, None]
        * np.where(np.arange(360) > 300, 8, 1)[:, None]
    )
    events = dice.binomial(totals, np.broadcast_to(swing, totals.shape))[..., None]
    assert calibrate(totals, events, share=0.1).dispersion < 1.3


@pytest.mark.parametrize("size", [2, 3, 6])
def test_clusters_of_equal_size_have_their_size(size):
    found = calibrate(*clustered(np.random.default_rng(size), size), share=0.1)
    assert found.dispersion == pytest.approx(size, rel=0.25)


def test_clusters_of_unequal_size_have_the_mean_squared_size_over_the_mean_size():
    found = calibrate(*clustered(np.random.default_rng(4), [1, 7]), share=0.1)
    assert found.dispersion == pytest.approx((1 + 49) / 8, rel=0.25)


def test_noise_that_lasts_shows_in_long_blocks():
    totals, events = wandering(np.random.default_rng(5), correlation=0.95, sd=0.3)
    whole = calibrate(totals, events, share=0.1)
    short = calibrate(totals[: 2 * LEAST_BLOCKS], events[: 2 * LEAST_BLOCKS], share=0.1)
    assert whole.scale >= 12
    assert whole.longest == 90
    assert short.longest == 2
    assert whole.dispersion > 3 * short.dispersion
    fleeting = calibrate(*wandering(np.random.default_rng(5), correlation=0.0, sd=0.3), share=0.1)
    assert fleeting.dispersion < whole.dispersion / 3


def test_every_lane_has_its_own_dispersion_and_the_largest_counts():
    dice = np.random.default_rng(6)
    totals, calm = independent(dice, intervals=720)
    wild = 5 * dice.binomial(totals, RATE / 5)[..., None]
    found = calibrate(totals, np.concatenate([calm, wild], axis=2), share=0.1)
    assert found.lanes[0] < 1.3
    assert found.lanes[1] == pytest.approx(5, rel=0.3)
    assert found.dispersion == max(found.lanes)


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=40), st.floats(0.01, 0.9))
def test_every_series_is_in_exactly_one_of_at_least_two_placebos(requests, share):
    groups = placebo_groups(np.array(requests), share)
    assert len(groups) == len(requests)
    assert set(groups.tolist()) == set(range(max(2, min(len(requests), round(1 / share)))))


@pytest.mark.parametrize(
    ("series", "share", "count"), [(40, 0.1, 10), (40, 0.25, 4), (40, 0.5, 2), (5, 0.01, 5)]
)
def test_placebos_have_about_the_candidates_share(series, share, count):
    requests = np.random.default_rng(7).integers(80, 120, series)
    parts = np.bincount(placebo_groups(requests, share), weights=requests) / requests.sum()
    assert len(parts) == count
    assert parts == pytest.approx(np.full(count, 1 / count), rel=0.3)


def test_a_single_series_is_compared_with_itself_in_time():
    dice = np.random.default_rng(8)
    totals = dice.poisson(2000, (360, 1))
    calm = calibrate(totals, dice.binomial(totals, RATE)[..., None], share=0.1)
    wild = calibrate(totals, 4 * dice.binomial(totals, RATE / 4)[..., None], share=0.1)
    assert (calm.method, calm.series, calm.longest) == ("time", 1, 6)
    assert calm.dispersion < 1.4
    assert wild.dispersion == pytest.approx(4, rel=0.3)
    assert "not seen" in wild.rests_on


def test_a_single_series_may_swing_slowly_without_looking_clustered():
    dice = np.random.default_rng(9)
    totals = dice.poisson(2000, (720, 1))
    rate = RATE * (1 + 0.6 * np.sin(np.arange(720) * 2 * math.pi / 360))[:, None]
    assert calibrate(totals, dice.binomial(totals, rate)[..., None], share=0.1).dispersion < 1.5


def too_short(dice):
    return independent(dice, intervals=LEAST_BLOCKS - 1)


def one_series_too_short(dice):
    return independent(dice, intervals=2 * LEAST_BLOCKS - 1, series=1)


def too_few_events(dice):
    return independent(dice, rate=0.0002, intervals=60)


def constant_without_errors(_dice):
    return np.full((300, 5), 200), np.zeros((300, 5, 1), dtype=np.int64)


def nothing(_dice):
    return np.zeros((0, 0), dtype=np.int64), np.zeros((0, 0, 2), dtype=np.int64)


def silence(_dice):
    return np.zeros((300, 5), dtype=np.int64), np.zeros((300, 5, 1), dtype=np.int64)


@pytest.mark.parametrize(
    "make", [too_short, one_series_too_short, too_few_events, constant_without_errors, nothing, silence]
)
def test_too_little_says_so_and_claims_nothing(make):
    totals, events = make(np.random.default_rng(10))
    found = calibrate(totals, events, share=0.1)
    assert found.method == "none"
    assert found.dispersion == 1.0
    assert found.lanes == (1.0,) * events.shape[2]
    assert found.rests_on.startswith("too little")


def test_a_series_without_requests_is_no_placebo():
    totals, events = independent(np.random.default_rng(11), series=3)
    totals[:, 1] = events[:, 1] = 0
    assert calibrate(totals, events, share=0.5).series == 2


def test_a_calibration_says_what_it_rests_on_and_what_it_could_have_seen():
    found = calibrate(*independent(np.random.default_rng(12)), share=0.1)
    assert (found.intervals, found.series, found.groups, found.longest) == (180, 10, 10, 12)
    assert found.seen == pytest.approx(1 + 2 * math.sqrt(2 / (180 * 9)))
    assert found.rests_on == (
        "180 intervals of 10 series of the control in 10 placebo groups, over blocks of up to 12 intervals"
    )
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["lanes"] == list(found.lanes)


@pytest.mark.parametrize(
    ("totals", "events", "share"),
    [
        ((5,), (5, 1), 0.1),
        ((5, 2), (5, 2), 0.1),
        ((5, 2), (5, 3, 1), 0.1),
        ((5, 2), (5, 2, 1), 0.0),
        ((5, 2), (5, 2, 1), 1.0),
        ((5, 2), (5, 2, 1), math.nan),
    ],
)
def test_shapes_and_shares_that_make_no_sense_are_refused(totals, events, share):
    with pytest.raises(ValueError, match=r"share|intervals"):
        calibrate(np.ones(totals, dtype=np.int64), np.ones(events, dtype=np.int64), share=share)
