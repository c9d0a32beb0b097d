"""Series by series: picked as arrays, or observed one by one, it comes to the same."""

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from analysis.tables import Table
from controller.filing import ArmKey
from controller.observe import NOBODY, Target, index_readings, intervals_for
from controller.ports import Reading, Series
from controller.series import Source, series_of, series_rows
from policies.catalog import templates
from tests.support.past import START, STEP

ARM = ArmKey("ml", "ranker", "v1")
NAMES = {"destination_service_namespace": "ml", "destination_service_name": "ranker"}
LENGTH = 5
COUNTER = st.lists(
    st.sampled_from([0, 0, 1, 7, 7.5, -9, math.nan, None]), min_size=LENGTH + 1, max_size=LENGTH + 1
)
"""By how much a series grows from instant to instant; None: it is not there."""


def drawn(steps, labels):
    """A series that grows by steps; a fall begins at 0 again."""
    value, points = 3.0, []
    for instant, step in enumerate(steps):
        if step is not None:
            value = 0.0 if step == -9 else value + step
            points.append((START + instant * STEP, value))
            value = 3.0 if math.isnan(value) else value
    return Series({**NAMES, "destination_version": "v1", **labels}, tuple(points))


@st.composite
def readings(draw):
    """Answers to both templates, of up to three pods, with restarts, gaps and values that cannot be."""
    pods = draw(st.lists(st.sampled_from("abc"), unique=True))
    errors = [{"instance": pod, "response_code": code} for pod in pods for code in ("200", "503")]
    le = [{"instance": pod, "le": edge} for pod in reversed(pods) for edge in ("25", "50", "+Inf")]
    return {
        name: Reading([drawn(draw(COUNTER), each) for each in labels if draw(st.integers(0, 9))])
        for name, labels in (("istio-error-rate", errors), ("istio-latency", le))
    }


EDGES = {"istio-error-rate": (), "istio-latency": (25.0, 50.0)}
END = START + LENGTH * STEP


def one_by_one(index, name):
    """The intervals of each process that a reading knows, as if it were the whole version."""
    reading = index[name]
    alone = Target(ARM, NOBODY, {name: name}, EDGES, "", 0.0)
    return {
        process: intervals_for(replace(alone, control=replace(ARM, process=process)), index, START, END, STEP)
        for process in {reading.filing.instances[row] for row in reading.rows(ARM)}
    }


@given(answers=readings())
def test_what_is_picked_is_what_a_look_at_each_process_alone_gives(answers):
    index = index_readings({name: templates()[name] for name in answers}, answers)
    ends = range(START + STEP, END + 1, STEP)
    target = Target(ARM, NOBODY, {name: name for name in answers}, EDGES, "", 0.0)
    rows = series_rows(target, [*answers], index, ends)
    for name, edges in EDGES.items():
        found, expected = series_of(Source.of(name, edges, index[name], ends), ARM), one_by_one(index, name)
        assert found.keys() == expected.keys()
        for process, intervals in expected.items():
            tables = [interval.tables[name] for interval in intervals]
            counts = [(t.control.total, *t.control.events) if isinstance(t, Table) else None for t in tables]
            known, problems = found[process].known.tolist(), found[process].problems
            assert known == [each is not None for each in counts]
            assert [*map(tuple, found[process].counts[known].tolist())] == [*filter(None, counts)]
            assert not found[process].counts[[not each for each in known]].any()
            assert [row.get(name, {}).get(process) for row in rows] == counts
            assert {*problems} == {words for interval in intervals for words in interval.inconsistent}


def test_a_reading_says_nothing_of_processes_that_it_does_not_know():
    answer = Reading([drawn([1] * (LENGTH + 1), {"instance": "a", "response_code": "200"})])
    index = index_readings(
        {"istio-error-rate": templates()["istio-error-rate"]}, {"istio-error-rate": answer}
    )
    source = Source.of("istio-error-rate", (), index["istio-error-rate"], range(END, END + 2 * STEP, STEP))
    assert series_of(source, replace(ARM, version="v2")) == {}
    found = series_of(source, ARM)["a"]
    assert found.known.tolist() == [True, False]
    assert found.counts.tolist() == [[1, 0], [0, 0]]
