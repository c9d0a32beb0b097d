"""The labels that Prometheus makes of istiod's names, and the command line."""

from __future__ import annotations

import re

import pytest

from cluster import gateway
from cluster.__main__ import parse
from istio.envoy import telemetry


def relabelled(labels):
    """Return the labels of a sample after Prometheus' relabelling, None if it is dropped."""
    labels = dict(labels)
    for rule in gateway.prometheus_config(15000)["scrape_configs"][0]["metric_relabel_configs"]:
        found = re.fullmatch(rule["regex"], ";".join(labels.get(name, "") for name in rule["source_labels"]))
        if rule.get("action") == "keep":
            if not found:
                return None
        elif found:
            labels[rule["target_label"]] = found.expand(rule["replacement"].replace("$", "\\"))
    return labels


RANKER = "ranker.ml.svc.cluster.local"


@pytest.mark.parametrize(
    ("upstream", "workload", "service", "name", "named", "version"),
    [
        (f"outbound|8080|v1|{RANKER}", "r-1;ml;ranker;v1;Kubernetes", RANKER, "ranker", "ml", "v1"),
        # the version is the endpoint's label, whatever the subset is called
        (f"outbound|8080|canary|{RANKER}", ";ml;ranker;v2;Kubernetes", RANKER, "ranker", "ml", "v2"),
        (f"outbound|8080||{RANKER}", ";ml;ranker;v2;", RANKER, "ranker", "ml", "v2"),
        # no endpoint was reached
        (f"outbound|8080|v1|{RANKER}", "-", RANKER, "ranker", "ml", "unknown"),
        # an endpoint without a version
        (f"outbound|8080|v1|{RANKER}", "r-1;ml;ranker;;Kubernetes", RANKER, "ranker", "ml", "unknown"),
        # a host outside of the cluster is in the namespace of its ServiceEntry
        ("outbound|443||api.example.com", ";ml;api;v1;", "api.example.com", "api.example.com", "ml", "v1"),
        # the pods' namespace is not the service's
        (f"outbound|80|v1|{RANKER}", "r;elsewhere;ranker;v1;", RANKER, "ranker", "ml", "v1"),
    ],
)
def test_istios_labels_are_made_of_istiods_names(upstream, workload, service, name, named, version):
    labels = {
        "__name__": "envoy_istio_requests_total",
        "upstream_cluster": upstream,
        "upstream_workload": workload,
    }
    found = relabelled(labels)
    assert found["__name__"] == "istio_requests_total"
    assert found["destination_service"] == service
    assert found["destination_service_name"] == name
    assert found["destination_service_namespace"] == named
    assert found["destination_version"] == version


def test_other_series_are_not_kept():
    assert relabelled({"__name__": "envoy_cluster_upstream_rq_total"}) is None


def test_the_gateway_counts_with_all_labels_of_standalone_but_those_of_the_destination():
    def tags(loggers):
        stats = [stat for each in loggers for stat in each["typed_config"]["counters"]]
        return [{tag["name"] for tag in stat["stat"]["tags"]} for stat in stats]

    patch = gateway.manifests(8080)[1]["spec"]["configPatches"][0]["patch"]
    ours = tags(patch["value"]["typed_config"]["access_log"])
    theirs = tags(telemetry.access_loggers("gateway"))
    for mine, known in zip(ours, theirs, strict=True):
        kept = {name for name in known if not name.startswith("destination_")}
        assert mine == kept | {"upstream_cluster", "upstream_workload"}


@pytest.mark.parametrize(
    ("parts", "said"), [("etcd", "without kube-apiserver"), ("etcd,kube-apiserver,x", "unknown: x")]
)
def test_the_command_refuses_parts_that_cannot_run(parts, said, capsys):
    with pytest.raises(SystemExit):
        parse(["--parts", parts])
    assert said in capsys.readouterr().err
