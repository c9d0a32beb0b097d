"""What a policy needs of other objects: a finding for each thing that is missing, none when all is there."""

from __future__ import annotations

import copy

import pytest

from istio.lint import lint_all
from policies.findings import errors
from policies.parse import policy_from_object

POLICY = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "RolloutPolicy",
    "metadata": {"name": "ranker", "namespace": "ml"},
    "spec": {
        "service": {"host": "ranker", "port": 8080},
        "virtualService": {"name": "ranker", "routes": ["primary"]},
        "variants": [{"name": "stable", "subset": "v1"}, {"name": "candidate", "subset": "v2"}],
        "strategy": {"canary": {"steps": [{"weight": 5, "hold": "5m"}]}},
        "metrics": [{"template": "istio-error-rate", "margin": "25%"}],
    },
}


def istio(kind, spec, name="ranker", namespace="ml"):
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": meta, "spec": spec}


def to(subset, weight, host="ranker"):
    return {"destination": {"host": host, "subset": subset}, "weight": weight}


def world():
    """A policy and everything it needs, to be damaged."""
    route = {"name": "primary", "route": [to("v1", 95), to("v2", 5)]}
    endpoints = [{"address": f"10.0.0.{n}", "labels": {"version": f"v{n}", "zone": "a"}} for n in (1, 2)]
    return {
        "policy": copy.deepcopy(POLICY),
        "vs": istio("VirtualService", {"hosts": ["ranker"], "http": [route]}),
        "dr": istio(
            "DestinationRule",
            {
                "host": "ranker",
                "subsets": [{"name": f"v{n}", "labels": {"version": f"v{n}"}} for n in (1, 2)],
            },
        ),
        "se": istio(
            "ServiceEntry",
            {
                "hosts": ["ranker.ml.svc.cluster.local"],
                "resolution": "STATIC",
                "ports": [{"number": 8080, "name": "http", "protocol": "HTTP"}],
                "endpoints": endpoints,
            },
        ),
    }


def lint(parts):
    objects = [parts[name] for name in ("vs", "dr", "se") if parts.get(name)]
    return lint_all(objects, [policy_from_object(parts["policy"])])


def route(parts):
    return parts["vs"]["spec"]["http"][0]


def damaged(change):
    parts = world()
    change(parts)
    return [(finding.code, finding.object, finding.path) for finding in lint(parts)]


