"""Envoy itself judges what the translation makes of every supported field, all objects in a few runs."""

import pytest

from istio.envoy.bootstrap import bootstrap, static
from istio.envoy.telemetry import prometheus_config
from istio.envoy.translate import translate
from policies.findings import errors
from tests.support.envoy import validated
from tests.support.mesh import entry, routes, rule, to

pytestmark = pytest.mark.real

MATCHES = [
    {"uri": {"exact": "/a"}},
    {"uri": {"prefix": "/a"}, "ignoreUriCase": True},
    {"uri": {"regex": "/a/[0-9]+"}},
    {"method": {"exact": "GET"}, "scheme": {"exact": "http"}, "authority": {"prefix": "ra"}},
    {"headers": {"a": {"exact": "1"}, "b": {"prefix": "2"}, "c": {"regex": "3|4"}, "d": {}}},
    {"withoutHeaders": {"a": {"exact": "1"}, "b": {"regex": "*"}}},
    {"queryParams": {"q": {"exact": "1"}, "r": {"prefix": "1"}, "s": {"regex": "2"}, "t": {}}},
    {"name": "named", "port": 8080, "statPrefix": "mine", "uri": {"prefix": "/b"}},
    {"headers": {"cookie": {"regex": "^(.*?;)?(user=1)(;.*)?$"}}},
]
ACTIONS = [
    {"route": [to("v1")]},
    {"route": [to("v1", 90), to("v2", 10)]},
    {"route": [to("v1", 1), to("v2", 0)]},
    {"route": [to("v1", 2_000_000_000), to("v2", 2_000_000_000)]},
    {"route": [to("v1", 1, headers={"request": {"set": {":authority": "a"}}}), to("v2", 1)]},
    {"redirect": {"uri": "/x", "authority": "a.b", "scheme": "https", "port": 8443, "redirectCode": 302}},
    {"redirect": {"derivePort": "FROM_REQUEST_PORT"}},
    {"directResponse": {"status": 200, "body": {"string": "ok"}}},
    {"directResponse": {"status": 599, "body": {"bytes": "b2s="}}},
    {"directResponse": {"status": 204}},
]
EXTRAS = [
    {"timeout": "1.5s"},
    {"retries": {"attempts": 0}},
    {
        "retries": {
            "attempts": 3,
            "perTryTimeout": "2s",
            "retryOn": "5xx,gateway-error,503",
            "backoff": "10ms",
        }
    },
    {"retries": {"attempts": 1, "retryRemoteLocalities": True, "retryIgnorePreviousHosts": False}},
    {"rewrite": {"uri": "/x", "authority": "a.b"}},
    {"rewrite": {"uriRegexRewrite": {"match": "^/a/(.*)", "rewrite": r"/\1"}}},
    {"mirror": {"host": "ranker", "subset": "v2"}, "mirrorPercentage": {"value": 0.5}},
    {"mirrors": [{"destination": {"host": "ranker"}, "percentage": {"value": 99.99}}]},
    {"mirror": {"host": "ranker"}, "mirrorPercent": 5},
    {"fault": {"delay": {"fixedDelay": "5s", "percentage": {"value": 0.1}}}},
    {"fault": {"abort": {"httpStatus": 503, "percentage": {"value": 100}}}},
    {"fault": {"abort": {"grpcStatus": "UNAVAILABLE"}, "delay": {"fixedDelay": "1s", "percent": 5}}},
    {
        "corsPolicy": {
            "allowOrigins": [{"exact": "a"}, {"prefix": "b"}, {"regex": "c.*"}],
            "allowMethods": ["GET"],
            "allowHeaders": ["x"],
            "exposeHeaders": ["y"],
            "maxAge": "24h",
            "allowCredentials": True,
            "unmatchedPreflights": "IGNORE",
        }
    },
    {
        "headers": {
            "request": {"set": {"a": "%REQ(b)%"}, "add": {"c": "50%%"}, "remove": ["d"]},
            "response": {"set": {"e": "f"}, "add": {"g": "h"}, "remove": ["i"]},
        }
    },
]
POLICIES = [
    {"loadBalancer": {"simple": "ROUND_ROBIN"}},
    {"loadBalancer": {"simple": "RANDOM"}, "outlierDetection": {}},
    {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}},
    {"loadBalancer": {"consistentHash": {"httpCookie": {"name": "c", "ttl": "0s", "path": "/"}}}},
    {"loadBalancer": {"consistentHash": {"useSourceIp": True, "ringHash": {"minimumRingSize": 64}}}},
    {"loadBalancer": {"consistentHash": {"httpQueryParameterName": "q", "maglev": {"tableSize": 251}}}},
    {
        "connectionPool": {
            "tcp": {
                "maxConnections": 10,
                "connectTimeout": "1s",
                "idleTimeout": "5s",
                "maxConnectionDuration": "1h",
                "tcpKeepalive": {"probes": 3, "time": "60s", "interval": "10s"},
            },
            "http": {
                "http1MaxPendingRequests": 1,
                "http2MaxRequests": 2,
                "maxRequestsPerConnection": 3,
                "maxRetries": 4,
                "maxConcurrentStreams": 5,
                "idleTimeout": "1m",
                "h2UpgradePolicy": "UPGRADE",
            },
        },
        "retryBudget": {"percent": 12.5, "minRetryConcurrency": 4},
    },
    {"connectionPool": {"http": {"useClientProtocol": True, "maxConcurrentStreams": 9}}},
    {
        "outlierDetection": {
            "consecutive5xxErrors": 5,
            "consecutiveGatewayErrors": 0,
            "consecutiveLocalOriginFailures": 3,
            "splitExternalLocalOriginErrors": True,
            "interval": "10s",
            "baseEjectionTime": "30s",
            "maxEjectionPercent": 50,
            "minHealthPercent": 20,
        }
    },
    {"portLevelSettings": [{"port": {"number": 8080}, "loadBalancer": {"simple": "LEAST_CONN"}}]},
]


