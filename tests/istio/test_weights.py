"""Weight edits: exact shares, exactly the weights asked for, and nothing else."""

from __future__ import annotations

import copy
from fractions import Fraction

import jsonpatch
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from istio.jsonpatch import PatchConflictError, apply_patch
from istio.route import RouteError
from istio.text import find
from istio.weights import current, edit, split
from tests.support.virtualservices import CORPUS, cases, in_force, request, without_weights


def vs(*routes, **metadata):
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "ranker", "namespace": "ml", **metadata},
        "spec": {"http": [{"route": list(route)} for route in routes]},
    }


def to(subset=None, weight=None, host="ranker", **more):
    target = {"host": host} | ({"subset": subset} if subset else {})
    return {"destination": target, **({} if weight is None else {"weight": weight}), **more}


shares = st.lists(st.integers(0, 1000) | st.fractions(0, 10), min_size=1, max_size=8).filter(any)


@settings(deadline=None)
@given(st.integers(0, 1000), shares)
def test_a_split_sums_to_the_total_and_is_off_by_less_than_one(total, parts):
    result = split(total, parts)
    assert sum(result) == total
    for got, share in zip(result, parts, strict=True):
        assert isinstance(got, int)
        assert abs(got - Fraction(total) * share / sum(map(Fraction, parts))) < 1
        assert share or not got


@settings(deadline=None)
@given(shares, st.fractions(Fraction(1, 9), 9))
def test_a_split_depends_only_on_proportions(parts, factor):
    assert split(100, parts) == split(100, [share * factor for share in parts])


@pytest.mark.parametrize(
    ("total", "parts", "result"),
    [
        (100, [1, 1, 1], [34, 33, 33]),
        (100, [1, 1, 1, 1, 1, 1, 1], [15, 15, 14, 14, 14, 14, 14]),
        (100, [Fraction(1, 3), Fraction(2, 3)], [33, 67]),
        (75, [0, 1, 1], [0, 38, 37]),
        (0, [5, 5], [0, 0]),
    ],
)
def test_a_split_gives_the_rest_to_the_largest_remainder_and_then_to_the_first(total, parts, result):
    assert split(total, parts) == result


@pytest.mark.parametrize(("total", "parts"), [(100, []), (100, [0, 0]), (100, [2, -1]), (-1, [1])])
def test_a_split_of_nothing_is_refused(total, parts):
    with pytest.raises(ValueError, match="at least 0"):
        split(total, parts)


@settings(deadline=None)
@given(cases())
def test_an_edit_sets_the_weights_asked_for_and_changes_nothing_else(case):
    before = copy.deepcopy(case.vs)
    patch = edit(case.vs, case.weights, case.names)
    after = jsonpatch.apply_patch(case.vs, patch)
    assert case.vs == before
    assert after == apply_patch(case.vs, patch)
    assert without_weights(after, case.selected) == without_weights(before, case.selected)
    for kind, index in case.selected:
        route = after["spec"][kind][index]
        subsets = [entry["destination"].get("subset") for entry in route["route"]]
        assert in_force(route) == [case.weights.get(subset, 0) for subset in subsets]
        assert sum(in_force(route)) == 100
    assert edit(after, case.weights, case.names) == []
    assert current(after, case.weights, case.names) == case.weights


@settings(deadline=None)
@given(cases())
def test_an_edit_is_minimal_and_guarded(case):
    patch = edit(case.vs, case.weights, case.names)
    guards = [op for op in patch if op["op"] == "test"]
    changes = [op for op in patch if op["op"] != "test"]
    assert patch == [*guards, *changes]
    assert bool(guards) == bool(changes)
    for op in changes:
        place = jsonpatch.JsonPointer(op["path"])
        assert op["path"].endswith("/weight")
        written = place.resolve(case.vs, None)
        assert op["op"] == ("add" if written is None else "replace")
        assert written != op["value"]
    version = case.vs["metadata"].get("resourceVersion")
    if changes and version:
        assert guards == [{"op": "test", "path": "/metadata/resourceVersion", "value": version}]
        moved = copy.deepcopy(case.vs)
        moved["metadata"]["resourceVersion"] = "18"
        with pytest.raises(PatchConflictError):
            apply_patch(moved, patch)


