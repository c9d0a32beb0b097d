"""The CRDs: structural, bounded, with a description on every field, and with the rules in the same words."""

import re

import pytest

from policies import crd
from policies.rules import RULES

DEFINITIONS = crd.definitions()
FORBIDDEN = {"$ref", "$defs", "anyOf", "allOf", "oneOf", "not", "const", "title", "x-model"}


def schema(name):
    return DEFINITIONS[name]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(node, path=""):
    yield path, node
    for name, field in node.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")


ALL = [(path, node) for name in DEFINITIONS for path, node in nodes(schema(name))]


def test_the_schema_is_structural():
    assert [path for path, node in ALL if FORBIDDEN & node.keys() or "type" not in node] == []
    assert [path for path, node in ALL if node.get("additionalProperties") is False] == []


def test_every_field_is_described():
    silent = [path for path, node in ALL if not node.get("description") and not path.endswith("[]")]
    assert set(silent) == {".metadata"}  # the API server describes it


def _bounded(node):
    if node["type"] == "array":
        return "maxItems" in node
    return node["type"] != "string" or "maxLength" in node or "enum" in node


def test_what_rules_look_at_is_bounded():
    assert [path for path, node in ALL if path.startswith(".spec") and not _bounded(node)] == []


def test_every_rule_is_in_the_crd_as_often_as_its_part_with_the_same_words():
    told = [
        (rule["message"], rule["rule"])
        for _, node in ALL
        for rule in node.get("x-kubernetes-validations", [])
    ]
    expected = {(f"{rule.code}: {rule.message}", rule.cel) for rule in RULES if rule.cel}
    assert set(told) == expected


def test_the_fields_that_a_rule_names_exist_in_its_part():
    for path, node in ALL:
        for rule in node.get("x-kubernetes-validations", []):
            named = set(re.findall(r"self\.([a-zA-Z]+)", rule["rule"]))
            assert named <= node["properties"].keys(), (path, rule)
            assert rule["fieldPath"].removeprefix(".") in node["properties"], (path, rule)


def test_parentheses_and_quotes_of_rules_are_closed():
    for rule in RULES:
        bare = re.sub(r"'[^']*'", "", rule.cel or "")
        assert (bare.count("("), "'" in bare) == (bare.count(")"), False), rule


def test_defaults_are_complete_values():
    spec = schema("rolloutpolicies.yaml")["properties"]["spec"]["properties"]
    decision = spec["decision"]
    assert decision["default"] == {name: field["default"] for name, field in decision["properties"].items()}
    assert decision["default"]["noDataTimeout"] == "5m"
    assert [path for path, node in ALL if node.get("default", 0) in ("", None, [], {})] == []
    within = {path: node["default"] for path, node in ALL if isinstance(node.get("default"), dict)}
    assert within[".spec.promotion"] == {"mode": "swap"}  # the API server takes no null for an absent field
    assert [path for path, default in within.items() if None in default.values()] == []


def test_a_rollout_has_a_status_and_columns_for_kubectl():
    (version,) = DEFINITIONS["rolloutpolicies.yaml"]["spec"]["versions"]
    names = [(column["name"], column.get("priority", 0)) for column in version["additionalPrinterColumns"]]
    assert names == [("Summary", 0), ("Weight", 0), ("Verdict", 0), ("Reason", 1), ("Age", 0)]
    assert version["subresources"] == {"status": {}}
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert status["x-kubernetes-preserve-unknown-fields"] is True
    assert {"observedGeneration", "summary", "conditions"} <= status["properties"].keys()


@pytest.mark.parametrize(
    ("file", "plural", "short"),
    [("rolloutpolicies.yaml", "rolloutpolicies", "rp"), ("metrictemplates.yaml", "metrictemplates", "mt")],
)
def test_names_fit_together(file, plural, short):
    spec = DEFINITIONS[file]["spec"]
    assert DEFINITIONS[file]["metadata"]["name"] == f"{plural}.penstock.dev"
    assert (spec["names"]["shortNames"], spec["names"]["categories"]) == ([short], ["penstock"])
    assert (spec["scope"], spec["versions"][0]["name"]) == ("Namespaced", "v1alpha1")
