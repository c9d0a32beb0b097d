"""The rules between fields and between documents: each is broken once, at its very limit where it has one."""

import pytest

from policies.model import Outcome, TemplateSpec
from policies.parse import parse
from policies.rules import RULES, check_all, template_for
from tests.support.policies import REMOVED, changed, policy, template, text
from tests.support.rule_breaches import BROKEN, BROKEN_TEMPLATES, SOUND, STEPS

ONE_OF_SEVERAL = {"PS052", "PS055", "PS056"}
"""Rules about several fields: the API server blames the first, whichever it is."""


@pytest.mark.parametrize(("code", "path", "value", "where", "found"), BROKEN)
def test_a_broken_rule_is_found_where_it_is_broken(code, path, value, where, found):
    obj = policy()
    obj["spec"]["metrics"].append({"template": "istio-latency"})
    parsed = parse([("f.yaml", text(changed(obj, path, value)))])
    finding = next(finding for finding in parsed.findings if finding.code == code)
    (rule,) = {rule.message: rule for rule in RULES if rule.code == code}.values()
    assert (finding.path, finding.message, finding.severity) == (where, rule.message, rule.severity)
    assert found is None or finding.found == found
    assert rule.cel is None or f".{rule.field}" in finding.path, "the API server blames the same field"
    assert (parsed.policies == []) == (rule.severity == "error")


@pytest.mark.parametrize(("kind", "code", "path", "value", "where"), BROKEN_TEMPLATES)
def test_a_broken_rule_of_a_template_is_found(kind, code, path, value, where):
    parsed = parse([("f.yaml", text(changed(template(kind), path, value)))])
    assert (code, where) in {(finding.code, finding.path) for finding in parsed.findings}
    assert parsed.templates == []
    (rule,) = (rule for rule in RULES if rule.code == code and rule.scope in {TemplateSpec, Outcome})
    assert f".{rule.field}" in where or code in ONE_OF_SEVERAL


@pytest.mark.parametrize(("path", "value"), SOUND)
def test_the_limits_themselves_are_allowed(path, value):
    assert parse([("f.yaml", text(changed(policy(), path, value)))]).findings == []


@pytest.mark.parametrize("kind", ["proportion", "histogram", "mean", "share"])
def test_each_kind_of_template_can_be_written(kind):
    assert parse([("f.yaml", text(template(kind)))]).findings == []


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("histogram", "latency_milliseconds_bucket"),
        ("histogram", "latency_milliseconds"),
        ("histogram", 'latency_bucket{timeout_seconds="5"}'),
        ("proportion", "latency_seconds_count"),
    ],
)
def test_a_unit_in_a_query_that_is_the_templates_own_or_counts_nothing_is_right(kind, metric):
    labels = "ns, svc, ver, instance, code, proto, grpc, le"
    own = changed(template(kind), "spec.query", f"sum by ({labels}) ({metric})")
    assert parse([("f.yaml", text(own))]).findings == []


def test_a_set_in_a_set_is_no_warning():
    obj = changed(template(), "spec.outcome.httpEvent", "[[5].")
    assert parse([("f.yaml", text(obj))]).findings == []


@pytest.mark.parametrize("pattern", ["(" * 500 + ")" * 500, "a{99999999999}"])
def test_an_expression_that_python_cannot_compile_is_a_finding_and_no_crash(pattern):
    findings = parse([("f.yaml", text(changed(template(), "spec.outcome.httpEvent", pattern)))]).findings
    assert [finding.severity for finding in findings] == ["error"]
    assert "must be regular expressions (RE2)" in findings[0].message


def test_every_rule_is_broken_in_some_test():
    broken = {code for code, *_ in BROKEN} | {code for _, code, *_ in BROKEN_TEMPLATES}
    assert {rule.code for rule in RULES} == broken


def test_a_code_has_one_meaning():
    words = {}
    assert all(words.setdefault(rule.code, rule.message) == rule.message for rule in RULES)


def test_rules_that_the_api_server_cannot_tell_are_only_advice():
    assert {rule.severity for rule in RULES if rule.cel is None} == {"warning"}
    assert {rule.severity for rule in RULES if rule.cel} == {"error"}


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        # a typo of the one field that a rule asks for is told once, as a typo
        ({"spec.virtualService": REMOVED, "spec.virtualservice": {"name": "x"}}, ["PS006"]),
        ({"spec.metrics.0.margin": 0.25}, ["PS008"]),
        ({"spec.variants.0.subset": 1}, ["PS008"]),
        # a part that is whole is judged although its neighbours are broken
        ({"spec.service": REMOVED, "spec.metrics.0.margin": "0%"}, ["PS007", "PS033"]),
        ({"spec.variants.0": "stable", "spec.decision.deadline": "1s"}, ["PS008", "PS032"]),
        ({f"{STEPS}.0.weight": 1.5, "spec.decision.falsePromote": "99%"}, ["PS008", "PS030"]),
        ({"spec.bogus": 1, f"{STEPS}.1.weight": 5}, ["PS006", "PS026"]),
        ({"spec.metrics.0.edges": [1, "2"], "spec.metrics.0.tolerance": "9999%"}, ["PS008", "PS038"]),
    ],
)
def test_a_broken_policy_is_judged_as_far_as_it_is_whole(changes, codes):
    obj = policy()
    for path, value in changes.items():
        obj = changed(obj, path, value)
    assert sorted(finding.code for finding in parse([("f.yaml", text(obj))]).findings) == codes


