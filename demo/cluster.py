"""The demo on Kubernetes with Istio: `make demo-cluster`; services, load and decisions of `make demo`.

A real API server, istiod and Envoy are started on loopback (see `cluster`), the definitions are installed,
the manifests applied with kubectl, and `penstock run` does the rest.
"""

from __future__ import annotations

import signal
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

NAMESPACE = "demo"
GATEWAY = "istio-system/gateway"


class ClusterStack(Stack):
    """The demo's parts on a cluster that runs already."""

    def __init__(self, folder: Path, services: tuple[Service, ...], *, rate: float, cluster: Cluster) -> None:
        super().__init__(folder, services, rate=rate)
        self.traffic_url = cluster.gateway_url
        self._cluster = cluster

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
            *("--kubeconfig", str(self._cluster.kubeconfig), "--namespace", NAMESPACE),
            *("--prometheus-url", self._cluster.prometheus_url),
            *("--history-url", f"sqlite:///{self.folder / 'history.db'}"),
            *("--api-address", f"127.0.0.1:{self.api_port}"),
            *("--lease-namespace", NAMESPACE, "--propagation", "1s", "--log-format", "text"),
        )


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
            return run(options, partial(ClusterStack, rate=options.rate, cluster=cluster))
    except (NoClusterError, PartError, KubectlError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
