"""The small languages inside fields: regular expressions, durations, host names, header values, prefixes."""

from __future__ import annotations

import contextlib
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from istio.lint import re2
from istio.lint.duration import MILLISECOND, SECOND, nanoseconds
from istio.lint.headers import check_headers, check_match_name, is_claim
from istio.lint.reach import check_overlap, check_reach
from istio.lint.shared import (
    check_labels,
    check_subnet,
    clashes,
    covers,
    domain_fault,
    is_address,
    is_dns_label,
)

VALID = [
    "", "a|", "a*?", "(a)(?:b)", "(?P<n>a)(?<m>b)", "(?i)a", "(?i-s:a)", "(?)", "[]a]", "[^]a]", "[a-]",
    "[\\d-z]", "[[:alpha:][:^digit:]]", "\\pN\\p{Greek}\\P{^L}", "\\Qa(b\\E", "\\Q(",
    "\\x41\\x{10FFFF}\\0\\12", "\\.\\-\\_\\/\\@", "\\A\\b\\B\\z", "a{2}", "a{2,}", "a{1,1000}", "a{,3}",
    "a{", "{", "x{01}", "^*", "(a{10}){100}", "a(?i)*", "a\\Q\\E*", "é+", "}", "]", "[a\\]]",
]  # fmt: skip
INVALID = [
    "*", "a|*", "(*)", "a**", "a+*", "a{2}{3}", "(", ")", "(a", "a)", "[", "[a", "[z-a]", "[a-\\d]",
    "[\\b]", "[[:foo:]]", "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?P=n)", "(?P<n>a)(?P<n>b)", "(?P<>a)",
    "(?-)", "(?ix)", "(?#c)", "\\1", "\\8", "\\C", "\\Z", "\\u0041", "\\x4", "\\x{110000}", "\\", "\\é",
    "\\pX", "a{1001}", "a{3,1}", "(a{100}){11}", "a++",
]  # fmt: skip


@pytest.mark.parametrize("pattern", VALID)
def test_a_regular_expression_of_re2_is_taken(pattern):
    re2.check(pattern)


@pytest.mark.parametrize("pattern", INVALID)
def test_what_re2_does_not_know_is_refused(pattern):
    with pytest.raises(re2.RegexError):
        re2.check(pattern)


@given(st.text(max_size=20))
def test_quoted_text_is_a_regular_expression(text):
    re2.check("".join(f"\\{char}" if char in "\\.+*?()|[]{}^$" else char for char in text))


@given(st.text(alphabet="ab()[]{}|*+?^$.-\\dQE:=<>P!i,1290", max_size=12))
def test_any_text_is_judged_without_another_exception(text):
    with contextlib.suppress(re2.RegexError):
        re2.check(text)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", 0),
        ("0s", 0),
        ("1.5s", 1500 * MILLISECOND),
        ("1h30m", 5400 * SECOND),
        ("500us", 500_000),
        ("-1s", -SECOND),
        ("+2ms", 2 * MILLISECOND),
        (".5s", 500 * MILLISECOND),
        ("1.s", SECOND),
        ("1µs2ns", 1002),
        ("0.3ns", 0),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text, length):
    assert nanoseconds(text) == length


@pytest.mark.parametrize(
    "text", ["", "5", "s", "1 s", "1d", "1s ", "--1s", ".s", "1e3s", "99999999999h", "\u0661s"]
)
def test_what_go_would_not_read_is_no_duration(text):
    with pytest.raises(ValueError, match="is not a duration"):
        nanoseconds(text)


@given(st.lists(st.sampled_from([("1h", 3600), ("2m", 120), ("3s", 3)]), min_size=1, max_size=5))
def test_the_parts_of_a_duration_add_up(parts):
    assert nanoseconds("".join(text for text, _ in parts)) == sum(length for _, length in parts) * SECOND


@pytest.mark.parametrize("name", ["web", "web.", "a.b", "*.a.b", "*-x.a", "*", "A-1.b", "123", "a" * 63])
def test_a_host_may_begin_with_a_wildcard(name):
    assert domain_fault(name, wildcard=True) is None


