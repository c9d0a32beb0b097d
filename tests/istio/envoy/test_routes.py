"""Routes as istiod makes them for a sidecar. Expectations are our own, from Istio's documented behaviour."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from istio.envoy.translate import translate
from policies.findings import errors
from tests.support.mesh import HOST, entry, routes, rule, split, to

SERVICE = entry(endpoints=[(9001, "v1"), (9002, "v2")])


def hosts(*objects, port="8080"):
    translation = translate(objects)
    assert errors(translation.findings) == []
    return translation.routes[port]["virtual_hosts"]


def envoy_routes(*http, extra=()):
    return hosts(SERVICE, rule(), routes(*http), *extra)[0]["routes"]


def action(**http):
    return envoy_routes({"route": [to("v1")], **http})[0]["route"]


def test_a_virtual_host_is_named_by_host_and_port_and_answers_to_all_forms_of_the_name():
    first = hosts(SERVICE)[0]
    assert first["name"] == f"{HOST}:8080"
    assert first["domains"] == [HOST, f"{HOST}.", "ranker", "ranker.ml", "ranker.ml.svc"]


def test_a_foreign_host_has_no_short_forms():
    assert hosts(entry("api.example.com"))[0]["domains"] == ["api.example.com", "api.example.com."]


def test_a_short_name_of_two_services_on_a_port_reaches_neither_and_is_reported():
    translation = translate([SERVICE, entry(namespace="other")])
    first, second, _ = translation.routes["8080"]["virtual_hosts"]
    assert "ranker" not in first["domains"] + second["domains"]
    assert "ranker.other" in second["domains"]
    assert [(f.code, f.severity) for f in translation.findings] == [("PS510", "warning")]


def test_an_unknown_host_gets_502():
    last = hosts(SERVICE)[-1]
    assert (last["name"], last["domains"]) == ("block_all", ["*"])
    assert last["routes"][0]["direct_response"]["status"] == 502


def test_a_service_without_virtual_service_gets_its_own_traffic_without_timeout_and_with_two_retries():
    (route,) = hosts(SERVICE)[0]["routes"]
    assert route["match"] == {"prefix": "/"}
    assert route["route"]["cluster"] == f"outbound|8080||{HOST}"
    assert route["route"]["timeout"] == "0s"
    assert route["route"]["retry_policy"]["num_retries"] == 2


def test_each_match_of_a_route_becomes_an_envoy_route_named_after_both():
    made = envoy_routes(
        {
            "name": "a",
            "match": [{"name": "m", "uri": {"prefix": "/x"}}, {"uri": {"exact": "/y"}}],
            "route": [to("v1")],
        }
    )
    assert [(route["name"], route["match"]) for route in made] == [
        ("a.m", {"prefix": "/x", "case_sensitive": True}),
        ("a", {"path": "/y", "case_sensitive": True}),
    ]


@pytest.mark.parametrize("match", [None, [{"uri": {"prefix": "/"}}], [{"uri": {"regex": ".*"}}], [{}]])
def test_nothing_follows_a_catch_all(match):
    first = {"name": "all", "route": [to("v1")], **({"match": match} if match is not None else {})}
    assert [route["name"] for route in envoy_routes(first, {"name": "never", "route": [to("v2")]})] == ["all"]


@pytest.mark.parametrize(
    "match",
    [
        {"uri": {"prefix": "/"}, "headers": {"x": {"exact": "1"}}},
        {"uri": {"prefix": "/"}, "queryParams": {"q": {"exact": "1"}}},
        {"uri": {"prefix": "/"}, "method": {"exact": "GET"}},
        {"uri": {"prefix": "/api"}},
    ],
)
def test_a_route_with_a_condition_is_no_catch_all(match):
    made = envoy_routes({"match": [match], "route": [to("v1")]}, {"name": "next", "route": [to("v2")]})
    assert [route["name"] for route in made] == ["", "next"]


def test_a_match_for_another_port_is_left_out():
    service = entry(ports=((8080, "HTTP"), (8081, "HTTP")))
    owner = routes({"match": [{"port": 8081}], "route": [to("v1")]}, {"route": [to("v2")]})
    made = translate([service, rule(), owner]).routes
    assert [len(made[port]["virtual_hosts"][0]["routes"]) for port in ("8080", "8081")] == [1, 1]
    assert made["8080"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] == f"outbound|8080|v2|{HOST}"
    assert made["8081"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] == f"outbound|8081|v1|{HOST}"


def test_routes_of_which_none_admits_the_port_leave_the_service_its_own_traffic():
    made = envoy_routes({"match": [{"port": 1}], "route": [to("v1")]})
    assert made[0]["name"] == "default"


@pytest.mark.parametrize("weight", [None, 0, 7, 100])
def test_the_only_destination_gets_everything_whatever_its_weight(weight):
    made = envoy_routes({"route": [to("v1", weight)]})
    assert made[0]["route"]["cluster"] == f"outbound|8080|v1|{HOST}"


def test_several_destinations_are_weighted_without_a_total():
    made = hosts(SERVICE, rule(), split(90, 10))[0]["routes"][0]["route"]
    assert made["weighted_clusters"] == {
        "clusters": [
            {"name": f"outbound|8080|v1|{HOST}", "weight": 90},
            {"name": f"outbound|8080|v2|{HOST}", "weight": 10},
        ]
    }


@given(st.lists(st.integers(0, 100), min_size=2, max_size=5).filter(any))
def test_each_destination_gets_its_weight_in_order(weights):
    owner = routes({"route": [to(f"s{index}", weight) for index, weight in enumerate(weights)]})
    made = translate([SERVICE, owner]).routes["8080"]["virtual_hosts"][0]["routes"][0]["route"]
    assert [
        (item["name"].split("|")[2], item["weight"]) for item in made["weighted_clusters"]["clusters"]
    ] == [(f"s{index}", weight) for index, weight in enumerate(weights) if weight]


@pytest.mark.parametrize("second", [0, None])
def test_a_weight_of_zero_is_left_out_and_the_rest_stays_weighted(second):
    made = hosts(SERVICE, rule(), split(100, second))[0]["routes"][0]["route"]
    assert made["weighted_clusters"] == {"clusters": [{"name": f"outbound|8080|v1|{HOST}", "weight": 100}]}


@pytest.mark.parametrize(
    ("destination", "cluster"),
    [
        ({"host": "ranker"}, f"outbound|8080||{HOST}"),
        ({"host": "ranker.ml.svc"}, f"outbound|8080||{HOST}"),
        ({"host": HOST, "port": {"number": 9}}, f"outbound|9||{HOST}"),
        ({"host": "one"}, "outbound|70||one.ml.svc.cluster.local"),
        ({"host": "two"}, "outbound|8080||two.ml.svc.cluster.local"),
        ({"host": "nowhere.example.com"}, "outbound|8080||nowhere.example.com"),
    ],
)
def test_a_destination_has_its_own_port_else_the_only_one_else_the_listener_s(destination, cluster):
    others = [entry("one", ports=((70, "HTTP"),)), entry("two", ports=((8080, "HTTP"), (71, "HTTP")))]
    made = envoy_routes({"route": [{"destination": destination}]}, extra=others)
    assert made[0]["route"]["cluster"] == cluster


def test_no_timeout_by_default_and_the_given_one_also_bounds_grpc_deadlines():
    assert (action()["timeout"], action()["max_grpc_timeout"]) == ("0s", "0s")
    assert action(timeout="1m0.5s")["timeout"] == "60.5s"
    assert action(timeout="250ms")["max_grpc_timeout"] == "0.25s"


@pytest.mark.parametrize(
    ("retries", "expected"),
    [
        ({"attempts": 5}, {"num_retries": 5}),
        ({"attempts": 1, "perTryTimeout": "2s"}, {"per_try_timeout": "2s"}),
        ({"attempts": 1, "retryOn": "5xx, reset"}, {"retry_on": "5xx,reset"}),
        (
            {"attempts": 1, "retryOn": "503,reset"},
            {"retry_on": "reset,retriable-status-codes", "retriable_status_codes": [503]},
        ),
        ({"attempts": 1, "backoff": "25ms"}, {"retry_back_off": {"base_interval": "0.025s"}}),
    ],
)
def test_retries_keep_the_defaults_for_what_they_do_not_say(retries, expected):
    made = action(retries=retries)["retry_policy"]
    assert {name: made[name] for name in expected} == expected
    assert made["retry_host_predicate"][0]["name"] == "envoy.retry_host_predicates.previous_hosts"


def test_the_default_retries_are_istio_s():
    made = action()["retry_policy"]
    assert made["retry_on"] == "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
    assert (made["num_retries"], made["host_selection_retry_max_attempts"]) == (2, "5")


@pytest.mark.parametrize("retries", [{"attempts": 0}, {}])
def test_no_attempts_are_no_retries(retries):
    assert "retry_policy" not in action(retries=retries)


@pytest.mark.parametrize(
    ("http", "share"),
    [
        ({}, {"numerator": 100, "denominator": "HUNDRED"}),
        ({"mirrorPercentage": {"value": 50.0}}, {"numerator": 500_000, "denominator": "MILLION"}),
        ({"mirrorPercentage": {"value": 0.57}}, {"numerator": 5_699, "denominator": "MILLION"}),
        ({"mirrorPercent": 5}, {"numerator": 5, "denominator": "HUNDRED"}),
        (
            {"mirrorPercent": 5, "mirrorPercentage": {"value": 1}},
            {"numerator": 10_000, "denominator": "MILLION"},
        ),
    ],
)
def test_a_mirror_gets_its_share_as_istiod_rounds_it(http, share):
    (policy,) = action(mirror={"host": "ranker", "subset": "v2"}, **http)["request_mirror_policies"]
    assert policy["cluster"] == f"outbound|8080|v2|{HOST}"
    assert policy["runtime_fraction"]["default_value"] == share
    assert policy["disable_shadow_host_suffix_append"] is True


@pytest.mark.parametrize("http", [{"mirrorPercentage": {"value": 0}}, {"mirrorPercent": 0}])
def test_a_mirror_with_no_share_is_none(http):
    assert "request_mirror_policies" not in action(mirror={"host": "ranker", "subset": "v2"}, **http)


def test_several_mirrors_have_their_own_shares():
    mirrors = [
        {"destination": {"host": "ranker", "subset": "v1"}, "percentage": {"value": 10}},
        {"destination": {"host": "ranker", "subset": "v2"}},
    ]
    made = action(mirrors=mirrors)["request_mirror_policies"]
    shares = [policy["runtime_fraction"]["default_value"]["numerator"] for policy in made]
    assert shares == [100_000, 100]


@pytest.mark.parametrize(
    ("rewrite", "expected"),
    [
        ({"uri": "/b"}, {"prefix_rewrite": "/b"}),
        ({"authority": "x.y"}, {"host_rewrite_literal": "x.y"}),
        (
            {"uriRegexRewrite": {"match": "^/a(.*)", "rewrite": r"/b\1"}},
            {"regex_rewrite": {"pattern": {"regex": "^/a(.*)"}, "substitution": r"/b\1"}},
        ),
    ],
)
def test_a_rewrite_changes_path_or_host(rewrite, expected):
    made = action(rewrite=rewrite)
    assert {name: made[name] for name in expected} == expected


def test_a_match_with_a_name_in_a_route_without_keeps_the_dot_between_them():
    made = envoy_routes({"match": [{"name": "reads", "uri": {"prefix": "/a"}}], "route": [to("v1")]})
    assert made[0]["name"] == ".reads"


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ({"uri": "/b"}, {"path_redirect": "/b", "response_code": "MOVED_PERMANENTLY"}),
        (
            {"authority": "x", "redirectCode": 307},
            {"host_redirect": "x", "response_code": "TEMPORARY_REDIRECT"},
        ),
        ({"derivePort": "FROM_REQUEST_PORT"}, {"port_redirect": 8080, "response_code": "MOVED_PERMANENTLY"}),
        ({"port": 80}, {"response_code": "MOVED_PERMANENTLY"}),
        (
            {"port": 443, "scheme": "https"},
            {"scheme_redirect": "https", "response_code": "MOVED_PERMANENTLY"},
        ),
    ],
)
def test_a_redirect_names_only_what_changes(redirect, expected):
    assert envoy_routes({"redirect": redirect})[0]["redirect"] == expected


def test_a_direct_response_has_a_status_and_a_body():
    made = envoy_routes({"directResponse": {"status": 418, "body": {"string": "tea"}}})[0]
    assert made["direct_response"] == {"status": 418, "body": {"inline_string": "tea"}}


def test_a_fault_has_no_share_unless_it_says_so():
    fault = {
        "delay": {"fixedDelay": "2s"},
        "abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 1.5}},
    }
    made = envoy_routes({"fault": fault, "route": [to("v1")]})[0]["typed_per_filter_config"]
    filter_ = made["envoy.filters.http.fault"]
    assert filter_["delay"] == {
        "fixed_delay": "2s",
        "percentage": {"numerator": 0, "denominator": "HUNDRED"},
    }
    assert filter_["abort"] == {
        "grpc_status": 14,
        "percentage": {"numerator": 15_000, "denominator": "MILLION"},
    }


def test_an_abort_without_a_share_is_written_without_one_and_happens_never():
    http = {"fault": {"abort": {"httpStatus": 503}}, "route": [to("v1")]}
    made = envoy_routes(http)[0]["typed_per_filter_config"]["envoy.filters.http.fault"]
    assert made["abort"] == {"http_status": 503}


def test_headers_of_the_only_destination_join_the_route_s():
    http = {
        "headers": {"request": {"set": {"b": "1", "a": "2"}, "add": {"c": "3"}, "remove": ["x"]}},
        "route": [to("v1", headers={"response": {"add": {"from": "v1"}}, "request": {"remove": ["y"]}})],
    }
    (made,) = envoy_routes(http)
    assert [(item["header"]["key"], item["append_action"]) for item in made["request_headers_to_add"]] == [
        ("a", "OVERWRITE_IF_EXISTS_OR_ADD"),
        ("b", "OVERWRITE_IF_EXISTS_OR_ADD"),
        ("c", "APPEND_IF_EXISTS_OR_ADD"),
    ]
    assert made["request_headers_to_remove"] == ["x", "y"]
    assert made["response_headers_to_add"][0]["header"] == {"key": "from", "value": "v1"}


def test_headers_of_several_destinations_stay_with_each():
    http = {
        "route": [
            to("v1", 1, headers={"request": {"set": {":authority": "one"}}}),
            to("v2", 1, headers={"response": {"remove": ["x"]}}),
        ]
    }
    first, second = envoy_routes(http)[0]["route"]["weighted_clusters"]["clusters"]
    assert first["host_rewrite_literal"] == "one"
    assert "request_headers_to_add" not in first
    assert second["response_headers_to_remove"] == ["x"]


def test_the_rewritten_authority_wins_over_the_headers_and_those_over_the_destination_s():
    only = to("v1", headers={"request": {"set": {"host": "destination"}}})
    route = {"request": {"set": {":authority": "route"}}}
    assert action(route=[only])["host_rewrite_literal"] == "destination"
    assert action(route=[only], headers=route)["host_rewrite_literal"] == "route"
    made = action(route=[only], headers=route, rewrite={"authority": "rewrite"})
    assert made["host_rewrite_literal"] == "rewrite"


HASH = {"loadBalancer": {"consistentHash": {"httpHeaderName": "top"}}}


@pytest.mark.parametrize(
    ("hashed", "policy"),
    [
        ({"httpHeaderName": "x-user"}, {"header": {"header_name": "x-user"}}),
        ({"useSourceIp": True}, {"connection_properties": {"source_ip": True}}),
        ({"httpQueryParameterName": "q"}, {"query_parameter": {"name": "q"}}),
        (
            {"httpCookie": {"name": "u", "ttl": "0s", "path": "/"}},
            {"cookie": {"name": "u", "ttl": "0s", "path": "/"}},
        ),
    ],
)
def test_a_consistent_hash_is_a_hash_policy_of_the_route_and_lets_retries_return_to_a_host(hashed, policy):
    policy_of_rule = {"loadBalancer": {"consistentHash": hashed}}
    made = hosts(SERVICE, rule(trafficPolicy=policy_of_rule), routes({"route": [to("v1")]}))[0]["routes"][0]
    assert made["route"]["hash_policy"] == [policy]
    assert "retry_host_predicate" not in made["route"]["retry_policy"]


def test_the_hash_of_a_subset_wins_over_the_rule_s():
    subset = {
        "name": "v1",
        "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": "subset"}}},
    }
    made = hosts(SERVICE, rule(subsets=(), trafficPolicy=HASH) | {}, routes({"route": [to("v1")]}))
    assert made[0]["routes"][0]["route"]["hash_policy"] == [{"header": {"header_name": "top"}}]
    owner = rule(trafficPolicy=HASH)
    owner["spec"]["subsets"] = [subset]
    made = hosts(SERVICE, owner, routes({"route": [to("v1")]}))
    assert made[0]["routes"][0]["route"]["hash_policy"] == [{"header": {"header_name": "subset"}}]


def test_cors_names_origins_and_methods():
    policy = {"allowOrigins": [{"exact": "https://a.b"}], "allowMethods": ["GET", "PUT"], "maxAge": "1m"}
    made = envoy_routes({"corsPolicy": policy, "route": [to("v1")]})[0]["typed_per_filter_config"]
    cors = made["envoy.filters.http.cors"]
    assert cors["allow_origin_string_match"] == [{"exact": "https://a.b"}]
    assert (cors["allow_methods"], cors["max_age"]) == ("GET,PUT", "60")


def test_the_oldest_of_several_virtual_services_has_the_host_and_the_other_is_reported():
    older = routes({"route": [to("v1")]}, name="b")
    newer = routes({"route": [to("v2")]}, name="a")
    older["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    newer["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    translation = translate([SERVICE, rule(), newer, older])
    made = translation.routes["8080"]["virtual_hosts"][0]["routes"]
    assert made[0]["route"]["cluster"] == f"outbound|8080|v1|{HOST}"
    assert [(f.code, f.object) for f in translation.findings] == [("PS506", "VirtualService/ml/a")]


def test_the_configuration_lets_envoy_ignore_the_port_of_the_host_header():
    configuration = translate([SERVICE]).routes["8080"]
    assert configuration["ignore_port_in_host_matching"] is True
    assert configuration["validate_clusters"] is False
