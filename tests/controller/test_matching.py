"""Expressions of templates: the same answers as Python's matcher, and an answer to those that it hangs on."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.matching import LARGEST, LONGEST, TooComplicatedError, matcher
from policies.catalog import templates

ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "5",
        ".",
        "[ab]",
        "[^a]",
        "[0-9]",
        r"[\d]",
        r"\d",
        r"\w",
        r"\.",
        r"\x41",
        "[]a]",
        "-",
        "{",
        "é",
    ]
)
COUNTS = st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "*?", "{0}"])


def compound(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(parts, max_size=3).map("".join),
        st.lists(parts, min_size=1, max_size=3).map(lambda options: f"({'|'.join(options)})"),
        parts.map(lambda part: f"(?:{part})"),
        st.tuples(parts, COUNTS).map(lambda both: f"({both[0]}){both[1]}"),
        st.tuples(ATOMS, COUNTS).map("".join),
        parts.map(lambda part: f"^{part}$"),
    )


@given(
    st.recursive(ATOMS, compound, max_leaves=6),
    st.text("ab5A.-{]é\n", max_size=6),
    st.sampled_from(["", "(?i)", "(?s)"]),
)
def test_the_answer_is_that_of_python(pattern: str, text: str, flags: str) -> None:
    assert matcher(flags + pattern)(text) == (re.fullmatch(flags + pattern, text) is not None)


@pytest.mark.parametrize(
    "pattern", ["(a*)*b", "(a|a)*b", "(a+)+$", ".*.*.*.*.*.*.*.*.*.*b", "(a|a)" * 40 + "b"]
)
def test_an_expression_on_which_python_hangs_gets_its_answer(pattern: str) -> None:
    assert not matcher(pattern)("a" * (LONGEST - 1) + "c")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(" * 60 + "a" + ")" * 60, "groups in one another"),
        (f"a{{{LARGEST + 1}}}", "more than 500 parts"),
        ("((a{20}){20}){20}", "more than 500 parts"),
        ("(a", "a group has no end"),
        ("a)", "a parenthesis too many"),
        ("a**", "not known"),
        (r"\bgrpc", "not known"),
        ("[[:digit:]]+", "not known"),
        ("(?i:a)", "not known"),
        ("(?=a)", "not known"),
    ],
)
def test_what_is_not_known_or_too_large_is_refused_in_words(pattern: str, words: str) -> None:
    with pytest.raises(TooComplicatedError, match=words):
        matcher(pattern)


def test_a_text_that_is_too_long_for_a_status_matches_nothing() -> None:
    assert matcher(".*")("a" * LONGEST)
    assert not matcher(".*")("a" * (LONGEST + 1))


def test_every_expression_of_the_catalog_is_known() -> None:
    outcomes = [template.spec.outcome for template in templates().values() if template.spec.outcome]
    for outcome in outcomes:
        matcher(outcome.http_event)
        matcher(outcome.grpc_event or "")
    assert outcomes
