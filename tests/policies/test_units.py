"""Quantities: what is read and refused, and that printing and reading are each other's inverse."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from policies.units import QUANTITY_LENGTH, Duration, Factor, Percent

DECIMALS = st.decimals(0, 999_999_999, places=9).map(abs)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("500ms", 500),
        ("2m1ms", 120_001),
        ("72h", 259_200_000),
    ],
)
def test_a_duration_is_read_as_go_writes_it(text, milliseconds):
    assert Duration.parse(text) == Duration(milliseconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "-5s", "1.5h", "5 m", "5M", "m", "1m1h", "1d", "٣s", "5s\n", "1234567s", "999999h999999m"],
)
def test_what_is_not_a_duration_is_refused(text):
    with pytest.raises(ValueError, match="must be a duration such as 90s"):
        Duration.parse(text)


@pytest.mark.parametrize(("text", "value"), [("25%", "25"), ("0.5%", "0.5"), ("0%", "0"), ("007%", "7")])
def test_a_percentage_is_read_exactly(text, value):
    assert Percent.parse(text).value == Decimal(value)


@pytest.mark.parametrize(
    "text", ["", "25", "%", "-1%", "1e2%", ".5%", "1 %", "25%%", "1.%", "1234567890%", "٣%"]
)
def test_what_is_not_a_percentage_is_refused(text):
    with pytest.raises(ValueError, match="must be a percentage such as 25%"):
        Percent.parse(text)


@pytest.mark.parametrize("text", ["", "1e3", "NaN", "Infinity", "-1", "1,5", "1.5x", "0.1234567890"])
def test_what_is_not_a_factor_is_refused(text):
    with pytest.raises(ValueError, match="must be a decimal number in quotes"):
        Factor.parse(text)


@given(st.integers(0, 999_999 * 3_600_000))
def test_a_printed_duration_reads_as_the_same(milliseconds):
    assert Duration.parse(str(Duration(milliseconds))) == Duration(milliseconds)
    assert len(str(Duration(milliseconds))) <= QUANTITY_LENGTH


@given(DECIMALS)
def test_a_printed_percentage_and_factor_read_as_the_same(value):
    for quantity in (Percent(value), Factor(value)):
        assert type(quantity).parse(str(quantity)) == quantity
        assert len(str(quantity)) <= QUANTITY_LENGTH


def test_quantities_know_their_numbers():
    assert Percent.parse("25%").fraction == 0.25
    assert float(Factor.parse("1.5")) == 1.5
    assert Duration.parse("1500ms").seconds == 1.5


class Holder(BaseModel):
    hold: Duration


def test_a_model_takes_the_text_and_the_value_and_prints_the_text():
    assert Holder(hold="90s") == Holder(hold=Duration(90_000))
    assert Holder(hold=Duration(90_000)).model_dump(mode="json") == {"hold": "1m30s"}


@pytest.mark.parametrize("value", [90, 1.5, True, None, ["90s"]])
def test_a_model_refuses_everything_else(value):
    with pytest.raises(ValidationError, match="must be a duration"):
        Holder(hold=value)
