"""Durations as Go writes them."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from istio.envoy.durations import is_duration, proto, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", "0s"),
        ("0", "0s"),
        ("5s", "5s"),
        ("100s", "100s"),
        ("1.5s", "1.5s"),
        ("250ms", "0.25s"),
        ("1h1m1s1ms", "3661.001s"),
        ("2m", "120s"),
        ("1us", "0.000001s"),
        (".5s", "0.5s"),
    ],
)
def test_a_duration_is_written_in_seconds(text, expected):
    assert is_duration(text)
    assert proto(text) == expected


@pytest.mark.parametrize("text", ["", "5", "-1s", "1d", "s", "1s ", "1 s", None, 5, "1m1"])
def test_what_is_no_duration_is_not_taken_for_one(text):
    assert not is_duration(text)


@given(st.integers(0, 10**10))
def test_milliseconds_stay_exact(milliseconds):
    length = timedelta(milliseconds=milliseconds)
    assert seconds(f"{milliseconds}ms") == Decimal(milliseconds) / 1000
    assert Decimal(proto(f"{milliseconds}ms")[:-1]) == Decimal(str(length.total_seconds()))
