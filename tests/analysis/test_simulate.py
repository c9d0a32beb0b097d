"""Made-up traffic has the truth that it claims: rates, effects, shared and own noise, and when they begin."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.design import Design, MetricDesign
from analysis.simulate import Behaviour, Scenario, Streams, clustering
from analysis.tables import MeanArm

ERRORS = MetricDesign("errors", "proportion")
TIMES = MetricDesign("times", "histogram", (50.0, 80.0, 100.0, 500.0, 1000.0), unit="milliseconds")
SCENARIOS = get_args(Scenario)
RUNS = 500


def design(*metrics):
    return Design(metrics, false_rollback=0.05, false_promote=0.05, planned_looks=100, min_samples=0)


def rates(behaviour, *, metric=ERRORS, looks=20, seconds=10, share=0.2, runs=RUNS):
    """Return (looks, 2, lanes): each version's share of events in every interval, over all runs."""
    streams = Streams(design(metric), behaviour, runs, (1,))
    found = []
    for _ in range(looks):
        requests, [events] = streams.counts(np.full(runs, share), seconds)
        found.append(events.sum(axis=0) / requests.sum(axis=0)[:, None])
    return np.array(found)


def odds(rate):
    return rate / (1 - rate)


@given(
    scenario=st.sampled_from(SCENARIOS),
    harm=st.sampled_from(["errors", "shift", "tail"]),
    effect=st.floats(1, 20),
    baseline=st.floats(0.001, 0.05),
    share=st.floats(0, 1),
    rps=st.floats(0.01, 1000),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_every_table_is_possible_and_all_metrics_of_a_run_share_its_requests(
    scenario, harm, effect, baseline, share, rps, seed
):
    behaviour = Behaviour(rps, baseline, scenario=scenario, harm=harm, effect=effect, onset=15)
    streams = Streams(design(ERRORS, TIMES), behaviour, 3, (seed,))
    for look in range(1, 4):
        intervals = streams.draw(np.full(3, share), 10, look * 10)
        assert [interval.end for interval in intervals] == [look * 10] * 3
        for interval in intervals:
            assert interval.intended == share
            for table in interval.tables.values():
                assert (table.control.total, table.candidate.total) == interval.requests
            for arm in (interval.tables["times"].control, interval.tables["times"].candidate):
                assert list(arm.events) == sorted(arm.events, reverse=True)


def test_the_same_seed_gives_the_same_traffic_and_another_one_does_not():
    first, again, other = (
        Streams(design(ERRORS, TIMES), Behaviour(), 4, (seed,)).draw(np.full(4, 0.1), 10, 10)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("scenario", ["iid", "bursts", "podnoise"])
def test_errors_have_the_baseline_and_the_candidates_odds_the_effect(scenario):
    behaviour = Behaviour(baseline=0.02, effect=3.0, scenario=scenario)
    control, candidate = rates(behaviour).mean(axis=0)[:, 0]
    assert control == pytest.approx(0.02, rel=0.03)
    assert odds(candidate) / odds(control) == pytest.approx(3.0, rel=0.04)


def test_requests_are_split_by_each_runs_own_share():
    streams = Streams(design(ERRORS), Behaviour(rps=1000), 3, (1,))
    requests, _ = streams.counts(np.array([0.0, 0.3, 1.0]), 100)
    assert requests[0, 1] == 0
    assert requests[2, 0] == 0
    assert requests[1, 1] / requests[1].sum() == pytest.approx(0.3, abs=0.01)
    assert requests.sum(axis=1) == pytest.approx([1e5] * 3, rel=0.03)


def test_times_are_log_normal():
    above = rates(Behaviour(median=0.08, sigma=0.5), metric=TIMES).mean(axis=0)
    expected = [0.5 * math.erfc(math.log(edge / 80) / 0.5 / math.sqrt(2)) for edge in TIMES.edges]
    assert above[0] == pytest.approx(expected, abs=0.003)
    assert above[1] == pytest.approx(expected, abs=0.003)


def test_a_shift_makes_every_time_longer_and_leaves_errors_alone():
    behaviour = Behaviour(harm="shift", effect=1.25)
    control, candidate = rates(behaviour, metric=TIMES).mean(axis=0)
    assert control[1] == pytest.approx(0.5, abs=0.003)
    assert candidate[2] == pytest.approx(0.5, abs=0.003)  # the median went from 80 to 100 ms
    errors = rates(behaviour).mean(axis=0)[:, 0]
    assert errors[0] == pytest.approx(errors[1], rel=0.05)


def test_a_tail_is_some_requests_that_take_a_second_longer():
    behaviour = Behaviour(harm="tail", effect=3.0, baseline=0.01, sigma=0.1)
    control, candidate = rates(behaviour, metric=TIMES).mean(axis=0)
    assert control[-1] == 0
    assert candidate[-1] == pytest.approx(0.02, rel=0.05)
    assert candidate[0] == pytest.approx(1.0, abs=1e-4)


def test_an_incident_hits_both_versions_for_two_minutes():
    both = rates(Behaviour(scenario="incident", onset=25.0), looks=16)[..., 0] / 0.01
    assert both[:2] == pytest.approx(1, rel=0.15)
    assert both[3:14] == pytest.approx(10, rel=0.1)
    assert both[[2, 14]] == pytest.approx(5.5, rel=0.1)  # half of each of these intervals
    assert both[15] == pytest.approx(1, rel=0.15)


def test_late_harm_begins_at_its_onset():
    late = rates(Behaviour(scenario="late", effect=4.0, onset=105.0), looks=20)[..., 0] / 0.01
    assert late[:, 0] == pytest.approx(1, rel=0.15)
    assert late[:10, 1] == pytest.approx(1, rel=0.2)
    assert late[10, 1] == pytest.approx(2.5, rel=0.15)
    assert late[11:, 1] == pytest.approx(3.9, rel=0.1)


def test_a_season_moves_both_versions_alike_and_each_run_at_its_own_time():
    streams = Streams(design(ERRORS), Behaviour(rps=1e5, scenario="seasonal"), 50, (1,))
    looks = [streams.counts(np.full(50, 0.5), 10) for _ in range(60)]
    shares = np.array([events[:, :, 0] / requests for requests, [events] in looks])
    assert shares[..., 0] == pytest.approx(shares[..., 1], abs=0.001)
    assert shares.max(axis=0) == pytest.approx(0.016, rel=0.05)
    assert shares.min(axis=0) == pytest.approx(0.004, rel=0.15)
    assert np.ptp(shares[0, :, 0]) > 0.008


def test_trouble_makes_requests_slower_too():
    quiet, trouble = (
        rates(Behaviour(scenario=scenario), metric=TIMES, looks=3).mean(axis=0)
        for scenario in ("iid", "incident")
    )
    assert (trouble > 1.1 * quiet).all()


@pytest.mark.parametrize(("scenario", "low", "high"), [
    ("iid", 0.8, 1.25), ("seasonal", 0.8, 1.25), ("incident", 0.8, 1.25),
    ("bursts", 4.0, 6.2), ("podnoise", 2.5, 20.0),
])  # fmt: skip
def test_only_noise_that_the_versions_do_not_share_clusters(scenario, low, high):
    """A geometric size with mean 3 has E[size^2] / E[size] = 5."""
    found = clustering(
        design(ERRORS), Behaviour(scenario=scenario, effect=9.0), share=0.1, seconds=10, looks=30
    )
    assert low < found[0] < high


def test_clustering_of_a_histogram_is_that_of_its_worst_edge():
    both = design(ERRORS, TIMES)
    quiet, noisy = (
        clustering(both, Behaviour(scenario=scenario), share=0.1, seconds=10, looks=20)
        for scenario in ("iid", "podnoise")
    )
    assert len(quiet) == len(noisy) == 2
    assert quiet[1] < 1.4
    assert noisy[1] > 2


@pytest.mark.parametrize("change", [
    {"rps": 0}, {"rps": math.nan}, {"rps": 2e6}, {"baseline": 0}, {"baseline": 0.5}, {"median": 0},
    {"sigma": -1}, {"effect": 0}, {"effect": math.inf}, {"harm": "tail", "effect": 0.5},
    {"harm": "tail", "effect": 500.0},
])  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(change):
    with pytest.raises(ValueError, match=r"must|needs"):
        replace(Behaviour(), **change)


def test_a_histogram_of_something_else_is_refused():
    scores = MetricDesign("scores", "histogram", (0.1, 0.5), unit="ratio")
    with pytest.raises(ValueError, match="scores: only histograms of times"):
        Streams(design(scores), Behaviour(), 1, (1,))


@pytest.mark.parametrize(("unit", "factor"), [("seconds", 0.001), ("microseconds", 1000.0)])
def test_edges_are_read_in_the_unit_of_the_metric(unit, factor):
    edges = tuple(edge * factor for edge in TIMES.edges)
    same = replace(TIMES, edges=edges, unit=unit)
    found, expected = (rates(Behaviour(), metric=metric, looks=1) for metric in (same, TIMES))
    assert found == pytest.approx(expected)


def test_a_ramp_grows_evenly_until_its_onset():
    ramp = rates(Behaviour(scenario="ramp", effect=4.0, onset=95.0), looks=14)[..., 0] / 0.01
    assert ramp[:, 0] == pytest.approx(1, rel=0.15)
    grown = [min(1.0, (10 * look + 5) / 95) for look in range(14)]
    assert ramp[[0, 4, 8], 1] == pytest.approx([1 + 2.95 * grown[look] for look in (0, 4, 8)], rel=0.12)
    assert ramp[10:, 1] == pytest.approx(3.9, rel=0.1)


def test_without_an_onset_a_ramp_is_there_at_once():
    behaviour = Behaviour(scenario="ramp", effect=4.0)
    assert rates(behaviour, looks=1)[0, 1, 0] == pytest.approx(0.039, rel=0.1)


def test_a_season_and_an_incident_come_together():
    both = rates(Behaviour(scenario="seasonal+incident", onset=30.0), looks=5)[..., 0] / 0.01
    assert (both[3:] > 5).all()
    assert (both[:3] < 2).all()


@pytest.mark.parametrize(("phi", "low", "high"), [(2.0, 1.6, 2.5), (4.0, 3.2, 4.9)])
def test_beta_binomial_errors_cluster_by_phi(phi, low, high):
    behaviour = Behaviour(scenario="betabinomial", phi=phi)
    [found] = clustering(design(ERRORS), behaviour, share=0.1, seconds=10, looks=30)
    assert low < found < high


@pytest.mark.parametrize(("noise", "correlation"), [(0.3, 0.0), (0.6, 0.0), (0.6, 0.95)])
def test_noise_has_the_size_and_the_memory_that_are_asked_for(noise, correlation):
    behaviour = Behaviour(rps=1e5, baseline=0.05, scenario="podnoise", noise=noise, correlation=correlation)
    streams = Streams(design(ERRORS), behaviour, 1500, (3,))
    logs = []
    for _ in range(4):
        requests, [events] = streams.counts(np.full(1500, 0.5), 10)
        logs.append(np.log(events[:, :, 0] / requests))
    assert np.std(logs[0]) == pytest.approx(noise, rel=0.06)
    pairs = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairwise(logs)]
    assert np.mean(pairs) == pytest.approx(correlation, abs=0.04)


def test_pods_share_the_requests_of_their_version_evenly_and_add_up_to_it():
    behaviour = Behaviour(scenario="podnoise", pods=(4, 2), effect=3.0)
    pods, arms = (Streams(design(ERRORS, TIMES), behaviour, 300, (1,)) for _ in range(2))
    requests, [errors, times] = pods.series_counts(np.full(300, 0.2), 10)
    assert requests.shape == (300, 6)
    assert (errors.shape, times.shape) == ((300, 6, 1), (300, 6, 5))
    assert requests.mean(axis=0) == pytest.approx([400] * 4 + [200] * 2, rel=0.02)
    totals, [summed, _] = arms.counts(np.full(300, 0.2), 10)
    assert (totals[:, 0] == requests[:, :4].sum(axis=1)).all()
    assert (summed[:, 1] == errors[:, 4:].sum(axis=1)).all()


def test_noise_of_many_pods_averages_out_for_their_version():
    few, many = (
        clustering(
            design(ERRORS), Behaviour(scenario="podnoise", pods=(9, n)), share=0.1, seconds=10, looks=20
        )
        for n in (1, 10)
    )
    assert many[0] < 1 + (few[0] - 1) / 3


def test_the_history_is_what_the_control_did_alone_and_its_noise_goes_on():
    behaviour = Behaviour(
        rps=20_000, baseline=0.05, effect=5.0, scenario="podnoise", correlation=0.95, pods=(3, 1)
    )
    streams = Streams(design(ERRORS, TIMES), behaviour, 400, (1,))
    totals, [errors, times] = streams.history(60, 10)
    assert totals.shape == (400, 6, 3)
    assert (errors.shape, times.shape) == ((400, 6, 3, 1), (400, 6, 3, 5))
    assert errors.sum() / totals.sum() == pytest.approx(0.05, rel=0.03)
    requests, [now, _] = streams.series_counts(np.full(400, 0.1), 10)
    last, first = errors[:, -1, 0, 0] / totals[:, -1, 0], now[:, 0, 0] / requests[:, 0]
    assert np.corrcoef(np.log(last), np.log(first))[0, 1] > 0.8


def test_a_history_can_be_of_placebo_arms_with_shares_of_their_own():
    streams = Streams(design(ERRORS), Behaviour(scenario="podnoise"), 200, (1,))
    totals, _ = streams.history(30, 10, shares=(0.9, 0.1))
    assert totals.sum(axis=(0, 1)) / totals.sum() == pytest.approx([0.9, 0.1], rel=0.02)


def test_there_is_no_history_once_the_run_has_begun():
    streams = Streams(design(ERRORS), Behaviour(), 2, (1,))
    streams.counts(np.full(2, 0.1), 10)
    with pytest.raises(ValueError, match="before the run"):
        streams.history(60, 10)


@pytest.mark.parametrize("change", [
    {"onset": -1.0}, {"noise": -0.1}, {"noise": math.nan}, {"correlation": 1.0}, {"phi": 0.5},
    {"pods": (0, 1)}, {"pods": (1, 1001)},
])  # fmt: skip
def test_noise_and_pods_that_make_no_sense_are_refused(change):
    with pytest.raises(ValueError, match="must"):
        replace(Behaviour(), **change)


SCORES = MetricDesign("scores", "mean", unit="ratio", higher_is_better=True)
DELAYS = MetricDesign("delays", "mean", unit="milliseconds")


def test_the_values_of_a_mean_have_mean_and_variance_of_the_times():
    behaviour = Behaviour(rps=20, median=0.08, sigma=0.8, effect=1.5, harm="shift")
    streams = Streams(design(DELAYS, SCORES), behaviour, 4000, (1,))
    requests, (delays, scores) = streams.counts(np.full(4000, 0.5), 10)
    worth = 0.08 * math.exp(0.32)
    for sums, factor, unit in ((delays, 1.5, 1000.0), (scores, 0.5, 1.0)):
        control, candidate = sums[:, :, 0].sum(axis=0) / requests.sum(axis=0)
        assert control == pytest.approx(unit * worth, rel=0.01)
        assert candidate == pytest.approx(factor * unit * worth, rel=0.01)
    own = delays[:, 0, 0] / 1000 - worth * requests[:, 0]
    assert own.var() / requests[:, 0].mean() == pytest.approx(worth**2 * math.expm1(0.64), rel=0.1)


def test_intervals_of_means_and_of_good_events_are_drawn():
    good = replace(ERRORS, name="good", higher_is_better=True)
    streams = Streams(design(ERRORS, good, DELAYS), Behaviour(rps=5000), 1, (1,))
    [interval] = streams.draw(np.full(1, 0.5), 10, 10)
    errors, right, delays = interval.tables.values()
    for arm in ("control", "candidate"):
        wrong, served = getattr(errors, arm), getattr(right, arm)
        assert served.events[0] / served.total == pytest.approx(1 - wrong.events[0] / wrong.total, abs=0.01)
        assert isinstance(getattr(delays, arm), MeanArm)
        assert getattr(delays, arm).total == wrong.total


def test_a_mean_needs_no_dispersion_of_its_own_for_clusters():
    behaviour = Behaviour(scenario="bursts")
    found = clustering(design(DELAYS, ERRORS), behaviour, share=0.1, seconds=10, looks=5)
    assert found[0] == 1
    assert found[1] > 2
