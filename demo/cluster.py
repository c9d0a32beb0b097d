"""The demo on Kubernetes with Istio: `make demo-cluster`; services, load and decisions of `make demo`.

A real API server, istiod and Envoy are started on loopback (see `cluster`), the definitions are installed,
the manifests applied with kubectl, and `penstock run` does the rest, with the rights that the chart gives it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from cluster.build import ensure_built
from cluster.errors import KubectlError, NoClusterError, PartError
from cluster.running import start
from demo.run import parse, run
from demo.stack import Stack, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.running import Cluster
    from demo.stack import Service

CHART = Path(__file__).resolve().parent.parent / "deploy" / "chart"
NAMESPACE = "demo"
ACCOUNT = "penstock"
GATEWAY = "istio-system/gateway"


class ClusterStack(Stack):
    """The demo's parts on a cluster that runs already."""

    def __init__(
        self, folder: Path, services: tuple[Service, ...], *, rate: float, cluster: Cluster, kubeconfig: Path
    ) -> None:
        super().__init__(folder, services, rate=rate)
        self.traffic_url = cluster.gateway_url
        self._cluster, self._kubeconfig = cluster, kubeconfig

    def host(self, name: str) -> str:
        """Return the host that reaches a service at the gateway."""
        return f"{name}.{NAMESPACE}.svc.cluster.local"

    def publish(self, name: str, manifests: str) -> None:
        """Apply the manifests of a service, as a person would."""
        documents = list(yaml.safe_load_all(manifests))
        for each in documents:
            if each["kind"] == "VirtualService":
                each["spec"]["gateways"] = [GATEWAY]
            if each["kind"] == "ServiceEntry":
                each["spec"]["hosts"] = [self.host(name)]
        self._cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump_all(documents))

    def penstock(self) -> tuple[str, ...]:
        """Return how Penstock is run."""
        return (
            "run",
            *("--kubeconfig", str(self._kubeconfig), "--namespace", NAMESPACE),
            *("--prometheus-url", self._cluster.prometheus_url),
            *("--history-url", f"sqlite:///{self.folder / 'history.db'}"),
            *("--api-address", f"127.0.0.1:{self.api_port}"),
            *("--lease-namespace", NAMESPACE, "--propagation", "1s", "--log-format", "text"),
        )


def account(cluster: Cluster) -> Path:
    """Give Penstock what the chart gives it; return a kubeconfig with these rights and no more."""
    values = (f"namespaces={{{NAMESPACE}}}", f"prometheus.url={cluster.prometheus_url}")
    chosen = ("templates/serviceaccount.yaml", "templates/rbac.yaml", "templates/lease.yaml")
    command = [
        str(cluster.binary("helm")), "template", ACCOUNT, str(CHART), "--namespace", NAMESPACE,
        *("--validate", "--kubeconfig", str(cluster.kubeconfig)),
        *(part for value in values for part in ("--set", value)),
        *(part for path in chosen for part in ("--show-only", path)),
    ]  # fmt: skip
    rendered = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    cluster.kubectl("apply", "-f", "-", stdin=rendered)
    return cluster.kubeconfig_for(NAMESPACE, ACCOUNT)


def main(argv: Sequence[str] | None = None) -> int:
    """Build what is missing, start the cluster, run the demo on it; return the exit status."""
    options = parse("make demo-cluster", __doc__.splitlines()[0], argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        ensure_built()
        say("starting Kubernetes, istiod, Envoy and Prometheus ...")
        with (
            tempfile.TemporaryDirectory(prefix="penstock-cluster-") as folder,
            start(Path(folder)) as cluster,
        ):
            cluster.install_crds()
            cluster.kubectl("create", "namespace", NAMESPACE)
            stack = partial(ClusterStack, rate=options.rate, cluster=cluster, kubeconfig=account(cluster))
            return run(options, stack)
    except (NoClusterError, PartError, KubectlError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
