import numpy as np
import pytest

from analysis.longform import SeriesCounts, parse_long
from analysis.longform_judge import judge_long, judge_longs
from analysis.table_dispersion import given, measured, provisional
from analysis.tabular import Settings
from tests.support.long_tables import long_text, mesh


def test_a_history_sets_the_value_before_the_run():
    found = measured(parse_long(mesh(1, ("new", 0.01), intervals=30, history=180, cluster=5)), 1.0)
    assert found.method == "placebo"
    assert 3.5 < found.value < 7
    assert set(found.path) == {found.value}
    assert "180 intervals of 9 series" in found.rests_on
    assert found.as_dict()["calibration"]["dispersion"] == found.value


def test_independent_requests_need_no_dispersion():
    found = measured(parse_long(mesh(2, ("new", 0.01), intervals=30, history=180)), 1.0)
    assert found.value < 1.3


def test_without_history_it_is_measured_while_running_and_never_falls_once_calibrated():
    found = measured(parse_long(mesh(3, ("new", 0.01), intervals=90, cluster=5)), 1.0)
    assert found.method == "placebo"
    assert 3.5 < found.value < 9
    assert np.all(np.diff(found.path[12:]) >= 0)
    assert "while running" in found.rests_on


def test_only_intervals_up_to_then_are_used():
    text = mesh(4, ("new", 0.01), intervals=60, cluster=3)
    header, *rows = text.splitlines()
    early = "\n".join([header, *(row for row in rows if int(row.split(",")[0]) < 40)])
    whole, part = (measured(parse_long(each), 1.0).path for each in (text, early))
    assert part[:40].tolist() == pytest.approx(whole[:40].tolist())


def test_what_is_assumed_is_the_least_while_running_and_nothing_beside_a_history():
    table = parse_long(mesh(5, ("new", 0.01), intervals=40))
    assert measured(table, 4.0).path.min() == 4.0
    before = parse_long(mesh(5, ("new", 0.01), intervals=40, history=180))
    assert measured(before, 4.0).value < 1.3


@pytest.mark.parametrize(
    ("text", "method", "value"),
    [
        (mesh(6, ("new", 0.01), intervals=6), "provisional", None),
        (long_text(*((i, v, "x", 200, 2) for i in range(6) for v in ("control", "new"))), "assumed", 2.0),
    ],
)
def test_what_cannot_be_calibrated_is_said(text, method, value):
    found = measured(parse_long(text), 2.0)
    assert found.method == method
    assert value is None or found.value == value
    assert found.calibration is None
    assert method in found.sentence()


def test_a_history_that_tells_too_little_leaves_it_to_the_run():
    found = measured(parse_long(mesh(7, ("new", 0.01), intervals=60, history=3)), 1.0)
    assert "while running" in found.rests_on


def test_a_stated_value_is_said_to_be_stated():
    table = parse_long(mesh(8, ("new", 0.01), intervals=4))
    assert given(table, 3.0).as_dict() == {
        "value": 3.0,
        "method": "given",
        "rests_on": "as stated, not measured",
        "path": [3.0] * 4,
    }


def test_the_evidence_is_divided_by_it():
    table = parse_long(mesh(9, ("new", 0.03), intervals=40, history=180, cluster=5))
    auto = judge_long(table, Settings(), measure=True)
    by_hand = judge_long(table, Settings(dispersion=auto.dispersion.value))
    assert auto.candidates == by_hand.candidates


def test_the_first_intervals_are_judged_with_caution_when_errors_come_in_clusters():
    """Harmless candidates, no history: with a dispersion of 1, 49 of 60 are called harmful."""
    tables = [parse_long(mesh(seed, ("new", 0.01), intervals=30, cluster=5)) for seed in range(60)]
    auto, plain = (judge_longs(tables, Settings(), measure=measure) for measure in (True, False))
    harmful = [sum(verdict.verdict == "Harmful" for verdict in found) for found in (auto, plain)]
    assert harmful[0] <= 5
    assert harmful[1] >= 20


def test_the_cautious_value_comes_down_to_one_as_data_come_in():
    rng = np.random.default_rng(10)
    totals = rng.poisson(200, (200, 9))
    path = provisional(SeriesCounts(totals, rng.binomial(totals, 0.05)[..., None]), 0.1)
    assert path[0] > 1.5
    assert 1 < path[-1] < 1.3


def test_the_cautious_value_is_one_where_there_is_nothing_to_compare():
    totals = np.full((5, 1), 200)
    assert provisional(SeriesCounts(totals, totals[..., None] // 100), 0.1).tolist() == [1] * 5
    nothing = np.zeros((5, 3), dtype=np.int64)
    assert provisional(SeriesCounts(nothing, nothing[..., None]), 0.1).tolist() == [1] * 5


def test_a_control_without_any_event_leaves_a_finite_value():
    totals = np.full((5, 3), 200)
    path = provisional(SeriesCounts(totals, np.zeros((5, 3, 1), dtype=np.int64)), 0.1)
    assert np.all(path > 1)
    assert np.all(path < 4)
