"""Policies and templates from text and from objects: what is typed, and what is said about the rest."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from policies.findings import Source
from policies.model import RolloutPolicy
from policies.parse import InvalidError, parse, policy_from_object, template_from_object
from policies.schema import structural
from policies.shape import suggestion
from tests.support.policies import REMOVED, changed, policy, template, text

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "minimal" / "policy.yaml"


def findings(obj):
    return parse([("f.yaml", text(obj))]).findings


def test_a_policy_is_read_with_defaults_and_its_document():
    parsed = parse([("f.yaml", EXAMPLE.read_text())])
    (loaded,) = parsed.policies
    spec = loaded.value.spec
    assert (loaded.value.key, parsed.findings) == ("ml/ranker", [])
    assert [str(step.hold) for step in spec.strategy.canary.steps] == ["2m", "5m", "0s", "0s"]
    assert (str(spec.decision.interval), spec.decision.min_samples) == ("10s", 100)
    assert loaded.document.place("spec.metrics[1].margin") == Source("f.yaml", 22, 33)


def test_objects_of_other_kinds_are_passed_on_untouched():
    other = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": None,
        "x": [1, None],
    }
    parsed = parse([("f.yaml", text(other, policy()))])
    assert [document.data for document in parsed.others] == [other]
    assert (len(parsed.policies), parsed.findings) == (1, [])


STEP = "spec.strategy.canary.steps.0"
NAMES = "lower-case letters, digits and inner dashes, at most 63"
WRONG = [  # path, value, code, path of the finding, message, found
    ("spec.service.prot", 1, "PS006", "spec.service.prot",
     'unknown field "prot"; did you mean "port"?', None),
    ("spec.virtual_services", [], "PS006", "spec.virtual_services",
     'unknown field "virtual_services"; did you mean "virtualServices"?', None),
    ("spec.decision.minSample", 1, "PS006", "spec.decision.minSample",
     'unknown field "minSample"; did you mean "minSamples"?', None),
    ("spec.xyzzy", 1, "PS006", "spec.xyzzy", 'unknown field "xyzzy"', None),
    ("spec.service", REMOVED, "PS007", "spec.service", "is required", None),
    ("spec.variants.0.name", REMOVED, "PS007", "spec.variants[0].name", "is required", None),
    ("metadata.name", REMOVED, "PS007", "metadata.name", "is required", None),
    ("spec.metrics.0.margin", 0.25, "PS008", "spec.metrics[0].margin",
     "must be a percentage such as 25% or 0.5%", "0.25 (a number)"),
    ("spec.metrics.0.margin", "25", "PS008", "spec.metrics[0].margin",
     "must be a percentage such as 25% or 0.5%", '"25"'),
    ("spec.metrics.0.assume", 1.5, "PS008", "spec.metrics[0].assume",
     'must be a decimal number in quotes, such as "1.5"', "1.5 (a number)"),
    ("spec.metrics.0.edges", [10], "PS008", "spec.metrics[0].edges[0]",
     'must be a decimal number in quotes, such as "1.5"', "10 (a number)"),
    (f"{STEP}.hold", 90, "PS008", "spec.strategy.canary.steps[0].hold",
     "must be a duration such as 90s, 5m or 1h30m", "90 (a number)"),
    (f"{STEP}.weight", True, "PS008", "spec.strategy.canary.steps[0].weight",
     "must be a whole number from 1 to 100", "true (a boolean)"),
    (f"{STEP}.weight", 1.5, "PS008", "spec.strategy.canary.steps[0].weight",
     "must be a whole number from 1 to 100", "1.5 (a number)"),
    (f"{STEP}.weight", "5", "PS008", "spec.strategy.canary.steps[0].weight",
     "must be a whole number from 1 to 100", '"5"'),
    (f"{STEP}.pause", "yes", "PS008", "spec.strategy.canary.steps[0].pause",
     "must be true or false", '"yes"'),
    ("spec.variants.0.version", 1, "PS008", "spec.variants[0].version",
     "must be a string of 1 to 63 characters", "1 (a number)"),
    ("spec.variants", {"a": 1}, "PS008", "spec.variants", "must be a list of 2 to 16 items", "an object"),
    ("spec.variants.0", "stable", "PS008", "spec.variants[0]", "must be an object", '"stable"'),
    ("spec.variants.0", None, "PS008", "spec.variants[0]", "must be an object", "nothing"),
    ("spec.decision", [], "PS008", "spec.decision", "must be an object", "a list of 0"),
    (f"{STEP}.weight", 101, "PS009", "spec.strategy.canary.steps[0].weight",
     "must be a whole number from 1 to 100", "101 (a number)"),
    (f"{STEP}.weight", 0, "PS009", "spec.strategy.canary.steps[0].weight",
     "must be a whole number from 1 to 100", "0 (a number)"),
    ("spec.variants.0.name", "Stable!", "PS009", "spec.variants[0].name", f"must be {NAMES}", '"Stable!"'),
    ("spec.variants.0.name", "x" * 64, "PS009", "spec.variants[0].name",
     f"must be {NAMES}", f'"{"x" * 57}..."'),
    ("spec.variants.0.version", "", "PS009", "spec.variants[0].version",
     "must be a string of 1 to 63 characters", '""'),
    ("spec.metrics", [], "PS009", "spec.metrics", "must be a list of 1 to 32 items", "a list of 0"),
    ("spec.metrics.0.edges", ["1"] * 25, "PS009", "spec.metrics[0].edges",
     "must be a list of at most 24 items", "a list of 25"),
    ("spec.decision.onDeadline", "rolback", "PS010", "spec.decision.onDeadline",
     'must be one of hold, rollback, promote; did you mean "rollback"?', '"rolback"'),
    ("apiVersion", "penstock.dev/v1", "PS005", "apiVersion",
     "must be penstock.dev/v1alpha1", '"penstock.dev/v1"'),
    ("apiVersion", "penstock.io/v1alpha1", "PS005", "apiVersion",
     "must be penstock.dev/v1alpha1", '"penstock.io/v1alpha1"'),
    ("kind", "RolloutPolicies", "PS005", "kind",
     'must be RolloutPolicy or MetricTemplate; did you mean "RolloutPolicy"?', '"RolloutPolicies"'),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "code", "where", "message", "found"), WRONG)
def test_a_wrong_field_is_told_in_words(path, value, code, where, message, found):
    parsed = parse([("f.yaml", text(changed(policy(), path, value)))])
    (finding,) = parsed.findings
    assert (finding.code, finding.severity, finding.path) == (code, "error", where)
    assert (finding.message, finding.found) == (message, found)
    assert finding.allowed
    assert finding.object.split("/")[0] == ("RolloutPolicies" if path == "kind" else "RolloutPolicy")
    assert parsed.policies == []


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("on", "on (which YAML reads as true; put it in quotes)"),
        ("no", "no (which YAML reads as false; put it in quotes)"),
        ("1:30", "1:30 (which YAML reads as 90; put it in quotes)"),
        ("010", "010 (which YAML reads as 8; put it in quotes)"),
        ("1_000", "1_000 (which YAML reads as 1000; put it in quotes)"),
        ("7", "7 (a number)"),
    ],
)
def test_what_yaml_reads_differently_is_explained(written, found):
    (finding,) = parse([("f.yaml", EXAMPLE.read_text().replace("subset: v2", f"subset: {written}"))]).findings
    assert (finding.code, finding.found, finding.source) == ("PS008", found, Source("f.yaml", 12, 25))


def test_every_problem_of_every_document_is_told_at_once_in_reading_order():
    one = """\
