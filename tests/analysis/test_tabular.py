import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom, nchypergeom_fisher

from analysis.design import Design, Interval, MetricDesign
from analysis.eprocess import ERROR_ODDS_RATIOS, mixture_path, safe_log_prior, safe_odds_ratios
from analysis.judge import advance, fresh, verdict
from analysis.table_evidence import mixture_paths
from analysis.table_text import TableError
from analysis.tables import Arm, Table
from analysis.tabular import Case, Settings, judge_table, judge_tables, parse

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
        ({"margin": 0.0}, "margin"),
        ({"margin": math.nan}, "margin"),
        ({"margin": math.inf}, "margin"),
        ({"margin": 0.5, "null_odds_ratio": 2.0, "odds_ratios": (1.0,)}, "must lie above the null"),
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


def safe_by_hand(rows, null, phi=1.0):
    """The e-values against "at least the null" by the formulas, from scipy's probabilities."""
    ratios, weights = safe_odds_ratios(null), np.exp(safe_log_prior(null))
    products, path = np.ones(len(ratios)), []
    for n_b, k_b, n_c, k_c in rows:
        n, total = n_b + n_c, k_b + k_c
        chances = [nchypergeom_fisher.pmf(k_c, n, total, n_c, w) for w in (null, *ratios)]
        products = products * (np.array(chances[1:]) / chances[0]) ** (1 / phi)
        path.append(float(products @ weights))
    return path


@pytest.mark.parametrize(("margin", "phi"), [(0.5, 1.0), (2.0, 1.0), (0.5, 2.5)])
def test_the_proof_of_safety_is_the_one_computed_by_hand(margin, phi):
    found = judge_table(table(ROWS[:3]), Settings(margin=margin, dispersion=phi))
    assert np.exp(found.margin.log_e_values) == pytest.approx(
        safe_by_hand(ROWS[:3], 1 + margin, phi), rel=1e-9
    )


def test_a_margin_changes_nothing_in_the_search_for_harm():
    with_it, without = judge_table(table(ROWS), Settings(margin=0.5)), judge_table(table(ROWS), Settings())
    assert with_it.log_e_values == pytest.approx(without.log_e_values, rel=1e-12)
    fields = with_it.as_dict()
    assert without.as_dict().keys() == fields.keys() - {
        "margin",
        "proven_margin",
        "safe_at",
        "e_safe",
        "log_e_safe",
    }
    assert fields["assumed"]["margin"] == fields["margin"] == 0.5


def test_a_good_candidate_is_safe_and_harm_outranks_safety():
    good, late = [(1800, 20, 200, 2)] * 20, [(1800, 20, 200, 20)] * 20
    found = judge_table(table(good), Settings(margin=0.5))
    first = np.flatnonzero(np.exp(found.margin.log_e_values) >= 20)[0]
    assert (found.verdict, found.margin.safe_at, found.crossed_at) == ("Safe", first, None)
    assert f"margin of 50%: e-value at most {np.exp(max(found.margin.log_e_values)):.3g}" in found.sentence()
    both = judge_table(table([*good, *late]), Settings(margin=0.5))
    assert both.verdict == "Harmful"
    assert both.margin.safe_at == first < both.crossed_at


EDGES = (100, 250, 500)


def latency_table(events):
    """Thirty intervals with 1800 and 200 requests; `events` are those of control and candidate per edge."""
    rows = [
        f"{i},{edge},1800,{k_b},200,{k_c}"
        for i in range(30)
        for edge, (k_b, k_c) in zip(EDGES, events, strict=True)
    ]
    return parse("\n".join([HEADER.replace("interval", "interval,edge"), *rows]))


