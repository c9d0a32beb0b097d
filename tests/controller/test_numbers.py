import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (0, "0"),
        (0.0, "0"),
        (1, "1"),
        (1.0, "1"),
        (0.1 + 0.2, "0.3"),
        (3.14159, "3.14"),
        (99.96, "100"),
        (213.7, "214"),
        (12345.6, "12,346"),
        (0.00123456, "0.00123"),
        (0.0001234, "1.2×10⁻⁴"),
        (1e6, "10⁶"),
        (123456789.0, "1.2×10⁸"),
        (-5.5, "-5.5"),
    ],
)
def test_numbers_have_three_digits_and_powers_of_ten(value, text):
    assert numbers.number(value) == text


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_number_is_longer_than_a_cell(value):
    assert len(numbers.number(value)) <= 11


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0s"),
        (-3, "0s"),
        (59.6, "1m"),
        (125, "2m5s"),
        (3600, "1h"),
        (3605, "1h"),
        (90061, "1d1h"),
    ],
)
def test_lengths_have_at_most_two_units(seconds, text):
    assert numbers.length(seconds) == text


def test_times_are_read_from_rfc3339_and_from_numbers():
    assert numbers.unix("1970-01-01T00:01:00Z") == numbers.unix(60) == 60
    assert numbers.unix("yesterday") is None
    assert numbers.instant("1970-01-01T00:01:00.5Z") == "1970-01-01 00:01:00 UTC"
    assert numbers.instant(None) == "–"


def test_intervals_and_shares_are_words():
    assert numbers.span((1.6, None)) == "1.6 to ∞"
    assert numbers.span((None, 2.0)) == "0 to 2"
    assert numbers.span(None) == "–"
    assert numbers.percent(0.0312) == "3.12%"
    assert numbers.percent(None) == "–"
    assert numbers.weights({"a": 75, "b": 25}) == "a 75, b 25"
