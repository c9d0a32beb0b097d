"""The chart as text: what values make of it, what it refuses, and that its pod is as careful as it can be."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml
from typer.main import get_command

from controller.cli import app
from controller.cli.kubectl import SELECTOR
from controller.cli.prometheus import HEADERS
from tests.support.chart import CHART, ChartError, objects, rendered

pytestmark = pytest.mark.cluster  # helm is built with it

POSTGRESQL = {"store": "postgresql", "postgresql": {"existingSecret": "history"}}
GUARDED = {
    "existingSecret": "prom",
    "secretKeys": {"url": "address", "token": "token", "headers": "headers"},
    "headers": {"X-Scope-OrgID": "team|$(HOME)"},
    "caConfigMap": "openshift-service-ca.crt",
    "caKey": "service-ca.crt",
    "clientCertificateSecret": "penstock-tls",
}
EVERYTHING = {
    "replicas": 3,
    "prometheus": {"url": "https://p:9090", **GUARDED},
    "namespaces": ["ml", "shop"],
    "history": POSTGRESQL,
    "api": {"token": {"generate": True}},
    "workloads": {"write": True},
    "networkPolicy": {"enabled": True},
    "monitoring": {each: {"enabled": True} for each in ("serviceMonitor", "prometheusRule", "dashboard")},
    "imagePullSecrets": [{"name": "registry"}],
    "image": {"repository": "example.invalid/penstock", "digest": "sha256:" + "0" * 64},
    "serviceAccount": {"annotations": {"a": "b"}},
    "env": [{"name": "OTEL_SERVICE_NAME", "value": "penstock"}],
    "envFrom": [{"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "nodeSelector": {"e": "f"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [],
    "priorityClassName": "high",
}
SETS = {
    "default": {},
    "everything": EVERYTHING,
    "no history": {"history": {"store": "none"}, "replicas": 2},
    "no claim": {"history": {"sqlite": {"persistence": False}}},
    "a claim that is there": {"history": {"sqlite": {"existingClaim": "mine"}}},
    "an account that is there": {
        "serviceAccount": {"create": False, "name": "mine"},
        "rbac": {"create": False},
    },
    "a guarded Prometheus": {"prometheus": GUARDED},
    "a token that is there": {"api": {"token": {"existingSecret": "mine"}}},
}


def kinds(made):
    return sorted(obj["kind"] for obj in made)


def only(made, kind):
    (found,) = [obj for obj in made if obj["kind"] == kind]
    return found


def container(made):
    (found,) = only(made, "Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def environment(made):
    return {each["name"]: each for each in container(made)["env"]}


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_helm_finds_nothing_to_say(helm, values):
    given = json.dumps({"prometheus": {"url": "http://p:9090"}, **values})
    command = [helm, "lint", "--strict", CHART, "-f", "-", "--kube-version", "1.35.4"]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_every_object_says_what_it_belongs_to_and_where_it_is(helm, values):
    made = objects(helm, "there", **values)
    names = {obj["metadata"]["name"] for obj in made}
    assert all(name.startswith("penstock") for name in names)
    assert {obj["metadata"]["labels"]["app.kubernetes.io/name"] for obj in made} == {"penstock"}
    places = {obj["metadata"].get("namespace") for obj in made if not obj["kind"].startswith("ClusterRole")}
    assert places == {"there", *values.get("namespaces", [])}


def test_kubectl_penstock_finds_the_service_whatever_the_release_is_called(helm):
    service = only(objects(helm, "there", nameOverride="canaries"), "Service")
    wanted = dict(each.split("=") for each in SELECTOR.split(","))
    assert wanted.items() <= service["metadata"]["labels"].items()


def test_what_the_default_values_make(helm):
    assert kinds(objects(helm, "there")) == sorted(
        ["ClusterRole"] * 3 + ["ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount", "Service"]
        + ["PersistentVolumeClaim", "Deployment", "Lease"]
    )  # fmt: skip


def test_names_that_yaml_would_take_for_numbers_or_truth_stay_names(helm):
    def named(value):
        for key, found in value.items() if isinstance(value, dict) else ():
            if key in {"name", "key"}:
                yield found
            yield from named(found)
        for each in value if isinstance(value, list) else ():
            yield from named(each)

    guarded = {
        "url": "", "existingSecret": "123", "caConfigMap": "0", "caKey": "1e3",
        "clientCertificateSecret": "1.5", "secretKeys": {"url": "007", "token": "on", "headers": "null"},
    }  # fmt: skip
    postgresql = {"store": "postgresql", "postgresql": {"existingSecret": "12", "key": "0x1"}}
    token = {"token": {"existingSecret": "1e9", "key": "yes"}}
    made = objects(helm, "there", prometheus=guarded, history=postgresql, api=token)
    names = list(named(only(made, "Deployment")))
    assert all(isinstance(name, str) for name in names)
    assert {"123", "0", "1e3", "1.5", "007", "on", "null", "12", "0x1", "1e9", "yes"} <= set(names)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"prometheus": {"url": ""}}, "prometheus.url is needed: where the metrics are"),
        (
            {"replicas": 2},
            "replicas: 2 needs history.store: postgresql (or none): SQLite is a file of one pod",
        ),
        ({"history": {"store": "postgresql"}}, "needs history.postgresql.existingSecret"),
        (
            {"api": {"token": {"generate": True, "existingSecret": "a"}}},
            "generate or existingSecret, not both",
        ),
        ({"serviceAccount": {"create": False}}, "needs serviceAccount.name"),
        (
            {"prometheus": {"existingSecret": "prom", "secretKeys": {"url": ""}}},
            "prometheus.url is needed",
        ),
        ({"prometheus": {"url": "http://p", "existingSecret": "prom"}}, "would be used for nothing"),
        (
            {"prometheus": {"url": "http://p", "secretKeys": {"token": "token"}}},
            "needs prometheus.existingSecret",
        ),
        ({"prometheus": {**GUARDED, "serviceAccountToken": True}}, "serviceAccountToken or secretKeys.token"),
        ({"prometheus": {**GUARDED, "caSecret": "ca"}}, "caConfigMap or caSecret, not both"),
        (
            {"prometheus": GUARDED, "networkPolicy": {"enabled": True}},
            "needs networkPolicy.egress.prometheusPort",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(helm, values, sentence):
    with pytest.raises(ChartError, match=re.escape(sentence)):
        rendered(helm, "there", **values)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"replica": 1}, "'replica' not allowed"),
        ({"replicas": "2"}, "/replicas"),
        ({"replicas": -1}, "/replicas"),
        ({"prometheus": {"url": "prometheus:9090"}}, "/prometheus/url"),
        ({"prometheus": {"url": "http://p", "timeout": 1}}, "'timeout' not allowed"),
        ({"prometheus": {"url": "http://p", "secretKeys": {"password": "p"}}}, "'password' not allowed"),
        ({"prometheus": {"url": "http://p", "headers": {"X A": "b"}}}, "propertyName 'X A'"),
        ({"prometheus": {"url": "http://p", "headers": {"X-A": "b\nX-C: d"}}}, "/prometheus/headers/X-A"),
        ({"prometheus": {"url": "http://p", "existingSecret": "Not A Name"}}, "/prometheus/existingSecret"),
        ({"history": {"store": "mysql"}}, "/history/store"),
        ({"history": {"sqlite": {"size": "1 GB"}}}, "/history/sqlite/size"),
        ({"namespaces": ["Not A Name"]}, "/namespaces/0"),
        ({"namespaces": ["a", "a"]}, "/namespaces"),
        ({"api": {"port": 0}}, "/api/port"),
        ({"image": {"digest": "sha256:1"}}, "/image/digest"),
        ({"lease": {"seconds": 1}}, "/lease/seconds"),
        ({"propagation": "5"}, "/propagation"),
        ({"logFormat": "xml"}, "/logFormat"),
        ({"workloads": {"write": "yes"}}, "/workloads/write"),
        ({"networkPolicy": {"egress": {"apiServerPorts": []}}}, "/networkPolicy/egress/apiServerPorts"),
    ],
)
def test_nonsense_is_refused_by_the_schema_where_it_stands(helm, values, place):
    with pytest.raises(ChartError, match=re.escape(place)):
        rendered(helm, "there", **values)


def test_the_schema_knows_every_value_and_no_other():
    def paths(values, schema, at=""):
        for name, value in values.items():
            assert name in schema["properties"], f"{at}{name}"
            if "properties" in schema["properties"][name]:
                yield from paths(value, schema["properties"][name], f"{at}{name}.")
            else:
                yield f"{at}{name}"

    def known(schema, at=""):
        for name, part in schema["properties"].items():
            yield from known(part, f"{at}{name}.") if "properties" in part else [f"{at}{name}"]

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert sorted([*paths(values, schema), "global"]) == sorted(known(schema))


def test_the_pod_may_do_nothing_that_it_need_not(helm):
    made = objects(helm, "there", **EVERYTHING)
    pod = only(made, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(made)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert only(made, "ServiceAccount")["automountServiceAccountToken"] is False


def test_the_command_is_one_that_penstock_knows(helm):
    run = get_command(app).commands["run"]
    options = {option: each for each in run.params for option in each.opts}
    made = objects(helm, "there", **EVERYTHING)
    command, *arguments = container(made)["args"]
    assert command == "run"
    assert {argument.partition("=")[0] for argument in arguments} <= options.keys()
    known = {each.envvar for each in run.params} | {"PENSTOCK_TOKEN", HEADERS}
    assert environment(made).keys() <= known | {"OTEL_SERVICE_NAME", "MALLOC_ARENA_MAX"}


@pytest.mark.parametrize(
    ("history", "url"),
    [
        ({}, {"value": "sqlite:////var/lib/penstock/history.sqlite3"}),
        ({"store": "none"}, {"value": "none"}),
        (POSTGRESQL, {"valueFrom": {"secretKeyRef": {"name": "history", "key": "url"}}}),
    ],
)
def test_where_the_history_is(helm, history, url):
    made = objects(helm, "there", history=history)
    assert environment(made)["PENSTOCK_HISTORY_URL"] == {"name": "PENSTOCK_HISTORY_URL", **url}
    on_disk = history.get("store", "sqlite") == "sqlite"
    assert ("PersistentVolumeClaim" in kinds(made)) == on_disk
    strategy = only(made, "Deployment")["spec"]["strategy"]["type"]
    assert strategy == ("Recreate" if on_disk else "RollingUpdate")


def test_a_token_is_made_or_taken_or_absent(helm):
    assert "PENSTOCK_TOKEN" not in environment(objects(helm, "there"))
    made = objects(helm, "there", api={"token": {"generate": True}})
    secret = only(made, "Secret")
    assert re.fullmatch(r"[A-Za-z0-9+/=]{56}", secret["data"]["token"])
    source = environment(made)["PENSTOCK_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert source == {"name": secret["metadata"]["name"], "key": "token"}
    taken = objects(helm, "there", api={"token": {"existingSecret": "mine", "key": "it"}})
    assert "Secret" not in kinds(taken)
    assert environment(taken)["PENSTOCK_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "mine", "key": "it"}


def from_secret(made, variable):
    return environment(made)[variable].get("valueFrom", {}).get("secretKeyRef")


def prometheus_options(made):
    pairs = [each.removeprefix("--prometheus-").split("=", 1) for each in container(made)["args"][1:]]
    return {name: value for name, *rest in pairs for value in rest if not name.startswith("--")}


def files_for_prometheus(made):
    """Return which file, below which folder, comes from which object and key."""
    pod = only(made, "Deployment")["spec"]["template"]["spec"]
    folders = {mount["name"]: mount["mountPath"] for mount in container(made)["volumeMounts"]}
    (volume,) = [each for each in pod["volumes"] if each["name"] == "prometheus"]
    return {
        f"{folders['prometheus']}/{item['path']}": (kind, origin["name"], item["key"])
        for source in volume["projected"]["sources"]
        for kind, origin in source.items()
        for item in origin["items"]
    }


def test_a_prometheus_without_credentials_needs_no_file_and_no_option(helm):
    made = objects(helm, "there")
    assert prometheus_options(made) == {}
    assert [mount["name"] for mount in container(made)["volumeMounts"]] == ["tmp", "history"]
    assert HEADERS not in environment(made)


def test_the_address_and_the_credentials_of_prometheus_come_from_a_secret(helm):
    made = objects(helm, "there", prometheus=GUARDED)
    assert from_secret(made, "PENSTOCK_PROMETHEUS_URL") == {"name": "prom", "key": "address"}
    assert from_secret(made, HEADERS) == {"name": "prom", "key": "headers"}
    options = prometheus_options(made)
    assert options.pop("header") == "X-Scope-OrgID=team|$$(HOME)", "Kubernetes makes $(HOME) of it again"
    files = files_for_prometheus(made)
    assert {name: files[path] for name, path in options.items()} == {
        "token-file": ("secret", "prom", "token"),
        "ca-file": ("configMap", "openshift-service-ca.crt", "service-ca.crt"),
        "cert-file": ("secret", "penstock-tls", "tls.crt"),
        "key-file": ("secret", "penstock-tls", "tls.key"),
    }
    assert len(files) == 4


def test_an_address_among_the_values_wins_over_that_of_the_secret(helm):
    made = objects(helm, "there", prometheus={**GUARDED, "url": "https://p"})
    assert environment(made)["PENSTOCK_PROMETHEUS_URL"]["value"] == "https://p"


def test_the_pods_own_token_is_the_one_that_kubernetes_renews(helm):
    made = objects(
        helm, "there", prometheus={"url": "https://p", "serviceAccountToken": True, "caSecret": "ca"}
    )
    assert prometheus_options(made) == {
        "token-file": "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "ca-file": "/etc/penstock/prometheus/ca.crt",
    }
    assert only(made, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is True
    assert files_for_prometheus(made) == {"/etc/penstock/prometheus/ca.crt": ("secret", "ca", "ca.crt")}


def test_more_variables_and_volumes_are_passed_on(helm):
    made = objects(helm, "there", **EVERYTHING)
    assert container(made)["envFrom"] == EVERYTHING["envFrom"]
    assert EVERYTHING["extraVolumeMounts"][0] in container(made)["volumeMounts"]
    pod = only(made, "Deployment")["spec"]["template"]["spec"]
    assert EVERYTHING["extraVolumes"][0] in pod["volumes"]


def test_the_names_of_the_api_are_passed_on(helm):
    made = objects(helm, "there", api={"hosts": ["penstock.example.com", "*.corp.example"]})
    given = [each for each in container(made)["args"] if each.startswith("--api-host")]
    assert given == ["--api-host=penstock.example.com", "--api-host=*.corp.example"]


def test_a_budget_is_for_several_pods_only(helm):
    assert "PodDisruptionBudget" not in kinds(objects(helm, "there"))
    assert only(objects(helm, "there", **EVERYTHING), "PodDisruptionBudget")["spec"]["minAvailable"] == 1


def test_with_namespaces_there_are_no_rights_in_others(helm):
    made = objects(helm, "there", namespaces=["ml", "shop"], rbac={"userRoles": False})
    assert not {"ClusterRole", "ClusterRoleBinding"} & set(kinds(made))
    roles = [(obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in made if obj["kind"] == "Role"]
    assert sorted(roles) == [("ml", "penstock"), ("shop", "penstock"), ("there", "penstock-lease")]
    assert [each for each in container(made)["args"] if "--namespace" in each] == [
        "--namespace=ml",
        "--namespace=shop",
    ]


def test_two_releases_of_one_name_share_no_role(helm):
    def roles(namespace, **values):
        made = objects(helm, namespace, **values)
        return {
            obj["metadata"]["name"]: {each for each in obj["metadata"]["labels"] if "aggregate-to" in each}
            for obj in made
            if obj["kind"] == "ClusterRole"
        }

    one, other = roles("one", namespaces=["ml"]), roles("other", namespaces=["shop"])
    assert not one.keys() & other.keys()
    assert [*one.values()] == [*other.values()]
    assert sorted(map(len, one.values())) == [2, 3], "edit adds to edit and admin, view to all three"
    assert roles("one").keys() == {"penstock", "penstock-view", "penstock-edit"}


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://p.monitoring:9090/prefix", 9090), ("http://p", 80), ("https://p/select", 443)],
)
def test_the_network_policy_opens_the_port_of_prometheus(helm, url, port):
    made = objects(helm, "there", prometheus={"url": url}, networkPolicy={"enabled": True})
    spec = only(made, "NetworkPolicy")["spec"]
    ports = [sorted({each["port"] for each in rule["ports"]}) for rule in spec["egress"]]
    assert ports == [[53], [443, 6443], [port]]
    assert spec["ingress"] == [
        {"from": [{"podSelector": {}}], "ports": [{"port": "http", "protocol": "TCP"}]}
    ]


@pytest.mark.parametrize("prometheus", [{"url": "http://p:9090"}, GUARDED])
def test_the_network_policy_can_be_told_the_port_of_prometheus(helm, prometheus):
    policy = {"enabled": True, "egress": {"prometheusPort": 9091}}
    made = objects(helm, "there", prometheus=prometheus, networkPolicy=policy)
    assert only(made, "NetworkPolicy")["spec"]["egress"][2]["ports"] == [{"port": 9091, "protocol": "TCP"}]


def test_the_network_policy_lets_in_and_out_whom_it_is_told(helm):
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    made = objects(
        helm, "there", history=POSTGRESQL,
        networkPolicy={
            "enabled": True, "ingress": {"from": [peer]},
            "egress": {each: [peer] for each in ("apiServer", "prometheus", "postgresql")},
        },
    )  # fmt: skip
    spec = only(made, "NetworkPolicy")["spec"]
    assert spec["ingress"][0]["from"] == [peer]
    assert [rule.get("to") for rule in spec["egress"]] == [None, [peer], [peer], [peer]]
    assert spec["egress"][-1]["ports"] == [{"port": 5432, "protocol": "TCP"}]


def test_a_digest_wins_over_the_tag(helm):
    assert container(objects(helm, "there"))["image"] == "penstock:0.1.0"
    digest = container(objects(helm, "there", **EVERYTHING))["image"]
    assert digest == "example.invalid/penstock@sha256:" + "0" * 64


def test_every_right_says_what_needs_it():
    text = (CHART / "templates" / "_rules.tpl").read_text()
    rules = text.split("- apiGroups:")
    assert len(rules) == 11
    assert sum(line.startswith("#") for line in text.splitlines()) >= 9
