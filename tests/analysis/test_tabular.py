import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom, nchypergeom_fisher

from analysis.eprocess import ERROR_ODDS_RATIOS
from analysis.tabular import Settings, TableError, judge_table, parse

HEADER = "interval,control_total,control_events,candidate_total,candidate_events"
ROWS = [(1800, 17, 200, 4), (1800, 20, 200, 9), (1750, 12, 190, 8), (1800, 0, 200, 0)]
BAD = [(1800, 20, 200, 20)] * 3


def table(rows, header=HEADER):
    return parse("\n".join([header, *(",".join(map(str, (i, *row))) for i, row in enumerate(rows))]))


def by_hand(rows, odds_ratios, planned, null=1.0, phi=1.0):
    """Both halves by the formulas, from scipy's probabilities."""
    start, restart, left, path = np.ones(len(odds_ratios)), np.zeros(len(odds_ratios)), 1.0, []
    for look, (n_b, k_b, n_c, k_c) in enumerate(rows, start=1):
        n, total = n_b + n_c, k_b + k_c
        bottom = (
            hypergeom.pmf(k_c, n, total, n_c)
            if null == 1
            else nchypergeom_fisher.pmf(k_c, n, total, n_c, null)
        )
        tops = [nchypergeom_fisher.pmf(k_c, n, total, n_c, w) for w in odds_ratios]
        step = (np.array(tops) / bottom) ** (1 / phi) if total else np.ones(len(odds_ratios))
        weight = 1 / planned if look <= planned else 0.0
        start, restart, left = start * step, (restart + weight) * step, left - weight
        path.append(((start + restart + left) / 2).mean())
    return path


@pytest.mark.parametrize(
    ("settings", "planned"),
    [
        ({}, 4),
        ({"planned_looks": 30}, 30),
        ({"planned_looks": 2}, 2),
        ({"dispersion": 2.5}, 4),
        ({"odds_ratios": (2.0,)}, 4),
        ({"null_odds_ratio": 1.2, "odds_ratios": (1.5, 4.0)}, 4),
        ({"null_odds_ratio": 3.0, "odds_ratios": (1.0, 0.5)}, 4),
    ],
)
def test_e_values_are_those_computed_by_hand(settings, planned):
    found = judge_table(table(ROWS), Settings(**settings))
    ratios = settings.get("odds_ratios", ERROR_ODDS_RATIOS)
    expected = by_hand(
        ROWS, ratios, planned, settings.get("null_odds_ratio", 1.0), settings.get("dispersion", 1.0)
    )
    assert np.exp(found.log_e_values) == pytest.approx(expected, rel=1e-9)


def test_harm_is_found_and_the_path_goes_on_after_the_crossing():
    found = judge_table(table([*ROWS[:1], *BAD, *ROWS]), Settings())
    assert found.verdict == "Harmful"
    assert found.crossed_at == 1
    assert len(found.log_e_values) == 8
    assert "crossed in interval 1" in found.sentence()


def test_alternatives_below_the_null_look_for_safety():
    found = judge_table(
        table([(1800, 20, 200, 2)] * 30), Settings(null_odds_ratio=2.0, odds_ratios=(1.0, 0.8))
    )
    assert found.verdict == "Safe"
    assert found.assumed["null"] == "odds ratio >= 2"


@pytest.mark.parametrize("rows", [[], [(0, 0, 0, 0)] * 3, [(100, 3, 0, 0)], [(0, 0, 100, 3)]])
def test_no_traffic_to_compare_is_no_data(rows):
    found = judge_table(table(rows), Settings())
    assert found.verdict == "NoData"
    assert found.log_e_values == (0.0,) * len(rows)
    assert found.as_dict()["confidence_sequence"] == [0.0, None]
    assert "NoData" in found.sentence()


def test_traffic_without_events_is_undecided_with_e_values_of_one():
    found = judge_table(table([(1800, 0, 200, 0)] * 3), Settings())
    assert (found.verdict, found.as_dict()["e_values"], found.odds_ratio) == ("Undecided", [1.0] * 3, None)


def test_edges_are_averaged_before_odds_ratios():
    rows = [(0, 100, 1800, 180, 200, 30), (0, 250, 1800, 40, 200, 9), (1, 100, 1800, 170, 200, 20)]
    text = "\n".join([HEADER.replace("interval", "interval,edge"), *(",".join(map(str, r)) for r in rows)])
    found = judge_table(parse(text), Settings())
    near = by_hand([r[2:] for r in rows if r[1] == 100], (1.1, *ERROR_ODDS_RATIOS), 2)
    far = by_hand([rows[1][2:], (0, 0, 0, 0)], (1.1, *ERROR_ODDS_RATIOS), 2)
    assert np.exp(found.log_e_values) == pytest.approx([(a + b) / 2 for a, b in zip(near, far, strict=True)])
    assert [edge["edge"] for edge in found.as_dict()["edges"]] == [100, 250]
    assert found.worst_edge in {100, 250}


def test_rows_and_columns_may_come_in_any_order():
    lines = [f"{c_k},{i},{n_c},{n_b},{k_b}" for i, (n_b, k_b, n_c, c_k) in enumerate(ROWS)]
    header = "candidate_events,interval,candidate_total,control_total,control_events"
    shuffled = parse("\n".join([header, *reversed(lines), ""]))
    assert judge_table(shuffled, Settings()) == judge_table(table(ROWS), Settings())


