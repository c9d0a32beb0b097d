"""Native histograms as classic ones: exact at powers of two, unknown where they cannot be, never a guess."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.native import CUSTOM, EDGES, EXPONENTIAL, NEGATIVE, classic_series

LABELS = {"version": "v1"}


def bound(schema: int, index: int) -> float:
    """The upper bound of a bucket: 2^(index 2^-schema)."""
    return 2.0 ** (index * 2.0**-schema)


def bucket(schema: int, index: int, count: float, rule: int = 0) -> list[Any]:
    """A bucket as the HTTP API has it."""
    return [rule, repr(bound(schema, index - 1)), repr(bound(schema, index)), repr(count)]


def native(*buckets: list[Any]) -> dict[str, Any]:
    """A histogram as the HTTP API has it."""
    count = repr(math.fsum(float(row[3]) for row in buckets))
    return {"count": count, "sum": "1.5", **({"buckets": list(buckets)} if buckets else {})}


def counts(histogram: dict[str, Any]) -> dict[str, float]:
    """Count by `le` of one histogram."""
    return {
        series.labels["le"]: dict(series.points)[100] for series in classic_series(LABELS, [(100, histogram)])
    }


def test_the_edges_are_the_powers_of_two_from_a_thousandth_to_four_thousand_and_infinity():
    series = classic_series(LABELS, [(100, native()), (110.0, native())])
    assert [each.labels["le"] for each in series] == [*map(repr, EDGES), "+Inf"]
    assert (EDGES[0], EDGES[10], EDGES[-1], len(EDGES)) == (2**-10, 1.0, 4096.0, 23)
    assert all(each.labels["version"] == "v1" and each.native == EXPONENTIAL for each in series)
    assert all(each.points == ((100, 0.0), (110, 0.0)) for each in series)


@given(
    st.integers(0, 8),
    st.dictionaries(st.integers(-3000, 3500), st.integers(1, 10**9), max_size=40),
)
def test_counts_at_or_below_an_edge_are_exact_for_every_schema_from_0_up(schema, filled):
    filled = {index: count for index, count in filled.items() if -11 <= index * 2.0**-schema <= 13}
    rows = [bucket(schema, index, count) for index, count in sorted(filled.items())]
    found = counts(native(*rows))
    for power in range(-10, 13):
        below = sum(count for index, count in filled.items() if index <= power * 2**schema)
        assert found[repr(2.0**power)] == below
    assert found["+Inf"] == sum(filled.values())


@pytest.mark.parametrize("left", ["-0.000001", "0", "-0"])
def test_the_zero_bucket_lies_below_every_edge(left):
    right = "0" if left == "-0" else "0.000001"
    found = counts(native([3, left, right, "7"], bucket(3, 8, 2)))
    assert (found["0.0009765625"], found["1.0"], found["2.0"], found["+Inf"]) == (7, 7, 9, 9)


def test_below_an_edge_within_the_zero_bucket_nothing_is_known():
    found = counts(native([3, "-0.01", "0.01", "7"], bucket(0, 1, 2)))
    within = [le for le, count in found.items() if math.isnan(count)]
    assert within == ["0.0009765625", "0.001953125", "0.00390625", "0.0078125"]
    assert (found["0.015625"], found["2.0"]) == (7, 9)


@pytest.mark.parametrize("schema", [-1, -2, -3, -4])
def test_a_coarse_schema_is_exact_at_its_own_boundaries_and_unknown_between(schema):
    width = 2**-schema
    found = counts(native(bucket(schema, 0, 3), bucket(schema, 1, 4)))
    for power in range(1, min(width, 13)):
        assert math.isnan(found[repr(2.0**power)])
    assert found["1.0"] == 3
    if width <= 12:
        assert found[repr(2.0**width)] == 7
    assert found["+Inf"] == 7


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([1, "-2", "-1", "1"], NEGATIVE),
        ([3, "-4", "-2", "1"], NEGATIVE),
        ([0, "0.1", "0.25", "1"], CUSTOM),
        ([0, "-Inf", "0.5", "1"], CUSTOM),
        ([0, "0.5", "+Inf", "1"], CUSTOM),
        ([0, "0", "0.5", "1"], CUSTOM),
        ([0, "3", "6", "1"], CUSTOM),
        ([2, "1", "2", "1"], CUSTOM),
        ([3, "1", "2", "1"], CUSTOM),
    ],
)
def test_a_histogram_that_is_not_exponential_and_positive_is_unknown_and_says_so(row, words):
    sound = native(bucket(0, 1, 5))
    series = classic_series(LABELS, [(100, sound), (110, native(bucket(0, 1, 5), row))])
    assert {each.native for each in series} == {words}
    assert all(math.isnan(dict(each.points)[110]) for each in series)
    assert dict(series[-1].points)[100] == 5


def test_an_empty_bucket_is_no_trouble():
    assert counts(native(bucket(0, 1, 5), [1, "-2", "-1", "0"]))["+Inf"] == 5


def test_counts_that_are_not_whole_are_passed_on_for_the_judge_to_see():
    assert counts(native(bucket(0, 1, 2.5)))["2.0"] == 2.5


@given(st.lists(st.integers(0, 200), min_size=2, max_size=30, unique=True).map(sorted))
def test_merging_buckets_does_not_change_the_counts(indices):
    """As Prometheus does to save space: from schema 3 to schema 2 two buckets become one."""
    fine = counts(native(*(bucket(3, index, 1) for index in indices)))
    merged: dict[int, int] = {}
    for index in indices:
        merged[-(-index // 2)] = merged.get(-(-index // 2), 0) + 1
    assert counts(native(*(bucket(2, index, n) for index, n in merged.items()))) == fine


@pytest.mark.parametrize(
    "histogram",
    [{}, {"count": "1", "buckets": [[0, "1", "2"]]}, {"count": "many"}, [], {"count": "1", "buckets": 3}],
)
def test_json_that_is_no_histogram_is_refused(histogram):
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        classic_series(LABELS, [(100, histogram)])
