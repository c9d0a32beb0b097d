"""What is picked for many runs at once is what each of them takes in by itself, where that is ordinary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.observe import index_readings
from controller.picking import Picker
from controller.plain import Plain
from controller.ports import Reading
from tests.support.ordinary import (
    CHANGES,
    EDGES,
    ERRORS,
    LATENCY,
    ORDINARY,
    OWN_ERRORS,
    OWN_LATENCY,
    POLICY,
    RUN,
    SHARE,
    STEP,
    TEMPLATES,
    calibration,
    changed,
    plain_series,
    series,
    target,
)

TARGETS = st.builds(
    target,
    share=st.sampled_from([ERRORS, SHARE, OWN_ERRORS, LATENCY]),
    versions=st.sampled_from([frozenset(), frozenset({"v1", "v2"})]),
    metrics=st.tuples(st.sampled_from([ERRORS, OWN_ERRORS]), st.sampled_from([LATENCY, OWN_LATENCY])),
    arms=st.sampled_from([("v1", "v2"), ("v2", "v1"), ("v1", "v3"), (None, "v2")]),
)


def read(catalog, own, known=None, without=()):
    """Index what the catalog's templates read, and what the users' own ones do."""
    found = {**catalog, OWN_ERRORS: own[ERRORS], OWN_LATENCY: own[LATENCY]}
    readings = {name: Reading(tuple(each)) for name, each in found.items() if each and name not in without}
    return index_readings(TEMPLATES, readings, known)


def alone(plain, index, start, known=None):
    """Return what a run takes in by itself, as a row of what is picked; None if that is not ordinary."""
    intake = plain.intake(index, start, start + STEP, known)
    if intake is None:
        return None
    tables = intake.intervals[0].tables.values()
    if not all(table.control.total and table.candidate.total for table in tables):
        return None
    metrics = [[[arm.total, *arm.events] for arm in (table.control, table.candidate)] for table in tables]
    return metrics, list(intake.intervals[0].requests)


def row(picked, run):
    return [each[run].tolist() for each in picked.counted.metrics], picked.counted.requests[run].tolist()


NOTHING = [[[0, 0]] * 2, [[0] * 3] * 2], [0, 0]


@given(
    targets=st.lists(TARGETS, min_size=1, max_size=3),
    looks=st.lists(
        st.tuples(CHANGES, CHANGES, st.sets(st.sampled_from([ERRORS, SHARE, OWN_LATENCY]), max_size=1)),
        min_size=1, max_size=3,
    ),
    start=st.sampled_from([0, STEP, 2 * STEP]),
)  # fmt: skip
def test_a_run_is_picked_exactly_when_it_would_take_the_interval_in(targets, looks, start):
    plains = [Plain(POLICY, RUN, each) for each in targets]
    picker, filings = Picker(plains), {}
    for catalog, own, without in looks:
        index = read(changed(ORDINARY, catalog), changed(ORDINARY[::-1], own), filings, without)
        picked = picker.pick(index, start, start + STEP)
        for run, plain in enumerate(plains):
            expected = alone(plain, index, start)
            assert bool(picked.ordinary[run]) == (expected is not None)
            assert row(picked, run) == (expected or NOTHING)


def test_ordinary_runs_are_picked_together():
    wanted = [target(), target(SHARE, metrics=(OWN_ERRORS, LATENCY)), target(arms=("v2", "v1"))]
    plains = [Plain(POLICY, RUN, each) for each in wanted]
    parts = changed(ORDINARY, {})
    picked = Picker(plains).pick(read(parts, parts), STEP, 2 * STEP)
    assert picked.ordinary.tolist() == [True] * 3
    assert row(picked, 0) == ([[[1254, 114], [66, 6]], [[1140, 1140, 1026], [60, 60, 54]]], [1254, 66])
    assert row(picked, 2)[0][0] == [[66, 6], [1254, 114]]


def test_the_counts_follow_series_that_come_and_go():
    plain, filings = Plain(POLICY, RUN, target()), {}
    picker = Picker([plain])
    for parts in (ORDINARY, ORDINARY[1:], [plain_series("v2", 3), *ORDINARY[:2]], ORDINARY):
        index = read(changed(parts, {}), changed(parts, {}), filings)
        assert row(picker.pick(index, 0, STEP), 0) == alone(plain, index, 0)


def test_a_metric_without_requests_of_one_version_is_left_to_be_observed():
    still = [series("v2", "a", [7, 7, 7], le=le) for le in ("5", "10", "+Inf")]
    silent = {**plain_series("v2"), LATENCY: still}
    parts = changed([*ORDINARY[:2], silent], {})
    index, plain = read(parts, parts), Plain(POLICY, RUN, target())
    assert plain.intake(index, 0, STEP, None) is not None
    assert not Picker([plain]).pick(index, 0, STEP).ordinary.any()


@pytest.mark.parametrize(
    ("control", "candidate", "ordinary"),
    [
        ([5, 6, 7], [5, 6, 7], True),
        ([5, 6, 7], [5, 6, None], True),
        ([5, 6, None], [5, 6, None], False),
        ([None, 5, 6], [None, None, 6], True),
        ([5, 6, 7], [5, 9, 7], False),
    ],
)
def test_the_split_needs_no_requests_but_somebody_who_counts_them(control, candidate, ordinary):
    other = series("v1", "a", [1, 2, 3], destination_service_name="other")
    share = [series("v1", "a", control), series("v2", "a", candidate), other]
    parts = changed(ORDINARY, {}) | {SHARE: share}
    index, plain = read(parts, parts), Plain(POLICY, RUN, target(SHARE))
    assert (alone(plain, index, STEP) is not None) == ordinary
    assert Picker([plain]).pick(index, STEP, 2 * STEP).ordinary.tolist() == [ordinary]


def test_all_templates_that_are_needed_are_named():
    plains = [Plain(POLICY, RUN, each) for each in (target(SHARE), target(metrics=(OWN_ERRORS, LATENCY)))]
    assert Picker(plains).templates == {ERRORS, LATENCY, SHARE, OWN_ERRORS}
    assert Picker([]).templates == frozenset()
    assert not Picker([]).pick({}, 0, STEP).ordinary.size


def test_runs_with_other_numbers_of_edges_are_not_picked_together():
    other = target()
    other.edges["slow"] = EDGES[:1]
    with pytest.raises(ValueError, match="edges"):
        Picker([Plain(POLICY, RUN, each) for each in (target(), other)])


def test_by_what_evidence_is_divided_is_known_once_the_control_is_settled():
    plain = Plain(POLICY, RUN, target())
    assert plain.divisor(None) == {}
    assert plain.divisor(calibration(enough=False)) is None
    assert plain.divisor(calibration()) == {ERRORS: (1.5,)}