def test_blank_rows_say_nothing_wherever_they_are():
    text = f"\ufeff\n  \n{HEADER}\n\n0,10,1,10,2\n \t \n,,,,\n1,10,1,10,2\n\n"
    assert parse(text).counts.tolist() == [[[10, 1, 10, 2]]] * 2


def test_rows_are_counted_as_lines_also_after_blank_ones():
    with pytest.raises(TableError, match="row 5: control_events 11"):
        parse(f"\n{HEADER}\n\n0,10,1,10,2\n1,10,11,10,2")


def test_interval_numbers_may_be_times_in_milliseconds():
    assert parse(f"{HEADER}\n1790000000000,10,1,10,2").intervals == (1_790_000_000_000,)


@pytest.mark.parametrize("settings", [{"odds_ratios": (1e9,)}, {"null_odds_ratio": 1e9}, {"alpha": 1e-300}])
def test_extreme_settings_give_finite_numbers(settings):
    found = judge_table(table([*ROWS, (10**12, 10**11, 10**12, 10**11 + 10**6)]), Settings(**settings))
    json.dumps(found.as_dict(), allow_nan=False)


def test_quotes_spaces_and_windows_line_ends_are_fine():
    text = f'"interval", {HEADER.removeprefix("interval,")}\r\n 3 ,"10",1,10,2\r\n\r\n'
    assert parse(text).counts.tolist() == [[[10, 1, 10, 2]]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "row 1: the header must be .* found nothing"),
        ("a,b\n1,2", "row 1: the header"),
        (HEADER + ",extra\n", "row 1: the header"),
        (HEADER + ",interval\n", "row 1: the header"),
        (HEADER + "\n0,10,1,10", "row 2: 4 columns instead of 5"),
        (HEADER + "\n0,10,1,10,1\n1,10,1,10,-1", "row 3: candidate_events must be a whole number .* '-1'"),
        (HEADER + "\n0,10,1,10,1.5", "row 2: candidate_events must be a whole number"),
        (HEADER + "\n0,1e3,1,10,1", "row 2: control_total"),
        (HEADER + "\n0,1_0,1,10,1", "row 2: control_total"),
        (HEADER + "\n0,\u0661,1,10,1", "row 2: control_total"),
        (HEADER + "\n0,,1,10,1", "row 2: control_total"),
        (HEADER + "\n-1,10,1,10,1", "row 2: interval"),
        (HEADER + "\n0,9999999999999,1,10,1", "row 2: control_total"),
        (HEADER + "\n0,10,11,10,1", "row 2: control_events 11 is above control_total 10"),
        (HEADER + "\n0,10,1,10,1\n0,10,1,10,1", "row 3: interval 0 is there twice"),
        (HEADER + ",edge\n0,10,1,10,1,5\n0,10,1,10,1,5.0", "row 3: interval 0 with edge 5 is there twice"),
        (HEADER + ",edge\n0,10,1,10,1,+Inf", "row 2: edge must be a positive number"),
        (HEADER + ",edge\n0,10,1,10,1,0", "row 2: edge"),
        (HEADER + '\n0,"10,1,10,1', "row 2: "),
    ],
)
def test_text_that_is_no_table_is_refused_with_its_row(text, words):
    with pytest.raises(TableError, match=words) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_a_table_or_an_error(text):
    for candidate in (text, f"{HEADER}\n{text}"):
        with contextlib.suppress(TableError):
            parse(candidate)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": math.nan}, "alpha"),
        ({"null_odds_ratio": -1.0}, "null"),
        ({"dispersion": 0.5}, "dispersion"),
        ({"dispersion": math.inf}, "dispersion"),
        ({"planned_looks": 0}, "planned"),
        ({"odds_ratios": ()}, "odds ratios"),
        ({"odds_ratios": (0.0,)}, "between 1e-09 and 1e\\+09"),
        ({"odds_ratios": (math.nan,)}, "between"),
        ({"odds_ratios": (1e308,)}, "between"),
        ({"null_odds_ratio": 1e308}, "between"),
        ({"alpha": 1e-320}, "alpha"),
        ({"odds_ratios": (0.5, 2.0)}, "all above or all below"),
        ({"odds_ratios": (1.0,)}, "all above or all below"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        Settings(**fields)


def test_millions_of_requests_with_thousands_of_events_are_judged():
    found = judge_table(table([(10**7, 10**5, 10**6, 12_500)] * 20), Settings())
    assert found.verdict == "Harmful"
    low, high = found.confidence_sequence
    assert 1.24 < low < found.odds_ratio < high < 1.27
    assert found.as_dict()["e_values"][-1] == 1e300
    assert found.log_e_values[-1] > math.log(1e300)


def test_an_effect_far_below_the_smallest_alternative_is_no_harm_but_the_interval_shows_it():
    found = judge_table(table([(10**7, 10**5, 10**6, 10_500)] * 20), Settings())
    assert found.verdict == "Undecided"
    low, high = found.confidence_sequence
    assert 1 < low < 1.0506 < high < 1.07
