"""Clusters: names, endpoints, versions and the settings of a DestinationRule with their precedence."""

import pytest

from istio.envoy.translate import translate
from policies.findings import errors
from tests.support.mesh import HOST, entry, rule

ENDPOINTS = [(9001, "v1"), (9002, "v2"), (9003, "v2")]
SERVICE = entry(endpoints=ENDPOINTS)


def clusters(*objects):
    translation = translate(objects)
    assert errors(translation.findings) == []
    return {cluster["name"]: cluster for cluster in translation.clusters}


def cluster(*objects, subset="", port=8080):
    return clusters(*objects)[f"outbound|{port}|{subset}|{HOST}"]


def ports(made):
    return [
        endpoint["endpoint"]["address"]["socket_address"]["port_value"]
        for locality in made["load_assignment"]["endpoints"]
        for endpoint in locality["lb_endpoints"]
    ]


def policy(**settings):
    return cluster(SERVICE, rule(trafficPolicy=settings))


def test_there_is_a_cluster_for_each_port_as_a_whole_and_for_each_subset():
    service = entry(ports=((80, "HTTP"), (90, "GRPC")), endpoints=ENDPOINTS)
    assert list(clusters(service, rule())) == [
        f"outbound|{port}|{subset}|{HOST}" for port in (80, 90) for subset in ("", "v1", "v2")
    ]


def test_a_subset_has_the_endpoints_that_carry_its_labels():
    assert ports(cluster(SERVICE, rule())) == [9001, 9002, 9003]
    assert ports(cluster(SERVICE, rule(), subset="v1")) == [9001]
    assert ports(cluster(SERVICE, rule(), subset="v2")) == [9002, 9003]


def test_a_subset_without_endpoints_is_an_empty_cluster():
    made = cluster(SERVICE, rule(subsets=("v9",)), subset="v9")
    assert made["load_assignment"]["endpoints"] == []


def test_an_endpoint_listens_on_its_own_port_else_the_target_port_else_the_service_s():
    endpoints = [{"address": "127.0.0.1"}, {"address": "127.0.0.2", "ports": {"p80": 7}, "weight": 3}]
    service = entry(ports=((80, "HTTP"), (81, "HTTP")), endpoints=endpoints)
    service["spec"]["ports"][1]["targetPort"] = 9
    assert ports(cluster(service, port=80)) == [80, 7]
    assert ports(cluster(service, port=81)) == [9, 9]
    second = cluster(service, port=80)["load_assignment"]["endpoints"][0]["lb_endpoints"][1]
    assert second["load_balancing_weight"] == 3


def test_names_are_resolved_by_dns_and_a_service_without_endpoints_is_its_own_address():
    made = clusters(entry("api.example.com", resolution="DNS", endpoints=[]))[
        "outbound|8080||api.example.com"
    ]
    assert made["type"] == "STRICT_DNS"
    address = made["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    assert address["socket_address"]["address"] == "api.example.com"


def test_names_are_asked_for_again_when_the_answer_has_run_out_and_not_every_five_seconds():
    made = clusters(entry("api.example.com", resolution="DNS", endpoints=[]))[
        "outbound|8080||api.example.com"
    ]
    assert (made["respect_dns_ttl"], made["dns_refresh_rate"]) == (True, "60s")


def test_the_statistics_name_has_no_dots_that_envoy_would_cut_it_at():
    assert (
        cluster(SERVICE, rule(), subset="v1")["alt_stat_name"]
        == "outbound|8080|v1|ranker_ml_svc_cluster_local"
    )


def test_limits_are_lifted_by_default_and_least_requests_are_preferred():
    made = cluster(SERVICE)
    limits = made["circuit_breakers"]["thresholds"][0]
    assert set(limits.values()) == {4294967295}
    assert (made["lb_policy"], made["connect_timeout"]) == ("LEAST_REQUEST", "10s")


@pytest.mark.parametrize(
    ("subset", "endpoints", "version"),
    [
        ({"name": "stable", "labels": {"version": "v1"}}, ENDPOINTS, "v1"),
        ({"name": "stable", "labels": {"track": "x"}}, [], "stable"),
        ({"name": "stable"}, [(9001, "v7"), (9002, "v7")], "v7"),
        ({"name": "stable"}, ENDPOINTS, "stable"),
    ],
)
def test_the_version_is_the_label_of_the_subset_else_of_its_endpoints_else_its_name(
    subset, endpoints, version
):
    owner = rule()
    owner["spec"]["subsets"] = [subset]
    made = cluster(entry(endpoints=endpoints), owner, subset="stable")
    assert made["metadata"]["filter_metadata"]["istio"] == {
        "host": HOST,
        "service": "ranker",
        "namespace": "ml",
        "subset": "stable",
        "version": version,
    }


def test_a_host_whose_endpoints_differ_has_no_known_version():
    assert cluster(SERVICE)["metadata"]["filter_metadata"]["istio"]["version"] == "unknown"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"simple": "ROUND_ROBIN"}, {"lb_policy": "ROUND_ROBIN"}),
        ({"simple": "RANDOM"}, {"lb_policy": "RANDOM"}),
        ({"simple": "LEAST_CONN"}, {"lb_policy": "LEAST_REQUEST"}),
        (
            {"consistentHash": {"httpHeaderName": "x"}},
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1024}},
        ),
        (
            {"consistentHash": {"httpHeaderName": "x", "ringHash": {"minimumRingSize": 9}}},
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 9}},
        ),
        (
            {"consistentHash": {"httpHeaderName": "x", "maglev": {"tableSize": 11}}},
            {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 11}},
        ),
    ],
)
def test_the_load_balancer_is_the_rule_s(settings, expected):
    made = policy(loadBalancer=settings)
    assert {name: made[name] for name in expected} == expected


