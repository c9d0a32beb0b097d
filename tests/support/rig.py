"""A controller on simulated traffic, with a clock that the test moves."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from controller.actions import request
from controller.evidence import Collector
from controller.history import SqlHistory
from controller.loop import Loop
from controller.news import News
from controller.ports import NotFoundError, Ref
from controller.record import Recorder
from controller.standalone.store import LocalStore
from controller.status import Status
from controller.telemetry import Telemetry
from policies.catalog import templates
from tests.support.at_once import AtOnce
from tests.support.simulated import Clock, Mesh, Proxies, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

POLICY = Ref("RolloutPolicy", "default", "ranker")
ROUTE = Ref("VirtualService", "default", "ranker")
GOOD = {"v1": 0.01, "v2": 0.01}
BAD = {"v1": 0.01, "v2": 0.05}
ISTIO = {"apiVersion": "networking.istio.io/v1"}


def policy(name: str = "ranker", **decision: Any) -> dict[str, Any]:
    """A canary of two steps over subsets v1 and v2 of a host of the same name."""
    return {
        "apiVersion": "penstock.dev/v1alpha1", "kind": "RolloutPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "service": {"host": name}, "virtualService": {"name": name},
            "variants": [{"name": "stable", "subset": "v1"}, {"name": "candidate", "subset": "v2"}],
            "strategy": {"canary": {"steps": [{"weight": 20, "hold": "10s"}, {"weight": 50}]}},
            "metrics": [{"template": "istio-error-rate", "margin": "100%", "dispersion": "1"}],
            "decision": {"interval": "5s", "falseRollback": "5%", "deadline": "30m", **decision},
        },
    }  # fmt: skip


def route(name: str, *destinations: dict[str, str]) -> dict[str, Any]:
    """A VirtualService that sends everything to the first of its destinations."""
    entries = [{"destination": to, "weight": 0 if at else 100} for at, to in enumerate(destinations)]
    return ISTIO | {
        "kind": "VirtualService", "metadata": {"name": name, "namespace": "default"},
        "spec": {"hosts": [name], "http": [{"route": entries, "timeout": "2s"}]},
    }  # fmt: skip


def endpoints(name: str, *versions: str) -> dict[str, Any]:
    """A ServiceEntry with one endpoint per version."""
    listed = [{"address": "127.0.0.1", "labels": {"version": version}} for version in versions]
    meta = {"name": name, "namespace": "default"}
    return ISTIO | {
        "kind": "ServiceEntry", "metadata": meta, "spec": {"hosts": [name], "endpoints": listed},
    }  # fmt: skip


def manifests(name: str = "ranker", **decision: Any) -> list[dict[str, Any]]:
    """A policy and everything that it needs."""
    subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    return [
        policy(name, **decision),
        route(name, *({"host": name, "subset": version} for version in ("v1", "v2"))),
        ISTIO | {
            "kind": "DestinationRule", "metadata": {"name": name, "namespace": "default"},
            "spec": {"host": name, "subsets": subsets},
        },
        endpoints(name, "v1", "v2"),
    ]  # fmt: skip


class Rig:
    """A controller over a simulated mesh; `crash` throws its memory away and starts another one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.proxies = folder, Clock(), Proxies()

    async def start(
        self, rates: dict[str, float], *, metric: dict[str, Any] | None = None, past: int = 0,
        cluster: int = 1, **decision: Any,
    ) -> None:  # fmt: skip
        """Start with one rollout, called `ranker`, on a service that has run for `past` seconds.

        `metric`: fields of the policy's metric that differ; `cluster`: errors of the past come together.
        """
        service = Service("ranker", dict(rates))
        await self.open(service)
        if past:
            self.mesh.remember(service, past, cluster=cluster)
        objects = manifests(**decision)
        objects[0]["spec"]["metrics"][0] |= metric or {}
        await self.put(*objects)

    async def open(self, *services: Service) -> None:
        """Start with services and no objects."""
        self.store = await LocalStore.open(self.folder / "store.db", clock=self.clock.now)
        self.history = await SqlHistory.open(f"sqlite:///{self.folder / 'history.db'}")
        self.mesh = Mesh(self.store, self.clock, *services)
        self.crash()

    async def close(self) -> None:
        """Let go of the databases."""
        await self.history.close()
        await self.store.close()

    def crash(self) -> None:
        """Start a controller that remembers nothing."""
        self.telemetry = Telemetry()
        self.collector = Collector(self.mesh, self.history, templates(), self.telemetry, settle=0.5)
        self.collector._baselines.aside = AtOnce()  # the same looks find the same pasts each time
        self.loop = Loop(
            store=self.store, history=self.history, dataplane=self.proxies, collector=self.collector,
            recorder=Recorder(self.store, self.telemetry, News()), clock=self.clock,
        )  # fmt: skip

    async def put(self, *objects: dict[str, Any]) -> None:
        """Write objects as the folder does, and tell the loop as its watch does."""
        for obj in objects:
            self.loop.changed(await self.store.put(obj, manager="folder"))

    async def patch(self, ref: Ref, path: str, value: Any, *, manager: str = "kubectl-edit") -> None:
        """Replace one field as somebody else."""
        operations = [{"op": "replace", "path": path, "value": value}]
        self.loop.changed(await self.store.patch(ref, operations, manager=manager))

    async def delete(self, ref: Ref = POLICY) -> None:
        """Delete an object as a person, and tell the loop as its watch does."""
        await self.store.delete(ref, manager="folder")
        with suppress(NotFoundError):  # it may wait for a finalizer
            self.loop.changed(await self.store.get(ref))

    async def split(self, control: int, candidate: int) -> None:
        """Change the weights by hand."""
        await self.patch(ROUTE, "/spec/http/0/route/0/weight", control)
        await self.patch(ROUTE, "/spec/http/0/route/1/weight", candidate)

    async def run(
        self, seconds: int, *, until: Callable[[Status], bool] = lambda _: False, name: str = "ranker"
    ) -> Status:
        """Let time pass second by second, with a few looks in each."""
        for _ in range(seconds):
            await self.mesh.run(1)
            for _ in range(4):
                await self.loop.look()
                self.clock.time += 0.2
            self.clock.time = round(self.clock.time - 0.8)
            status = await self.status(name)
            if until(status):
                return status
        return await self.status(name)

    async def looks(self, number: int) -> None:
        """Let the loop look, without traffic."""
        for _ in range(number):
            await self.loop.look()
            self.clock.time += 0.2

    async def status(self, name: str = "ranker") -> Status:
        return Status.of(await self.store.get(POLICY._replace(name=name)))

    async def weights(self, name: str = "ranker") -> list[int]:
        entries = (await self.store.get(ROUTE._replace(name=name)))["spec"]["http"][0]["route"]
        return [each["weight"] for each in entries]

    async def act(self, verb: str, name: str = "ranker") -> None:
        """Ask for an action as a person."""
        ref = POLICY._replace(name=name)
        _, operations = request(await self.store.get(ref), verb, "ann")
        self.loop.changed(await self.store.patch(ref, operations, manager="ann"))

    def verdict(self, name: str = "ranker") -> Mapping[str, Any]:
        """Return the last verdict with all numbers."""
        found = self.loop.verdict(f"default/{name}")
        assert found is not None
        return found

    async def reasons(self, name: str = "ranker") -> list[str]:
        """Return the reasons of all events, oldest first."""
        return [event["reason"] for event in reversed(await self.store.events(POLICY._replace(name=name)))]

    async def whole(self, number: int = 1, name: str = "ranker") -> dict[str, Any]:
        """Return a run with everything that the history has of it, and what the loop has not recorded yet."""
        await self.loop.record()
        runs = await self.history.runs(f"default/{name}")
        found = await self.history.run(next(run["id"] for run in runs if run["number"] == number))
        assert found is not None
        return dict(found)

    async def ends(self, number: int = 1) -> list[int]:
        """Return the ends of the intervals that were counted for errors, oldest first."""
        rows = (await self.whole(number))["intervals"]
        return [row["end"] for row in rows if row["metric"] == "istio-error-rate"]

    async def decisions(self) -> list[tuple[str, str]]:
        """Return what was decided, with the reasons."""
        return [(each["action"], each["reason"]) for each in (await self.whole())["decisions"]]


def ended(status: Status) -> bool:
    return bool(status.run and status.run.outcome and status.run.applied)