@pytest.mark.parametrize(
    ("events", "margin"),
    [
        ([(900, 100), (180, 20), (36, 4)], 1.0),
        ([(900, 100), (180, 20), (36, 8)], 0.5),
        ([(2, 0), (1, 0), (0, 0)], 0.5),
    ],
)
def test_a_margin_of_time_is_proven_as_the_loop_proves_it(events, margin):
    metric = MetricDesign("latency", "histogram", tuple(map(float, EDGES)), margin=margin)
    design = Design((metric,), 0.05, 0.05, planned_looks=30, min_samples=1)
    arms = [Arm(total, tuple(k[arm] for k in events)) for arm, total in enumerate((1800, 200))]
    intervals = [Interval(10 * i, 0.1, {"latency": Table(10 * i, *arms)}) for i in range(1, 31)]
    [evidence] = advance([(design, fresh(design), intervals)])
    [expected] = verdict(design, evidence).metrics
    found = judge_table(latency_table(events), Settings(margin=margin))
    assert found.margin.log_e_values[-1] == pytest.approx(math.log(expected.e_safe), rel=1e-5)
    assert found.margin.proven == pytest.approx(expected.proven_margin)


def test_edges_that_lie_too_far_apart_prove_a_larger_margin_and_say_so():
    found = judge_table(latency_table([(900, 100), (180, 20), (36, 4)]), Settings(margin=0.25))
    assert found.margin.proven == 1.5
    assert "margin of 150% (asked for 25%; no edges lie closer)" in found.sentence()


def test_a_margin_of_time_needs_all_edges_of_an_interval():
    text = "\n".join([HEADER + ",edge", "0,10,1,10,2,100", "0,10,1,10,2,200", "7,10,1,10,2,100"])
    with pytest.raises(TableError, match="interval 7: for a margin, every edge must have the same totals"):
        judge_table(parse(text), Settings(margin=0.5))


def test_without_data_nothing_is_safe():
    found = judge_table(latency_table([(0, 0)] * 3), Settings(margin=0.5))
    empty = parse(f"{HEADER},edge\n0,0,0,2000,0,100\n0,0,0,2000,0,200")
    nothing = judge_table(empty, Settings(margin=0.5))
    assert found.verdict == "Safe"
    assert (nothing.verdict, nothing.margin.safe_at) == ("NoData", None)


def test_many_tables_together_say_what_each_says_alone_bit_for_bit():
    tables = [table(ROWS), table([]), latency_table([(900, 100), (180, 20), (36, 4)]), table([*ROWS, *BAD])]
    settings = [Settings(), Settings(restart=False), Settings(dispersion=2.0), Settings(null_odds_ratio=1.2)]
    cases = [Case(each, own) for each in tables for own in settings]
    assert judge_tables(cases) == [judge_table(each, own) for each, own, _ in cases]


def test_paths_of_many_tables_are_the_mixture_path_of_each():
    rng = np.random.default_rng(1)
    increments = [rng.normal(size=(length, 6)) for length in (3, 7, 7, 1)]
    planned = [3, 5, None, 9]
    for own, looks, path in zip(increments, planned, mixture_paths(increments, planned), strict=True):
        assert path.tolist() == mixture_path(own, looks).tolist()


def test_all_evidence_so_far_is_divided_by_the_dispersion_known_by_then():
    known = np.array([1.0, 1.0, 2.5, 2.5])
    [found] = judge_tables([Case(table(ROWS), Settings(margin=0.5), known)])
    for look, phi in enumerate(known.tolist()):
        fixed = judge_table(table(ROWS), Settings(margin=0.5, dispersion=phi))
        assert found.log_e_values[look] == fixed.log_e_values[look]
        assert found.margin.log_e_values[look] == fixed.margin.log_e_values[look]
    assert found.confidence_sequence == fixed.confidence_sequence
    assert found.assumed["dispersion"] == 2.5


@given(
    st.lists(st.tuples(*[st.integers(0, 20)] * 4), max_size=4),
    st.lists(st.floats(1, 20), min_size=4, max_size=4),
)
def test_no_dispersion_wherever_from_adds_a_crossing(rows, known):
    counts = [(a + b, a, c + d, c) for a, b, c, d in rows]
    case = Case(table(counts), Settings(), np.array(known[: len(rows)]))
    [divided], plain = judge_tables([case]), judge_table(table(counts), Settings())
    pairs = zip(divided.log_e_values, plain.log_e_values, known, strict=False)
    assert all(low <= max(0.0, high) / phi + 1e-9 for low, high, phi in pairs)
