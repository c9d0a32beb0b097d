"""The bet on harm: all of it is spread, above the null only, and it starts as one unit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.eprocess import advance_restart, restart_log_weight
from analysis.stakes import START, harm_stakes, log_bets, log_cash, log_worth


@given(st.floats(0.05, 200), st.booleans())
def test_all_of_the_bet_is_spread_and_all_of_it_above_the_null(null, latency):
    stakes = harm_stakes(null, latency=latency)
    assert np.exp(stakes.start).sum() == pytest.approx(START)
    assert np.exp(stakes.later).sum() == pytest.approx(1 - START)
    assert len(stakes.odds_ratios) == len(stakes.start) == len(stakes.later)
    assert all(ratio > null for ratio in stakes.odds_ratios)


@pytest.mark.parametrize(
    ("null", "latency", "odds_ratios"),
    [
        (1.0, False, (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)),
        (1.2, False, (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)),
        (1.25, False, (1.5, 2.0, 3.0, 5.0, 10.0)),
        (4.0, False, (5.0, 10.0)),
        (20.0, False, (25.0, 30.0, 40.0, 60.0, 100.0, 200.0)),
        (1.0, True, (1.1, 1.25, 1.5, 2.5, 5.0, 20.0)),
        (1.1, True, (1.25, 1.5, 2.5, 5.0, 20.0)),
    ],
)
def test_a_tolerance_moves_the_bet_to_the_odds_ratios_beyond_it(null, latency, odds_ratios):
    assert harm_stakes(null, latency=latency).odds_ratios == pytest.approx(odds_ratios)


def test_a_tolerance_keeps_the_proportions_of_what_is_left():
    all_of_it, left = harm_stakes(1.0, latency=False), harm_stakes(1.6, latency=False)
    assert np.diff(left.start) == pytest.approx(np.diff(all_of_it.start)[2:])
    assert np.diff(left.later) == pytest.approx(np.diff(all_of_it.later)[2:])


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize("planned", [1, 3, 180])
def test_a_run_starts_with_one_unit_and_keeps_it_while_nothing_happens(lanes, planned):
    stakes = harm_stakes(1.0, latency=lanes > 1)
    size = len(stakes.odds_ratios)
    start, restart = np.zeros((1, lanes, size)), np.full((1, lanes, size), -math.inf)
    for look in range(planned + 3):
        worth = log_worth(log_bets(stakes, start, restart), log_cash([(look, planned)]))
        assert worth == pytest.approx([0.0])
        restart = advance_restart(restart, restart_log_weight(look + 1, planned), 0.0)


def test_after_the_last_planned_look_nothing_is_left_to_bet():
    assert np.exp(log_cash([(0, 4), (1, 4), (4, 4), (9, 4)])) == pytest.approx(
        [1 - START, 0.75 * (1 - START), 0, 0]
    )
