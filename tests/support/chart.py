"""The Helm chart in tests: rendered, and its rights given to a ServiceAccount.

Tests of the controller run with these rights, never as admin: what the chart forgets, they miss.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.running import Cluster

CHART = Path(__file__).parents[2] / "deploy" / "chart"
KUBERNETES = "1.35.4"
PROMETHEUS = "http://prometheus.monitoring:9090"
EVERYBODY = re.compile(r"self\w+(reviews)\.")
"""Resources for which everybody has rights."""
RIGHTS = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
NEEDED = RIGHTS | {"Lease"}
"""What a controller needs that runs beside the cluster."""


class ChartError(Exception):
    """Helm refused; the text is what it said."""


def objects(helm: Path, namespace: str, *, release: str = "penstock", **values: Any) -> list[dict[str, Any]]:
    """Return what the chart makes of values, in Helm's order; `prometheus.url` has a value already."""
    return [obj for obj in yaml.safe_load_all(rendered(helm, namespace, release=release, **values)) if obj]


def rendered(helm: Path, namespace: str, *, release: str = "penstock", **values: Any) -> str:
    """Return the text of the rendered chart; ChartError."""
    values.setdefault("prometheus", {"url": PROMETHEUS})
    command = ["template", release, str(CHART), "-n", namespace, "--kube-version", KUBERNETES, "-f", "-"]
    done = run_helm(helm, command, stdin=json.dumps(values))
    if done.returncode:
        raise ChartError(done.stderr)
    return done.stdout


def run_helm(helm: Path, arguments: Sequence[str], *, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run helm to its end, whatever it says."""
    return subprocess.run([helm, *arguments], input=stdin, capture_output=True, text=True, check=False)


def install(cluster: Cluster, namespace: str, *, release: str | None = None, **values: Any) -> Path:
    """Apply the chart's ServiceAccount, rights and lease; return a kubeconfig with these rights and no more.

    The release is called like the namespace, so that the cluster-wide objects of different tests differ; its
    lease has the name that `lease_name` gives. CRDs are the cluster's.
    """
    release = release or namespace
    made = objects(cluster.binary("helm"), namespace, release=release, **values)
    needed = [obj for obj in made if obj["kind"] in NEEDED]
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(needed))
    return cluster.kubeconfig_for(namespace, lease_name(release))


def rights(cluster: Cluster, namespace: str, account: str, home: str) -> dict[str, set[str]]:
    """Return what Kubernetes says that an account may do in a namespace: resource (and names) -> verbs."""
    by = f"--as=system:serviceaccount:{home}:{account}"
    listed = cluster.kubectl("auth", "can-i", "--list", "--no-headers", by, "-n", namespace)
    found = {}
    for resource, _, names, verbs in map(_columns, listed.splitlines()):
        if resource and not EVERYBODY.match(resource):
            found[f"{resource}{':' + names if names else ''}"] = set(verbs.split())
    return found


def _columns(line: str) -> Sequence[str]:
    found = re.fullmatch(r"(\S*)\s+\[(.*?)\]\s+\[(.*?)\]\s+\[(.*?)\]", line)
    assert found is not None
    return found.groups()


def lease_name(release: str) -> str:
    """Return what the chart calls a release's lease (and everything else): `--lease-name`."""
    return release if "penstock" in release else f"{release}-penstock"
