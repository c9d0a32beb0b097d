"""The route view: selection, and one clear error per problem."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from istio import route as module
from istio.route import RouteError, routes, select


def vs(**spec):
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "ranker"},
        "spec": spec,
    }


def entry(*subsets, **more):
    return {"route": [{"destination": {"host": "ranker", "subset": s}} for s in subsets], **more}


MIX = vs(
    http=[entry("v1", name="primary"), entry("v1", name="secondary"), entry("v1")],
    tls=[entry("v1", name="secure"), entry("v1")],
    tcp=[entry("v1")],
)


def chosen(document, *names):
    return [route.selector for route in select(document, names)]


@pytest.mark.parametrize(
    ("names", "selectors"),
    [
        (["primary"], ["http[0]"]),
        (["secondary", "primary"], ["http[0]", "http[1]"]),
        (["http[2]"], ["http[2]"]),
        (["secure"], ["tls[0]"]),
        (["tls[1]", "tcp[0]", "primary"], ["http[0]", "tls[1]", "tcp[0]"]),
        (["primary", "http[0]", "primary"], ["http[0]"]),
    ],
)
def test_routes_are_selected_by_name_or_index_in_document_order(names, selectors):
    assert chosen(MIX, *names) == selectors


def test_without_names_the_only_route_of_each_kind_is_taken():
    assert chosen(vs(http=[entry("v1")])) == ["http[0]"]
    assert chosen(vs(http=[entry("v1")], tls=[entry("v1")], tcp=[entry("v1")])) == [
        "http[0]",
        "tls[0]",
        "tcp[0]",
    ]
    assert chosen(vs(http=[], tls=None, tcp=[entry("v1")])) == ["tcp[0]"]


def test_a_name_wins_over_an_index():
    assert chosen(vs(http=[entry("v1"), entry("v1", name="http[0]")]), "http[0]") == ["http[1]"]


def test_a_route_shows_its_destinations_as_written():
    document = vs(
        http=[entry("v1"), {"route": [{"destination": {"host": "a.b", "port": {"number": 80}}, "weight": 7}]}]
    )
    first, second = (route.destinations[0] for route in routes(document))
    assert (first.host, first.subset, first.port, first.weight, str(first)) == (
        "ranker",
        "v1",
        None,
        None,
        "ranker/v1",
    )
    assert (second.host, second.subset, second.port, second.weight, str(second)) == (
        "a.b",
        None,
        80,
        7,
        "a.b",
    )


@pytest.mark.parametrize(
    ("document", "names", "code", "words"),
    [
        (
            MIX,
            ["primry"],
            "unknown-route",
            ["'primry'", "did you mean primary?", "secondary (http[1])", "tcp[0]"],
        ),
        (MIX, ["http[3]"], "unknown-route", ["'http[3]'"]),
        (MIX, ["http[00]"], "unknown-route", []),
        (MIX, [""], "unknown-route", []),
        (MIX, [], "several-routes", ["3 http routes", "primary (http[0])", "http[2]", "name"]),
        (vs(http=[entry("v1")], tcp=[entry("v1")] * 2), [], "several-routes", ["2 tcp routes"]),
        (vs(http=[entry("v1", name="a")] * 2), ["a"], "duplicate-route", ["'a'", "http[0], http[1]"]),
        (
            vs(http=[entry("v1", name="a")], tls=[entry("v1", name="a")]),
            ["a"],
            "duplicate-route",
            ["http[0], tls[0]"],
        ),
        (vs(http=[{"name": "a", "redirect": {"uri": "/x"}}]), ["a"], "no-destinations", ["redirect"]),
        (vs(http=[{"directResponse": {"status": 503}}]), [], "no-destinations", ["directResponse"]),
        (vs(http=[{"delegate": {"name": "b"}}]), [], "no-destinations", ["delegate"]),
        (vs(http=[{"route": []}]), [], "no-destinations", ["empty"]),
        (vs(http=[{}]), [], "no-destinations", ["empty"]),
        (vs(), [], "no-routes", ["VirtualService ranker"]),
        (vs(http=None), ["a"], "no-routes", []),
        (vs(http={}), [], "malformed", ["spec.http must be a list, found a mapping"]),
        (vs(http="x"), [], "malformed", ["spec.http", "a text"]),
        (vs(http=[None]), [], "malformed", ["spec.http[0] is null"]),
        (vs(tcp=[7]), [], "malformed", ["spec.tcp[0] must be a mapping, found the number 7"]),
        (vs(http=[{"name": 5}]), [], "malformed", ["spec.http[0].name"]),
        (vs(http=[{"route": {}}]), [], "malformed", ["spec.http[0].route must be a list"]),
        (vs(http=[{"route": [None]}]), [], "malformed", ["spec.http[0].route[0] is null"]),
        (vs(http=[{"route": ["v1"]}]), [], "malformed", ["route[0] must be a mapping"]),
        (vs(http=[{"route": [{}]}]), [], "malformed", ["destination.host must be a text, found nothing"]),
        (vs(http=[{"route": [{"destination": []}]}]), [], "malformed", ["destination must be a mapping"]),
        (vs(http=[{"route": [{"destination": {"host": ""}}]}]), [], "malformed", ["host is empty"]),
        (vs(http=[{"route": [{"destination": {"host": "a", "subset": 1}}]}]), [], "malformed", ["subset"]),
        (vs(http=[{"route": [{"destination": {"host": "a", "port": 80}}]}]), [], "malformed", ["port"]),
        (vs(http=[{"route": [{"destination": {"host": "a"}, "weight": -1}]}]), [], "negative-weight", ["-1"]),
        (
            vs(http=[{"route": [{"destination": {"host": "a"}, "weight": "9"}]}]),
            [],
            "non-integer-weight",
            ["'9'"],
        ),
        (
            vs(http=[{"route": [{"destination": {"host": "a"}, "weight": 9.5}]}]),
            [],
            "non-integer-weight",
            ["9.5"],
        ),
        (
            vs(http=[{"route": [{"destination": {"host": "a"}, "weight": True}]}]),
            [],
            "non-integer-weight",
            ["True"],
        ),
        ({"kind": "VirtualService", "spec": []}, [], "malformed", ["spec must be a mapping, found a list"]),
        ({"kind": "VirtualService", "metadata": 1, "spec": None}, [], "malformed", ["metadata"]),
        ({"kind": "DestinationRule", "spec": {}}, [], "not-a-virtual-service", ["'DestinationRule'"]),
        ({**vs(), "apiVersion": "gateway.solo.io/v1"}, [], "not-a-virtual-service", ["gateway.solo.io"]),
        (None, [], "not-a-virtual-service", ["nothing"]),
        ([], [], "not-a-virtual-service", ["a list"]),
    ],
)
def test_every_problem_has_a_code_and_a_sentence(document, names, code, words):
    with pytest.raises(RouteError) as raised:
        select(document, names)
    assert raised.value.code == code
    assert not [word for word in words if word not in str(raised.value)], str(raised.value)
    assert "\n" not in str(raised.value)


def test_problems_of_other_routes_are_not_ours():
    assert chosen(
        vs(http=[{"route": [{"destination": {"host": "a"}, "weight": -1}]}, entry("v1")]), "http[1]"
    )


def test_every_error_has_a_code_of_its_own_and_stands_in_the_tree():
    kinds = [
        kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, RouteError)
    ]
    assert len({kind.code for kind in kinds}) == len(kinds) == 15
    assert not [kind for kind in kinds if kind.__name__ not in module.__doc__]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["http", "route", "destination", "host", "weight", "name"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(json_values)
def test_no_document_gives_another_kind_of_error(value):
    for document in (
        value,
        vs(http=value),
        vs(http=[{"route": [value]}]),
        {**vs(tcp=[entry("v1")]), "metadata": value},
    ):
        with contextlib.suppress(RouteError):
            assert select(document)
