"""Bare kinds agree with the verdict in words, whatever the evidence."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from analysis.design import Design, MetricDesign
from analysis.judge import advance, fresh, verdict
from analysis.kinds import kinds
from analysis.simulate import Behaviour, Streams

EDGES = (20.0, 50.0, 100.0, 250.0, 500.0, 5000.0)
ERRORS = MetricDesign("errors", "proportion", margin=0.5)
TIMES = MetricDesign("times", "histogram", EDGES, margin=0.3, unit="milliseconds")
WATCHED = MetricDesign("watched", "proportion", tolerance=0.1)
BLUNT = MetricDesign("blunt", "histogram", (5.0, 90000.0), margin=0.3, unit="milliseconds")
ONE_EDGE = MetricDesign("edge", "histogram", (100.0,), margin=0.3, unit="milliseconds")

POINTS = MetricDesign("points", "proportion", margin_points=0.02)
GOOD = MetricDesign("good", "proportion", margin=0.5, higher_is_better=True)
SCORE = MetricDesign("score", "mean", margin=0.3, unit="ratio", higher_is_better=True)
DELAY = MetricDesign("delay", "mean", unit="seconds")

RUNS = 8


def agreeing(design, behaviour, *, looks=12, share=0.3):
    """Take in some intervals; check at every look, and return how often there was which kind."""
    streams = Streams(design, behaviour, RUNS, (3,))
    states, seen = [fresh(design)] * RUNS, Counter()
    for look in range(looks):
        found = kinds(design, states)
        assert found == [verdict(design, state).kind for state in states]
        seen.update(found)
        intervals = streams.draw(np.full(RUNS, share), 10, look)
        states = advance([(design, s, [i]) for s, i in zip(states, intervals, strict=True)])
    return seen


def design(*metrics, min_samples=100, false_rollback=0.05):
    return Design(metrics, false_rollback, 0.05, planned_looks=12, min_samples=min_samples)


@pytest.mark.parametrize(("metrics", "behaviour", "kind"), [
    ((ERRORS,), Behaviour(), "Safe"),
    ((ERRORS,), Behaviour(effect=3.0), "Harmful"),
    ((WATCHED,), Behaviour(), "Undecided"),
    ((ERRORS, WATCHED), Behaviour(rps=1000.0), "Safe"),
    ((ERRORS, WATCHED, TIMES), Behaviour(effect=2.0), "Harmful"),
    ((TIMES,), Behaviour(rps=2000.0), "Safe"),
    ((TIMES, ERRORS), Behaviour(effect=1.3, harm="shift"), "Harmful"),
    ((ERRORS, BLUNT), Behaviour(), "Undecided"),
    ((ONE_EDGE,), Behaviour(), "Undecided"),
    ((ERRORS,), Behaviour(rps=3.0), "Undecided"),
    ((POINTS,), Behaviour(), "Safe"),
    ((GOOD,), Behaviour(), "Safe"),
    ((GOOD, POINTS), Behaviour(effect=4.0), "Harmful"),
    ((SCORE,), Behaviour(), "Safe"),
    ((SCORE, ERRORS), Behaviour(effect=1.5, harm="shift"), "Harmful"),
    ((DELAY,), Behaviour(), "Undecided"),
])  # fmt: skip
def test_kinds_are_those_of_the_verdicts(metrics, behaviour, kind):
    seen = agreeing(design(*metrics), behaviour)
    assert seen["NoData"] >= RUNS  # nothing has been seen at first
    assert seen[kind] > RUNS


def test_harm_that_only_all_metrics_together_prove_is_harm():
    metrics = [replace(WATCHED, name=name) for name in ("a", "b", "c")]
    states_seen = agreeing(design(*metrics, false_rollback=0.01), Behaviour(effect=1.8), looks=30)
    assert states_seen["Harmful"] > RUNS


def test_a_version_without_requests_has_no_data_even_if_none_are_needed():
    assert set(agreeing(design(ERRORS, min_samples=0), Behaviour(), share=0.0)) == {"NoData"}


def test_what_cannot_be_counted_or_is_split_wrongly_is_invalid():
    one = design(ERRORS, TIMES)
    streams = Streams(one, Behaviour(), 3, (1,))
    good, garbled, misrouted = streams.draw(np.full(3, 0.3), 10, 10)
    intervals = [
        good,
        replace(garbled, inconsistent=("errors: counters fell",)),
        replace(misrouted, intended=0.1),
    ]
    states = advance([(one, fresh(one), [interval]) for interval in intervals])
    assert kinds(one, states) == [verdict(one, state).kind for state in states]
    assert kinds(one, states)[1:] == ["Invalid", "Invalid"]
    assert kinds(one, states)[0] != "Invalid"


def test_no_runs_have_no_kinds():
    assert kinds(design(ERRORS), []) == []
