"""A glance at many runs says what the verdict on each says, bit for bit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.eprocess import e_value
from analysis.glance import glances, odds_ratio_interval
from analysis.judge import Design, Interval, MetricDesign, advance, fresh, verdict
from analysis.tables import Arm, MeanArm, MeanTable, Table

METRICS = (
    MetricDesign("errors", "proportion", (), 0.25),
    MetricDesign("accuracy", "proportion", (), None, higher_is_better=True, margin_points=0.05),
    MetricDesign("watched", "proportion", (), None),
    MetricDesign("latency", "histogram", (5.0, 10.0, 25.0), 0.5),
    MetricDesign("score", "mean", (), 0.1),
)
COUNTS = st.tuples(st.integers(0, 400), st.lists(st.integers(0, 400), min_size=3, max_size=3))
ARMS = st.tuples(COUNTS, COUNTS)


def arm(drawn, lanes: int) -> Arm:
    total, events = drawn
    return Arm(total, tuple(sorted((min(each, total) for each in events), reverse=True))[:lanes])


def interval(end: int, metrics, drawn, inconsistent) -> Interval:
    tables = {}
    for metric, pair in zip(metrics, drawn, strict=True):
        if metric.kind == "mean":
            tables[metric.name] = MeanTable(end, *(MeanArm(total, float(sum(more))) for total, more in pair))
        else:
            tables[metric.name] = Table(end, *(arm(each, max(1, len(metric.edges))) for each in pair))
    words = (f"{metrics[0].name}: broken",) if inconsistent else ()
    return Interval(end, 0.5, tables, (50, 50), words)


@st.composite
def runs(draw):
    metrics = draw(st.lists(st.sampled_from(METRICS), min_size=1, max_size=3, unique=True))
    design = Design(tuple(metrics), 0.01, 0.05, draw(st.integers(1, 50)), draw(st.integers(0, 300)))
    looks = draw(st.integers(0, 6))
    intervals = [
        interval(10 * (look + 1), metrics, [draw(ARMS) for _ in metrics], draw(st.integers(0, 9)) == 0)
        for look in range(looks)
    ]
    [evidence] = advance([(design, fresh(design), intervals)])
    return design, evidence


@given(st.lists(runs(), min_size=1, max_size=4))
def test_a_glance_agrees_with_the_verdict(made):
    for (design, evidence), found in zip(made, glances(made), strict=True):
        whole = verdict(design, evidence)
        assert found.kind == whole.kind
        for metric, own in zip(whole.metrics, found.metrics, strict=True):
            assert own.fewest == min(metric.control.total, metric.candidate.total)
            assert (None if own.log_e_safe is None else e_value(own.log_e_safe)) == metric.e_safe
            if metric.measure != "mean":
                assert own.odds_ratio == metric.odds_ratio
                assert odds_ratio_interval(own.likelihood, design.false_rollback) == metric.interval
            if metric.worst_edge is not None:
                assert design.metrics[whole.metrics.index(metric)].edges[own.lane] == metric.worst_edge


@pytest.mark.parametrize("events", [30, 0, 4])
def test_a_glance_tells_harm_from_safety(events):
    design = Design(METRICS[:1], 0.01, 0.05, 100, 10)
    steps = [
        Interval(10 * i, 0.5, {"errors": Table(10 * i, Arm(400, (4,)), Arm(400, (events,)))})
        for i in range(1, 60)
    ]
    [evidence] = advance([(design, fresh(design), steps)])
    assert glances([(design, evidence)])[0].kind == {30: "Harmful", 0: "Safe", 4: "Undecided"}[events]


def test_no_runs_have_no_glances():
    assert glances([]) == []
