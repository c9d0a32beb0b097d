"""Conditions of routes, one Envoy matcher each."""

import pytest

from istio.envoy.matches import is_catch_all, route_match


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ({"exact": "/a"}, {"path": "/a"}),
        ({"prefix": "/a"}, {"prefix": "/a"}),
        ({"regex": "/a.*"}, {"safe_regex": {"regex": "/a.*"}}),
        ({}, {"prefix": "/"}),
    ],
)
def test_a_path_is_matched_exactly_by_prefix_or_by_expression(uri, path):
    assert route_match({"uri": uri}) == {**path, "case_sensitive": True}


def test_the_case_of_a_path_counts_unless_it_is_ignored():
    assert route_match({"uri": {"exact": "/a"}, "ignoreUriCase": True})["case_sensitive"] is False


@pytest.mark.parametrize("field", ["method", "authority", "scheme"])
def test_parts_of_the_request_line_are_pseudo_headers(field):
    (matcher,) = route_match({field: {"exact": "x"}})["headers"]
    assert matcher == {"name": f":{field}", "string_match": {"exact": "x"}}


def test_headers_come_by_name_before_pseudo_headers():
    match = {
        "headers": {"b": {"prefix": "1"}, "a": {"regex": "2"}},
        "withoutHeaders": {"aa": {"exact": "3"}},
        "method": {"exact": "GET"},
    }
    assert [matcher["name"] for matcher in route_match(match)["headers"]] == ["a", "aa", "b", ":method"]


@pytest.mark.parametrize("how", [{}, {"regex": "*"}])
def test_an_empty_condition_or_a_star_means_present(how):
    assert route_match({"headers": {"x": how}})["headers"] == [{"name": "x", "present_match": True}]
    assert route_match({"queryParams": {"x": how}})["query_parameters"] == [
        {"name": "x", "present_match": True}
    ]


def test_an_unwanted_value_also_admits_requests_without_the_header():
    (matcher,) = route_match({"withoutHeaders": {"x": {"exact": "1"}}})["headers"]
    assert matcher["invert_match"] is True
    assert matcher["treat_missing_header_as_empty"] is True


def test_an_unwanted_header_is_not_treated_as_empty_when_it_is_missing():
    (matcher,) = route_match({"withoutHeaders": {"x": {}}})["headers"]
    assert matcher == {"name": "x", "present_match": True, "invert_match": True}


def test_query_parameters_are_matched_by_value():
    (matcher,) = route_match({"queryParams": {"q": {"exact": "1"}}})["query_parameters"]
    assert matcher == {"name": "q", "string_match": {"exact": "1"}}


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (None, True),
        ({}, True),
        ({"uri": {"prefix": "/"}}, True),
        ({"uri": {"regex": ".*"}}, True),
        ({"uri": {"exact": "/"}}, False),
        ({"uri": {"prefix": "/"}, "headers": {"x": {}}}, False),
        ({"queryParams": {"x": {}}}, False),
    ],
)
def test_only_a_match_without_conditions_takes_everything(match, expected):
    assert is_catch_all(route_match(match)) is expected