def verdict(*objects):
    translation = translate(objects)
    assert errors(translation.findings) == []
    return validated(static(translation.clusters, translation.listeners, translation.routes))


def service(host="ranker"):
    return entry(host, endpoints=[(9001, "v1"), (9002, "v2")])


def test_envoy_accepts_every_match_and_every_action():
    http = [
        *({"match": [match], "route": [to("v1")]} for match in MATCHES),
        *({"match": [{"uri": {"exact": f"/{index}"}}], **action} for index, action in enumerate(ACTIONS)),
    ]
    assert verdict(service(), rule(), routes(*http)) == ""


def test_envoy_accepts_everything_that_a_route_can_do_besides():
    http = [
        {"match": [{"uri": {"exact": f"/{index}"}}], "route": [to("v1")], **extra}
        for index, extra in enumerate(EXTRAS)
    ]
    assert verdict(service(), rule(), routes(*http)) == ""


def test_envoy_accepts_every_traffic_policy_of_hosts_and_of_subsets():
    objects = []
    for index, policy in enumerate(POLICIES):
        host, subset_host = f"rule{index}", f"subset{index}"
        for_subset = rule(subset_host)
        for_subset["spec"]["subsets"][0]["trafficPolicy"] = policy
        objects += [
            service(host),
            rule(host, trafficPolicy=policy),
            routes({"route": [to("v1", 1, host), to("v2", 2, host)]}, host=host, name=host),
            service(subset_host),
            for_subset,
        ]
    assert verdict(*objects) == ""


def test_envoy_accepts_every_protocol_and_resolution():
    protocols = ["HTTP", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "TLS", "HTTPS"]
    ports = tuple((7000 + index, protocol) for index, protocol in enumerate(protocols))
    objects = [
        entry("every", ports=ports, endpoints=[(9001, "v1")]),
        entry("names.example.com", resolution="DNS", ports=((8080, "HTTP"),)),
        entry("empty", ports=((8080, "HTTP"),)),
        entry("six", endpoints=[{"address": "::1", "weight": 5}]),
        routes(
            host="every",
            tcp=[{"match": [{"port": 7004}], "route": [to(None, 1, "every"), to(None, 3, "empty")]}],
            tls=[{"match": [{"sniHosts": ["*.a.b", "c.d"]}], "route": [to(None, host="every")]}],
        ),
    ]
    assert verdict(*objects) == ""


def test_envoy_accepts_services_with_the_same_short_name_on_a_port():
    assert verdict(service(), entry(namespace="other"), entry("ranker.ml")) == ""


def test_the_oracle_can_say_no():
    bad = routes({"match": [{"uri": {"regex": "(("}}], "route": [to("v1")]})
    assert "missing )" in verdict(service(), rule(), bad)


def test_envoy_accepts_the_bootstrap(tmp_path):
    for name in ("cds", "lds"):
        (tmp_path / f"{name}.json").write_text('{"version_info": "1", "resources": []}')
    assert validated(bootstrap(1, str(tmp_path))) == ""


def test_prometheus_gets_one_target_with_a_fixed_instance():
    (job,) = prometheus_config(9901, "2s")["scrape_configs"]
    assert job["static_configs"] == [
        {"targets": ["127.0.0.1:9901"], "labels": {"instance": "penstock-gateway"}}
    ]
