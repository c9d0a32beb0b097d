"""How each part of a cluster is run: its flags, its ports, the files that it reads.

The order of PARTS is the order of starting. Everything listens on 127.0.0.1 only.
"""

from __future__ import annotations

import json
import random
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster import access, gateway
from cluster.errors import NoClusterError
from cluster.parts import Spec
from controller.standalone.envoy_server import envoy_binary
from controller.standalone.programs import MissingBinaryError
from controller.standalone.prometheus_server import prometheus_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cluster.build import Built

PARTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kwok",
    "istiod",
    "envoy",
    "prometheus",
)
ISSUER = "https://kubernetes.default.svc.cluster.local"
CONTROLLERS = "*,-nodeipam,-node-route-controller,-cloud-node-lifecycle"
POD_ADDRESSES = "10.0.0.1/12"
SERVICE_ADDRESSES = "10.96.0.0/16"
MESH = {
    "enableAutoMtls": False,  # or clusters of Kubernetes services wait for certificates that nobody issues
    "enableTracing": False,
    "ingressControllerMode": "OFF",
}
ISTIOD = {
    "POD_NAMESPACE": gateway.NAMESPACE,
    "POD_NAME": "istiod-0",
    "INJECT_ENABLED": "false",
    "VALIDATION_WEBHOOK_CONFIG_NAME": "",
    "PILOT_ENABLE_GATEWAY_API": "false",
    "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER": "false",
    "ENABLE_CA_SERVER": "false",
    "PILOT_CERT_PROVIDER": "none",
    "PILOT_ENABLE_ALPN_FILTER": "false",
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_ENABLE_IP_AUTOALLOCATE": "false",
}


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of 127.0.0.1 that the parts listen on; they stay the same when a part is started again."""

    etcd: int
    etcd_peer: int
    api: int
    controller_manager: int
    scheduler: int
    kwok: int
    istiod: int
    istiod_xds: int
    istiod_metrics: int
    envoy_admin: int
    gateway: int
    prometheus: int

    @classmethod
    def pick(cls) -> Ports:
        """Return free ports from below the range that the kernel gives to clients.

        A port of that range could be taken by anybody's connection while its part is stopped.
        """
        wanted, found = len(cls.__dataclass_fields__), list[int]()
        with ExitStack() as held:
            while len(found) < wanted:
                probe, port = held.enter_context(socket.socket()), random.randrange(15_000, 32_000)  # noqa: S311
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                found.append(port)
        return cls(*found)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the flags depend on."""

    folder: Path
    built: Built
    ports: Ports
    kubeconfig: Path
    service_accounts: bool
    """Whether pods need the ServiceAccount that kube-controller-manager makes in each namespace."""
    audit: Mapping[str, Any] | None = None
    """The audit policy of the API server; without one nothing is logged."""

    @property
    def audit_log(self) -> Path:
        """Where the API server logs what the audit policy names, a JSON object in each line."""
        return self.folder / "kube-apiserver" / "audit.log"

    def spec(self, name: str) -> Spec:
        """Return how a part is run; NoClusterError when its program is missing."""
        made: dict[str, Callable[[], Spec]] = {
            "etcd": self._etcd,
            "kube-apiserver": self._api,
            "kube-controller-manager": self._controller_manager,
            "kube-scheduler": self._scheduler,
            "kwok": self._kwok,
            "istiod": self._istiod,
            "envoy": self._envoy,
            "prometheus": self._prometheus,
        }
        try:
            return made[name]()
        except MissingBinaryError as error:
            raise NoClusterError(str(error)) from None

    def _etcd(self) -> Spec:
        clients, peers = f"http://127.0.0.1:{self.ports.etcd}", f"http://127.0.0.1:{self.ports.etcd_peer}"
        return Spec(
            "etcd",
            (
                str(self.built.binary("etcd")),
                f"--data-dir={self.folder / 'etcd' / 'data'}",
                f"--listen-client-urls={clients}",
                f"--advertise-client-urls={clients}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=default={peers}",
                "--log-level=warn",
                "--unsafe-no-fsync",  # data outlives the process, not the machine: enough here, and fast
            ),
            ready_url=f"{clients}/readyz",
        )

    def _api(self) -> Spec:
        key = access.signing_key(self.folder)
        disabled = () if self.service_accounts else ("--disable-admission-plugins=ServiceAccount",)
        return Spec(
            "kube-apiserver",
            (
                str(self.built.binary("kube-apiserver")),
                f"--etcd-servers=http://127.0.0.1:{self.ports.etcd}",
                f"--secure-port={self.ports.api}",
                *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"),
                f"--cert-dir={self.folder / 'kube-apiserver' / 'certificates'}",
                f"--service-cluster-ip-range={SERVICE_ADDRESSES}",
                "--authorization-mode=RBAC",
                f"--token-auth-file={self.folder / 'tokens.csv'}",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                f"--service-account-issuer={ISSUER}",
                "--endpoint-reconciler-type=none",
                "--shutdown-send-retry-after=true",  # else open watches hold up its end for a minute
                *disabled,
                *self._audited(),
            ),
            ready_url=f"https://127.0.0.1:{self.ports.api}/readyz",
        )

    def _audited(self) -> tuple[str, ...]:
        if self.audit is None:
            return ()
        policy = self.folder / "audit-policy.json"
        policy.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", **self.audit}))
        return f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"

    def _controller_manager(self) -> Spec:
        return Spec(
            "kube-controller-manager",
            (
                str(self.built.binary("kube-controller-manager")),
                *self._client("kube-controller-manager", self.ports.controller_manager),
                f"--service-account-private-key-file={access.signing_key(self.folder)}",
                f"--controllers={CONTROLLERS}",
                *("--kube-api-qps=200", "--kube-api-burst=400"),
            ),
            ready_url=f"https://127.0.0.1:{self.ports.controller_manager}/healthz",
        )

    def _scheduler(self) -> Spec:
        return Spec(
            "kube-scheduler",
            (
                str(self.built.binary("kube-scheduler")),
                *self._client("kube-scheduler", self.ports.scheduler),
                *("--kube-api-qps=200", "--kube-api-burst=400"),
            ),
            ready_url=f"https://127.0.0.1:{self.ports.scheduler}/healthz",
        )

    def _client(self, name: str, port: int) -> tuple[str, ...]:
        return (
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={self.folder / name / 'certificates'}",
        )

    def _kwok(self) -> Spec:
        return Spec(
            "kwok",
            (
                str(self.built.binary("kwok")),
                f"--kubeconfig={self.kubeconfig}",
                "--manage-all-nodes=true",
                f"--cidr={POD_ADDRESSES}",
                f"--server-address=127.0.0.1:{self.ports.kwok}",
                f"--config={self.built.stages}",
            ),
            ready_url=f"http://127.0.0.1:{self.ports.kwok}/healthz",
        )

    def _istiod(self) -> Spec:
        mesh = self.folder / "mesh.yaml"
        discovery = {"discoveryAddress": f"127.0.0.1:{self.ports.istiod_xds}"}
        mesh.write_text(json.dumps({**MESH, "defaultConfig": discovery}))
        return Spec(
            "istiod",
            (
                *(str(self.built.binary("pilot-discovery")), "discovery"),
                f"--kubeconfig={self.kubeconfig}",
                f"--meshConfig={mesh}",
                f"--httpAddr=127.0.0.1:{self.ports.istiod}",
                f"--grpcAddr=127.0.0.1:{self.ports.istiod_xds}",
                *("--secureGRPCAddr=", "--httpsAddr="),
                f"--monitoringAddr=127.0.0.1:{self.ports.istiod_metrics}",
                *("--domain=cluster.local", "--ctrlz_port=0"),
            ),
            ready_url=f"http://127.0.0.1:{self.ports.istiod}/ready",
            env=ISTIOD,
        )

    def _envoy(self) -> Spec:
        config = self.folder / "envoy.json"
        ports = self.ports
        config.write_text(
            json.dumps(gateway.bootstrap(admin_port=ports.envoy_admin, xds_port=ports.istiod_xds), indent=1)
        )
        return Spec(
            "envoy",
            (
                str(envoy_binary()),
                *("--config-path", str(config), "--log-level", "warning", "--disable-hot-restart"),
                *("--concurrency", "1", "--drain-time-s", "1"),
            ),
            ready_url=f"http://127.0.0.1:{ports.envoy_admin}/ready",
        )

    def _prometheus(self) -> Spec:
        config = self.folder / "prometheus.json"
        config.write_text(json.dumps(gateway.prometheus_config(self.ports.envoy_admin), indent=1))
        return Spec(
            "prometheus",
            (
                str(prometheus_binary()),
                f"--config.file={config}",
                f"--storage.tsdb.path={self.folder / 'prometheus' / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.ports.prometheus}",
                "--log.level=warn",
            ),
            ready_url=f"http://127.0.0.1:{self.ports.prometheus}/-/ready",
        )
