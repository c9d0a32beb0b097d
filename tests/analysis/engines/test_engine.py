import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.engines.engine import Rates
from analysis.engines.oracle import OracleSprt
from analysis.engines.registry import engines
from analysis.engines.threshold import Threshold

ALL = {**engines, "oracleSprt": OracleSprt(2.0)}
RATES = Rates(0.05, 0.05, margin=0.5, tolerance=0.1)
COMPARING = [name for name in ALL if name not in ("threshold", "thresholdInARow", "mannWhitney")]
every_engine = pytest.mark.parametrize("name", ALL)

counts = st.integers(0, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
intervals = st.tuples(counts, counts).map(lambda arms: (*arms[0], *arms[1]))


def traffic(looks, runs, *, effect=1.0, share=0.1, seed=3):
    """200 requests per second, looks every 10 s, 1 % errors of the control."""
    dice = np.random.default_rng(seed)
    n_b = dice.poisson(2000 * (1 - share), (looks, runs))
    n_c = dice.poisson(2000 * share, (looks, runs))
    return np.stack([n_b, dice.binomial(n_b, 0.01), n_c, dice.binomial(n_c, 0.01 * effect)], axis=-1)


@every_engine
@settings(max_examples=20, deadline=None)
@given(st.lists(intervals, min_size=1, max_size=14), st.integers(0, 13))
def test_a_look_depends_on_the_intervals_so_far_only(name, rows, cut):
    tables = np.array(rows)[:, None, :]
    prefix = min(cut + 1, len(rows))
    whole, part = (ALL[name].looks(table, RATES) for table in (tables, tables[:prefix]))
    for of_whole, of_part in zip(whole, part, strict=True):
        np.testing.assert_allclose(of_whole[:prefix], of_part, rtol=1e-9, atol=1e-12)


@every_engine
def test_a_run_reads_the_same_alone_and_among_others(name):
    tables = traffic(20, 6, effect=2)
    together = ALL[name].looks(tables, RATES)
    for run in range(6):
        for of_all, own in zip(together, ALL[name].looks(tables[:, run : run + 1], RATES), strict=True):
            assert of_all.shape == (20, 6)
            np.testing.assert_allclose(of_all[:, run], own[:, 0], rtol=1e-9, atol=1e-12)


@every_engine
def test_harm_stays_and_rules_out_safety(name):
    tables = np.concatenate([traffic(30, 8, effect=6), traffic(60, 8, effect=0.2, seed=4)])
    readings = ALL[name].looks(tables, RATES)
    assert readings.harmful[-1].all()
    assert (readings.harmful[1:] >= readings.harmful[:-1]).all()
    assert not (readings.harmful & readings.safe).any()


@every_engine
@pytest.mark.parametrize("row", [(0, 0, 0, 0), (1800, 20, 0, 0), (1800, 0, 200, 0)])
def test_without_events_of_the_candidate_no_harm_is_found(name, row):
    assert not ALL[name].looks(np.array([[row]] * 12), RATES).harmful.any()


@pytest.mark.parametrize("name", COMPARING)
def test_without_requests_of_the_control_no_harm_is_found(name):
    """But for those that do not compare, and Kayenta's, for which no data are zeros."""
    assert not ALL[name].looks(np.array([[(0, 0, 200, 20)]] * 12), RATES).harmful.any()


@every_engine
def test_without_a_margin_nothing_is_safe(name):
    readings = ALL[name].looks(traffic(60, 4), Rates(0.05, 0.05))
    assert not readings.safe.any()


@every_engine
def test_an_equal_candidate_is_mostly_found_safe_with_a_wide_margin(name):
    rates = Rates(0.001, 0.05, margin=1.0)
    engine = Threshold(limit=0.1) if name.startswith("threshold") else ALL[name]
    assert engine.looks(traffic(90, 20), rates).safe[-1].mean() >= 0.8


@pytest.mark.parametrize("name", COMPARING)
def test_a_tolerated_difference_is_seldom_called_harm(name):
    """Rates 1.2 times as high, of which 1.5 times would be tolerated; even the repeated tests hold that."""
    readings = ALL[name].looks(traffic(40, 60, effect=1.2), Rates(0.05, 0.05, tolerance=0.5))
    assert readings.harmful[-1].mean() <= 0.15


@pytest.mark.parametrize("name", ["lindonMalek", "turner", "robustDifferences", "oracleSprt"])
def test_tests_for_all_looks_keep_their_error_rate_where_the_z_test_does_not(name):
    tables = traffic(60, 400)
    assert ALL[name].looks(tables, Rates(0.05, 0.05)).harmful[-1].mean() <= 0.05
    assert engines["fixedHorizonZ"].looks(tables, Rates(0.05, 0.05)).harmful[-1].mean() >= 0.15


@every_engine
def test_every_engine_says_what_it_lacks_in_sentences(name):
    assert ALL[name].name == name
    assert ALL[name].lacks
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in ALL[name].lacks)


def test_welch_and_kayenta_look_at_rates_not_requests():
    few = np.stack([np.arange(20) % 3 + 1, np.full(20, 5), np.arange(20) % 2 + 4], axis=1)
    table = np.stack([np.full(20, 10), few[:, 0], np.full(20, 10), few[:, 2]], axis=1)[:, None, :]
    for name in ("welch", "mannWhitney"):
        one, thousand = (engines[name].looks(t, Rates(0.05, 0.05)) for t in (table, table * 1000))
        np.testing.assert_allclose(one.statistic, thousand.statistic)


class TestThreshold:
    failing, passing, idle = (100, 0, 100, 5), (100, 0, 100, 1), (100, 0, 0, 0)

    def looks(self, *rows, consecutive):
        tables = np.array(rows)[:, None, :]
        return Threshold(checks=3, consecutive=consecutive).looks(tables, RATES)

    def test_failed_checks_add_up(self):
        rows = (self.failing, self.passing, self.failing, self.passing, self.failing)
        readings = self.looks(*rows, consecutive=False)
        assert readings.statistic[:, 0].tolist() == [1, 1, 2, 2, 3]
        assert readings.harmful[:, 0].tolist() == [False] * 4 + [True]

    def test_failed_checks_in_a_row_start_again_after_one_that_passed(self):
        rows = (self.failing, self.failing, self.passing, self.failing, self.idle, self.failing, self.failing)
        readings = self.looks(*rows, consecutive=True)
        assert readings.statistic[:, 0].tolist() == [1, 2, 0, 1, 1, 2, 3]
        assert readings.harmful[:, 0].tolist() == [False] * 6 + [True]

    def test_it_is_content_after_enough_checks_whatever_the_control_does(self):
        rows = [(100, 100, 100, 1)] * 2 + [(100, 100, 0, 0)] + [(100, 100, 100, 1)] * 2
        assert self.looks(*rows, consecutive=False).safe[:, 0].tolist() == [False] * 3 + [True] * 2