@settings(deadline=None)
@given(cases(), st.data())
def test_without_a_version_a_patch_does_not_apply_to_a_route_that_has_changed(case, data):
    case.vs["metadata"].pop("resourceVersion", None)
    patch = edit(case.vs, case.weights, case.names)
    edited = {tuple(op["path"].split("/")[2:4]) for op in patch}
    if not edited:
        return
    kind, index = data.draw(st.sampled_from(sorted(edited)))
    moved = copy.deepcopy(case.vs)
    entry = moved["spec"][kind][int(index)]["route"][0]
    change = data.draw(st.sampled_from(["host", "weight", "gone", "shift"]))
    if change == "host":
        entry["destination"]["host"] = "another"
    elif change == "weight":
        entry["weight"] = entry.get("weight", 0) + 1
    elif change == "gone":
        del moved["spec"][kind][int(index)]["route"][0]
    else:
        moved["spec"][kind].insert(int(index), {"name": "new", "route": [to(host="elsewhere")]})
    with pytest.raises(PatchConflictError):
        apply_patch(moved, patch)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_is_edited_where_its_first_lines_say_and_nowhere_else(path):
    text = path.read_text()
    asked = request(text)
    if asked.outcome == "error":
        with pytest.raises(RouteError) as raised:
            edit(find(text, asked.virtual_service), asked.weights, asked.routes)
        assert raised.value.code == asked.value
        return
    if asked.outcome == "text":
        return
    document = find(text, asked.virtual_service)
    expected = copy.deepcopy(document)
    for change in asked.value.split():
        selector, _, numbers = change.partition("=")
        kind, _, index = selector.rstrip("]").partition("[")
        for entry, weight in zip(
            expected["spec"][kind][int(index)]["route"], numbers.split(","), strict=True
        ):
            entry["weight"] = int(weight)
    assert jsonpatch.apply_patch(document, edit(document, asked.weights, asked.routes)) == expected


def test_the_corpus_is_large_and_read_as_plain_yaml_reads_it():
    assert len(CORPUS) >= 30
    for path in CORPUS:
        documents = [doc for doc in yaml.safe_load_all(path.read_text()) if doc]
        if len(documents) == 1:
            assert find(path.read_text()) == documents[0]


def test_an_omitted_weight_is_written_out_even_when_istio_would_supply_it():
    assert edit(vs([to("v1", 100), to("v2")]), {"v1": 100, "v2": 0})[1:] == [
        {"op": "add", "path": "/spec/http/0/route/1/weight", "value": 0}
    ]
    assert edit(vs([to("v1")]), {"v1": 100})[1:] == [
        {"op": "add", "path": "/spec/http/0/route/0/weight", "value": 100}
    ]
    assert edit(vs([to("v1", 0)]), {"v1": 100})[-1] == {
        "op": "replace", "path": "/spec/http/0/route/0/weight", "value": 100,
    }  # fmt: skip
    assert edit(vs([to("v1", None), to("v2", None)]), {"v2": 30, "v1": 70})[-2:] == [
        {"op": "add", "path": "/spec/http/0/route/0/weight", "value": 70},
        {"op": "add", "path": "/spec/http/0/route/1/weight", "value": 30},
    ]


def test_the_guard_is_the_version_or_else_the_route_with_its_name():
    document = vs([to("v1", 100), to("v2", 0)], resourceVersion="7")
    document["spec"]["http"][0]["name"] = "primary"
    assert edit(document, {"v1": 99, "v2": 1})[:-2] == [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    ]
    del document["metadata"]["resourceVersion"]
    assert edit(document, {"v1": 99, "v2": 1})[:-2] == [
        {"op": "test", "path": "/spec/http/0/name", "value": "primary"},
        {"op": "test", "path": "/spec/http/0/route", "value": [to("v1", 100), to("v2", 0)]},
    ]