apiVersion: penstock.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: one}
spec:
  service: {host: ranker}
  virtualservice: {name: ranker}
  variants:
    - {name: stable, subset: on}
    - {name: stable, subset: v2}
  strategy: {canary: {steps: [{weight: 9, hold: 5}, {weight: 50, wait: 1m}, {weight: 50}]}}
  metrics:
    - {template: istio-error-rate, margin: 0%, margin: 5%}
    - {template: istio-latency, dispersion: "0"}
  decision: {falsePromote: 50%, interval: 10}
"""
    two = one.replace("one", "two").replace("virtualservice", "virtualService")
    parsed = parse([("a.yaml", one + "---\na: [\n---\n" + two), ("b.yaml", "{")])
    in_one = [
        ("PS006", 6), ("PS008", 8), ("PS023", 9), ("PS008", 10), ("PS006", 10), ("PS026", 10),
        ("PS033", 12), ("PS002", 12), ("PS034", 13), ("PS030", 14), ("PS008", 14),
    ]  # fmt: skip
    in_two = [(code, line + 17) for code, line in in_one[1:]]
    got = [(finding.code, finding.source.file, finding.source.line) for finding in parsed.findings]
    assert got == [
        *((code, "a.yaml", line) for code, line in [*in_one, ("PS001", 17), *in_two]),
        ("PS001", "b.yaml", 2),
    ]
    assert parsed.policies == []


def test_problems_are_listed_up_to_a_bound():
    many = changed(policy(), "spec.service", {"host": "ranker", **{f"x{index}": 1 for index in range(150)}})
    found = findings(many)
    assert [finding.code for finding in found].count("PS006") == 100
    (last,) = [finding for finding in found if finding.code == "PS003"]
    assert last.message == "here begin 50 more problems, not listed"


def test_a_field_without_a_value_is_absent_and_warned_of():
    parsed = parse([("f.yaml", text(changed(policy(), "spec.decision", None)))])
    (finding,) = parsed.findings
    assert (finding.code, finding.severity, finding.path) == ("PS011", "warning", "spec.decision")
    assert str(parsed.policies[0].value.spec.decision.deadline) == "2h"


def test_a_policy_with_a_repeated_field_is_not_used_although_it_can_be_read():
    parsed = parse([("f.yaml", text(policy()) + "kind: RolloutPolicy\n")])
    assert [finding.code for finding in parsed.findings] == ["PS002"]
    assert parsed.policies == []


def test_a_status_is_not_looked_at():
    assert findings({**policy(), "status": {"anything": None}}) == []


def test_two_files_keep_their_names():
    parsed = parse([("a.yaml", text(policy(name="a"))), ("b.yaml", text(policy(name="b"), template()))])
    assert [loaded.document.file for loaded in parsed.policies] == ["a.yaml", "b.yaml"]
    assert [(loaded.document.index, loaded.value.metadata.name) for loaded in parsed.templates] == [
        (1, "own")
    ]


def test_an_object_of_a_store_becomes_a_value():
    stored = policy(resourceVersion="7", generation=3, managedFields=[], uid="u")
    stored["spec"]["decision"]["falseRollback"] = None
    value = policy_from_object({**stored, "status": {"run": {}}})
    assert (value.metadata.resource_version, value.metadata.generation) == ("7", 3)
    assert template_from_object(template()).spec.labels.instance == "instance"


def test_a_wrong_object_of_a_store_raises_all_findings():
    obj = changed(changed(policy(), "spec.metrics.0.margin", "0%"), "spec.service.prot", 1)
    with pytest.raises(InvalidError, match="did you mean") as raised:
        policy_from_object(obj)
    assert [finding.code for finding in raised.value.findings] == ["PS006", "PS033"]
    with pytest.raises(InvalidError):
        template_from_object(policy())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("virtual_service", "virtualService"), ("virtualservice", "virtualService"), ("Margin", "margin"),
        ("margins", "margin"), ("metric", "metrics"), ("wieght", "weight"), ("dead-line", "deadline"),
        ("wait", None), ("", None),
    ],
)  # fmt: skip
def test_the_suggestion_is_another_spelling_or_a_near_name(name, meant):
    names = ["virtualService", "virtualServices", "margin", "metrics", "weight", "deadline"]
    assert suggestion(name, names) == meant


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def _paths(value, path=""):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, f"{path}.{key}" if path else str(key))


@given(st.sampled_from([policy(), template(), template("histogram")]), st.data())
def test_whatever_stands_in_a_field_is_taken_or_told_and_nothing_raises(obj, data):
    path = data.draw(st.sampled_from([path for path in _paths(obj) if path and path != "apiVersion"]))
    broken = changed(obj, path, data.draw(JSON))
    parsed = parse([("f.json", yaml.safe_dump(broken))])
    assert parsed.policies or parsed.templates or parsed.others or parsed.findings
    for finding in parsed.findings:
        assert finding.source is not None
        assert not any(word in finding.message for word in ("Input", "pydantic", "tuple", "Extra"))


def _leaves(schema, path=""):
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from _leaves(field, f"{path}.{name}")
    if "items" in schema:
        yield from _leaves(schema["items"], f"{path}[]")


def test_every_field_has_a_description():
    schema = structural(RolloutPolicy)
    assert [
        path for path, field in _leaves(schema) if not path.endswith("]") and not field.get("description")
    ] == []


STEPS = st.lists(st.integers(1, 100), min_size=1, max_size=6, unique=True).map(sorted)


@given(STEPS, st.integers(1, 999), st.integers(0, 9999), st.integers(1, 100_000))
def test_a_policy_prints_as_one_that_reads_as_the_same(weights, margin, hold, deadline):
    obj = changed(
        policy(), "spec.strategy.canary.steps", [{"weight": w, "hold": f"{hold}ms"} for w in weights]
    )
    obj = changed(obj, "spec.metrics.0.margin", f"0.{margin:03}%")
    value = policy_from_object(changed(obj, "spec.decision.deadline", f"{deadline + 9}s"))
    printed = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    (loaded,) = parse([("f.yaml", text(printed))]).policies
    assert loaded.value == value
