"""Numbers that are added up for all versions at once are those that each version has by itself."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.counting import counts_of
from controller.filing import ArmKey, filed
from controller.matrix import Matrix
from controller.observe import index_readings
from controller.ports import Reading, Series
from policies.catalog import templates

ERRORS, LATENCY = "istio-error-rate", "istio-latency"
TEMPLATES = templates()
VERSIONS, PODS, CODES, BUCKETS = ("v1", "v2", ""), ("a", "b"), ("200", "503"), ("5", "10", "+Inf", "odd")


def series(version: str, pod: str, values, **labels: str) -> Series:
    points = tuple((10 * at, float(value)) for at, value in enumerate(values) if value is not None)
    names = {
        "destination_service_namespace": "ml", "destination_service_name": "ranker",
        "destination_version": version, "instance": pod,
    }  # fmt: skip
    return Series(names | labels, points)


RISING = st.lists(st.integers(0, 50), min_size=3, max_size=3).map(sorted)
WILD = st.lists(st.none() | st.integers(0, 50) | st.sampled_from([-1, 2.5, math.nan]), min_size=3, max_size=3)
PLACES = st.tuples(st.sampled_from(VERSIONS), st.sampled_from(PODS))
ARMS = [ArmKey("ml", "ranker", v, p) for v in ("v1", "v2", None, "gone") for p in ("a", None)]


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(
    ("template", "label", "kinds", "edges"),
    [(ERRORS, "response_code", CODES, ()), (LATENCY, "le", BUCKETS, (5.0, 10.0))],
)
@given(data=st.data())
def test_a_tally_agrees_with_the_counts_of_the_version_alone(template, label, kinds, edges, arm, data):
    kind = st.sampled_from(kinds)
    made = st.dictionaries(st.tuples(PLACES, kind), RISING | WILD, max_size=12)
    drawn = data.draw(made)
    found = tuple(series(*place, values, **{label: each}) for (place, each), values in drawn.items())
    reading = index_readings({template: TEMPLATES[template]}, {template: Reading(found)})[template]
    tally, rows = reading.tally(arm.level), reading.rows(arm)
    cell = tally.cell(arm)
    assert (cell is None) == (not rows)
    if cell is None:
        return
    counted = tally.counts(arm, edges)
    if counted is not None:
        assert list(counted) == list(counts_of(reading, rows, edges))
    heard = [any(at in dict(found[row].points) for row in rows) for at in reading.read.instants]
    assert list(tally.heard(cell)) == heard
    assert tally.fell(cell) == bool(reading.growth.fell[rows].any())


def test_what_is_ordinary_has_a_tally():
    found = [series("v1", pod, [1, 2, 4], le=le) for pod in PODS for le in ("5", "10", "+Inf")]
    reading = index_readings(TEMPLATES, {LATENCY: Reading(tuple(found))})[LATENCY]
    tally = reading.tally(ARMS[1].level)
    (first, second) = tally.counts(ARMS[1], (5.0, 10.0))
    assert (first.arm.total, second.arm.total) == (2, 4)


def test_the_filing_is_kept_while_the_labels_are_the_same():
    spec, read = TEMPLATES[ERRORS].spec, Matrix.of_series([series("v1", "a", [1, 2, 3], response_code="200")])
    again = Matrix.of_series([series("v1", "a", [2, 3, 5], response_code="200")])
    other = Matrix.of_series([series("v1", "b", [2, 3, 5], response_code="200")])
    known = filed(spec, read.labels, None)
    assert filed(spec, again.labels, known) is known
    assert filed(spec, other.labels, known).instances == ["b"]
    assert filed(TEMPLATES[LATENCY].spec, again.labels, known) is not known


def test_a_matrix_gives_back_the_series_that_it_was_made_of():
    made = [series("v1", "a", [1, None, math.inf]), series("v2", "a", [None, None, None])]
    matrix = Matrix.of_series(made)
    assert [*matrix] == made
    assert matrix[-1] == made[1]
    assert matrix[:1] == made[:1]
