import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.longform import LongTable, parse_any, parse_long
from analysis.longform_judge import judge_all, judge_long
from analysis.table_text import TableError
from analysis.tabular import CountTable, Settings, judge_table, parse
from tests.support.long_tables import HEADER, long_text, mesh

EDGES = HEADER + ",edge"
SHORT = "interval,control_total,control_events,candidate_total,candidate_events"


def test_the_pods_of_a_version_are_summed():
    table = parse_long(
        long_text(
            (0, "control", "a", 100, 3),
            (0, "control", "b", 50, 1),
            (0, "new", "c", 20, 2),
            (1, "new", "c", 9, 0),
        )
    )
    assert list(table.candidates) == ["new"]
    assert table.candidates["new"].intervals == (0, 1)
    assert table.candidates["new"].counts.tolist() == [[[150, 4, 20, 2]], [[0, 0, 9, 0]]]
    assert table.control.totals.tolist() == [[100, 50], [0, 0]]
    assert table.control.events.tolist() == [[[3], [1]], [[0], [0]]]


def test_a_single_candidate_is_judged_as_in_the_short_form():
    long = parse_long(mesh(1, ("canary", 0.02)))
    [counts] = long.candidates.values()
    lines = [f"{i},{','.join(map(str, row[0]))}" for i, row in enumerate(counts.counts.tolist())]
    short = judge_table(parse("\n".join([SHORT, *lines])), Settings(margin=0.5))
    assert judge_long(long, Settings(margin=0.5)).candidates["canary"] == short


def test_history_is_no_part_of_the_run_whatever_its_intervals_are_called():
    rows = [(0, "control", "a", 100, 3), (0, "new", "b", 20, 2)]
    before = [(i, "history", "a", 80, 1) for i in (-2, -1, 0, 7)]
    with_it, without = parse_long(long_text(*rows, *before)), parse_long(long_text(*rows))
    assert with_it.intervals == without.intervals == (0,)
    assert with_it.history.totals.tolist() == [[80]] * 4
    assert without.history.totals.size == 0
    assert judge_long(with_it, Settings()).candidates == judge_long(without, Settings()).candidates


def test_rows_and_columns_may_come_in_any_order():
    lines = mesh(2, ("a", 0.01), ("b", 0.02), intervals=8, history=5).splitlines()[1:]
    backwards = [",".join(reversed(line.split(","))) for line in reversed(lines)]
    shuffled = parse_long("\n".join([",".join(reversed(HEADER.split(","))), *backwards]))
    plain = parse_long("\n".join([HEADER, *lines]))
    assert (
        judge_long(shuffled, Settings(), measure=True).as_dict()
        == judge_long(plain, Settings(), measure=True).as_dict()
    )


def test_edges_are_lanes_and_a_series_without_all_of_them_does_not_calibrate():
    rows = [
        (0, "control", "a", 100, 30, 50),
        (0, "control", "a", 100, 9, 100),
        (0, "control", "b", 40, 7, 100),
    ]
    table = parse_long(long_text(*rows, (0, "new", "c", 20, 2, 50), header=EDGES))
    assert table.candidates["new"].edges == (50, 100)
    assert table.candidates["new"].counts.tolist() == [[[100, 30, 20, 2], [140, 16, 0, 0]]]
    assert table.control.totals.tolist() == [[100, 0]]
    assert table.control.events.tolist() == [[[30, 9], [0, 0]]]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(0, "control", "a", 10, 1)],
        [(0, "history", "a", 10, 1)],
        [(0, "new", "a", 10, 1)],
        [(0, "new", "a", 0, 0)],
    ],
)
def test_a_version_without_requests_is_no_data(rows):
    found = judge_long(parse_long(long_text(*rows)), Settings(margin=0.5), measure=True)
    [verdict] = found.candidates.values()
    assert found.verdict == verdict.verdict == "NoData"
    assert found.dispersion.method == "assumed"
    json.dumps(found.as_dict(), allow_nan=False)
    assert all("NoData" in sentence for sentence in found.sentences())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            HEADER.removesuffix(",events"),
            "row 1: the header must be .* or, in long form, interval,variant,series",
        ),
        (HEADER + "\n0,control,a,10,11", "row 2: events 11 is above total 10"),
        (HEADER + "\n0,control,a,10,x", "row 2: events must be a whole number from 0 to .* 'x'"),
        (HEADER + "\n0.5,control,a,10,1", "row 2: interval must be a whole number from -1"),
        (HEADER + "\n0,,a,10,1", "row 2: variant must be a name of 1 to 253 characters, not ''"),
        (HEADER + f"\n0,control,{'a' * 254},10,1", "row 2: series must be a name of 0 to 253"),
        (
            HEADER + "\n0,control,a,10,1\n0,new,a,10,1\n0,new,a,9,1",
            "row 4: interval 0, variant new, series a is there twice",
        ),
        (EDGES + "\n0,control,a,10,1,5\n0,control,a,10,1,5.0", "row 3: .* edge 5.0 is there twice"),
        (
            EDGES + "\n0,control,a,10,1,5\n0,control,a,11,1,6",
            "row 3: total 11 differs from the 10 at another edge",
        ),
        (EDGES + "\n0,control,a,10,1,-5", "row 2: edge must be a positive number"),
    ],
)
def test_text_that_is_no_table_is_refused_with_its_row(text, words):
    with pytest.raises(TableError, match=words) as caught:
        parse_any(text)
    assert "\n" not in str(caught.value)


def test_a_series_per_row_is_refused_before_it_fills_the_memory():
    rows = [(i, "control", f"request-{i}", 1, 0) for i in range(4000)]
    with pytest.raises(TableError, match="4000 series over 4000 intervals are too many"):
        parse_long(long_text(*rows))


