"""The rendered chart on a real API server: accepted, as careful as it says, and with exactly these rights."""

from __future__ import annotations

import json
import time

import pytest
import yaml

from cluster.errors import KubectlError, NoClusterError
from tests.support import chart, clusters, operator
from tests.support.chart import rights
from tests.support.policies import policy
from tests.support.watched import PATIENCE

pytestmark = [pytest.mark.real, pytest.mark.cluster]

OPERATOR = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator, which not every cluster has."""
READ = {"get", "list", "watch"}
RIGHTS = {
    "rolloutpolicies.penstock.dev": READ | {"patch"},
    "rolloutpolicies.penstock.dev/status": {"patch"},
    "metrictemplates.penstock.dev": READ,
    "virtualservices.networking.istio.io": READ | {"patch"},
    "destinationrules.networking.istio.io": READ,
    "serviceentries.networking.istio.io": READ,
    "services": READ,
    "deployments.apps": READ,
    "statefulsets.apps": READ,
    "pods": {"list"},
    "events.events.k8s.io": {"create", "get", "list", "patch"},
}
"""All that Penstock may do where rollouts are. docs/install.md has the same table, with the reasons."""


def settled(read, expected):
    """Read until it is as expected: the API server's authoriser learns of rights a moment later."""
    end = time.monotonic() + PATIENCE
    while (found := read()) != expected and time.monotonic() < end:
        time.sleep(0.1)
    return found


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            "replicas": 2,
            "history": {"store": "postgresql", "postgresql": {"existingSecret": "history"}},
            "api": {"token": {"generate": True}},
            "workloads": {"write": True},
            "networkPolicy": {"enabled": True},
            "monitoring": {"dashboard": {"enabled": True}},
        },
        {
            "namespaces": ["default"],
            "prometheus": {
                "existingSecret": "prom",
                "secretKeys": {"token": "token", "headers": "headers"},
                "headers": {"X-Scope-OrgID": "team"},
                "caConfigMap": "kube-root-ca.crt",
                "clientCertificateSecret": "tls",
            },
            "networkPolicy": {"enabled": True, "egress": {"prometheusPort": 9091}},
            "envFrom": [{"secretRef": {"name": "more"}}],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        },
    ],
    ids=["default", "everything", "a guarded Prometheus, one namespace"],
)
def test_kubernetes_takes_every_object(cluster, namespace, values):
    made = chart.objects(cluster.binary("helm"), namespace, release=namespace, **values)
    text = yaml.safe_dump_all([obj for obj in made if obj["kind"] not in OPERATOR])
    strict = ("apply", "--server-side", "--validate=strict", "-f", "-")
    cluster.kubectl(*strict, "--dry-run=server", stdin=text)
    cluster.kubectl(*strict, stdin=text)
    again = cluster.kubectl(*strict, stdin=text)
    assert all(line.endswith("serverside-applied") for line in again.splitlines())
    cluster.kubectl("delete", "--wait=false", "-f", "-", stdin=text)


@pytest.fixture
def operator_kinds(cluster, tmp_path):
    """The Prometheus operator's definitions, for this test."""
    names = [f"{kind.lower()}s" for kind in sorted(OPERATOR)]
    try:
        operator.install(cluster, names, tmp_path)
    except NoClusterError as error:
        clusters.refuse(str(error))
    yield
    cluster.kubectl("delete", "crd", *(f"{name}.monitoring.coreos.com" for name in names), "--wait=false")


@pytest.mark.usefixtures("operator_kinds")
def test_the_prometheus_operator_takes_what_is_for_it(cluster, namespace):
    monitoring = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
    made = chart.objects(cluster.binary("helm"), namespace, release=namespace, monitoring=monitoring)
    found = {obj["kind"]: obj for obj in made if obj["kind"] in OPERATOR}
    assert found.keys() == OPERATOR
    strict = ("apply", "--server-side", "--validate=strict", "-f", "-")
    cluster.kubectl(*strict, stdin=yaml.safe_dump_all(found.values()))

    stored = clusters.get(cluster, f"prometheusrule/{found['PrometheusRule']['metadata']['name']}", namespace)
    assert stored["spec"] == found["PrometheusRule"]["spec"], "nothing of it is pruned"
    found["ServiceMonitor"]["spec"]["endpoints"][0]["interval"] = "often"
    with pytest.raises(KubectlError, match="interval"):
        cluster.kubectl(*strict, stdin=yaml.safe_dump(found["ServiceMonitor"]))