@pytest.mark.parametrize(
    ("key", "hosts", "index"),
    [
        ("ranker", [("ranker", "v1"), ("ranker", None)], 1),
        ("ranker.ml", [("ranker", None), ("ranker.prod", None)], 0),
        ("ranker.prod.svc.cluster.local", [("ranker", None), ("ranker.prod", None)], 1),
        ("v1", [("ranker", None), ("ranker", "v1")], 1),
        ("ranker/v1", [("other", "v1"), ("ranker", "v1")], 1),
        ("ranker.ml.svc/v1", [("other", "v1"), ("ranker", "v1")], 1),
        ("api.example.com", [("api", None), ("api.example.com", None)], 1),
    ],
)
def test_a_key_finds_its_destination(key, hosts, index):
    document = vs([to(subset, 0, host) for host, subset in hosts])
    assert edit(document, {key: 100})[-1]["path"] == f"/spec/http/0/route/{index}/weight"


PAIR = vs([to("v1", 100), to("v2", 0)])


@pytest.mark.parametrize(
    ("document", "weights", "code", "words"),
    [
        (PAIR, {"v1": 90, "v2": 9}, "weight-sum", ["v1 90, v2 9 sum to 99", "100"]),
        (PAIR, {}, "weight-sum", ["none were given"]),
        (PAIR, {"v1": 110, "v2": -10}, "negative-weight", ["v2", "-10"]),
        (PAIR, {"v1": 99.5, "v2": 0.5}, "non-integer-weight", ["v1", "99.5"]),
        (PAIR, {"v1": 99, "v2": True}, "non-integer-weight", ["v2", "True"]),
        (
            PAIR,
            {"v1": 90, "v22": 10},
            "missing-destination",
            ["'v22'", "did you mean v2?", "it has ranker/v1"],
        ),
        (PAIR, {"v1": 90, "ranker": 10}, "missing-destination", ["'ranker'", "ranker/v2"]),
        (PAIR, {"v1": 90, "ranker/": 10}, "missing-destination", []),
        (PAIR, {"v1": 90, "/v2": 10}, "missing-destination", []),
        (PAIR, {"v1": 90, "ranker/v1": 10}, "duplicate-destination", ["v1 and ranker/v1 are the same"]),
        (
            vs([to("v1"), to("v1"), to("v2")]),
            {"v1": 90, "v2": 10},
            "duplicate-destination",
            ["route[0]", "route[1]"],
        ),
        (vs([to("v1"), to("v1", host="b")]), {"v1": 100}, "duplicate-destination", ["ranker/v1", "b/v1"]),
        (vs([to("a"), to(host="a")]), {"a": 100}, "duplicate-destination", []),
        (vs([to(host="a"), to(host="a.ml")]), {"a": 100}, "duplicate-destination", ["a.ml"]),
        (
            vs([to("v1", 80), to("v2"), to("c2", 20)]),
            {"v1": 90, "v2": 10},
            "unmanaged-weight",
            ["20 % to ranker/c2"],
        ),
        (
            vs([to("v1", 80), to("c2", -20)]),
            {"v1": 100},
            "negative-weight",
            ["spec.http[0].route[1].weight", "-20"],
        ),
    ],
)
def test_what_cannot_be_edited_is_said_clearly(document, weights, code, words):
    before = copy.deepcopy(document)
    with pytest.raises(RouteError) as raised:
        edit(document, weights)
    assert raised.value.code == code
    assert not [word for word in words if word not in str(raised.value)], str(raised.value)
    assert document == before


def test_one_faulty_route_stops_the_whole_edit():
    document = vs([to("v1", 100), to("v2", 0)], [to("v1", 100)])
    with pytest.raises(RouteError) as raised:
        edit(document, {"v1": 90, "v2": 10}, ["http[0]", "http[1]"])
    assert "http[1]" in str(raised.value)


def test_current_weights_are_read_as_istio_reads_them():
    assert current(vs([to("v1")]), ["v1"]) == {"v1": 100}
    assert current(vs([to("v1", 3), to("v2")]), ["v2", "v1"]) == {"v2": 0, "v1": 3}


def test_routes_that_disagree_have_no_current_weights():
    document = vs([to("v1", 90), to("v2", 10)], [to("v1", 80), to("v2", 20)])
    with pytest.raises(RouteError, match=r"http.0. has v1 90, v2 10, but http.1. has v1 80, v2 20") as raised:
        current(document, ["v1", "v2"], ["http[0]", "http[1]"])
    assert raised.value.code == "routes-disagree"
