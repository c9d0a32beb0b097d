"""The fast way to read an answer gives what JSON says, or nothing."""

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.answers import Splitter
from controller.matrix import Matrix

TEXTS = st.text(max_size=6) | st.sampled_from(
    ["metric", "values", ',"values":[[', '"]]},{"metric":', '{"metric":', "],[", '"', "\\", "{}", "\u2028"]
)
LABELS = st.dictionaries(TEXTS, TEXTS, max_size=3)
NUMBERS = [
    "0",
    "1",
    "12.5",
    "1e+06",
    "1.2345678901234567e-7",
    "9007199254740993",
    "18446744073709551617",
    "-3",
]
VALUES = st.sampled_from([*NUMBERS, "NaN", "+Inf", "-Inf"])


def answer(result, **more) -> bytes:
    return orjson.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}, **more})


def items(labels, times, values):
    return [
        {"metric": each, "values": [[at, text] for at, text in zip(times, row, strict=True)]}
        for each, row in zip(labels, values, strict=True)
    ]


def split(body: bytes) -> Matrix | None:
    return Splitter().split(body)


def told(matrix):
    def exact(value: float) -> object:
        return "NaN" if math.isnan(value) else value

    return [(dict(s.labels), [(at, exact(value)) for at, value in s.points]) for s in matrix]


@given(data=st.data(), labels=st.lists(LABELS, min_size=1, max_size=4), count=st.integers(1, 3))
def test_an_ordinary_answer_is_read_as_json_would_be(data, labels, count):
    times = [1_700_000_000.25 + 10 * at for at in range(count)]
    values = [data.draw(st.lists(VALUES, min_size=count, max_size=count)) for _ in labels]
    made = items(labels, times, values)
    found = split(answer(made))
    assert found is not None
    assert told(found) == told(Matrix.of_result(made))


@given(
    labels=st.lists(LABELS, min_size=2, max_size=3),
    looks=st.lists(
        st.tuples(st.booleans(), st.lists(st.sampled_from(NUMBERS), min_size=6, max_size=6)), min_size=2
    ),
)
def test_what_is_known_of_the_answer_before_changes_nothing(labels, looks):
    splitter = Splitter()
    for at, (reverse, values) in enumerate(looks):
        order = labels[::-1] if reverse else labels
        rows = zip(values[::2], values[1::2], strict=True)
        made = items(order, [10 * at, 10 * at + 10], [*rows][: len(order)])
        assert told(splitter.split(answer(made))) == told(Matrix.of_result(made))


def test_the_labels_of_the_answer_before_are_kept_while_they_are_the_same():
    splitter = Splitter()
    before = splitter.split(answer(GOOD))
    later = splitter.split(answer(items([{"a": "b"}, {"a": "c"}], [2, 3], [["2", "3"], ["4", "50"]])))
    other = splitter.split(answer(items([{"a": "b"}, {"a": "d"}], [2, 3], [["2", "3"], ["4", "5"]])))
    assert later.labels is before.labels
    assert [*other.labels] == [{"a": "b"}, {"a": "d"}]
    assert splitter.split(b"") is None
    assert splitter.split(answer(GOOD[:1])).values.tolist() == [[1, 2]]


@given(labels=st.lists(LABELS, min_size=1, max_size=4), times=st.lists(st.integers(0, 3), max_size=4))
def test_what_is_not_ordinary_is_told_from_what_is(labels, times):
    made = items(labels, times, [["1"] * len(times)] * len(labels))
    found = split(answer(made))
    assert (found is not None) == (len(times) > 0 and times == sorted({*times}))


GOOD = items([{"a": "b"}, {"a": "c"}], [1, 2], [["1", "2"], ["3", "4"]])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        answer([]),
        answer(GOOD, warnings=["partial"]),
        orjson.dumps(orjson.loads(answer(GOOD)), option=orjson.OPT_INDENT_2),
        answer(GOOD).replace(b'"4"', b'"x"'),
        answer(GOOD).replace(b'"4"', b'"null"'),
        answer(GOOD).replace(b'"4"', b'"1e999"'),
        answer(GOOD).replace(b'[2,"4"]', b'[Infinity,"4"]'),
        answer(GOOD).replace(b'[2,"4"]', b'[2,4,"5"]'),
        answer([*GOOD, *items([{"a": "d"}], [2], [["1"]])]),
        answer([*GOOD, {"metric": {}, "histograms": [[1, {"count": "1"}], [2, {"count": "1"}]]}]),
        answer([{**GOOD[0], "histograms": [[1, {"count": "1"}]]}, GOOD[1]]),
        answer(GOOD)[:-2],
        answer(GOOD[:1]).replace(b',"values":[[1,"1"],[2,"2', b""),
    ],
)
def test_any_other_answer_is_left_to_json(body):
    assert split(body) is None


def test_labels_are_compared_as_they_are_written():
    one, same, other = (
        split(answer(items([{"a": x}], [1], [[v]]))) for x, v in (("b", "1"), ("b", "2"), ("c", "1"))
    )
    assert one.labels == same.labels
    assert one.labels != other.labels
    assert one.labels != [{"a": "b"}]
    assert [*one.labels[:1]] == [{"a": "b"}]