@pytest.mark.parametrize(
    "name", ["", "a..b", "a.*", "a_b", "-a", "a.123", "a" * 64, "a." * 128 + "a", "**.a", "a b"]
)
def test_a_host_that_no_dns_has_is_refused(name):
    assert domain_fault(name, wildcard=True)


def test_a_full_name_has_no_wildcard_and_does_not_end_in_a_number():
    assert domain_fault("*.a", wildcard=False)
    assert domain_fault("123", wildcard=False)


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        ("*", "a", True),
        ("*.a", "b.a", True),
        ("*.a", "a", False),
        ("*.a", "*.b.a", True),
        ("*.b.a", "*.a", False),
        ("a", "a", True),
        ("a", "*", False),
        ("a", "b", False),
    ],
)
def test_one_host_covers_another(wide, narrow, covered):
    assert covers(wide, narrow) is covered


@given(st.lists(st.sampled_from(["*", "*.a", "*.b.a", "*-x.a", "a", "b.a", "c.b.a", "b"]), max_size=5))
def test_hosts_clash_when_one_of_two_covers_the_other(hosts):
    pairs = itertools.permutations(range(len(hosts)), 2)
    clashing = {(narrow, wide) for narrow, wide in pairs if covers(hosts[wide], hosts[narrow])}
    found = list(clashes(hosts))
    assert clashing.issuperset(found)
    assert bool(found) == bool(clashing)


def test_very_many_hosts_and_matches_are_judged_in_time():
    assert list(clashes([f"h{n}.example.com" for n in range(20_000)])) == []
    matches = [[{"uri": {"prefix": f"/{n:05}"}}] for n in range(10_000)]
    assert taken(*matches) == []


def test_deep_nesting_is_no_obstacle():
    re2.check("(" * 500 + "a" + ")" * 500)
    with pytest.raises(re2.RegexError, match="missing closing"):
        re2.check("(" * 1024)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "10.1.2.3/8", "::/0", "2001:db8::1", "1.2.3.4"])
def test_a_subnet_or_an_address_is_taken(text):
    assert list(check_subnet(text, "p")) == []


@pytest.mark.parametrize(
    "text", ["", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "10.0.0.0/08", "a/8", "1.2.3", "1.2.3.4/", "1/2/3"]
)
def test_what_is_no_subnet_is_refused(text):
    assert [finding.code for finding in check_subnet(text, "p")] == ["PSx14"]


@given(st.ip_addresses())
def test_every_address_is_one(address):
    assert is_address(str(address))
    assert not is_address(f"{address}x")


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True))
def test_a_dns_label_is_a_label_key_and_value(text):
    assert is_dns_label(text)
    assert list(check_labels({text: text, f"a.b/{text}": ""}, "p")) == []


@pytest.mark.parametrize("key", ["", "/a", "a/", "a/b/c", "-a", "a b", "a" * 64, "a" * 254 + "/b"])
def test_a_bad_label_key_is_refused(key):
    assert [finding.code for finding in check_labels({key: "v"}, "p")] == ["PSx08"]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a",
        "100%%",
        "%A%",
        "a %A(b)% c",
        "%A(b:c)%",
        '%A(["x", "y"])%',
        "%A( b )  %",
        "%%%A%",
        "tab\there",
        '%A([ "x" ] )%',
        "%A(()%",
    ],
)
def test_a_header_value_may_hold_variables(value):
    assert list(check_headers({"request": {"set": {"x": value}}}, "p")) == []


@pytest.mark.parametrize(
    "value",
    [
        "%",
        "a%",
        "%A",
        "%A%%",
        "%A(%",
        "%A(b%",
        '%A(["x")%',
        "%A([x])%",
        "%A()%",
        "%A(b)c%",
        "a\x00",
        "a\nb",
        "\x7f",
    ],
)
def test_a_header_value_with_half_a_variable_is_refused(value):
    assert [finding.code for finding in check_headers({"response": {"add": {"x": value}}}, "p")] == ["PS135"]


@given(st.text(alphabet='%A()[]"\\, a', max_size=14))
def test_header_values_agree_with_a_reading_by_states(value):
    refused = bool(list(check_headers({"request": {"set": {"x": value}}}, "p")))
    assert refused == (not by_states(value))


