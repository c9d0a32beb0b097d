"""A namespace with many rollouts on a running cluster, its controller, and its stub of Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import yaml

from bench.cluster.audit import Audit
from bench.cluster.objects import COLLECTIONS, objects, ready, service_names
from bench.cluster.processes import ROOT, Controller, Stub

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cluster.running import Cluster
    from controller.ports import Object

CHART = ROOT / "deploy" / "chart"
NAME = "penstock"
NEEDED = {"ServiceAccount", "Role", "RoleBinding", "Lease"}
HELM = ("--kube-version", "1.35.4", "-f", "-")
AT_ONCE = 16
PATCH = {"Content-Type": "application/merge-patch+json"}
LEASE = "apis/coordination.k8s.io/v1/namespaces/{}/leases/" + NAME


class Site:
    """An async context manager; objects and rights are there, the stub runs, the controller does not yet."""

    def __init__(
        self, cluster: Cluster, namespace: str, rollouts: int, *, dispersion: str, interval: int,
        options: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.namespace, self.services = namespace, service_names(rollouts)
        self.account = f"system:serviceaccount:{namespace}:{NAME}"
        self.audit = Audit(cluster.audit_log)
        self.stub: Stub
        self.controller: Controller
        self.interval = interval
        self._cluster, self._dispersion, self._options = cluster, dispersion, options
        self._environment: dict[str, str] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        cluster, folder = self._cluster, self._cluster.folder
        try:
            secure = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(cluster.ca)))
            token = {"Authorization": f"Bearer {cluster.token}"}
            enter = self._stack.enter_async_context
            self._admin = await enter(aiohttp.ClientSession(headers=token, connector=secure))
            http = await enter(aiohttp.ClientSession())
            kubeconfig = await asyncio.to_thread(self._install)
            await self._each(self._create)
            self.stub = await enter(Stub(http, self.namespace, len(self.services), folder))
            arguments = self._arguments(kubeconfig, folder / f"{self.namespace}.db")
            log = folder / f"{self.namespace}.log"
            self.controller = Controller(http, arguments, log, self._environment)
            self._stack.push_async_exit(self.controller)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _install(self) -> Path:
        """Make the namespace with the chart's rights and lease; return a kubeconfig that has these rights."""
        kubectl = self._cluster.kubectl
        kubectl("create", "namespace", self.namespace)
        values = {"namespaces": [self.namespace], "prometheus": {"url": "http://prometheus"}}
        made = subprocess.run(
            [str(self._cluster.binary("helm")), "template", NAME, str(CHART), *HELM, "-n", self.namespace],
            input=json.dumps(values), stdout=subprocess.PIPE, text=True, check=True,
        ).stdout  # fmt: skip
        chart = [obj for obj in yaml.safe_load_all(made) if obj]
        self._environment = environment(chart)
        needed = [obj for obj in chart if obj["kind"] in NEEDED]
        kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(needed))
        return self._cluster.kubeconfig_for(self.namespace, NAME)

    def _arguments(self, kubeconfig: Path, history: Path) -> list[str]:
        return [
            "--kubeconfig", str(kubeconfig), "--namespace", self.namespace, "--lease-namespace",
            self.namespace, "--prometheus-url", self.stub.url, "--history-url", f"sqlite:///{history}",
            "--pod-uid", self.namespace, *self._options,
        ]  # fmt: skip

    async def _create(self, service: str) -> None:
        for obj in objects(service, self._dispersion, self.interval):
            collection = COLLECTIONS[obj["kind"]].format(self.namespace)
            await self._ask("POST", f"{collection}?fieldValidation=Strict", json=obj)
            if obj["kind"] == "Deployment":
                path = f"{collection}/{obj['metadata']['name']}/status"
                await self._ask("PATCH", path, data=json.dumps(ready()), headers=PATCH)

    async def _each(self, work: Any) -> None:
        """Do something with each service, a few at once."""
        few = asyncio.Semaphore(AT_ONCE)

        async def one(service: str) -> None:
            async with few:
                await work(service)

        await asyncio.gather(*map(one, self.services))

    async def _ask(self, method: str, path: str, **more: Any) -> Object:
        async with self._admin.request(method, f"{self._cluster.api_url}/{path}", **more) as response:
            text = await response.text()
            if response.status >= 300:
                raise RuntimeError(f"{method} {path}: {text}")
            answer: Object = json.loads(text)
            return answer

    async def act(self, service: str, verb: str) -> None:
        """Ask for a manual action as a person with kubectl does."""
        text = json.dumps({"verb": verb, "nonce": f"{verb}-1", "actor": "bench"})
        path = f"{COLLECTIONS['RolloutPolicy'].format(self.namespace)}/{service}"
        body = json.dumps({"metadata": {"annotations": {"penstock.dev/action": text}}})
        await self._ask("PATCH", path, data=body, headers=PATCH)

    async def abort_all(self) -> None:
        """End every run by hand."""
        await self._each(lambda service: self.act(service, "abort"))

    async def weight(self, service: str) -> int:
        """Return the candidate's weight as the API server has it."""
        path = f"{COLLECTIONS['VirtualService'].format(self.namespace)}/{service}"
        return _weight(await self._ask("GET", path))

    async def weights(self) -> set[int]:
        """Return the candidates' weights, each once."""
        found = await self._ask("GET", COLLECTIONS["VirtualService"].format(self.namespace))
        return set(map(_weight, found["items"]))

    async def acquired(self) -> str:
        """Return when the present leader began to lead."""
        lease = await self._ask("GET", LEASE.format(self.namespace))
        return str(lease["spec"].get("acquireTime") or "")

    async def verdicts(self) -> set[str]:
        """Return what the evidence says of the rollouts, each once."""
        found = await self._ask("GET", COLLECTIONS["RolloutPolicy"].format(self.namespace))
        return {policy["status"]["verdict"] for policy in found["items"]}

    async def reasons(self) -> set[str]:
        """Return why the rollouts are where they are, each reason once."""
        found = await self._ask("GET", COLLECTIONS["RolloutPolicy"].format(self.namespace))
        conditions = (each for policy in found["items"] for each in policy["status"]["conditions"])
        return {each["reason"] for each in conditions if each["type"] == "Progressing"}


def environment(chart: Sequence[Object]) -> dict[str, str]:
    """Return the variables by which the chart's pod differs from a process here, Penstock's options aside."""
    [deployment] = [obj for obj in chart if obj["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    listed = (each for each in container["env"] if not each["name"].startswith("PENSTOCK_"))
    return {each["name"]: each["value"] for each in listed}


def _weight(route: Object) -> int:
    return int(route["spec"]["http"][0]["route"][1]["weight"])
