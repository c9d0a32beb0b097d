"""Listeners: HTTP with its routes in a file, TCP and TLS with their weights in the listener."""

import pytest

from istio.envoy.translate import Options, translate
from policies.findings import errors
from tests.support.mesh import HOST, entry, routes, rule, to

DB = "db.ml.svc.cluster.local"


def listeners(*objects, **options):
    translation = translate(objects, Options(**options))
    assert errors(translation.findings) == []
    return {made["name"]: made for made in translation.listeners}


def database(protocol, *, port=5432, host="db"):
    return entry(host, ports=((port, protocol),), endpoints=[(1, "v1")])


def proxies(listener):
    """The filter of each chain with the server names that lead to it."""
    return [
        (chain.get("filter_chain_match", {}).get("server_names"), chain["filters"][0]["typed_config"])
        for chain in listener["filter_chains"]
    ]


def test_an_http_port_reads_its_routes_from_its_file():
    (made,) = listeners(entry(), folder="/run/xds", address="127.0.0.2").values()
    ((_, manager),) = proxies(made)
    assert made["name"] == "127.0.0.2_8080"
    assert made["address"]["socket_address"] == {"address": "127.0.0.2", "port_value": 8080}
    assert manager["rds"]["route_config_name"] == "8080"
    assert manager["rds"]["config_source"]["path_config_source"] == {"path": "/run/xds/rds-8080.json"}
    assert [item["name"].rpartition(".")[2] for item in manager["http_filters"]] == [
        "fault",
        "cors",
        "router",
    ]


def test_a_long_answer_may_pause_and_the_service_itself_asks_for_the_rest_of_a_request():
    (made,) = listeners(entry()).values()
    ((_, manager),) = proxies(made)
    assert manager["stream_idle_timeout"] == "0s"
    assert manager["proxy_100_continue"] is True


def test_services_on_one_port_share_a_listener():
    assert list(listeners(entry(), entry("other"))) == ["127.0.0.1_8080"]


def test_a_service_port_can_be_published_elsewhere_and_keeps_its_name():
    made = listeners(entry(), publish={8080: 80})["127.0.0.1_8080"]
    assert made["address"]["socket_address"]["port_value"] == 80


def test_a_tcp_port_without_routes_leads_to_its_service():
    (made,) = listeners(database("TCP")).values()
    ((_, proxy),) = proxies(made)
    assert proxy["cluster"] == f"outbound|5432||{DB}"


def test_tcp_weights_stand_in_the_listener_without_zeros():
    split = routes(host="db", tcp=[{"route": [to("v1", 70, "db"), to("v2", 30, "db"), to("v3", 0, "db")]}])
    (made,) = listeners(database("TCP"), rule("db", ("v1", "v2", "v3")), split).values()
    ((_, proxy),) = proxies(made)
    assert proxy["weighted_clusters"]["clusters"] == [
        {"name": f"outbound|5432|v1|{DB}", "weight": 70},
        {"name": f"outbound|5432|v2|{DB}", "weight": 30},
    ]


def test_the_first_tcp_route_that_admits_the_port_counts():
    owner = routes(
        host="db",
        tcp=[
            {"match": [{"port": 1}], "route": [to("v1", host="db")]},
            {"match": [{"port": 5432}], "route": [to("v2", host="db")]},
            {"route": [to(host="db")]},
        ],
    )
    (made,) = listeners(database("TCP"), rule("db"), owner).values()
    assert proxies(made)[0][1]["cluster"] == f"outbound|5432|v2|{DB}"


def test_an_idle_timeout_of_the_rule_ends_idle_tcp_connections():
    pool = {"connectionPool": {"tcp": {"idleTimeout": "5s"}}}
    (made,) = listeners(database("TCP"), rule("db", trafficPolicy=pool)).values()
    assert proxies(made)[0][1]["idle_timeout"] == "5s"


def test_tls_routes_go_by_server_name_and_the_first_one_that_names_it():
    owner = routes(
        host="db",
        tls=[
            {"match": [{"sniHosts": ["a.b", "c.d"]}], "route": [to("v1", host="db")]},
            {"match": [{"sniHosts": ["c.d", "e.f"]}], "route": [to("v2", host="db")]},
            {"match": [{"sniHosts": ["*"]}], "route": [to(host="db")]},
        ],
    )
    (made,) = listeners(database("TLS"), rule("db"), owner).values()
    assert [(names, proxy["cluster"]) for names, proxy in proxies(made)] == [
        (["a.b", "c.d"], f"outbound|5432|v1|{DB}"),
        (["e.f"], f"outbound|5432|v2|{DB}"),
        (None, f"outbound|5432||{DB}"),
    ]
    assert made["listener_filters"][0]["name"] == "envoy.filters.listener.tls_inspector"


def test_tls_services_without_routes_go_by_their_own_names():
    (made,) = listeners(database("TLS"), database("HTTPS", host="api.example.com")).values()
    assert [names for names, _ in proxies(made)] == [["api.example.com"], [DB]]


@pytest.mark.parametrize(
    ("objects", "options"),
    [
        ([database("TCP"), database("TCP", host="other")], {}),
        ([database("TCP"), entry("web", ports=((5432, "HTTP"),))], {}),
        ([database("TCP"), entry("web")], {"publish": {5432: 1, 8080: 1}}),
    ],
)
def test_two_services_that_need_the_same_port_are_reported(objects, options):
    found = errors(translate(objects, Options(**options)).findings)
    assert [finding.code for finding in found] == ["PS508"]


def test_a_metric_logger_counts_grpc_apart_from_the_rest():
    ((_, manager),) = proxies(listeners(entry())["127.0.0.1_8080"])
    labels = [
        {tag["name"]: tag["value_format"] for tag in log["typed_config"]["counters"][0]["stat"]["tags"]}
        for log in manager["access_log"]
    ]
    assert [item["request_protocol"] for item in labels] == ["grpc", "http"]
    assert ["grpc_response_status" in item for item in labels] == [True, False]
    assert labels[1]["destination_version"] == "%CLUSTER_METADATA(istio:version)%"
    assert HOST not in str(labels), "labels come from the cluster that was chosen"
