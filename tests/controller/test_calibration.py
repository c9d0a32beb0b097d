"""By what a run is divided: assumed, measured before or while running; the same after a restart."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.dispersion import LEAST_BLOCKS
from controller.calibration import (
    MOST_SERIES,
    Calibration,
    Measured,
    MetricCalibration,
    SeriesCounts,
    folded,
    measure,
)

STEP = 10
HOUR = 360


def counts(intervals, series=4, cluster=1, seed=3):
    """Return totals and events of a control whose errors come in clusters."""
    dice = np.random.default_rng(seed)
    totals = dice.poisson(400, (intervals, series))
    return totals, np.minimum(cluster * dice.poisson(8 / cluster, (intervals, series, 1)), totals[..., None])


def rows(totals, events):
    return [
        {f"pod-{pod}": (int(totals[at, pod]), *events[at, pod].tolist()) for pod in range(totals.shape[1])}
        for at in range(len(totals))
    ]


def unknown(assumed=2.0, history=None):
    return MetricCalibration(assumed, 1, history, control=SeriesCounts.nothing(1))


def calibration(metric):
    return Calibration(STEP, (5, 50), {"errors": metric}, why="the control has no past")


def test_an_hour_of_the_past_is_enough_and_less_is_not():
    found = [measure(*counts(intervals, cluster=6), (5, 50), STEP) for intervals in (HOUR, HOUR - 1)]
    assert [each.enough for each in found] == [True, False]
    assert [unknown(9.0, each).method for each in found] == ["history", "assumed"]
    assert 4 < unknown(9.0, found[0]).at(5)[0] < 8
    assert unknown(9.0, found[1]).at(5) == (9.0,)
    assert unknown(1.0, found[1]).at(5) == found[1].lanes[5]


def test_what_tells_nothing_is_not_measured():
    assert measure(*counts(5), (5, 50), STEP) is None
    assert measure(np.zeros((HOUR, 3), dtype=int), np.zeros((HOUR, 3, 1), dtype=int), (5,), STEP) is None
    assert measure(*counts(HOUR), (0, 100), STEP) is None


def test_a_weight_between_the_steps_goes_by_the_nearest():
    metric = unknown(1.0, Measured({5: (3.0,), 50: (2.0,)}, "placebo", HOUR, 4, "", enough=True))
    assert [metric.at(weight) for weight in (1, 5, 20, 40, 50, 90)] == [
        (3.0,), (3.0,), (3.0,), (2.0,), (2.0,), (2.0,)
    ]  # fmt: skip


def test_the_control_is_looked_at_each_time_it_has_a_quarter_more():
    metric, looked = unknown(), []
    for row in rows(*counts(60, series=2)):
        metric = metric.after(row, (5, 50), STEP)
        looked.append(metric.looked)
    assert sorted(set(looked)) == [0, 12, 16, 21, 27, 34, 43, 54]
    assert looked[LEAST_BLOCKS - 2] == 0


def test_after_an_hour_of_the_run_the_assumption_is_dropped_and_nothing_is_kept_any_more():
    metric, row = unknown(5.0), rows(*counts(600, cluster=3))
    for each in row[:HOUR]:
        assert metric.at(5) == (5.0,)
        metric = metric.after(each, (5, 50), STEP)
    for each in row[HOUR:]:
        if metric.settled:
            break
        metric = metric.after(each, (5, 50), STEP)
    assert metric.method == "running"
    assert 1.5 < metric.at(5)[0] < 5
    assert metric.control.counts.size == 0
    assert metric.rests_on("").endswith("while running")


@given(st.integers(1, 80), st.integers(0, 2**16))
def test_a_calibration_comes_back_from_the_history_bit_for_bit(length, seed):
    whole = calibration(unknown())
    recorded = []
    told = rows(*counts(length + 20, series=2, cluster=2, seed=seed))
    for row in told[:length]:
        whole = whole.after({"errors": row})
        recorded.append({"metric": "errors", "series": {name: list(each) for name, each in row.items()}})
    again = Calibration.from_dict(json.loads(json.dumps(whole.to_dict()))).remembering(recorded)
    for row in told[length:]:
        assert again.at(5) == whole.at(5)
        assert again.as_dict(50) == whole.as_dict(50)
        whole, again = whole.after({"errors": row}), again.after({"errors": row})
    assert again.to_dict() == whole.to_dict()


def test_a_past_that_comes_late_holds_and_what_was_measured_meanwhile_stays():
    early = calibration(unknown(2.0))
    for row in rows(*counts(40, series=2, cluster=6)):
        early = early.after({"errors": row})
    late = calibration(unknown(2.0, measure(*counts(HOUR), (5, 50), STEP)))
    both = early.with_past(late)
    assert both.metrics["errors"].method == "history"
    assert both.at(5)["errors"][0] == max(
        late.at(5)["errors"][0], early.metrics["errors"].running.lanes[5][0]
    )


def test_series_that_come_later_did_nothing_before():
    control = SeriesCounts.nothing(1).with_row({"a": (5, 1)}).with_row({"b": (7, 2), "a": (6, 0)})
    assert control.series == ("a", "b")
    assert control.counts.tolist() == [[[5, 1], [0, 0]], [[6, 0], [7, 2]]]


@given(st.dictionaries(st.text(max_size=5), st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=90))
def test_many_series_are_put_together_and_nothing_is_lost(row):
    found = folded(row)
    assert len(found) <= MOST_SERIES
    for place in (0, 1):
        assert sum(each[place] for each in found.values()) == sum(each[place] for each in row.values())
    if len(row) <= MOST_SERIES:
        assert found == row


@pytest.mark.parametrize(("metric", "words"), [
    (unknown(), "at least `assume` of the policy, since the control has no past"),
    (unknown(2.0, Measured({5: (1.0,)}, "time", 40, 1, "40 intervals", enough=False)),
     "at least `assume` of the policy, since the control has no past; measured before the run: 40 intervals"),
    (unknown(2.0, Measured({5: (1.0,)}, "time", 400, 1, "400 intervals", enough=True)),
     "400 intervals, before the run"),
])  # fmt: skip
def test_what_a_dispersion_rests_on_is_said(metric, words):
    assert calibration(metric).as_dict(5)["errors"]["restsOn"] == words
