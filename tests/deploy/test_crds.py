"""Penstock's definitions on a real API server: rules, words, defaults, columns and help as promised."""

from __future__ import annotations

import json
import re

import pytest

from cluster.errors import KubectlError
from policies import crd
from policies.parse import parse
from policies.rules import RULES
from tests.support.policies import changed, policy, template, text
from tests.support.rule_breaches import BROKEN, BROKEN_TEMPLATES, SOUND

pytestmark = [pytest.mark.real, pytest.mark.cluster]

CEL = {f"{rule.code}: {rule.message}" for rule in RULES if rule.cel}
SOUND_SPEC = policy()["spec"]


def named(obj, number, namespace):
    return {**obj, "metadata": {**obj["metadata"], "name": f"case-{number}", "namespace": namespace}}


def refusals(cluster, objects, namespace):
    """Return what the API server says of objects, in order; empty for those that it takes."""
    listed = [named(obj, number, namespace) for number, obj in enumerate(objects)]
    stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": listed})
    try:
        cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=stdin)
        said = ""
    except KubectlError as error:
        said = str(error)
    parts = re.split(r'"case-(\d+)" is invalid: ', said)
    words = dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))
    return [words.get(number, "") for number in range(len(objects))]


def lint(obj):
    """Return the errors that `penstock lint` finds, as CODE: words, of rules that have CEL."""
    found = {f"{finding.code}: {finding.message}" for finding in parse([("f.yaml", text(obj))]).findings}
    return found & CEL


def told(words):
    return {rule for rule in CEL if rule in words}


def breaches():
    two = changed(policy(), "spec.metrics", [*SOUND_SPEC["metrics"], {"template": "istio-latency"}])
    yield from (changed(two, path, value) for _, path, value, *_ in BROKEN)
    yield from (changed(template(kind), path, value) for kind, _, path, value, _ in BROKEN_TEMPLATES)


def test_the_api_server_refuses_what_lint_refuses_in_the_same_words(cluster, namespace):
    objects = list(breaches())
    said = refusals(cluster, objects, namespace)
    differences = [
        (obj["kind"], sorted(told(words)), sorted(lint(obj)))
        for obj, words in zip(objects, said, strict=True)
        if told(words) != lint(obj)
    ]
    assert differences == []
    assert {rule for words in said for rule in told(words)} == CEL


def test_the_api_server_takes_what_lint_takes(cluster, namespace):
    objects = [changed(policy(), path, value) for path, value in SOUND]
    objects += [template(kind) for kind in ("proportion", "histogram", "mean", "share")]
    assert refusals(cluster, objects, namespace) == [""] * len(objects)


def test_the_schema_refuses_what_is_no_policy_at_all(cluster, namespace):
    objects = [
        changed(policy(), "spec.strategy.canary.steps.0.weight", 0),
        changed(policy(), "spec.strategy.canary.steps.0.weight", 1.5),
        changed(policy(), "spec.decision.onDrift", "fight"),
        changed(policy(), "spec.decision.deadline", "soon"),
        changed(policy(), "spec.variants", []),
        changed(policy(), "spec.unknown", 1),
    ]
    said = refusals(cluster, objects[:-1], namespace)
    assert [bool(words) for words in said] == [True] * 5
    with pytest.raises(KubectlError, match="unknown field"):
        cluster.kubectl(
            "create",
            "--validate=strict",
            "-n",
            namespace,
            "-f",
            "-",
            stdin=json.dumps(named(objects[-1], 1, namespace)),
        )


def test_the_api_server_fills_in_the_defaults_of_the_model(cluster, namespace):
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(policy(namespace=namespace)))
    stored = json.loads(cluster.kubectl("get", "rp", "ranker", "-n", namespace, "-o", "json"))
    ((one,), (two,)) = (
        parse([("f.yaml", text(obj))]).policies for obj in (policy(namespace=namespace), stored)
    )
    assert one.value.spec == two.value.spec
    assert stored["spec"]["promotion"] == {"mode": "swap"}
    assert stored["spec"]["decision"]["interval"] == "10s"
    assert stored["spec"]["onDeletion"] == "rollback"


def test_get_shows_what_a_person_wants_to_know(cluster, namespace):
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(policy(namespace=namespace)))
    status = {
        "summary": "Step 1/2, 5% to candidate: undecided",
        "verdict": "Undecided",
        "weights": {"stable": 95, "candidate": 5},
        "run": {"step": 0},
        "conditions": [{"type": "Ready", "status": "False", "reason": "Holding"}],
    }
    patch = json.dumps({"status": status})
    cluster.kubectl(
        "patch", "rp", "ranker", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch
    )
    header, row = cluster.kubectl("get", "rp", "-n", namespace, "-o", "wide").splitlines()
    assert header.split() == ["NAME", "SUMMARY", "WEIGHT", "VERDICT", "REASON", "AGE"]
    for word in ("ranker", "Step 1/2, 5% to candidate: undecided", "Undecided", "Holding"):
        assert word in row


def test_the_status_is_a_subresource(cluster, namespace):
    sly = policy(namespace=namespace) | {"status": {"summary": "all is well"}}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(sly))
    assert "status" not in json.loads(cluster.kubectl("get", "rp", "ranker", "-n", namespace, "-o", "json"))


@pytest.mark.parametrize("word", ["penstock", "rp", "mt", "rolloutpolicies", "metrictemplates.penstock.dev"])
def test_the_kinds_go_by_these_names(cluster, namespace, word):
    assert "rror" not in cluster.kubectl("get", word, "-n", namespace)


def test_both_kinds_are_in_the_category(cluster, namespace):
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(policy(namespace=namespace)))
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(template(namespace=namespace)))
    listed = cluster.kubectl("get", "penstock", "-n", namespace, "-o", "name")
    assert sorted(listed.split()) == ["metrictemplate.penstock.dev/own", "rolloutpolicy.penstock.dev/ranker"]


def fields(node, path):
    """Yield (path, description) of a sample of fields: every direct child of every object."""
    for name, field in node.get("properties", {}).items():
        yield f"{path}.{name}", field.get("description", "")
        yield from fields(field.get("items", field), f"{path}.{name}")


@pytest.mark.parametrize("file", ["rolloutpolicies.yaml", "metrictemplates.yaml"])
def test_explain_has_the_words_of_the_model(cluster, file):
    definition = crd.definitions()[file]
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    plural = definition["spec"]["names"]["plural"]
    said = " ".join(cluster.kubectl("explain", f"{plural}.spec", "--recursive").split())
    parts = [path for path, _ in fields(spec, "spec")]
    assert [path for path in parts if path.rpartition(".")[2] not in said] == []
    for path in (
        ("spec", "spec.decision", "spec.metrics") if plural == "rolloutpolicies" else ("spec", "spec.labels")
    ):
        node = spec
        for name in path.split(".")[1:]:
            node = node["properties"][name]
            node = node.get("items", node)
        shown = " ".join(cluster.kubectl("explain", f"{plural}.{path}").split())
        silent = [name for name, child in node["properties"].items() if child["description"] not in shown]
        assert silent == []
