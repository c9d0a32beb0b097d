"""What is picked at once for an ordinary interval is what is observed and taken in step by step."""

from hypothesis import given
from hypothesis import strategies as st

from controller.intake import taken_in
from controller.observe import intervals_for
from controller.plain import Plain
from tests.support.ordinary import (
    CHANGES,
    ERRORS,
    LATENCY,
    ORDINARY,
    POLICY,
    RUN,
    SHARE,
    STEP,
    calibration,
    changed,
    index_of,
    plain_series,
    series,
    target,
)
from tests.support.situations import policy


def step_by_step(wanted, index, known, start: int):
    intervals = intervals_for(wanted, index, start, start + STEP, STEP)
    return taken_in(POLICY, RUN, known, intervals, [{}])


@given(CHANGES, st.sampled_from([ERRORS, SHARE]), st.booleans(), st.sampled_from([0, STEP, 2 * STEP]))
def test_an_interval_that_is_picked_is_the_one_that_is_observed(changes, share, shared, start):
    wanted = target(share, frozenset({"v1", "v2"}) if shared else frozenset())
    index, known, plain = index_of(changed(ORDINARY, changes)), calibration(), Plain(POLICY, RUN, wanted)
    for _ in range(2):  # the second time from what was found at the first
        picked = plain.intake(index, start, start + STEP, known)
        assert picked is None or picked == step_by_step(wanted, index, known, start)


def test_an_ordinary_interval_is_picked_with_the_dispersion_that_is_known():
    index = index_of(*ORDINARY)
    for known in (calibration(), None):
        picked = Plain(POLICY, RUN, target()).intake(index, STEP, 2 * STEP, known)
        assert picked == step_by_step(target(), index, known, STEP)
        assert picked.intervals[0].tables["slow"] is not None


def test_what_was_found_does_not_outlive_the_series_it_was_found_in():
    plain = Plain(POLICY, RUN, target())
    for parts in (ORDINARY, ORDINARY[1:], [plain_series("v2", 3), *ORDINARY[:2]]):
        index = index_of(*parts)
        assert plain.intake(index, 0, STEP, None) == step_by_step(target(), index, None, 0)


def test_what_is_not_ordinary_is_left_to_be_observed():
    ordinary, other = index_of(*ORDINARY), plain_series("v3")
    restarted = {**plain_series("v2"), ERRORS: [series("v2", "a", [90, 95, 3], response_code="200")]}
    cases = [
        (target(), index_of(*ORDINARY, other), calibration()),  # requests of a third version
        (target(), index_of(*ORDINARY[:2]), calibration()),  # no candidate
        (target(), index_of(*ORDINARY[:2], restarted), calibration()),
        (target(SHARE), {name: ordinary[name] for name in (ERRORS, LATENCY)}, calibration()),
        (target(), ordinary, calibration(enough=False)),  # the control is still looked at
    ]
    for wanted, index, known in cases:
        assert Plain(POLICY, RUN, wanted).intake(index, STEP, 2 * STEP, known) is None
    assert Plain(POLICY, RUN, target()).intake(ordinary, 2 * STEP, 3 * STEP, calibration()) is None
    warm = Plain(policy(warmUp="30s"), RUN, target())
    assert warm.intake(ordinary, STEP, 2 * STEP, calibration()) is None
