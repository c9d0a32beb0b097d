"""`penstock run` on a real API server, with real istiod, Envoy and Prometheus: a service with two versions.

The controller has the rights of the chart's ServiceAccount and no more. Everything is in the namespace that a
test gives, and ends with the block; what the controller did is asserted there by a witness of every version
of routes and policies: splits sum to 100 and were wanted before they were written, and steps come one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml

from controller.ports import NotFoundError, Ref
from controller.standalone.listening import LOOPBACK
from tests.support import chart, mesh
from tests.support.replica import ROOT, Replica
from tests.support.standalone import LONG, Said, policy
from tests.support.tls import tls_session
from tests.support.upstream import VERSION_HEADER
from tests.support.watched import PATIENCE, Staged
from tests.support.witness import PATHS as WATCHED
from tests.support.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cluster.running import Cluster
    from controller.ports import Object

HOST = "ranker"
GATEWAY = "istio-system/gateway"
LEASE_SECONDS = 6
BUSY = {429, 500, 503, 504}
"""What an API server answers that is late; whoever only reads asks again."""
PATHS = {
    **WATCHED,
    "DestinationRule": "apis/networking.istio.io/v1/namespaces/{}/destinationrules",
    "ServiceEntry": "apis/networking.istio.io/v1/namespaces/{}/serviceentries",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "Lease": "apis/coordination.k8s.io/v1/namespaces/{}/leases",
}


class InCluster(Staged):
    """One rollout in a namespace of a cluster."""

    def __init__(
        self, cluster: Cluster, namespace: str, folder: Path, *, steps: Any = LONG,
        decision: Mapping[str, Any] | None = None, spec: Mapping[str, Any] | None = None, replicas: int = 1,
        options: Sequence[str] = (), kubeconfig: Path | None = None, history: str = "",
        start: bool = True, load: bool = True, chart_values: Mapping[str, Any] | None = None,
        lease: Ref | None = None, address: str = LOOPBACK,
    ) -> None:  # fmt: skip
        self.host = f"{HOST}.{namespace}.svc.cluster.local"
        super().__init__(f"{cluster.gateway_url}/", self.host, start=start, load=load)
        self.lease = lease or Ref("Lease", namespace, chart.lease_name(namespace))
        self.cluster, self.namespace, self.folder = cluster, namespace, folder
        self.policy_ref = Ref("RolloutPolicy", namespace, HOST)
        self.route_ref = Ref("VirtualService", namespace, HOST)
        self.policy = policy(steps, **(decision or {}))
        self.policy["metadata"]["namespace"] = namespace
        self.policy["spec"] |= spec or {}
        self.policy["spec"]["service"]["host"] = self.host
        self.kubeconfig = kubeconfig
        self.history_url = history or f"sqlite:///{folder / 'history.db'}"
        self.replicas: list[Replica] = []
        self._count, self._options, self._address = replicas, options, address
        self._chart = {"namespaces": [namespace], **(chart_values or {})}

    async def _prepare(self) -> None:
        token = {"Authorization": f"Bearer {self.cluster.token}"}
        self._http = await self._stack.enter_async_context(tls_session(self.cluster.ca, headers=token))
        await asyncio.to_thread(self._install)
        self.witness = await self._stack.enter_async_context(Witness(self.cluster, self.namespace))

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                await self.witness.assert_right()
        finally:
            await super().__aexit__(kind, *rest)

    async def _end(self) -> None:
        """End every controller as Kubernetes does, and let no finalizer keep the namespace."""
        try:
            await self._stack.aclose()
        finally:
            await asyncio.gather(*(each.stop() for each in self.replicas if each.alive))

    def _install(self) -> None:
        if self.kubeconfig is None:
            self.kubeconfig = chart.install(self.cluster, self.namespace, **self._chart)
        self.apply(*self.manifests())

    # --- manifests

    def manifests(self) -> list[Object]:
        """Return everything that a team writes: route, subsets, endpoints and the policy."""
        ports = (self.control.port, "v1"), (self.candidate.port, "v2")
        destinations = [mesh.to("v1", 100, self.host), mesh.to("v2", 0, self.host)]
        primary = {"name": "primary", "route": destinations, "retries": {"attempts": 0}}
        named = {"name": HOST, "namespace": self.namespace}
        route = mesh.routes(primary, host=self.host, **named, gateways=[GATEWAY])
        route["metadata"].pop("resourceVersion")
        entry = mesh.entry(host=self.host, endpoints=ports, **named)
        return [entry, mesh.rule(host=self.host, **named), route, self.policy]

    def apply(self, *objects: Object, manager: str = "team") -> None:
        """Apply objects as a team does, by server-side apply."""
        text = yaml.safe_dump_all(objects)
        self.cluster.kubectl("apply", "--server-side", "--field-manager", manager, "-f", "-", stdin=text)

    # --- controllers

    async def up(self) -> None:
        """Start the controllers and wait until one of them leads and all can serve."""
        for _ in range(self._count):
            await self.another()
        for replica in self.replicas:
            await self.ready(replica)

    async def another(
        self, *, kubeconfig: Path | None = None, options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Replica:  # fmt: skip
        """Start one more controller."""
        arguments = [
            "--kubeconfig", str(kubeconfig or self.kubeconfig), "--namespace", self.namespace,
            "--prometheus-url", self.cluster.prometheus_url, "--history-url", self.history_url,
            "--lease-name", self.lease.name, "--lease-namespace", self.lease.namespace,
            "--lease-seconds", str(LEASE_SECONDS), "--propagation", "500ms", "--settle", "500ms",
            *self._options, *options,
        ]  # fmt: skip
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
        own = {**inherited, "NO_COLOR": "1", "PYTHONPATH": str(ROOT), "PENSTOCK_TOKEN": "test"}
        own["PENSTOCK_POD_UID"] = f"{self.namespace}-{len(self.replicas)}"
        name = f"penstock-{len(self.replicas)}"
        replica = Replica(name, self.folder, arguments, own, address=self._address)
        self.replicas.append(replica)
        await replica.start(**(env or {}))
        return replica

    async def ready(self, replica: Replica) -> None:
        """Wait until a controller says that it is ready."""

        async def answers() -> bool:
            assert replica.alive, f"penstock run ended:\n{replica.said()[-4000:]}"
            with contextlib.suppress(aiohttp.ClientError):
                async with self.session.get(f"{replica.api}/readyz") as response:
                    return response.status == 200
            return False

        await self.eventually(answers, "a controller to be ready")

    async def routed(self) -> None:
        """Wait until requests reach a version, so that from now on one that is lost is a fault."""

        async def answers() -> bool:
            headers = {"host": self.host}
            async with self.session.get(self.cluster.gateway_url, headers=headers) as response:
                return VERSION_HEADER in response.headers

        await self.eventually(answers, "the gateway to know route and endpoints")

    async def leader(self) -> Replica:
        """Wait until one of the controllers leads, and return it."""

        async def leads() -> Replica | None:
            for replica in self.replicas:
                if replica.alive:
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                        timeout = aiohttp.ClientTimeout(total=1)
                        async with self.session.get(f"{replica.api}/metrics", timeout=timeout) as response:
                            if "\npenstock_leader 1.0" in await response.text():
                                return replica
            return None

        found: Replica = await self.eventually(leads, "a leader")
        return found

    def said(self) -> str:
        """Return what all controllers have said."""
        return "\n".join(replica.said() for replica in self.replicas)

    async def cli(self, *arguments: str) -> Said:
        """Run a command of `penstock` against the first controller."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "controller.cli", *arguments, "--server", self.replicas[0].api, cwd=ROOT,
            env={**os.environ, "NO_COLOR": "1", "PENSTOCK_TOKEN": "test"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        return Said(int(process.returncode or 0), out.decode(), err.decode())

    async def act(self, *verb: str) -> None:
        """Ask for a manual action as a user with kubectl does."""
        self._nonce = getattr(self, "_nonce", 0) + 1
        name = "promote-full" if verb == ("promote", "--full") else verb[0]
        text = json.dumps({"verb": name, "nonce": str(self._nonce), "actor": "ann"})
        await self.patch(self.policy_ref, {"metadata": {"annotations": {"penstock.dev/action": text}}})

    # --- what is so

    async def request(self, method: str, path: str, **more: Any) -> Any:
        """Ask the API server as its administrator; NotFoundError."""

        async def answer() -> list[Any]:
            async with self._http.request(method, f"{self.cluster.api_url}/{path}", **more) as response:
                if response.status == 404:
                    raise NotFoundError(path)
                if method == "GET" and response.status in BUSY:
                    return []
                assert response.status < 300, await response.text()
                return [await response.json()]

        [answered] = await self.eventually(answer, method, path)
        return answered

    async def live(self, ref: Ref) -> Object:
        """Return an object as it is live, read past the controller; NotFoundError."""
        found: Object = await self.request("GET", f"{PATHS[ref.kind].format(ref.namespace)}/{ref.name}")
        return found

    async def patch(self, ref: Ref, change: Any, *, manager: str = "ann") -> Object:
        """Patch an object as a person: a JSON Patch if a list, else a merge patch."""
        kind = "json-patch" if isinstance(change, list) else "merge-patch"
        changed: Object = await self.request(
            "PATCH", f"{PATHS[ref.kind].format(ref.namespace)}/{ref.name}?fieldManager={manager}",
            data=json.dumps(change), headers={"Content-Type": f"application/{kind}+json"},
        )  # fmt: skip
        return changed

    async def delete(self, ref: Ref) -> None:
        """Delete an object, without waiting for its finalizers."""
        await self.request("DELETE", f"{PATHS[ref.kind].format(ref.namespace)}/{ref.name}")

    async def events(self) -> list[dict[str, Any]]:
        """Return the events of the rollout as Kubernetes has them, latest first."""
        found = await self.request("GET", f"apis/events.k8s.io/v1/namespaces/{self.namespace}/events")
        return [
            {"reason": e["reason"], "message": e.get("note", ""), "type": e["type"],
             "about": e["regarding"]["name"], "count": (e.get("series") or {}).get("count", 1),
             "at": e["metadata"]["creationTimestamp"]}
            for e in reversed(found["items"]) if e.get("regarding", {}).get("kind") == "RolloutPolicy"
        ]  # fmt: skip

    async def history(self) -> dict[str, Any]:
        """Return the present run as the first living controller tells it."""
        return await self.history_of((await self.run()).id)

    async def history_of(self, run: str) -> dict[str, Any]:
        """Return a run as the first living controller tells it, as soon as it can."""

        async def told() -> dict[str, Any] | None:
            replica = next(each for each in self.replicas if each.alive)
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with self.session.get(f"{replica.api}/v1/runs/{run}") as response:
                    if response.status == 503:
                        return None
                    assert response.status == 200, await response.text()
                    whole: dict[str, Any] = await response.json()
                    return whole
            return None

        whole: dict[str, Any] = await self.eventually(told, "the history of", run)
        return whole

    async def recorded(self, run: str, reason: str) -> dict[str, Any]:
        """Wait until the history knows why a run ended, which a rollback does not wait for; return it."""

        async def ended() -> dict[str, Any] | None:
            history = await self.history_of(run)
            return history if history.get("reason") == reason else None

        history: dict[str, Any] = await self.eventually(ended, "the record of", run, "that is", reason)
        return history

    async def measured_after(self, moment: float) -> None:
        """Wait until an interval that ended after a moment is in the history of the present run."""

        async def is_measured() -> bool:
            return any(row["end"] > moment for row in (await self.history())["intervals"])

        await self.eventually(is_measured, "an interval after", moment)

    async def set_split(self, v1: int, v2: int, *, manager: str = "kubectl-edit") -> None:
        """Change the weights as somebody else."""
        path = "/spec/http/0/route"
        change = [
            {"op": "replace", "path": f"{path}/0/weight", "value": v1},
            {"op": "replace", "path": f"{path}/1/weight", "value": v2},
        ]
        await self.patch(self.route_ref, change, manager=manager)
