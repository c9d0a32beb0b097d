"""`kubectl penstock` as a person has it: found and run by the real kubectl, on a real API server."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from cluster.build import ensure_built
from tests.support import chart, clusters
from tests.support.fake_backend import FakeBackend, running
from tests.support.fake_run import fake_run
from tests.support.incluster import InCluster
from tests.support.policies import policy
from tests.support.served import served

pytestmark = [pytest.mark.real, pytest.mark.cluster]

ROOT = Path(__file__).parents[2]
PROXY = "/api/v1/namespaces/penstock/services/http:penstock:http/proxy"
RUN = fake_run(harmful=True)


@pytest.fixture
def plugin(tmp_path, helm):
    """Run `kubectl penstock`: returns status, stdout and stderr."""
    entry = tmp_path / "kubectl-penstock"
    entry.write_text(f"#!{sys.executable}\nfrom controller.cli.plugin import main\nmain()\n")
    entry.chmod(0o755)
    kubectl = ensure_built().binary("kubectl")
    places = [str(tmp_path), str(kubectl.parent), os.environ["PATH"]]
    environment = {**os.environ, "PATH": ":".join(places), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    environment.pop("PENSTOCK_SERVICE", None)

    def run(*arguments, kubeconfig="/dev/null"):
        done = subprocess.run(
            [kubectl, "penstock", *arguments], capture_output=True, text=True, check=False,
            env={**environment, "KUBECONFIG": str(kubeconfig)},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def rollout(cluster, namespace):
    """A rollout in the middle of a run, as the controller would leave it."""
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(policy(namespace=namespace)))
    status = {key: value for key, value in running()["status"].items() if key != "lastVerdict"}
    patch = json.dumps({"status": status})
    cluster.kubectl(
        "patch", "rp", "ranker", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch
    )
    return namespace


def test_rollouts_are_listed_and_shown(cluster, rollout, plugin):
    status, out, err = plugin("list", "-n", rollout, kubeconfig=cluster.kubeconfig)
    assert (status, err) == (0, "")
    assert out.split("\n")[1].split()[:4] == [rollout, "ranker", "Progressing", "2/3"]
    status, out, _ = plugin("list", "-A", "-o", "name", kubeconfig=cluster.kubeconfig)
    assert (status, f"{rollout}/ranker" in out.splitlines()) == (0, True)
    status, out, err = plugin("status", "ranker", "-n", rollout, kubeconfig=cluster.kubeconfig)
    assert status == 3  # in progress
    assert "Step 2/3, 25% to candidate" in out
    assert "without evidence, since the controller cannot be asked" in err


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [
        (("pause",), "pause"), (("resume",), "resume"), (("promote",), "promote"),
        (("promote", "--full"), "promote-full"), (("abort",), "abort"),
    ],
)  # fmt: skip
def test_an_action_is_written_into_the_policy(cluster, rollout, plugin, arguments, verb):
    command, *options = arguments
    status, _, err = plugin(command, "ranker", *options, "-n", rollout, kubeconfig=cluster.kubeconfig)
    assert (status, f"{rollout}/ranker: {verb} asked for" in err) == (0, True)
    stored = json.loads(
        cluster.kubectl("get", "rp", "ranker", "-n", rollout, "-o", "json", "--show-managed-fields")
    )
    asked = json.loads(stored["metadata"]["annotations"]["penstock.dev/action"])
    assert (asked["verb"], len(asked["nonce"])) == (verb, 16)
    managers = {each["manager"] for each in stored["metadata"]["managedFields"]}
    assert "kubectl-penstock" in managers


def test_kubernetes_decides_who_may(cluster, rollout, plugin):
    chart.install(cluster, rollout)
    cluster.kubectl("create", "rolebinding", "ada", "--clusterrole=view", "--user=ada", "-n", rollout)
    as_ada = ("--as", "ada", "-n", rollout)

    def is_listed():
        status, out, _ = plugin("list", *as_ada, "-o", "name", kubeconfig=cluster.kubeconfig)
        return (status, out.strip()) == (0, f"{rollout}/ranker")

    clusters.until(is_listed, "the right to list")
    status, _, err = plugin("abort", "ranker", *as_ada, kubeconfig=cluster.kubeconfig)
    assert status == 1
    assert 'User "ada" cannot patch resource "rolloutpolicies"' in err


def test_an_unknown_rollout_is_told_in_one_line(cluster, namespace, plugin):
    status, out, err = plugin("status", "nobody", "-n", namespace, kubeconfig=cluster.kubeconfig)
    assert (status, out, err) == (1, "", f"error: there is no rollout {namespace}/nobody\n")


def test_reports_and_history_come_through_the_proxy(tmp_path, plugin):
    with served(FakeBackend([running()], [RUN]), PROXY) as url:
        kubeconfig = tmp_path / "config"
        kubeconfig.write_text(
            json.dumps({
                "apiVersion": "v1", "kind": "Config", "current-context": "one",
                "clusters": [{"name": "one", "cluster": {"server": url}}],
                "contexts": [{"name": "one", "context": {"cluster": "one"}}],
            })
        )  # fmt: skip
        there = ("--service", "penstock/penstock", "-n", "ml")
        status, out, err = plugin("report", "ranker", *there, kubeconfig=kubeconfig)
        assert (status, err) == (0, "")
        assert "rolled back" in out.lower()
        status, out, _ = plugin("history", "ranker", "-o", "name", *there, kubeconfig=kubeconfig)
        assert (status, out.split()) == (0, [RUN["id"]])
        status, out, err = plugin("report", "ml.nobody.1", *there, kubeconfig=kubeconfig)
        assert (status, out) == (1, "")
        assert err.startswith("error: Error from server (NotFound)")


# asked of a controller that runs, through the API server


async def test_a_controller_that_runs_is_asked_through_the_api_servers_proxy_by_who_may(
    cluster, namespace, tmp_path, plugin
):
    """The controller listens where its pod would, since the API server asks nobody on loopback."""
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    async with InCluster(cluster, namespace, tmp_path, address=address) as mesh:
        run = await mesh.under_way()
        await asyncio.to_thread(stand_for, mesh.replicas[0], cluster, namespace, address)
        for user, role in (("ada", "view"), ("eve", "edit")):
            bind(cluster, namespace, user, role)

        async def kubectl_penstock(user, *arguments):
            there = ("-n", namespace, "--as", user, "--service", f"{namespace}/{chart.lease_name(namespace)}")
            return await asyncio.to_thread(plugin, *arguments, *there, kubeconfig=cluster.kubeconfig)

        async def is_reached(user, verb, expected):
            said[:] = await kubectl_penstock(user, verb, "ranker", "-o", "json")
            return said[0] == expected

        said = []
        await mesh.measured_after(run.started_at)
        for user, verb, expected in (("ada", "status", 3), ("eve", "report", 0)):
            await mesh.eventually(partial(is_reached, user, verb, expected), verb, "instead of", said)
        _, out, err = said
        assert (json.loads(out)["run"], err) == (run.id, "")
        status, out, err = await kubectl_penstock("eve", "history", "ranker", "-o", "name")
        assert (status, err, out.split()) == (0, "", [run.id])
        status, out, err = await kubectl_penstock("eve", "status", "ranker")
        assert (status, err) == (3, "")
        assert "istio-error-rate" in out, "with the evidence, which only the controller has"

        status, out, err = await kubectl_penstock("ada", "report", "ranker")
        assert (status, out) == (1, "")
        assert 'User "ada" cannot get resource "services/proxy"' in err
        status, out, err = await kubectl_penstock("ada", "status", "ranker")
        assert status == 3
        assert "Step 1/2, 30% to candidate" in out
        assert "without evidence, since the controller cannot be asked" in err


def own_address():
    """Return an address of this machine that is not loopback, None if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # chooses a way, and sends nothing
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith(("127.", "169.254.")) else address


def stand_for(replica, cluster, namespace, address):
    """Put the chart's Service and a pod of its Deployment in the cluster, at the controller's address."""
    made = chart.objects(cluster.binary("helm"), namespace, release=namespace, api={"port": replica.api_port})
    found = {each["kind"]: each for each in made}
    template = found["Deployment"]["spec"]["template"]
    template["spec"].pop("volumes")
    template["spec"]["containers"][0].pop("volumeMounts")
    metadata = {"name": "penstock", "labels": template["metadata"]["labels"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    clusters.apply(cluster, found["Service"], pod, namespace=namespace)
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=120s", "pod/penstock", "-n", namespace)
    addressed = {"status": {"podIP": address, "podIPs": [{"ip": address}]}}
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps(addressed))
    cluster.kubectl("patch", "pod", "penstock", "-n", namespace, *patch)


def bind(cluster, namespace, user, role):
    cluster.kubectl("create", "rolebinding", user, f"--clusterrole={role}", f"--user={user}", "-n", namespace)
