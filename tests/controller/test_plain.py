"""What is picked at once for an ordinary interval is what is observed and taken in step by step."""

import math

from hypothesis import given
from hypothesis import strategies as st

from controller.calibration import Calibration, Measured, MetricCalibration, SeriesCounts
from controller.filing import ArmKey
from controller.intake import taken_in
from controller.observe import Target, index_readings, intervals_for
from controller.plain import Plain
from controller.ports import Reading, Series
from policies.catalog import templates
from tests.support.situations import open_run, policy

ERRORS, LATENCY, SHARE, STEP = "istio-error-rate", "istio-latency", "istio-request-share", 10
TEMPLATES = templates()
RUN = open_run().run
POLICY = policy()
EDGES = (5.0, 10.0)


def target(share: str = ERRORS, versions: frozenset[str] = frozenset({"v1", "v2"})) -> Target:
    return Target(
        control=ArmKey("ml", "ranker", "v1"),
        candidate=ArmKey("ml", "ranker", "v2"),
        metrics={ERRORS: ERRORS, "slow": LATENCY},
        edges={ERRORS: (), "slow": EDGES},
        share=share,
        intended=0.05,
        versions=versions,
    )


def calibration(*, enough: bool = True) -> Calibration:
    history = Measured({5: (1.5,)}, "moments", 400, 4, "400 intervals", enough)
    metric = MetricCalibration(2.0, 1, history, control=SeriesCounts.nothing(1))
    return Calibration(STEP, (5, 50), {ERRORS: metric, "gone": metric})


def series(version: str, pod: str, values, **labels: str) -> Series:
    points = tuple((STEP * at, float(value)) for at, value in enumerate(values) if value is not None)
    names = {
        "destination_service_namespace": "ml", "destination_service_name": "ranker",
        "destination_version": version, "instance": pod,
    }  # fmt: skip
    return Series(names | labels, points)


def plain_series(version: str, scale: int = 1, pod: str = "a") -> dict[str, list[Series]]:
    counts = [[0, 0, 0], [scale * 40, scale * 90, scale * 150], [scale * 2, scale * 3, scale * 9]]
    errors = [series(version, pod, counts[2], response_code="503")]
    errors.append(series(version, pod, counts[1], response_code="200"))
    below = zip(("5", "10", "+Inf"), (counts[0], counts[2], counts[1]), strict=True)
    slow = [series(version, pod, values, le=le) for le, values in below]
    return {ERRORS: errors, LATENCY: slow, SHARE: [series(version, pod, counts[1])]}


def index_of(*parts: dict[str, list[Series]]):
    read = {name: Reading(tuple(each for part in parts for each in part[name])) for name in parts[0]}
    return index_readings(TEMPLATES, read)


def step_by_step(wanted: Target, index, known, start: int):
    intervals = intervals_for(wanted, index, start, start + STEP, STEP)
    return taken_in(POLICY, RUN, known, intervals, [{}])


ORDINARY = [plain_series("v1", 10), plain_series("v1", 9, "b"), plain_series("v2")]
RISING = st.lists(st.integers(0, 50), min_size=3, max_size=3).map(sorted)
WILD = st.lists(st.none() | st.integers(0, 50) | st.sampled_from([-1, 2.5, math.nan]), min_size=3, max_size=3)
WHO = st.tuples(st.sampled_from(["v1", "v2", "v3", ""]), st.sampled_from(["a", "b"]))
CHANGES = st.dictionaries(
    st.tuples(WHO, st.sampled_from([ERRORS, LATENCY, SHARE]), st.sampled_from(["503", "5", "10", "+Inf"])),
    RISING | WILD,
    max_size=3,
)


@given(CHANGES, st.sampled_from([ERRORS, SHARE]), st.booleans(), st.sampled_from([0, STEP, 2 * STEP]))
def test_an_interval_that_is_picked_is_the_one_that_is_observed(changes, share, shared, start):
    wanted = target(share, frozenset({"v1", "v2"}) if shared else frozenset())
    extra = {ERRORS: [], LATENCY: [], SHARE: []}
    for ((version, pod), template, label), values in changes.items():
        name = {ERRORS: "response_code", LATENCY: "le"}.get(template, "more")
        extra[template].append(series(version, pod, values, **{name: label}))
    index, known, plain = index_of(*ORDINARY, extra), calibration(), Plain(POLICY, RUN, wanted)
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