def by_states(value: str) -> bool:
    """Envoy's reading of a header value, state by state: the slow and plain way."""
    state, at = "text", 0
    while at < len(value):
        char = value[at]
        if state == "text" and char == "%":
            if value[at + 1 : at + 2] == "%":
                at += 1
            else:
                state = "name"
                if at + 1 == len(value):
                    return False
        elif state == "name":
            state = {"%": "text", "(": "arguments"}.get(char, "name")
        elif state == "arguments" and char != " ":
            state = "quote" if char == "[" else "string"
        elif state == "quote" and char != " ":
            if char != '"':
                return False
            state = "string"
        elif state == "string":
            if char == "\\":
                at += 1
                if at == len(value):
                    return False
            state = {")": "end", '"': "comma"}.get(char, "string")
        elif state == "comma" and char != " ":
            if char not in ",]":
                return False
            state = "quote" if char == "," else "closing"
        elif state == "closing" and char != " ":
            if char != ")":
                return False
            state = "end"
        elif state == "end" and char != " ":
            if char != "%":
                return False
            state = "text"
        at += 1
    return state == "text"


@pytest.mark.parametrize(
    "name", ["x-a", "funky!$#_", ":authority", "@request.auth.claims.a", "@request.auth.claims[a][b]"]
)
def test_a_name_to_match_on_may_be_a_pseudo_header_or_a_claim(name):
    assert list(check_match_name(name, "p")) == []


@pytest.mark.parametrize(
    "name", ["", "a b", "::", "@request.auth.claims", "@request.auth.claims.", "@request.auth.claims[]"]
)
def test_other_names_to_match_on_are_refused(name):
    assert not is_claim(name)
    assert [finding.code for finding in check_match_name(name, "p")] == ["PS134"]


def rules(*matches):
    return [{"match": match} if match else {} for match in matches]


def taken(*matches):
    found = [*check_reach(rules(*matches), "http"), *check_overlap(rules(*matches), "http")]
    return [(finding.code, finding.path) for finding in found]


A, B = {"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}


def test_rules_that_differ_are_all_reached():
    assert taken([A], [B], None) == []


def test_a_rule_after_one_without_matches_is_never_reached():
    assert taken(None, [A]) == [("PS160", "http[1]")]
    assert taken([A], None, None) == [("PS160", "http[2]")]


def test_a_rule_with_one_fresh_match_is_reached():
    assert taken([A], [{"name": "again", **A}, B]) == [("PS161", "http[1].match[0]")]
    assert taken([A], [A, A])[-1] == ("PS160", "http[1]")


def test_a_match_repeated_in_its_own_rule_is_found():
    assert taken([A, A]) == [("PS161", "http[0].match[1]")]


def test_fields_at_their_defaults_make_no_difference():
    assert taken([A], [{**A, "port": 0, "ignoreUriCase": False, "headers": {}}])[-1][0] == "PS160"
    assert taken([{"uri": {}}], [{}]) == []


@pytest.mark.parametrize(
    ("later", "covered"),
    [
        ({}, True),
        ({"method": {"exact": "GET"}}, True),
        ({"method": {"exact": "POST"}}, False),
        ({"port": 80}, False),
        ({"headers": {"x": {"exact": "1"}}}, False),
        ({"authority": {"exact": "a"}}, False),
    ],
)
def test_a_longer_prefix_is_covered_unless_its_conditions_differ(later, covered):
    assert taken([A], [{"uri": {"prefix": "/a/b"}, **later}]) == (
        [("PS161", "http[1].match[0]")] if covered else []
    )


def test_a_shorter_prefix_after_a_longer_one_is_reached():
    assert taken([{"uri": {"prefix": "/a/b"}}], [A]) == []


def test_messages_name_the_rules_of_concern():
    named = [{"name": "first", "match": [A]}, {"name": "second", "match": [A]}]
    words = " ".join(finding.message for finding in check_reach(named, "http"))
    assert re.search(r'in rule "first".*rule "second" not used', words)