@given(st.text(max_size=200))
@settings(max_examples=50)
def test_any_text_is_a_table_or_an_error(text):
    for candidate in (f"{HEADER}\n{text}", f"{EDGES}\n0,control,{text},5,1,3"):
        with contextlib.suppress(TableError):
            parse_any(candidate)


def test_the_header_tells_the_form():
    assert isinstance(parse_any(long_text((0, "control", "a", 10, 1))), LongTable)
    assert isinstance(parse_any(f"{SHORT}\n0,10,1,10,1"), CountTable)


def test_candidates_share_one_alpha_and_the_run_is_their_average():
    table = parse_long(mesh(3, ("a", 0.01), ("b", 0.03), ("c", 0.01)))
    found = judge_long(table, Settings(alpha=0.06))
    paths = np.exp([verdict.log_e_values for verdict in found.candidates.values()])
    assert np.exp(found.log_e_values) == pytest.approx(paths.mean(axis=0))
    assert [verdict.bound for verdict in found.candidates.values()] == pytest.approx([50] * 3)
    assert [verdict.verdict for verdict in found.candidates.values()] == ["Undecided", "Harmful", "Undecided"]
    assert (found.verdict, found.blame) == ("Harmful", "b")
    own = found.candidates["b"].crossed_at
    assert own == np.flatnonzero(paths[1] >= 50)[0]
    assert found.crossed_at == np.flatnonzero(paths.mean(axis=0) >= 1 / 0.06)[0] <= own


def test_together_candidates_may_prove_harm_that_none_does_by_itself():
    arms = [(i, name, "x", 200, 7) for name in ("a", "b", "c", "d") for i in range(2)]
    table = parse_long(long_text(*((i, "control", "x", 1800, 20) for i in range(2)), *arms))
    found = judge_long(table, Settings())
    assert (found.verdict, found.blame) == ("Harmful", "a")
    assert {verdict.verdict for verdict in found.candidates.values()} == {"Undecided"}


@pytest.mark.parametrize(
    ("rates", "odds_ratio", "verdict"),
    [
        ((0.01, 0.01), 3.0, "Safe"),
        ((0.01, 0.025), 50.0, "Undecided"),
        ((0.01, 0.04), 3.0, "Harmful"),
    ],
)
def test_the_run_is_safe_when_every_candidate_is(rates, odds_ratio, verdict):
    table = parse_long(mesh(4, *zip("ab", rates, strict=True), intervals=40))
    found = judge_long(table, Settings(margin=1.0, odds_ratios=(odds_ratio,)))
    assert found.verdict == verdict
    assert found.candidates["a"].verdict == "Safe"


def test_alternatives_below_the_null_make_no_candidate_harmful():
    table = parse_long(mesh(5, ("a", 0.01), ("b", 0.04)))
    found = judge_long(table, Settings(null_odds_ratio=2.0, odds_ratios=(1.0,)))
    assert [verdict.verdict for verdict in found.candidates.values()] == ["Safe", "Undecided"]
    assert (found.verdict, found.blame) == ("Undecided", None)


def test_json_has_the_fields_of_the_short_form_or_an_object_per_candidate():
    single = judge_long(parse_long(mesh(6, ("new", 0.01), intervals=5)), Settings()).as_dict()
    short = judge_table(parse(f"{SHORT}\n0,10,1,10,1"), Settings()).as_dict()
    assert single.keys() == short.keys() | {"candidate", "dispersion"}
    several = judge_long(parse_long(mesh(6, ("a", 0.01), ("b", 0.01), intervals=5)), Settings()).as_dict()
    assert several["candidates"].keys() == {"a", "b"}
    assert several["candidates"]["a"].keys() == short.keys()
    assert {"verdict", "alpha", "bound", "blame", "e_values", "dispersion"} < several.keys()


def test_tables_of_both_forms_come_back_in_their_order_and_as_they_do_alone():
    texts = [
        mesh(7, ("a", 0.03)),
        f"{SHORT}\n0,1800,20,200,4\n1,1800,20,200,9",
        mesh(8, ("a", 0.01), ("b", 0.01)),
    ]
    tables = [parse_any(text) for text in texts]
    together = judge_all(tables, Settings(), measure=True)
    for table, found in zip(tables, together, strict=True):
        assert judge_all([table], Settings(), measure=True)[0].as_dict() == found.as_dict()


def test_harmless_candidates_are_called_harmful_no_more_often_than_alpha():
    """Both candidates against the one control: 100 runs, of which 5 % may be wrong; 11 are beyond chance."""
    rng = np.random.default_rng(9)
    tables = []
    for _ in range(100):
        n = rng.poisson([1800, 200, 200], (30, 3))
        k = rng.binomial(n, 0.01)
        both = [np.stack([n[:, 0], k[:, 0], n[:, c], k[:, c]], axis=-1)[:, None] for c in (1, 2)]
        arms = {
            name: CountTable(tuple(range(30)), (), counts) for name, counts in zip("ab", both, strict=True)
        }
        empty = parse_long(HEADER)
        tables.append(LongTable(tuple(range(30)), arms, empty.control, empty.history))
    found = judge_all(tables, Settings(), measure=False)
    assert sum(verdict.verdict == "Harmful" for verdict in found) <= 11


def test_logarithms_of_nothing_are_null_in_json():
    rows = [(0, "control", "a", 100, 50, 10), (0, "new", "b", 100, 50, 10)]
    found = judge_long(parse_long(long_text(*rows, header=EDGES)), Settings(margin=0.5))
    fields = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert fields["log_e_safe"] == [None]
    assert fields["e_safe"] == [0.0]
    assert found.candidates["new"].margin.log_e_values == (-math.inf,)
    assert "no edge tells of the margin of 50%" in found.sentences()[0]
