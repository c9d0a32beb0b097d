"""One object: paths, words, suggestions; and that nothing a file can hold makes lint raise."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from istio.lint import lint_object
from istio.lint.codes import CODES, KINDS, catalogue
from istio.lint.fields import SPECS
from istio.lint.schema import Items, Message, Table
from policies.findings import errors

ROOT = Path(__file__).parents[2]
CORPUS = [yaml.safe_load(file.read_text()) for file in sorted((ROOT / "tests/corpus/lint").glob("*/*.yaml"))]


def virtual_service(**route):
    spec = {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]} | route]}
    meta = {"name": "web", "namespace": "team"}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": meta, "spec": spec}


def only(obj):
    (finding,) = lint_object(obj)
    return finding


def test_a_negative_weight_is_found_at_its_field():
    entries = [{"destination": {"host": host}, "weight": weight} for host, weight in (("a", 101), ("b", -1))]
    finding = only(virtual_service(route=entries))
    assert (finding.code, finding.path, finding.found) == ("PS137", "spec.http[0].route[1].weight", "-1")
    assert finding.object == "VirtualService/team/web"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("timout", "timeout"),
        ("time_out", "timeout"),
        ("corspolicy", "corsPolicy"),
        ("mirror_percentage", "mirrorPercentage"),
    ],
)
def test_an_unknown_field_suggests_the_one_that_was_meant(wrong, meant):
    assert only(virtual_service(**{wrong: "5s"})).message == f"unknown field {wrong}; did you mean {meant}?"


def test_an_unknown_field_like_no_other_gets_no_suggestion():
    assert only(virtual_service(zzzz=1)).message == "unknown field zzzz"


def test_a_wrong_type_is_described_as_a_person_would():
    finding = only(virtual_service(timeout=5))
    assert (finding.code, finding.path, finding.found) == ("PS102", "spec.http[0].timeout", "the number 5")


@pytest.mark.parametrize("weight", [10**400, -(10**400), 1e300, float("inf"), float("nan"), True])
def test_a_number_of_any_size_is_judged(weight):
    obj = virtual_service(route=[{"destination": {"host": "web"}, "weight": weight}])
    assert {finding.code for finding in lint_object(obj)} <= {"PS102", "PS104", "PS137"}
    assert errors(lint_object(obj))


def test_a_retry_status_of_thousands_of_digits_is_none():
    assert only(virtual_service(retries={"attempts": 1, "retryOn": "5" * 5000})).code == "PS140"


def test_istiods_rules_wait_until_the_types_are_right():
    obj = virtual_service(timeout=5)
    obj["spec"]["hosts"] = ["not a host"]
    assert [finding.code for finding in lint_object(obj)] == ["PS102"]


@pytest.mark.parametrize(
    ("size", "code"),
    [(100 * 1024, None), (100 * 1024 + 1, "PS144"), (1 << 20, "PS144"), ((1 << 20) + 1, "PS143")],
)
def test_the_body_of_a_direct_response_is_bounded(size, code):
    obj = virtual_service(directResponse={"status": 200, "body": {"string": "x" * size}})
    del obj["spec"]["http"][0]["route"]
    assert [finding.code for finding in lint_object(obj)] == ([code] if code else [])


def test_a_spec_left_out_is_an_empty_one():
    obj = virtual_service()
    del obj["spec"]
    assert [finding.code for finding in lint_object(obj)] == ["PS120"]


def test_a_name_may_be_left_to_the_api_server():
    obj = virtual_service()
    obj["metadata"] = {"generateName": "web-"}
    assert lint_object(obj) == []
    obj["metadata"] = {}
    assert only(obj).code == "PS103"


def test_other_kinds_have_no_findings():
    assert lint_object({"kind": "Service", "spec": 7}) == []
    assert lint_object({"kind": ["VirtualService"]}) == []


def test_shared_codes_are_never_reported_unresolved():
    assert all("x" not in finding.code for obj in CORPUS for finding in lint_object(obj))
    assert "PS101" in catalogue()
    assert "PSx01" not in catalogue()
    assert {code[2] for code in catalogue()} == {*KINDS.values(), "4"}


def test_every_code_is_explained_with_its_severity():
    text = (ROOT / "docs" / "findings.md").read_text()
    for code, entry in CODES.items():
        name = ", ".join(code.replace("x", digit) for digit in KINDS.values()) if "x" in code else code
        assert f"| {name} | {entry.severity} |" in text


def fields(schema):
    match schema:
        case Message():
            for name, below in schema.fields.items():
                yield name
                yield from fields(below)
        case Items() | Table():
            yield from fields(schema.of)


NAMES = sorted({name for spec in SPECS.values() for name in fields(spec)})
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
words = st.sampled_from(
    ["", "*", "a.b", "5s", "-1s", "10.0.0.0/8", "unix://@a", "STATIC", "DNS", "%A(", "é", "a/b", "mesh"]
)
json = st.recursive(
    scalars | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner)
    ),
    max_leaves=12,
)


@given(kind=st.sampled_from(sorted(KINDS)), spec=json, metadata=json)
@settings(max_examples=300, deadline=None)
def test_no_json_makes_lint_raise(kind, spec, metadata):
    obj = {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
    for finding in lint_object(obj):
        assert finding.code in catalogue()


@st.composite
def damaged(draw):
    """A document of the corpus in which some values are gone or others."""
    obj = copy.deepcopy(draw(st.sampled_from(CORPUS)))
    for _ in range(draw(st.integers(1, 3))):
        node = obj["spec"]
        while isinstance(node, dict | list) and node:
            key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            if draw(st.booleans()) or not isinstance(node[key], dict | list):
                if draw(st.booleans()):
                    del node[key]
                else:
                    node[key] = draw(json)
                break
            node = node[key]
    return obj


@given(damaged())
@settings(max_examples=400, deadline=None)
def test_no_damage_to_a_document_makes_lint_raise(obj):
    before = copy.deepcopy(obj)
    for finding in lint_object(obj):
        assert finding.code in catalogue()
    assert repr(obj) == repr(before), "lint must not change what it judges"