def test_the_connection_pool_sets_limits_and_times():
    made = policy(
        connectionPool={
            "tcp": {
                "maxConnections": 7,
                "connectTimeout": "250ms",
                "tcpKeepalive": {"probes": 3, "time": "1m"},
            },
            "http": {
                "http1MaxPendingRequests": 5,
                "http2MaxRequests": 6,
                "maxRetries": 2,
                "idleTimeout": "1m",
            },
        },
        retryBudget={"percent": 10},
    )
    assert made["connect_timeout"] == "0.25s"
    assert made["circuit_breakers"]["thresholds"] == [
        {
            "max_connections": 7,
            "max_pending_requests": 5,
            "max_requests": 6,
            "max_retries": 2,
            "retry_budget": {"budget_percent": {"value": 10}, "min_retry_concurrency": 3},
        }
    ]
    keepalive = made["upstream_connection_options"]["tcp_keepalive"]
    assert keepalive == {"keepalive_probes": 3, "keepalive_time": 60}
    (options,) = made["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"] == {"idle_timeout": "60s"}
    assert options["explicit_http_config"] == {"http_protocol_options": {}}


@pytest.mark.parametrize(
    ("protocol", "http", "version"),
    [
        ("HTTP", {}, None),
        ("GRPC", {}, "http2_protocol_options"),
        ("HTTP2", {}, "http2_protocol_options"),
        ("http2", {}, "http2_protocol_options"),
        ("HTTP", {"h2UpgradePolicy": "UPGRADE"}, "http2_protocol_options"),
        ("HTTP", {"h2UpgradePolicy": "DO_NOT_UPGRADE"}, None),
    ],
)
def test_http2_is_spoken_where_the_port_or_the_rule_says_so(protocol, http, version):
    service = entry(ports=((8080, protocol),), endpoints=ENDPOINTS)
    made = cluster(service, rule(trafficPolicy={"connectionPool": {"http": http}}))
    options = made.get("typed_extension_protocol_options", {})
    assert [list(item["explicit_http_config"]) for item in options.values()] == (
        [[version]] if version else []
    )


def test_outlier_detection_ejects_on_errors_in_a_row_and_never_panics_by_default():
    made = policy(
        outlierDetection={"consecutive5xxErrors": 3, "consecutiveGatewayErrors": 0, "interval": "5s"}
    )
    assert made["outlier_detection"] == {
        "enforcing_success_rate": 0,
        "consecutive_5xx": 3,
        "enforcing_consecutive_5xx": 100,
        "consecutive_gateway_failure": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "interval": "5s",
    }
    assert made["common_lb_config"] == {"healthy_panic_threshold": {"value": 0}}


PICKED = {"top": "LEAST_REQUEST", "port": "RANDOM", "subset": "ROUND_ROBIN", "subset port": "RING_HASH"}


def balanced(kind):
    """Settings whose load balancer tells where they came from."""
    if kind == "subset port":
        return {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}}
    return {"loadBalancer": {"simple": PICKED[kind]}}


@pytest.mark.parametrize(
    ("levels", "winner"),
    [
        (["top"], "top"),
        (["top", "port"], "port"),
        (["top", "port", "subset"], "subset"),
        (["top", "port", "subset", "subset port"], "subset port"),
        (["top", "subset port"], "subset port"),
    ],
)
def test_the_most_specific_settings_count(levels, winner):
    def at(own, for_port):
        settings = balanced(own) if own in levels else {}
        if for_port in levels:
            settings["portLevelSettings"] = [{"port": {"number": 8080}, **balanced(for_port)}]
        return settings

    owner = rule(trafficPolicy=at("top", "port"))
    owner["spec"]["subsets"] = [{"name": "v1", "trafficPolicy": at("subset", "subset port")}]
    assert cluster(SERVICE, owner, subset="v1")["lb_policy"] == PICKED[winner]


def test_settings_for_a_port_replace_the_others_as_a_whole():
    made = policy(
        outlierDetection={"consecutive5xxErrors": 3},
        portLevelSettings=[{"port": {"number": 8080}, "loadBalancer": {"simple": "RANDOM"}}],
    )
    assert made["lb_policy"] == "RANDOM"
    assert "outlier_detection" not in made


def test_a_subset_inherits_what_it_does_not_set():
    owner = rule(trafficPolicy={"outlierDetection": {"interval": "1s"}, "loadBalancer": {"simple": "RANDOM"}})
    owner["spec"]["subsets"][0]["trafficPolicy"] = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
    made = cluster(SERVICE, owner, subset="v1")
    assert made["lb_policy"] == "ROUND_ROBIN"
    assert made["outlier_detection"]["interval"] == "1s"
