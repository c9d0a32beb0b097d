"""A real cluster: what its parts do for each other, and that nothing of it stays behind."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from cluster.errors import KubectlError, PartError
from cluster.recipe import PARTS
from cluster.running import start
from policies import catalog
from tests.support import mesh
from tests.support.clusters import apply, deployment, exists, get, on_loopback, until
from tests.support.processes import of_folder
from tests.support.watched import PATIENCE

pytestmark = [pytest.mark.real, pytest.mark.cluster]

GATEWAY = "istio-system/gateway"
RANKER = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "ranker"},
    "spec": {"selector": {"app": "ranker"}, "ports": [{"name": "http", "port": 8080}]},
}
SMALL = ("etcd", "kube-apiserver")
ROOT = Path(__file__).resolve().parents[2]


class Version(BaseHTTPRequestHandler):
    """Answers with the version of its server; keeps connections."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write per answer: two would wait for each other's acknowledgement

    def do_GET(self):
        body = self.server.version.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def upstreams():
    """Two versions of a service on loopback: their ports by version."""
    servers = {}
    for version in ("v1", "v2"):
        server = servers[version] = ThreadingHTTPServer(("127.0.0.1", 0), Version)
        server.daemon_threads, server.version = True, version
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield {version: server.server_port for version, server in servers.items()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


@pytest.fixture
def service(cluster, namespace, upstreams):
    """A service of two versions, reached through the gateway, all its traffic on v1: its full name."""
    host = f"ranker.{namespace}.svc.cluster.local"
    endpoints = [(port, version) for version, port in upstreams.items()]
    apply(
        cluster,
        mesh.entry(host, endpoints=endpoints, name="ranker", location="MESH_INTERNAL"),
        mesh.rule(host, name="ranker"),
        mesh.routes(
            {"name": "primary", "route": [mesh.to("v1", 100, host), mesh.to("v2", 0, host)]},
            host=host,
            gateways=[GATEWAY],
        ),
        namespace=namespace,
    )
    until(lambda: ask(cluster, host) == "v1", "the route at the gateway")
    return host


def fetch(url, **headers):
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


def ask(cluster, host):
    try:
        return fetch(cluster.gateway_url, host=host)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def asked(cluster, host, times):
    return Counter(ask(cluster, host) for _ in range(times))


def query(cluster, text):
    url = f"{cluster.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
    return json.loads(fetch(url))["data"]["result"]


def weigh(cluster, namespace, v1, v2):
    patch = [
        {"op": "replace", "path": "/spec/http/0/route/0/weight", "value": v1},
        {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": v2},
    ]
    cluster.kubectl(
        *("patch", "virtualservice", "ranker", "-n", namespace), "--type=json", "-p", json.dumps(patch)
    )


def test_all_parts_run(cluster):
    assert tuple(cluster.parts) == PARTS
    assert all(part.running for part in cluster.parts.values())


def test_the_node_is_ready(cluster):
    cluster.kubectl("wait", "node/node-0", "--for=condition=Ready", "--timeout=120s")


def test_a_deployment_of_two_becomes_ready_and_its_service_has_endpoints(cluster, namespace):
    apply(cluster, deployment("ranker-v1", replicas=2), RANKER, namespace=namespace)
    cluster.kubectl("rollout", "status", "deployment/ranker-v1", "-n", namespace, "--timeout=120s")
    assert get(cluster, "deployment/ranker-v1", namespace)["status"]["readyReplicas"] == 2

    def ready_addresses():
        slices = json.loads(cluster.kubectl("get", "endpointslices", "-n", namespace, "-o", "json"))["items"]
        return [each for one in slices for each in one["endpoints"] or () if each["conditions"]["ready"]]

    until(lambda: len(ready_addresses()) == 2, "two ready endpoints")


def test_weights_route_real_requests_and_a_patch_of_them_takes_effect(cluster, namespace, service):
    weigh(cluster, namespace, 90, 10)
    until(lambda: ask(cluster, service) == "v2", "the first request for v2")
    seen = asked(cluster, service, 400)
    assert seen["v1"] + seen["v2"] == 400
    assert 10 <= seen["v2"] <= 85  # 40 expected, standard deviation 6

    weigh(cluster, namespace, 0, 100)
    until(lambda: asked(cluster, service, 20) == {"v2": 20}, "all requests at v2")


def test_prometheus_counts_the_requests_with_the_labels_that_the_catalog_asks_for(
    cluster, namespace, service
):
    weigh(cluster, namespace, 50, 50)
    until(lambda: ask(cluster, service) == "v2", "the first request for v2")
    asked(cluster, service, 50)
    labels = f'destination_service_namespace="{namespace}",destination_service_name="ranker"'
    total = f'istio_requests_total{{reporter="source",response_code="200",{labels}}}'

    def versions():
        return {row["metric"]["destination_version"] for row in query(cluster, total)}

    def found(spec):
        rows = [row["metric"] for row in query(cluster, spec.query)]
        of_us = [row for row in rows if row.get(spec.labels.namespace) == namespace]
        return {(row[spec.labels.service], row[spec.labels.version]) for row in of_us}

    until(lambda: versions() == {"v1", "v2"}, "both versions in Prometheus")
    both = {("ranker", "v1"), ("ranker", "v2")}
    for name, template in catalog.templates().items():  # Envoy shows histograms later than counters
        until(lambda spec=template.spec: found(spec) >= both, f"both versions in {name}")
        assert found(template.spec) == both


def test_requests_for_a_service_with_pods_can_be_answered_on_loopback(cluster, namespace, upstreams):
    host = f"ranker.{namespace}.svc.cluster.local"
    apply(
        cluster,
        RANKER,
        *(deployment(f"ranker-{version}", version=version) for version in upstreams),
        mesh.rule(host, name="ranker"),
        mesh.routes(
            {"route": [mesh.to("v1", 50, host), mesh.to("v2", 50, host)]}, host=host, gateways=[GATEWAY]
        ),
        namespace=namespace,
    )
    with on_loopback(cluster, namespace, "ranker", upstreams):
        until(lambda: asked(cluster, host, 20).keys() == {"v1", "v2"}, "answers of both versions")


def test_a_request_without_an_endpoint_is_counted_without_a_version(cluster, namespace, service):
    only_v1 = [{"op": "remove", "path": "/spec/endpoints/1"}]
    cluster.kubectl(
        *("patch", "serviceentry", "ranker", "-n", namespace), "--type=json", "-p", json.dumps(only_v1)
    )
    weigh(cluster, namespace, 0, 100)
    until(lambda: ask(cluster, service) == 503, "a version without endpoints")
    series = f'istio_requests_total{{response_code="503",destination_service="{service}"}}'
    until(lambda: query(cluster, series), "its failed requests in Prometheus")
    assert {row["metric"]["destination_version"] for row in query(cluster, series)} == {"unknown"}


@pytest.mark.parametrize(
    ("name", "how"),
    [("prometheus", "stop"), ("etcd", "kill"), ("istiod", "kill"), ("kube-apiserver", "stop")],
)
def test_a_part_can_be_ended_and_started_again_on_the_same_address(cluster, namespace, name, how):
    apply(cluster, configmap("kept"), namespace=namespace)
    part = cluster.part(name)
    first = part.pid
    getattr(part, how)()
    assert not part.running
    with pytest.raises(PartError, match="does not run"):
        _ = part.pid
    part.start()
    assert part.pid != first
    until(lambda: is_kept(cluster, namespace), "the object")


def is_kept(cluster, namespace):
    """Tell whether the API server has the object; it takes a moment to find etcd again."""
    with contextlib.suppress(KubectlError):
        return exists(cluster, "configmap/kept", namespace)
    return False


def test_a_suspended_api_server_answers_nothing_until_it_is_resumed(cluster, namespace):
    part = cluster.part("kube-apiserver")
    part.suspend()
    with pytest.raises(KubectlError):
        cluster.kubectl("get", "configmaps", "-n", namespace, "--request-timeout=1s")
    part.resume()
    cluster.kubectl("get", "configmaps", "-n", namespace)


def configmap(name):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


def test_a_service_account_may_do_what_its_role_says_and_no_more(cluster, namespace):
    cluster.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    cluster.kubectl("create", "role", "reader", "--verb=get,list", "--resource=configmaps", "-n", namespace)
    whom = f"--serviceaccount={namespace}:reader"
    cluster.kubectl("create", "rolebinding", "reader", "--role=reader", whom, "-n", namespace)
    kubeconfig = cluster.kubeconfig_for(namespace, "reader")

    # its own namespace is the default of the kubeconfig
    assert "kube-root-ca.crt" in cluster.kubectl("get", "configmaps", kubeconfig=kubeconfig)
    with pytest.raises(KubectlError, match="forbidden"):
        cluster.kubectl("get", "secrets", kubeconfig=kubeconfig)
    with pytest.raises(KubectlError, match="forbidden"):
        cluster.kubectl("get", "configmaps", "-n", "default", kubeconfig=kubeconfig)


def test_a_policy_is_understood_by_the_api_server(cluster):
    assert "RolloutPolicy" in cluster.kubectl("explain", "rolloutpolicy")


def test_a_block_that_fails_leaves_objects_and_no_processes_and_a_part_that_cannot_start_says_why(tmp_path):
    def fail():
        with start(tmp_path, SMALL) as small:
            assert set(small.parts) == set(SMALL)
            assert len(of_folder(tmp_path)) >= 2
            apply(small, configmap("kept"), namespace="default")
            small.part("kube-apiserver").kill()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert of_folder(tmp_path) == {}

    with start(tmp_path, SMALL) as small:
        assert small.kubectl("get", "configmap", "kept", "-o", "name")
        server = small.part("kube-apiserver")
        server.stop()
        (tmp_path / "service-accounts.key").write_text("no key")
        with pytest.raises(PartError, match=r"kube-apiserver ended with status 1(.|\n)*key"):
            server.start()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_command_ends_everything_whatever_ends_it(tmp_path, how):
    command = [sys.executable, "-m", "cluster", "--folder", str(tmp_path), "--parts", ",".join(SMALL)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == f"export KUBECONFIG={tmp_path / 'kubeconfig'}\n"
            assert len(of_folder(tmp_path)) >= 3
            process.send_signal(how)
            process.wait(PATIENCE)
        finally:
            process.kill()
    until(lambda: of_folder(tmp_path) == {}, "all parts ended")