def test_the_pod_passes_the_strictest_security_standard(cluster, namespace):
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    chart.install(cluster, namespace)
    made = chart.objects(cluster.binary("helm"), namespace, release=namespace)
    (template,) = [obj["spec"]["template"] for obj in made if obj["kind"] == "Deployment"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": template["spec"]}
    cluster.kubectl("create", "-n", namespace, "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        cluster.kubectl("create", "-n", namespace, "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def test_the_rights_are_these_and_no_others(cluster, namespace):
    chart.install(cluster, namespace)
    account = chart.lease_name(namespace)

    def read():
        return rights(cluster, "default", account, namespace)

    assert settled(read, RIGHTS) == RIGHTS
    at_home = RIGHTS | {
        "leases.coordination.k8s.io": {"create"},
        f"leases.coordination.k8s.io:{account}": {"get", "update"},
    }
    assert settled(lambda: rights(cluster, namespace, account, namespace), at_home) == at_home


def test_with_namespaces_the_rights_end_there(cluster, namespace):
    chart.install(cluster, namespace, namespaces=[namespace])
    account = chart.lease_name(namespace)

    def read():
        return rights(cluster, namespace, account, namespace).keys() >= RIGHTS.keys()

    assert settled(read, True) is True
    assert rights(cluster, "default", account, namespace) == {}


def test_deployments_may_be_changed_only_if_asked_for(cluster, namespace):
    chart.install(cluster, namespace, workloads={"write": True})
    account = chart.lease_name(namespace)
    expected = RIGHTS | {kind: READ | {"patch"} for kind in ("deployments.apps", "statefulsets.apps")}
    assert settled(lambda: rights(cluster, "default", account, namespace), expected) == expected


def test_the_kubeconfig_of_the_tests_has_these_rights(cluster, namespace):
    kubeconfig = chart.install(cluster, namespace)

    def may(verb, what):
        try:
            said = cluster.kubectl("auth", "can-i", verb, what, "-n", namespace, kubeconfig=kubeconfig)
        except KubectlError as error:
            said = str(error)
        return said.strip().startswith("yes")

    assert settled(lambda: may("patch", "virtualservices.networking.istio.io"), True)
    assert not may("get", "secrets")
    assert not may("create", "pods")
    assert not may("delete", "rolloutpolicies.penstock.dev")
    assert not may("patch", "deployments.apps")


@pytest.mark.parametrize(("role", "writes"), [("view", False), ("edit", True), ("admin", True)])
def test_who_may_edit_a_namespace_may_edit_its_policies(cluster, namespace, role, writes):
    chart.install(cluster, namespace)
    cluster.kubectl("create", "rolebinding", "them", f"--clusterrole={role}", "--user=ada", "-n", namespace)

    def read():
        listed = cluster.kubectl("auth", "can-i", "--list", "--no-headers", "--as=ada", "-n", namespace)
        lines = [line for line in listed.splitlines() if line.startswith("rolloutpolicies.penstock.dev ")]
        return {verb for line in lines for verb in line.rpartition("[")[2].rstrip("]").split()}

    expected = READ | ({"create", "delete", "deletecollection", "patch", "update"} if writes else set())
    assert settled(read, expected) == expected


def test_helm_keeps_the_token_it_made(cluster, namespace):
    def install():
        command = [
            "upgrade", "--install", "penstock", str(chart.CHART), "-n", namespace, "--skip-crds",
            "--set", f"prometheus.url={chart.PROMETHEUS},api.token.generate=true,rbac.create=false",
            "--set", "rbac.userRoles=false", "--kubeconfig", str(cluster.kubeconfig),
        ]  # fmt: skip
        done = chart.run_helm(cluster.binary("helm"), command)
        assert done.returncode == 0, done.stderr
        return json.loads(cluster.kubectl("get", "secret", "penstock-token", "-n", namespace, "-o", "json"))

    assert install()["data"] == install()["data"]


def test_a_policy_that_helm_puts_in_a_release_is_one_of_the_api_server(cluster, namespace):
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(policy(namespace=namespace)))
    assert "ranker" in cluster.kubectl("get", "penstock", "-n", namespace)