def between(*objects):
    """Return (code, object, path) of what is wrong between sound objects."""
    parsed = parse([(f"{index}.yaml", text(obj)) for index, obj in enumerate(objects)])
    assert parsed.findings == []
    findings = check_all(parsed.policies, parsed.templates)
    assert all(finding.source is not None for finding in findings)
    return [(finding.code, finding.object, finding.path) for finding in findings]


RANKER = "RolloutPolicy/ml/ranker"
METRIC = "spec.metrics.0"


def test_policies_of_different_routes_and_namespaces_get_along():
    one = changed(policy(), "spec.virtualService.routes", ["a"])
    two = changed(policy(name="two"), "spec.virtualService.routes", ["b"])
    assert between(one, two, policy(namespace="other")) == []


@pytest.mark.parametrize(
    ("one", "two", "meet"),
    [
        ([], [], True),
        (["a"], [], True),
        ([], ["a"], True),
        (["a", "b"], ["b", "c"], True),
        (["a"], ["b"], False),
    ],
)
def test_a_route_has_one_policy(one, two, meet):
    first = changed(policy(), "spec.virtualService.routes", one)
    second = changed(policy(name="two"), "spec.virtualService", REMOVED)
    second["spec"]["virtualServices"] = [{"name": "x"}, {"name": "ranker", "routes": two}]
    expected = [("PS066", "RolloutPolicy/ml/two", "spec.virtualServices[1]")] if meet else []
    assert between(first, second) == expected


def test_two_masters_of_a_route_are_both_named_with_their_places():
    parsed = parse([("a.yaml", text(policy())), ("b.yaml", text(policy(name="two")))])
    (finding,) = check_all(parsed.policies, parsed.templates)
    assert finding.message == (
        "ml/ranker manages its only route of VirtualService ranker already (a.yaml:10:3); "
        "a route can have one policy"
    )
    assert str(finding.source) == "b.yaml:10:3"


def test_one_name_is_given_once():
    assert between(policy(), policy()) == [("PS060", RANKER, "metadata.name")]
    assert between(template(), template("share")) == [("PS060", "MetricTemplate/ml/own", "metadata.name")]
    assert between(policy(name="own"), template()) == []


def test_a_name_of_the_catalog_is_taken():
    taken = template(name="istio-latency")
    assert between(taken) == [("PS061", "MetricTemplate/ml/istio-latency", "metadata.name")]


def test_a_template_must_exist_in_the_namespace():
    own = changed(policy(), f"{METRIC}.template", "own")
    assert between(own, template()) == []
    assert between(own, template(namespace="other")) == [("PS062", RANKER, "spec.metrics[0].template")]


def test_an_unknown_template_is_told_with_a_suggestion():
    parsed = parse([("f.yaml", text(changed(policy(), f"{METRIC}.template", "istio-eror-rate")))])
    (finding,) = check_all(parsed.policies, [])
    assert finding.message == 'there is no such MetricTemplate; did you mean "istio-error-rate"?'
    assert (finding.found, finding.allowed) == (
        "istio-eror-rate",
        "istio-error-rate, istio-latency, istio-request-share",
    )


@pytest.mark.parametrize(
    ("metric", "codes"),
    [
        ({"template": "own", "margin": "5%"}, []),
        ({"template": "own", "marginPoints": "5%"}, ["PS068"]),
        ({"template": "istio-latency", "marginPoints": "5%"}, ["PS068"]),
        ({"template": "istio-error-rate", "marginPoints": "5%"}, []),
        ({"template": "istio-request-share", "margin": "5%"}, ["PS064"]),
        ({"template": "istio-error-rate", "margin": "5%", "edges": ["1"]}, ["PS065"]),
        ({"template": "istio-latency", "margin": "5%", "edges": ["5", "100"]}, []),
    ],
)
def test_a_metric_must_suit_its_template(metric, codes):
    obj = changed(policy(), "spec.metrics", [metric])
    assert [code for code, *_ in between(obj, template("mean"))] == codes


def test_a_template_is_found_in_the_catalog_or_in_the_namespace():
    own = parse([("f.yaml", text(template()))]).templates[0].value
    assert template_for("ml", "own", [own]) is own
    assert template_for("other", "own", [own]) is None
    assert template_for("anywhere", "istio-latency").spec.kind == "histogram"
