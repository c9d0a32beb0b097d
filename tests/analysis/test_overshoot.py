"""The overshoot that is got back is exactly what truncation at the bound takes, found by enumeration.

Covered: single intervals with all their outcomes, whole runs of the judge with all their paths, on the border
of the null and inside it, for harm and for safety, with and without dispersion. Crossing within alpha is
checked by simulation too, since enumeration ends after a few intervals.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analysis.judge import Design, Interval, MetricDesign, advance, fresh
from analysis.overshoot import Bets, log_boosts
from analysis.tables import Arm, Table


def chances(n_c: int, n_b: int, every: int, odds_ratio: float) -> dict[int, float]:
    """Fisher's noncentral hypergeometric distribution, straight from its definition."""
    support = range(max(0, every - n_b), min(n_c, every) + 1)
    weights = {k: math.comb(n_c, k) * math.comb(n_b, every - k) * odds_ratio**k for k in support}
    return {k: weight / sum(weights.values()) for k, weight in weights.items()}


@st.composite
def situations(
    draw: st.DrawFn,
) -> tuple[tuple[int, int, int], float, list[tuple[float, float]], float, float]:
    """Margins, a null, some (odds ratio, wealth), cash and a bound that exceeds the whole fortune."""
    n_c, n_b = draw(st.integers(1, 40)), draw(st.integers(1, 60))
    every = draw(st.integers(1, n_c + n_b - 1))
    null = draw(st.sampled_from([1.0, 1.5, 3.0]))
    harm = draw(st.booleans())
    factors = draw(st.lists(st.floats(1.05, 12), min_size=1, max_size=4))
    ratios = [null * factor if harm else null / factor for factor in factors]
    wealth = [draw(st.floats(0.01, 3)) for _ in ratios]
    cash = draw(st.sampled_from([0.0, 0.3, 2.0]))
    bound = (sum(wealth) + cash) * draw(st.floats(1.01, 60))
    return (n_c, n_b, every), null, list(zip(ratios, wealth, strict=True)), cash, bound


def worths(
    margins: tuple[int, int, int], null: float, bets: list[tuple[float, float]]
) -> dict[int, list[float]]:
    """What each bet is worth after the interval, by the candidate's events."""
    at_null = chances(*margins, null)
    found = {ratio: chances(*margins, ratio) for ratio, _ in bets}
    return {k: [s * found[w][k] / at_null[k] for w, s in bets] for k in at_null}


def boost(
    margins: tuple[int, int, int],
    k: int,
    null: float,
    bets: list[tuple[float, float]],
    rest: tuple[float, float],
) -> float:
    """What `log_boosts` says when the candidate had k events."""
    n_c, n_b, every = margins
    cash, bound = rest
    level = np.log([worths(margins, null, bets)[k]])
    slope = np.log([[ratio / null for ratio, _ in bets]])
    log_cash = math.log(cash) if cash else -math.inf
    asked = Bets(level, slope, np.array([log_cash]), np.array([math.log(bound)]))
    return math.exp(log_boosts(np.array([[n_c, k, n_b, every - k]]), null, asked)[0])


@given(situations())
def test_the_boosted_and_truncated_value_is_as_fair_as_the_plain_one(situation):
    margins, null, bets, cash, bound = situation
    at_null = chances(*margins, null)
    plain = {k: sum(parts) + cash for k, parts in worths(margins, null, bets).items()}
    b = boost(margins, next(iter(at_null)), null, bets, (cash, bound))
    assert b >= 1
    truncated = sum(chance * min(b * plain[k], bound) for k, chance in at_null.items())
    fair = sum(chance * plain[k] for k, chance in at_null.items())
    assert fair == pytest.approx(sum(s for _, s in bets) + cash)
    assert truncated == pytest.approx(fair, rel=1e-9)


@given(situations())
def test_the_boost_is_1_where_nothing_can_go_beyond_the_bound(situation):
    margins, null, bets, cash, _ = situation
    most = max(sum(parts) + cash for parts in worths(margins, null, bets).values())
    k = next(iter(chances(*margins, null)))
    assert boost(margins, k, null, bets, (cash, most * 1.001)) == pytest.approx(1, abs=1e-9)


