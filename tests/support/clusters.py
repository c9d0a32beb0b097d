"""The cluster that all tests of a session share, and what a test has in a namespace of its own.

It is built before the first test, outside of any test's time limit. Where that is impossible, the tests that
need it are skipped with the reason, or fail when CI=true: there a missing cluster must not pass unseen.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import time
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from cluster import gateway
from cluster.build import ensure_built
from cluster.errors import KubectlError, NoClusterError
from cluster.running import start
from tests.support.watched import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from cluster.running import Cluster

IN_CI = os.environ.get("CI", "").lower() == "true"
_numbers = itertools.count(1)


def missing() -> str | None:
    """Build what is not built yet; return why there is no cluster, if there is none."""
    try:
        ensure_built()
    except NoClusterError as error:
        return str(error)
    return None


def refuse(reason: str) -> NoReturn:
    """Skip the test that needs a cluster, or fail it in CI."""
    if IN_CI:
        pytest.fail(f"no cluster: {reason}", pytrace=False)
    pytest.skip(f"no cluster: {reason}")


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Yield a cluster with all parts and Penstock's definitions installed."""
    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(start(folder))
        except NoClusterError as error:
            refuse(str(error))
        cluster.install_crds()
        yield cluster


@contextlib.contextmanager
def own_namespace(cluster: Cluster) -> Iterator[str]:
    """Yield a new namespace; it goes with the block, unwaited for, and all parts run again."""
    name = f"test-{next(_numbers)}-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", name)
    if "kube-controller-manager" in cluster.parts:
        until(lambda: exists(cluster, "serviceaccount/default", name), "the namespace's ServiceAccount")
    try:
        yield name
    finally:
        cluster.mend()
        with contextlib.suppress(KubectlError):  # the test may have deleted it
            cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


def exists(cluster: Cluster, resource: str, namespace: str) -> bool:
    """Tell whether an object is there."""
    found = cluster.kubectl("get", resource, "-n", namespace, "--ignore-not-found", "-o", "name")
    return bool(found.strip())


def get(cluster: Cluster, resource: str, namespace: str) -> dict[str, Any]:
    """Return an object, KIND/NAME."""
    found: dict[str, Any] = json.loads(cluster.kubectl("get", resource, "-n", namespace, "-o", "json"))
    return found


def apply(cluster: Cluster, *manifests: Mapping[str, Any], namespace: str | None = None) -> None:
    """Apply manifests as a person would, by kubectl; `namespace` takes the place of their own."""
    listed = {"apiVersion": "v1", "kind": "List", "items": [_in(each, namespace) for each in manifests]}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(listed))


def _in(manifest: Mapping[str, Any], namespace: str | None) -> dict[str, Any]:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "resourceVersion"}
    return {**manifest, "metadata": {**metadata, **({"namespace": namespace} if namespace else {})}}


def deployment(name: str, *, version: str = "v1", replicas: int = 1, app: str = "ranker") -> dict[str, Any]:
    """A Deployment whose pods kwok makes ready; they answer nobody."""
    labels = {"app": app, "version": version}
    container = {"name": "model", "image": f"example.invalid/model:{version}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


@contextlib.contextmanager
def on_loopback(
    cluster: Cluster, namespace: str, service: str, ports: Mapping[str, int], *, port: int = 8080
) -> Iterator[None]:
    """Send the gateway's requests for subsets of a Kubernetes Service to `ports` of 127.0.0.1, by version.

    kwok's pods answer nobody, and the Service hides a ServiceEntry of the same host from the mesh. So the
    Service keeps its pods and endpoints for all who look at them, and an EnvoyFilter replaces the clusters of
    its subsets, which are called like their version. These answer whether or not there are ready pods.
    """
    host = f"{service}.{namespace}.svc.cluster.local"
    patches = [
        patch
        for version, local in ports.items()
        for patch in _replace(f"outbound|{port}|{version}|{host}", f"{service};{namespace};{service}", local)
    ]
    manifest = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": f"{namespace}-{service}", "namespace": gateway.NAMESPACE},
        "spec": {"workloadSelector": {"labels": gateway.LABELS}, "configPatches": patches},
    }
    apply(cluster, manifest)
    try:
        yield
    finally:
        name = manifest["metadata"]["name"]
        cluster.kubectl("delete", "envoyfilter", name, "-n", gateway.NAMESPACE)


def _replace(cluster_name: str, workload: str, port: int) -> list[dict[str, Any]]:
    """Return the patches that put a cluster with one endpoint on loopback in the place of istiod's."""
    version = cluster_name.split("|")[2]
    endpoint = {
        "endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}},
        "metadata": {"filter_metadata": {"istio": {"workload": f"{workload};{version};Kubernetes"}}},
    }
    value = {
        "name": cluster_name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": cluster_name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    here = {"context": "GATEWAY"}
    old = {"applyTo": "CLUSTER", "match": {**here, "cluster": {"name": cluster_name}}}
    new = {"applyTo": "CLUSTER", "match": here}
    return [
        {**old, "patch": {"operation": "REMOVE"}},
        {**new, "patch": {"operation": "ADD", "value": value}},
    ]


def until(condition: Callable[[], object], what: str = "the condition", patience: float = PATIENCE) -> None:
    """Wait until something holds."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {patience:.0f} s"
        time.sleep(0.1)
