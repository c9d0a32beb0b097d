"""A cluster that runs: `start(folder)` brings all parts up and ends them with the block, whatever happens.

Everything that the parts write is below the folder: data, logs (PART/log), keys, kubeconfigs. Traffic goes in
at `gateway_url` for every VirtualService with `gateways: [istio-system/gateway]`, by its Host header.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import access, gateway
from cluster.build import Built, ensure_built
from cluster.errors import KubectlError
from cluster.parts import Part
from cluster.recipe import PARTS, Ports, Recipe

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

CRDS = Path(__file__).resolve().parent.parent / "policies" / "crd"
BASE = Path(__file__).with_name("manifests") / "base.yaml"
ALL = frozenset(PARTS)
KUBECTL_TIMEOUT = 180.0
END_GRACE_S = 5.0


class Cluster:
    """Addresses, access and parts of a running cluster."""

    def __init__(
        self, folder: Path, parts: Collection[str] = ALL, built: Built | None = None,
        audit: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kubeconfig = self.folder / "kubeconfig"
        self.ca = self.folder / "kube-apiserver" / "certificates" / "apiserver.crt"
        self.token = access.admin_token(self.folder)
        self.ports = ports = Ports.pick()
        self.api_url = f"https://127.0.0.1:{ports.api}"
        self.gateway_url = f"http://127.0.0.1:{ports.gateway}"
        self.prometheus_url = f"http://127.0.0.1:{ports.prometheus}"
        self.istiod_url = f"http://127.0.0.1:{ports.istiod}"
        self.envoy_admin_url = f"http://127.0.0.1:{ports.envoy_admin}"
        self._built = built or ensure_built()
        accounts = "kube-controller-manager" in parts
        recipe = Recipe(
            self.folder, self._built, ports, self.kubeconfig, service_accounts=accounts, audit=audit
        )
        self.audit_log = recipe.audit_log
        self.parts = {name: Part(recipe.spec(name), self.folder) for name in PARTS if name in parts}
        self._kubeconfigs = itertools.count(1)

    def part(self, name: str) -> Part:
        """Return a part by its name; KeyError when this cluster was started without it."""
        return self.parts[name]

    def binary(self, name: str) -> Path:
        """Return the path of a program that was built: kubectl, istioctl, helm, etcd, ..."""
        return self._built.binary(name)

    def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """Run kubectl, as the administrator or with another kubeconfig; its output, or KubectlError."""
        by = ("--kubeconfig", str(kubeconfig or self.kubeconfig))
        cache = ("--cache-dir", str(self.folder / "kubectl"))
        try:
            done = subprocess.run(
                [str(self.binary("kubectl")), *by, *cache, *arguments],
                input=stdin, capture_output=True, text=True, check=False, timeout=KUBECTL_TIMEOUT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise KubectlError(
                f"kubectl {' '.join(arguments)}: no end after {KUBECTL_TIMEOUT:.0f} s"
            ) from None
        if done.returncode:
            raise KubectlError(done.stderr.strip() or f"kubectl ended with status {done.returncode}")
        return done.stdout

    def kubeconfig_for(self, namespace: str, service_account: str) -> Path:
        """Return a kubeconfig with a token of a ServiceAccount, which must exist; it lasts for a day."""
        asked = ("create", "token", service_account, "--namespace", namespace, "--duration=24h")
        token = self.kubectl(*asked).strip()
        name = f"{namespace}-{service_account}-{next(self._kubeconfigs)}"
        path = self.folder / "kubeconfigs" / name
        return access.write_kubeconfig(path, url=self.api_url, ca=self.ca, token=token, namespace=namespace)

    def install_crds(self) -> None:
        """Install Penstock's custom resource definitions."""
        self.define(CRDS)

    def install_istio_crds(self) -> None:
        """Install Istio's custom resource definitions: a cluster with istiod has them already."""
        self.define(self._built.istio_crds)

    def define(self, path: Path) -> None:
        """Install the custom resource definitions of a file or folder, and wait until they are served."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
        # one that is quite new has no conditions at all, which is an error to `--for=condition`
        for state in ("jsonpath={.status.conditions[0].type}", "condition=Established"):
            self.kubectl("wait", f"--for={state}", "--timeout=120s", "-f", str(path))

    def bring_up(self) -> None:
        """Start the parts in order; those that do not need each other start together."""
        for name in ("etcd", "kube-apiserver"):
            self.part(name).start()
        access.write_kubeconfig(self.kubeconfig, url=self.api_url, ca=self.ca, token=self.token)
        for name in ("kube-controller-manager", "kube-scheduler", "prometheus"):
            if name in self.parts:
                self.part(name).launch()
        self.kubectl("apply", "--server-side", "-f", str(BASE))
        if "kwok" in self.parts:
            self.part("kwok").launch()
        if "istiod" in self.parts:
            self.install_istio_crds()
            self.part("istiod").start()
        if "envoy" in self.parts:
            self._bring_up_gateway()
        for part in self.parts.values():
            part.wait_ready()

    def _bring_up_gateway(self) -> None:
        for manifest in gateway.manifests(self.ports.gateway):
            self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))
        self.part("envoy").launch()

    def mend(self) -> None:
        """Start what has ended, resume what was suspended, and wait until all parts are ready."""
        for part in self.parts.values():
            part.resume()
            if not part.running:
                part.start()
        for part in self.parts.values():
            part.wait_ready()

    def end(self) -> None:
        """End all parts, the last started first, whatever becomes of one; none outlives this call."""
        with contextlib.ExitStack() as ending:
            for part in self.parts.values():
                ending.callback(part.stop, END_GRACE_S)


@contextlib.contextmanager
def start(
    folder: Path, parts: Collection[str] = ALL, audit: Mapping[str, Any] | None = None
) -> Iterator[Cluster]:
    """Start a cluster in a folder and end it with the block; NoClusterError, PartError.

    A folder that was used before keeps its objects. `parts` may leave some out, but etcd and kube-apiserver.
    `audit`: the rules of an audit policy; what they name is in `audit_log`.
    """
    cluster = Cluster(folder, parts, audit=audit)
    try:
        cluster.bring_up()
        yield cluster
    finally:
        cluster.end()