@given(situations())
def test_the_boost_depends_on_the_margins_and_not_on_what_happened(situation):
    margins, null, bets, cash, bound = situation
    found = [boost(margins, k, null, bets, (cash, bound)) for k in chances(*margins, null)]
    assert found == pytest.approx([found[0]] * len(found), rel=1e-8)


@pytest.mark.parametrize("table", [(5, 0, 5, 0), (5, 5, 5, 5), (0, 0, 9, 3), (9, 3, 0, 0), (9, 4, 0, 0)])
def test_a_table_that_says_nothing_has_no_boost(table):
    bets = Bets(np.zeros((1, 1)), np.array([[5.0]]), np.array([0.0]), np.array([0.1]))
    assert log_boosts(np.array([table]), 1.0, bets).tolist() == [0.0]


def test_more_events_than_a_window_holds_have_no_boost():
    tables = np.array([[10**6, 500_000, 10**6, 500_000]])
    bets = Bets(np.zeros((1, 1)), np.array([[0.7]]), np.array([-math.inf]), np.array([1e-3]))
    assert log_boosts(tables, 1.0, bets).tolist() == [0.0]


def test_a_boost_has_the_same_bits_in_any_company():
    dice = np.random.default_rng(5)
    n_c, n_b = dice.integers(1, 900, 60), dice.integers(1, 9000, 60)
    tables = np.stack([n_c, dice.binomial(n_c, 0.02), n_b, dice.binomial(n_b, 0.02)], axis=1)
    bets = Bets(
        dice.normal(0, 1, (60, 3)), np.tile(np.log([1.5, 2, 5]), (60, 1)), np.zeros(60), np.full(60, 3.0)
    )
    together = log_boosts(tables, 1.0, bets)
    alone = [log_boosts(tables[[i]], 1.0, Bets(*(column[[i]] for column in bets)))[0] for i in range(60)]
    assert together.tolist() == alone
    assert (together > 0).sum() > 5  # there was something to compare


BOUND, CUT = 4.0, 4.0 * 1.05
"""The judge cuts off a little beyond the bound, and keeps the difference in reserve."""
MARGINS = [(6, 12, 5), (9, 7, 4), (4, 20, 6)]


@cache
def judged_paths(metric: MetricDesign, dispersions: tuple[float, ...] = ()) -> list:
    """Every path of the candidate's events through `MARGINS`, with the ln of both e-values at every look.

    `dispersions`, one per interval, are given to the judge as measured.
    """
    design = Design((metric,), 1 / BOUND, 1 / BOUND, planned_looks=len(MARGINS), min_samples=0)
    paths = list(product(*(chances(*margins, 1.0) for margins in MARGINS)))
    states = [fresh(design)] * len(paths)
    harm, safe = [], []
    for look, (n_c, n_b, every) in enumerate(MARGINS, 1):
        batch = []
        for path, state in zip(paths, states, strict=True):
            k = path[look - 1]
            table = Table(look, Arm(n_b, (every - k,)), Arm(n_c, (k,)))
            known = {metric.name: dispersions[look - 1 : look]} if dispersions else {}
            batch.append((design, state, [Interval(look, 0.3, {metric.name: table}, dispersion=known)]))
        states = advance(batch)
        harm.append([state.metrics[0].log_e for state in states])
        safe.append([state.metrics[0].log_safe for state in states])
    return list(zip(paths, zip(*harm, strict=True), zip(*safe, strict=True), strict=True))


def stopped(log_values: tuple[float, ...]) -> float:
    """The e-value when the test stops, at the bound or at the end; what is won is cut off at `CUT`."""
    end = next((value for value in log_values if value >= math.log(BOUND)), log_values[-1])
    return min(math.exp(end), CUT)


def expectation(paths: list, odds_ratios: tuple[float, ...], *, safe: bool = False) -> tuple[float, float]:
    """The mean of the stopped e-value and the chance of the bound, with an odds ratio per interval."""
    tables = [chances(*margins, w) for margins, w in zip(MARGINS, odds_ratios, strict=True)]
    mean = crossed = 0.0
    for path, harm, against in paths:
        chance = math.prod(table[k] for table, k in zip(tables, path, strict=True))
        value = stopped(against if safe else harm)
        mean, crossed = mean + chance * value, crossed + chance * (value >= BOUND)
    return mean, crossed


def test_a_run_on_the_border_of_the_null_is_a_fair_game():
    mean, crossed = expectation(judged_paths(MetricDesign("m", "proportion")), (1.0, 1.0, 1.0))
    assert mean == pytest.approx(1, abs=1e-5)  # sums are kept in single precision
    assert 0.01 < crossed <= 1 / BOUND


