"""Nothing is silently ignored: every field is translated, or reported with its path."""

import copy
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from istio.envoy.supported import _WARNINGS, CODES
from istio.envoy.translate import translate
from policies.findings import errors
from tests.support.mesh import entry, manifest, routes, rule, split, to

MESH = (entry(endpoints=[(9001, "v1"), (9002, "v2")]), rule(), split(90, 10))


def found(*objects):
    return [(f.code, f.severity, f.path) for f in translate(objects).findings]


def http(**route):
    return routes({"route": [to()], **route})


def policy(**settings):
    return rule(trafficPolicy=settings)


def test_a_whole_mesh_without_problems_has_no_findings():
    assert found(*MESH) == []


def test_objects_of_other_kinds_are_not_looked_at():
    assert translate([{"kind": "RolloutPolicy"}, {"kind": "Gateway", "spec": 1}, {}]).findings == []


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (routes({"delegate": {"name": "x"}}), "spec.http[0].delegate"),
        (http(match=[{"sourceLabels": {"a": "b"}}]), "spec.http[0].match[0].sourceLabels"),
        (http(match=[{"sourceNamespace": "a"}]), "spec.http[0].match[0].sourceNamespace"),
        (
            http(match=[{"headers": {"@request.auth.claims.sub": {"exact": "a"}}}]),
            "spec.http[0].match[0].headers.@request.auth.claims.sub",
        ),
        (
            http(fault={"delay": {"fixedDelay": "1s", "exponentialDelay": "1s"}}),
            "spec.http[0].fault.delay.exponentialDelay",
        ),
        (http(corsPolicy={"allowOrigin": ["a"]}), "spec.http[0].corsPolicy.allowOrigin"),
        (
            routes(tcp=[{"match": [{"destinationSubnets": ["10.0.0.0/8"]}], "route": [to()]}]),
            "spec.tcp[0].match[0].destinationSubnets",
        ),
        (policy(tunnel={"targetHost": "a"}), "spec.trafficPolicy.tunnel"),
        (policy(proxyProtocol={"version": "V1"}), "spec.trafficPolicy.proxyProtocol"),
        (policy(tls={"mode": "DISABLE", "sni": "a"}), "spec.trafficPolicy.tls.sni"),
        (policy(loadBalancer={"warmup": {"duration": "1s"}}), "spec.trafficPolicy.loadBalancer.warmup"),
        (
            policy(loadBalancer={"localityLbSetting": {"enabled": True}}),
            "spec.trafficPolicy.loadBalancer.localityLbSetting",
        ),
        (rule(workloadSelector={"matchLabels": {"a": "b"}}), "spec.workloadSelector"),
        (entry(workloadSelector={"labels": {"a": "b"}}), "spec.workloadSelector"),
        (entry(endpoints=[{"address": "127.0.0.1", "network": "a"}]), "spec.endpoints[0].network"),
    ],
)
def test_what_standalone_cannot_do_is_refused_with_its_place(obj, path):
    assert found(obj)[0] == ("PS502", "error", path)


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (routes({"route": [to()], "timeOut": "1s"}), "spec.http[0].timeOut"),
        (rule(subset=[]), "spec.subset"),
        (entry(port=[]), "spec.port"),
        (
            policy(connectionPool={"tcp": {"maxConnection": 1}}),
            "spec.trafficPolicy.connectionPool.tcp.maxConnection",
        ),
    ],
)
def test_an_unknown_field_is_an_error_that_lists_the_known_ones(obj, path):
    (finding,) = [finding for finding in translate([obj]).findings if finding.code != "PS507"]
    assert (finding.code, finding.severity, finding.path) == ("PS501", "error", path)
    assert finding.allowed


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (routes({"route": [to()]}, gateways=["ingress"]), "spec.gateways[0]"),
        (http(match=[{"gateways": ["ingress"]}]), "spec.http[0].match[0].gateways[0]"),
        (routes({"route": [to()]}, exportTo=["ns1"]), "spec.exportTo[0]"),
        (routes({"route": [to()]}, host="*.example.com"), "spec.hosts[0]"),
        (http(timeout="soon"), "spec.http[0].timeout"),
        (http(timeout=5), "spec.http[0].timeout"),
        (http(match=[None]), "spec.http[0].match[0]"),
        (http(match={"uri": "/"}), "spec.http[0].match"),
        (http(redirect={"uri": "/x"}), "spec.http[0]"),
        (routes({"name": "nothing"}), "spec.http[0]"),
        (routes({"route": []}), "spec.http[0]"),
        (routes({"route": [{"weight": 1}]}), "spec.http[0].route[0].destination"),
        (routes({"route": [to("v1", -1)]}), "spec.http[0].route[0].weight"),
        (routes({"route": [to("v1", 1.5)]}), "spec.http[0].route[0].weight"),
        (routes({"route": [to("v1", 0), to("v2", 0)]}), "spec.http[0].route"),
        (routes({"redirect": {"redirectCode": 305}}), "spec.http[0].redirect.redirectCode"),
        (http(fault={"abort": {"percentage": {"value": 1}}}), "spec.http[0].fault.abort"),
        (http(fault={"abort": {"grpcStatus": "BROKEN"}}), "spec.http[0].fault.abort.grpcStatus"),
        (http(mirror={"host": "a"}, mirrors=[{"destination": {"host": "b"}}]), "spec.http[0]"),
        (http(mirrorPercentage={"value": 101}), "spec.http[0].mirrorPercentage.value"),
        (routes(host=""), "spec.hosts[0]"),
        (policy(tls={"mode": "ISTIO_MUTUAL"}), "spec.trafficPolicy.tls.mode"),
        (policy(loadBalancer={"simple": "PASSTHROUGH"}), "spec.trafficPolicy.loadBalancer.simple"),
        (policy(loadBalancer={"consistentHash": {}}), "spec.trafficPolicy.loadBalancer.consistentHash"),
        (entry(resolution="NONE"), "spec.resolution"),
        (entry(resolution=None), "spec.resolution"),
        (entry(ports=((8080, "MONGO"),)), "spec.ports[0].protocol"),
        (entry(ports=((0, "HTTP"),)), "spec.ports[0].number"),
        (entry(host="*.example.com"), "spec.hosts[0]"),
        (manifest("VirtualService", "x", None), "spec"),
        (manifest("VirtualService", "x", []), "spec"),
    ],
)
def test_a_value_that_cannot_be_used_is_an_error_at_its_place(obj, path):
    assert ("PS503", "error", path) in found(obj)


