"""Readings become each rollout's intervals: whose series they are, what is an event, where there is no data.

How increases are counted (resets, births, vanished processes) is tested with `analysis.counters`; here it is
only seen to be used.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate, product

import pytest

from analysis.judge import Interval, advance, fresh, verdict
from analysis.tables import Arm, MeanArm, MeanTable, Table
from controller.dossier import design_of
from controller.filing import ArmKey
from controller.judgement import judgement_of
from controller.native import classic_series
from controller.observe import Target, index_readings, intervals_for
from controller.ports import Reading, Series
from controller.replay import rejudged
from controller.tabulated import tabulate
from policies import catalog
from policies.model import MetricTemplate
from policies.parse import policy_from_object
from tests.support.policies import changed
from tests.support.policies import policy as sample

ERRORS, LATENCY, SHARE = "istio-error-rate", "istio-latency", "istio-request-share"
TARGET = Target(
    control=ArmKey("ml", "ranker", "v1"),
    candidate=ArmKey("ml", "ranker", "v2"),
    metrics={"errors": ERRORS},
    edges={},
    share=SHARE,
    intended=0.05,
)


def series(version: str, points: dict[int, float], **labels: str) -> Series:
    """A series of ranker in namespace ml, counted by one Envoy."""
    return Series(
        {
            "destination_service_namespace": "ml",
            "destination_service_name": "ranker",
            "destination_version": version,
            "instance": "envoy:1",
            "request_protocol": "http",
            "response_code": "200",
            **labels,
        },
        tuple(points.items()),
    )


def observe(readings: dict[str, list[Series]], target: Target = TARGET, start: int = 100, end: int = 110):
    templates = catalog.templates()
    index = index_readings(templates, {name: Reading(tuple(items)) for name, items in readings.items()})
    return intervals_for(target, index, start, end, 10)


def errors_table(*items: Series, **options) -> Table | None:
    (interval,) = observe({ERRORS: list(items)}, **options)
    return interval.tables["errors"]


BASE = [series("v1", {100: 1000, 110: 1095}), series("v2", {100: 50, 110: 55})]


def test_requests_and_events_of_each_version_are_counted():
    failed = series("v2", {100: 3, 110: 5}, response_code="503")
    assert errors_table(*BASE, failed) == Table(110, Arm(95, (0,)), Arm(7, (2,)))


@pytest.mark.parametrize(
    ("labels", "event"),
    [
        ({"response_code": "500"}, True),
        ({"response_code": "504"}, True),
        ({"response_code": "404"}, False),
        ({"response_code": "0"}, False),
        ({"response_code": "5000"}, False),
        ({"request_protocol": "grpc", "grpc_response_status": "14"}, True),
        ({"request_protocol": "grpc", "grpc_response_status": "0"}, False),
        ({"request_protocol": "grpc", "grpc_response_status": "5"}, False),
        ({"request_protocol": "grpc", "grpc_response_status": "", "response_code": "503"}, True),
        ({"request_protocol": "http", "grpc_response_status": "14"}, False),
    ],
)
def test_the_template_says_which_requests_are_events(labels, event):
    table = errors_table(*BASE, series("v2", {100: 0, 110: 2}, **labels))
    assert table.candidate == Arm(7, (2 * event,))


@pytest.mark.parametrize(
    ("label", "asked"),
    [
        *product(
            ["ranker", "ranker.ml.svc.cluster.local", "RANKER.ml.svc.cluster.local"],
            ["ranker", "ranker.ml.svc.cluster.local", "ranker.ml.svc"],
        )
    ],
)
def test_a_service_is_known_by_its_short_and_its_full_name(label, asked):
    target = replace(
        TARGET,
        control=replace(TARGET.control, service=asked),
        candidate=replace(TARGET.candidate, service=asked),
    )
    named = [replace(item, labels={**item.labels, "destination_service_name": label}) for item in BASE]
    assert errors_table(*named, target=target) == Table(110, Arm(95, (0,)), Arm(5, (0,)))


@pytest.mark.parametrize(
    "other",
    [
        {"destination_service_namespace": "other"},
        {"destination_service_name": "retriever"},
        {"destination_version": "v3"},
    ],
)
def test_series_of_others_are_not_counted(other):
    foreign = series("v2", {100: 0, 110: 1000})
    foreign = replace(foreign, labels={**foreign.labels, **other})
    assert errors_table(*BASE, foreign) == Table(110, Arm(95, (0,)), Arm(5, (0,)))


def test_versions_that_are_services_of_their_own_need_no_version():
    target = replace(TARGET, control=ArmKey("ml", "old", None), candidate=ArmKey("ml", "new", None))
    items = [
        series(version, {100: 0, 110: count}, destination_service_name=host)
        for host, version, count in (("old", "v1", 10), ("old", "", 5), ("new", "v7", 3))
    ]
    assert errors_table(*items, target=target) == Table(110, Arm(15, (0,)), Arm(3, (0,)))


def test_a_histogram_counts_requests_above_each_edge():
    def buckets(version: str, counts: dict[str, int]) -> list[Series]:
        return [series(version, {100: 0, 110: count}, le=le) for le, count in counts.items()]

    target = replace(TARGET, metrics={"slow": LATENCY}, edges={"slow": (100.0, 1000.0)})
    items = buckets("v1", {"100": 90, "1000.0": 99, "+Inf": 100})
    items += buckets("v2", {"100": 5, "1000.0": 6, "+Inf": 10})
    (interval,) = observe({LATENCY: items}, target)
    assert interval.tables["slow"] == Table(110, Arm(100, (10, 1)), Arm(10, (5, 4)))


def test_an_edge_without_a_bucket_makes_the_interval_inconsistent():
    target = replace(TARGET, metrics={"slow": LATENCY}, edges={"slow": (42.0,)})
    items = [series(version, {100: 0, 110: 1}, le="+Inf") for version in ("v1", "v2")]
    (interval,) = observe({LATENCY: items}, target)
    assert interval.tables == {"slow": None}
    assert interval.inconsistent == ("slow: control: no bucket le=42; candidate: no bucket le=42",)


def test_the_request_share_is_read_from_its_own_template():
    (interval,) = observe({ERRORS: BASE, SHARE: BASE})
    assert (interval.end, interval.intended, interval.requests) == (110, 0.05, (95, 5))
    assert observe({ERRORS: BASE})[0].requests is None
    assert observe({SHARE: BASE}, replace(TARGET, share="ml/own"))[0].requests is None


def test_one_reading_serves_intervals_of_different_rollouts():
    items = [series("v1", {90: 0, 100: 10, 110: 30, 120: 60}), series("v2", {90: 0, 100: 1, 110: 3, 120: 6})]
    found = observe({ERRORS: items}, start=90, end=120)
    assert [(each.end, each.tables["errors"].control.total) for each in found] == [
        (100, 10),
        (110, 20),
        (120, 30),
    ]
    assert observe({ERRORS: items}, start=100, end=110) == [found[1]]
    assert observe({ERRORS: items}, start=110, end=110) == []


def test_the_first_error_counts_although_it_makes_its_series():
    assert errors_table(*BASE, series("v2", {110: 1}, response_code="500")).candidate == Arm(6, (1,))


def test_a_reset_counts_from_zero():
    assert errors_table(BASE[0], series("v2", {100: 1000, 110: 7})).candidate == Arm(7, (0,))


def test_processes_that_count_from_zero_again_are_counted_once_each():
    fell = [
        series("v2", {100: 50, 110: 7}, instance=instance, response_code=code)
        for instance, code in (("a", "200"), ("a", "500"), ("b", "200"))
    ]
    (interval,) = observe({ERRORS: [*BASE, *fell]})
    assert interval.resets == {"errors": 2}
    assert observe({ERRORS: BASE})[0].resets == {}


@pytest.mark.parametrize(
    "items",
    [
        [],
        [series("v1", {100: 5}), series("v2", {100: 5})],
        [series("v1", {110: 5}), series("v2", {110: 5})],
        [series("v3", {100: 5, 110: 9})],
        [series("v1", {100: 5, 105: 5}), series("v1", {105: 1, 110: 5}, instance="envoy:2")],
    ],
    ids=["nothing", "no end", "no start", "only others", "a hole"],
)
def test_an_interval_without_samples_has_no_data(items):
    assert errors_table(*items) is None


def test_a_gap_in_the_middle_costs_the_intervals_around_it_only():
    items = [series("v1", {90: 0, 110: 20, 120: 30}), series("v2", {90: 0, 110: 2, 120: 3})]
    tables = [each.tables["errors"] for each in observe({ERRORS: items}, start=90, end=120)]
    assert tables == [None, None, Table(120, Arm(10, (0,)), Arm(1, (0,)))]


def test_a_version_without_traffic_yet_counts_zero_beside_one_with():
    assert errors_table(BASE[0]) == Table(110, Arm(95, (0,)), Arm(0, (0,)))


def test_a_metric_that_was_not_read_has_no_data():
    (interval,) = observe({SHARE: BASE})
    assert interval.tables == {"errors": None}


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 51.5])
def test_a_value_that_is_no_count_makes_the_interval_inconsistent(value):
    (interval,) = observe({ERRORS: [BASE[0], series("v2", {100: 50, 110: value})]})
    assert interval.tables == {"errors": None}
    assert interval.inconsistent[0].startswith("errors: candidate: a counter is")


def test_an_inconsistent_series_concerns_its_own_rollout_only():
    foreign = series("v2", {100: 0, 110: math.nan}, destination_service_name="retriever")
    assert observe({ERRORS: [*BASE, foreign]}) == observe({ERRORS: BASE})


VARIANTS = replace(TARGET, versions=frozenset({"v1", "v2"}))


@pytest.mark.parametrize(("version", "count"), [("", 15), ("unknown", 15)])
def test_requests_without_a_version_make_the_interval_inconsistent(version, count):
    (interval,) = observe({ERRORS: [*BASE, series(version, {100: 0, 110: count})], SHARE: BASE}, VARIANTS)
    assert interval.tables == {"errors": None}
    (words,) = interval.inconsistent
    assert words.startswith("errors: 13 % of the requests ")
    assert "destination_version" in words
    assert interval.requests == (95, 5), "the split was read from series that are complete"


@pytest.mark.parametrize(("version", "count"), [("", 1), ("v3", 500)])
def test_a_few_requests_without_a_version_and_further_versions_are_left_out(version, count):
    stray = series(version, {100: 0, 110: count})
    assert errors_table(*BASE, stray, target=VARIANTS) == Table(110, Arm(95, (0,)), Arm(5, (0,)))


def test_requests_without_a_version_are_told_even_if_there_are_no_others():
    lost = series("", {100: 0, 110: 60})
    (interval,) = observe({ERRORS: [lost]}, VARIANTS)
    assert interval.inconsistent == (
        "errors: 100 % of the requests carry no version (label destination_version)",
    )


def test_of_a_histogram_requests_are_those_of_the_infinite_bucket():
    target = replace(VARIANTS, metrics={"slow": LATENCY}, edges={"slow": (100.0,)})

    def buckets(version: str, fast: int, total: int) -> list[Series]:
        return [series(version, {100: 0, 110: n}, le=le) for le, n in (("100", fast), ("+Inf", total))]

    known = [*buckets("v1", 900, 990), *buckets("v2", 90, 100)]
    (interval,) = observe({LATENCY: [*known, *buckets("", 11, 11)]}, target)
    assert interval.inconsistent == ()
    (interval,) = observe({LATENCY: [*known, *buckets("", 12, 12)]}, target)
    assert interval.inconsistent[0].startswith("slow: 1.09 % of the requests carry no version")


def native(version: str, *buckets: list, rule: int = 0) -> list[Series]:
    """A native histogram, empty at 100; at 110 it had these buckets (left, right, count)."""
    rows = [[rule, str(left), str(right), str(count)] for left, right, count in buckets]
    total = str(sum(count for *_, count in buckets))
    samples = [[100, {"count": "0", "sum": "0"}], [110, {"count": total, "sum": "0", "buckets": rows}]]
    return classic_series(series(version, {}).labels, samples)


def slow(edge: float, *items: Series):
    """The interval of a latency that is judged at one edge."""
    target = replace(TARGET, metrics={"slow": LATENCY}, edges={"slow": (edge,)})
    (interval,) = observe({LATENCY: list(items)}, target)
    return interval


def test_a_native_histogram_is_counted_above_a_power_of_two():
    items = native("v1", [0.25, 0.5, 90], [2, 4, 10]) + native("v2", [1, 2, 3], [64, 128, 4])
    assert slow(2.0, *items).tables["slow"] == Table(110, Arm(100, (10,)), Arm(7, (4,)))


def test_an_edge_that_a_native_histogram_lacks_is_told_with_the_reason():
    items = native("v1", [0.5, 1, 9]) + native("v2", [0.5, 1, 9])
    assert (
        slow(0.3, *items)
        .inconsistent[0]
        .startswith("slow: control: no bucket le=0.3 (a native histogram, whose edges are the powers of two ")
    )


def test_only_the_edges_that_are_judged_have_to_be_exact():
    coarse = native("v1", [1, 4, 9]) + native("v2", [1, 4, 5])
    assert slow(4.0, *coarse).tables["slow"] == Table(110, Arm(9, (0,)), Arm(5, (0,)))
    assert "a native histogram" in slow(2.0, *coarse).inconsistent[0]


def test_a_native_histogram_with_negative_values_is_told_in_words():
    items = native("v1", [-2, -1, 9], rule=1) + native("v2", [1, 2, 5])
    assert "control: a counter is" in slow(2.0, *items).inconsistent[0]
    assert "(a native histogram with values below 0)" in slow(2.0, *items).inconsistent[0]


def test_a_native_histogram_does_not_count_requests():
    (interval,) = observe({ERRORS: native("v1", [1, 2, 9]) + native("v2", [1, 2, 5])})
    assert interval.tables == {"errors": None}
    assert "a proportion is not read from a native histogram" in interval.inconsistent[0]


SCORE = MetricTemplate.model_validate(
    {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "MetricTemplate",
        "metadata": {"name": "model-score", "namespace": "ml"},
        "spec": {
            "kind": "mean",
            "unit": "ratio",
            "direction": "higherIsBetter",
            "query": 'sum by (__name__, ns, svc, ver, instance) ({__name__=~"model_score_(sum|count)"})',
            "labels": {"namespace": "ns", "service": "svc", "version": "ver"},
            "description": "What the model was found to be worth.",
        },
    }
)


def scores(version: str, count: dict[int, float], total: dict[int, float]) -> list[Series]:
    """Count and sum of the scores of one version."""
    labels = {"ns": "ml", "svc": "ranker", "ver": version, "instance": "pod"}
    return [
        Series({**labels, "__name__": f"model_score_{what}"}, tuple(points.items()))
        for what, points in (("count", count), ("sum", total))
    ]


def score_intervals(items: list[Series], end: int) -> list[Interval]:
    target = replace(TARGET, metrics={"score": "model-score"})
    index = index_readings({"model-score": SCORE}, {"model-score": Reading(tuple(items))})
    return intervals_for(target, index, 100, end, 10)


def test_a_mean_has_the_count_and_the_sum_of_each_version():
    items = scores("v1", {100: 10, 110: 30}, {100: 8.0, 110: 24.5})
    items += scores("v2", {100: 1, 110: 3}, {100: 0.5, 110: 1.75})
    (interval,) = score_intervals(items, 110)
    assert interval.tables == {"score": MeanTable(110, MeanArm(20, 16.5), MeanArm(2, 1.25))}
    assert tabulate(interval, {})[:-1] == [
        {
            "metric": "score",
            "end": 110,
            "control": {"total": 20, "sum": 16.5},
            "candidate": {"total": 2, "sum": 1.25},
        }
    ]


def test_a_sum_whose_count_is_missing_is_inconsistent():
    items = scores("v1", {100: 10, 110: 30}, {100: 8.0, 110: 24.5})
    items += scores("v2", {100: 1, 110: 3}, {100: 0.5, 110: 1.75})[1:]
    (interval,) = score_intervals(items, 110)
    assert interval.inconsistent == ("score: candidate: pod has a sum without its count, or a count alone",)


def test_a_worse_mean_is_harmful_from_the_counters_to_the_verdict():
    policy = policy_from_object(
        changed(
            sample(),
            "spec.metrics",
            [{"template": "model-score", "name": "score", "margin": "10%", "dispersion": "1"}],
        )
    )
    design = design_of(policy, {"model-score": SCORE})
    assert (design.metrics[0].kind, design.metrics[0].higher_is_better) == ("mean", True)
    ends, wobble = range(100, 501, 10), [0.0, 0.01, -0.01, 0.02, -0.02] * 9
    items = []
    for version, worth, size in (("v1", 0.84, 100), ("v2", 0.6, 20)):
        count = {end: size * (end - 90) / 10 for end in ends}
        shifts = [wobble[(7 * i) % 45 if version == "v1" else i] for i in range(len(ends))]
        steps = [size * (worth + shift) for shift in shifts]
        items += scores(version, count, dict(zip(ends, accumulate(steps), strict=True)))
    found = score_intervals(items, 500)
    [evidence] = advance([(design, fresh(design), found)])
    assert verdict(design, evidence).kind == "Harmful"
    recorded = [row for interval in found for row in tabulate(interval, {})]
    assert rejudged(design, recorded).to_dict() == evidence.to_dict()
    assert judgement_of(design, evidence).sentence.startswith("score 0.6 against 0.84 (-28.")


def test_a_margin_in_points_and_the_direction_reach_the_design():
    metric = {"template": "istio-error-rate", "marginPoints": "0.5%"}
    policy = policy_from_object(changed(sample(), "spec.metrics", [metric]))
    (judged,) = design_of(policy, catalog.templates()).metrics
    assert (judged.margin, judged.margin_points, judged.higher_is_better) == (None, 0.005, False)