RANKER = "RolloutPolicy/ml/ranker"
CASES = {
    "nothing": (lambda w: None, []),
    "no VirtualService": (lambda w: w.pop("vs"), [("PS401", RANKER, "spec.virtualService.name")]),
    "a VirtualService elsewhere": (
        lambda w: w["vs"]["metadata"].update(namespace="other"),
        [("PS401", RANKER, "spec.virtualService.name")],
    ),
    "an unknown route": (
        lambda w: w["policy"]["spec"]["virtualService"].update(routes=["primry"]),
        [("PS402", RANKER, "spec.virtualService.routes")],
    ),
    "a route without destinations": (
        lambda w: w["vs"]["spec"].update(http=[{"name": "primary", "redirect": {"uri": "/a"}}]),
        [("PS402", RANKER, "spec.virtualService.routes")],
    ),
    "several routes, none named": (
        lambda w: (
            w["policy"]["spec"]["virtualService"].pop("routes"),
            w["vs"]["spec"]["http"].insert(0, {**route(w), "match": [{"port": 1}], "name": "other"}),
        ),
        [("PS402", RANKER, "spec.virtualService")],
    ),
    "a route name twice": (
        lambda w: w["vs"]["spec"]["http"].insert(0, {**route(w), "match": [{"port": 1}]}),
        [
            ("PS162", "VirtualService/ml/ranker", "spec.http[1].name"),
            ("PS402", RANKER, "spec.virtualService.routes"),
        ],
    ),
    "no destination for a variant": (
        lambda w: route(w).update(route=[to("v1", 100)]),
        [("PS403", RANKER, "spec.variants[1]")],
    ),
    "no destination of the service": (
        lambda w: route(w).update(route=[to("v1", 95, "other"), to("v2", 5, "other")]),
        [("PS403", RANKER, "spec.variants[0]"), ("PS403", RANKER, "spec.variants[1]")],
    ),
    "two destinations for a variant": (
        lambda w: route(w)["route"].append(to("v2", 0)),
        [("PS403", RANKER, "spec.variants[1]")],
    ),
    "a stray destination": (
        lambda w: route(w).update(route=[to("v1", 90), to("v2", 5), to("v3", 5)]),
        [("PS404", "VirtualService/ml/ranker", "spec.http[0].route[2].weight")],
    ),
    "a stray destination without traffic": (lambda w: route(w)["route"].append(to("v3", 0)), []),
    "weights that sum to 99": (
        lambda w: route(w).update(route=[to("v1", 95), to("v2", 4)]),
        [("PS409", "VirtualService/ml/ranker", "spec.http[0].route")],
    ),
    "no DestinationRule": (
        lambda w: w.pop("dr"),
        [("PS405", RANKER, "spec.variants[0].subset"), ("PS405", RANKER, "spec.variants[1].subset")],
    ),
    "a DestinationRule for another host": (
        lambda w: w["dr"]["spec"].update(host="other"),
        [("PS405", RANKER, "spec.variants[0].subset"), ("PS405", RANKER, "spec.variants[1].subset")],
    ),
    "an undefined subset": (
        lambda w: w["dr"]["spec"]["subsets"].pop(),
        [("PS406", RANKER, "spec.variants[1].subset")],
    ),
    "a subset that selects no endpoint": (
        lambda w: w["se"]["spec"]["endpoints"].pop(),
        [("PS407", RANKER, "spec.variants[1].subset")],
    ),
    "no ServiceEntry": (
        lambda w: w.pop("se"),
        [("PS408", RANKER, "spec.variants[0].subset"), ("PS408", RANKER, "spec.variants[1].subset")],
    ),
    "a null where the API server sees nothing": (
        lambda w: w["vs"]["spec"].update(tcp=None),
        [("PS116", "VirtualService/ml/ranker", "spec.tcp")],
    ),
    "a DestinationRule that cannot be read": (
        lambda w: w["dr"]["spec"].update(subsets={}),
        [("PS202", "DestinationRule/ml/ranker", "spec.subsets")],
    ),
    "a VirtualService that cannot be read": (
        lambda w: w["vs"]["spec"].update(http="x"),
        [("PS102", "VirtualService/ml/ranker", "spec.http")],
    ),
    "a ServiceEntry that cannot be read": (
        lambda w: w["se"]["spec"].update(endpoints=[None]),
        [("PS302", "ServiceEntry/ml/ranker", "spec.endpoints[0]")],
    ),
    "a negative weight": (
        lambda w: route(w).update(route=[to("v1", 101), to("v2", -1)]),
        [("PS137", "VirtualService/ml/ranker", "spec.http[0].route[1].weight")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_policy_lacks(name):
    change, found = CASES[name]
    assert damaged(change) == found


def test_without_a_policy_none_of_it_is_an_error():
    for change, found in CASES.values():
        parts = world()
        change(parts)
        objects = [parts[name] for name in ("vs", "dr", "se") if parts.get(name)]
        own = {code for code, _, _ in found if not code.startswith("PS4")}
        assert {finding.code for finding in errors(lint_all(objects, []))} <= own


def test_variants_may_be_hosts_of_their_own():
    parts = world()
    parts["policy"]["spec"]["variants"] = [
        {"name": "stable", "host": "ranker"}, {"name": "candidate", "host": "ranker-next"}
    ]  # fmt: skip
    entries = [{"destination": {"host": host}, "weight": 50} for host in ("ranker", "ranker-next.ml.svc")]
    route(parts)["route"] = entries
    parts.pop("dr")
    assert [(f.code, f.path) for f in lint(parts)] == [("PS408", "spec.variants[1].host")]


def test_a_service_of_kubernetes_answers_for_its_endpoints():
    parts = world()
    parts.pop("se")
    for kind, place, name, silent in (
        ("v1", "ml", "ranker", True),
        ("v1", "ml", "other", False),
        ("v1", "shop", "ranker", False),
        ("serving.knative.dev/v1", "ml", "ranker", False),
    ):
        service = {"apiVersion": kind, "kind": "Service", "metadata": {"namespace": place, "name": name}}
        found = {finding.code for finding in lint({**parts, "se": service})}
        assert found == (set() if silent else {"PS408"}), service


def test_every_virtual_service_of_a_policy_is_looked_at():
    parts = world()
    parts["policy"]["spec"].pop("virtualService")
    parts["policy"]["spec"]["virtualServices"] = [{"name": "ranker"}, {"name": "rankr"}]
    (finding,) = lint(parts)
    assert (finding.code, finding.path) == ("PS401", "spec.virtualServices[1].name")
    assert "did you mean ranker?" in finding.message


def test_subsets_of_all_rules_for_the_host_count():
    parts = world()
    subset = parts["dr"]["spec"]["subsets"].pop()
    more = istio("DestinationRule", {"host": "ranker.ml", "subsets": [subset]}, name="more")
    objects = [parts["vs"], parts["dr"], parts["se"], more]
    assert lint_all(objects, [policy_from_object(parts["policy"])]) == []


def test_an_object_given_twice_is_pointed_out():
    parts = world()
    findings = lint_all([parts["vs"], parts["vs"]], [])
    assert [(finding.code, finding.object) for finding in findings] == [("PS410", "VirtualService/ml/ranker")]


def test_a_route_of_two_policies_is_reported_once():
    parts = world()
    route(parts)["route"][0]["weight"] = 90
    policy = policy_from_object(parts["policy"])
    findings = lint_all([parts["vs"], parts["dr"], parts["se"]], [policy, policy])
    assert [finding.code for finding in findings] == ["PS409"]