def test_an_address_that_is_a_name_needs_dns():
    obj = entry()
    obj["spec"]["endpoints"] = [{"address": "one.example.com"}]
    assert found(obj) == [("PS503", "error", "spec.endpoints[0].address")]
    obj["spec"]["resolution"] = "DNS"
    assert found(obj) == []


def test_a_field_without_effect_is_a_warning():
    obj = entry(addresses=["10.0.0.1"], subjectAltNames=["a"])
    assert found(obj) == [
        ("PS504", "warning", "spec.addresses"),
        ("PS504", "warning", "spec.subjectAltNames"),
    ]


@pytest.mark.parametrize(
    "obj",
    [
        routes({"route": [to()]}, gateways=["mesh"], exportTo=["*"]),
        routes({"route": [to()], "timeout": None, "match": None}),
        rule(exportTo=["."]),
        policy(tls={"mode": "DISABLE"}),
        entry(location="MESH_EXTERNAL"),
    ],
)
def test_what_changes_nothing_is_accepted(obj):
    assert errors(translate([*MESH[:2], obj] if obj["kind"] == "VirtualService" else [obj]).findings) == []


@pytest.mark.parametrize("second", [entry(name="again"), rule(name="again")])
def test_one_host_has_one_service_entry_and_one_destination_rule(second):
    assert found(*MESH, second) == [("PS505", "error", "spec")]


def test_a_virtual_service_for_no_service_is_a_warning():
    assert found(http()) == [("PS507", "warning", "spec.hosts")]


def test_routes_of_a_protocol_that_no_port_speaks_are_a_warning():
    owner = routes({"route": [to("v1")]}, tcp=[{"route": [to("v1")]}])
    assert found(*MESH[:2], owner) == [("PS507", "warning", "spec.tcp")]


def test_a_destination_without_cluster_is_a_warning():
    owner = routes({"route": [to("v1"), to("v3", 1)], "mirror": {"host": "gone"}})
    assert found(*MESH[:2], owner) == [
        ("PS509", "warning", "spec.http[0].route[1].destination"),
        ("PS509", "warning", "spec.http[0].mirror"),
    ]


def test_an_object_with_an_error_is_left_out_as_a_whole():
    bad = split(90, 10)
    bad["spec"]["http"].append({"delegate": {"name": "x"}})
    translation = translate([*MESH[:2], bad])
    assert errors(translation.findings)
    assert translation.routes["8080"]["virtual_hosts"][0]["routes"][0]["name"] == "default"


def test_the_order_of_the_objects_does_not_matter():
    assert translate(MESH) == translate(MESH[::-1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def paths(value, path=()):
    """Every place in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


RICH = (
    entry(endpoints=[(9001, "v1")], ports=((80, "HTTP"), (81, "TCP"), (82, "TLS"))),
    rule(
        trafficPolicy={
            "outlierDetection": {"interval": "1s"},
            "connectionPool": {"tcp": {"tcpKeepalive": {"time": "1s"}}, "http": {"maxRetries": 1}},
            "loadBalancer": {"consistentHash": {"httpCookie": {"name": "a", "attributes": [{"name": "b"}]}}},
            "portLevelSettings": [{"port": {"number": 80}, "loadBalancer": {"simple": "RANDOM"}}],
        }
    ),
    routes(
        {
            "match": [{"uri": {"prefix": "/"}, "headers": {"a": {"exact": "b"}}, "port": 80}],
            "route": [to("v1", 1, headers={"request": {"set": {"a": "b"}}}), to("v2", 2)],
            "retries": {"attempts": 1, "retryOn": "5xx"},
            "rewrite": {"uriRegexRewrite": {"match": "a", "rewrite": "b"}},
            "fault": {"abort": {"httpStatus": 500, "percentage": {"value": 1}}},
            "mirrors": [{"destination": {"host": "ranker"}, "percentage": {"value": 1}}],
            "corsPolicy": {"allowOrigins": [{"exact": "a"}], "maxAge": "1s"},
        },
        tcp=[{"match": [{"port": 81}], "route": [to("v1", 1), to("v2", 2)]}],
        tls=[{"match": [{"sniHosts": ["a.b"]}], "route": [to("v1")]}],
    ),
)


@given(st.data())
def test_no_document_breaks_the_translation(data):
    """Replace any part of a rich document by anything: there are findings or a translation, never a crash."""
    index = data.draw(st.integers(0, len(RICH) - 1))
    objects = copy.deepcopy(list(RICH))
    place = data.draw(st.sampled_from([path for path in paths(objects[index]["spec"]) if path]))
    target = objects[index]["spec"]
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = data.draw(JSON)
    translate(objects)


def test_every_code_is_explained_in_the_docs():
    text = (Path(__file__).parents[3] / "docs" / "findings.md").read_text()
    explained = re.findall(r"^\| (PS5\d\d) \| (error|warning) \|", text, re.MULTILINE)
    assert dict(explained) == {code: "warning" if code in _WARNINGS else "error" for code in CODES}