@given(st.tuples(*[st.floats(0.02, 1.0)] * len(MARGINS)))
def test_a_run_inside_the_null_is_worth_no_more_however_the_odds_ratio_changes(odds_ratios):
    mean, crossed = expectation(judged_paths(MetricDesign("m", "proportion")), odds_ratios)
    assert mean <= 1 + 1e-5
    assert crossed <= 1 / BOUND
    if min(odds_ratios) < 0.9:
        assert mean < 0.999


@given(st.tuples(*[st.floats(2.0, 50.0)] * len(MARGINS)))
@example((2.0, 2.0, 2.0))
def test_a_proof_of_safety_is_fair_at_the_margin_and_worth_less_beyond_it(odds_ratios):
    paths = judged_paths(MetricDesign("m", "proportion", margin=1.0))
    mean, crossed = expectation(paths, odds_ratios, safe=True)
    assert mean <= 1 + 1e-5
    assert crossed <= 1 / BOUND
    if set(odds_ratios) == {2.0}:
        assert mean == pytest.approx(1, abs=1e-5)
        assert crossed > 0.01


def test_a_tolerance_moves_the_border_of_the_null():
    paths = judged_paths(MetricDesign("m", "proportion", tolerance=0.5))
    assert expectation(paths, (1.5, 1.5, 1.5))[0] == pytest.approx(1, abs=1e-5)
    assert expectation(paths, (1.5, 0.7, 1.0))[0] < 1


@pytest.mark.parametrize("dispersions", [(1.3, 1.3, 1.3), (5.0, 5.0, 5.0), (1.0, 4.0, 1.0), (6.0, 1.0, 1.2)])
def test_dispersion_makes_a_run_worth_less_than_a_fair_game_even_if_it_changes(dispersions):
    paths = judged_paths(MetricDesign("m", "proportion", margin=1.0), dispersions)
    for odds_ratios, safe in (((1.0, 1.0, 1.0), False), ((2.0, 2.0, 2.0), True)):
        mean, crossed = expectation(paths, odds_ratios, safe=safe)
        assert mean < 1
        assert crossed <= 1 / BOUND


def test_the_bound_is_reached_more_often_than_without_the_overshoot_got_back():
    paths = judged_paths(MetricDesign("m", "proportion"))
    design = Design((MetricDesign("m", "proportion"),), 1 / BOUND, 1 / BOUND, 3, 0)
    unreachable = Design(design.metrics, 1e-12, 1e-12, 3, 0)  # a bound so far away that nothing is truncated
    plain = []
    for path, _, _ in paths:
        intervals = [
            Interval(t, 0.3, {"m": Table(t, Arm(n_b, (every - k,)), Arm(n_c, (k,)))})
            for t, (k, (n_c, n_b, every)) in enumerate(zip(path, MARGINS, strict=True), 1)
        ]
        states = [
            advance([(unreachable, fresh(unreachable), intervals[:end])])[0]
            for end in range(1, len(path) + 1)
        ]
        plain.append((path, tuple(state.metrics[0].log_e for state in states), ()))
    truth = (4.0, 4.0, 4.0)
    assert expectation(paths, truth)[1] > expectation(plain, truth)[1]


def test_an_identical_candidate_crosses_with_at_most_the_stated_chance():
    runs, looks, alpha = 600, 40, 0.2
    design = Design((MetricDesign("m", "proportion"),), alpha, 0.05, planned_looks=looks, min_samples=0)
    dice, states = np.random.default_rng(11), [fresh(design)] * runs
    for look in range(1, looks + 1):
        n_b, n_c = dice.poisson(450, runs), dice.poisson(50, runs)
        rows = zip(
            *(each.tolist() for each in (n_b, dice.binomial(n_b, 0.02), n_c, dice.binomial(n_c, 0.02))),
            strict=True,
        )
        tables = [Table(look, Arm(b, (i,)), Arm(c, (j,))) for b, i, c, j in rows]
        states = advance(
            [(design, s, [Interval(look, 0.1, {"m": t})]) for s, t in zip(states, tables, strict=True)]
        )
    share = sum(state.crossed_at is not None for state in states) / runs
    assert 0.05 < share <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / runs)
