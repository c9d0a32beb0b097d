"""`penstock up` as users run it: real processes on loopback, a service with two versions, and load.

Everything is below the folder that a test gives and ends with the block; that nothing stays behind is
asserted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import yaml

from controller.ports import Ref
from controller.standalone.control import KeeperError
from controller.standalone.layout import Layout
from controller.standalone.listening import pick_port
from controller.standalone.processes import DataPlaneProcesses
from controller.standalone.store import LocalStore
from tests.support import mesh
from tests.support.processes import end_all_of, of_folder
from tests.support.watched import PATIENCE, Staged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.ports import Object
    from controller.standalone.processes import Running

ROOT = Path(__file__).resolve().parents[2]
HOST = "ranker"
POLICY = Ref("RolloutPolicy", "ml", HOST)
ROUTE = Ref("VirtualService", "ml", HOST)
SCRAPE_INTERVAL = "500ms"

LONG = ({"weight": 30, "hold": "1h"}, {"weight": 60})
"""Steps of a run that stays where it is until something happens to it."""
QUICK = ({"weight": 20, "hold": "2s"}, {"weight": 50, "hold": "2s"})
"""Steps of a run that is soon decided."""


def policy(steps: Any = LONG, name: str = HOST, **decision: Any) -> Object:
    """A rollout with a short interval, and a margin so wide that safety is soon proven."""
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "RolloutPolicy",
        "metadata": {"name": name, "namespace": "ml"},
        "spec": {
            "service": {"host": HOST, "port": 8080},
            "virtualService": {"name": HOST},
            "variants": [{"name": "stable", "subset": "v1"}, {"name": "candidate", "subset": "v2"}],
            "strategy": {"canary": {"steps": [dict(step) for step in steps]}},
            "metrics": [{"template": "istio-error-rate", "margin": "400%", "dispersion": "1"}],
            "decision": {
                "interval": "1s", "minSamples": 20, "falseRollback": "0.01%", "falsePromote": "5%",
                "deadline": "2h", **decision,
            },
        },
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str


async def penstock(*arguments: str | Path, prefix: tuple[str, ...] = (), cwd: Path = ROOT) -> Said:
    """Run a `penstock` command to its end."""
    process = await asyncio.create_subprocess_exec(
        *_command(prefix, arguments), cwd=cwd, env=_environment(), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Said(int(process.returncode or 0), out.decode(), err.decode())


def _command(prefix: tuple[str, ...], arguments: tuple[str | Path, ...]) -> list[str]:
    return [*prefix, sys.executable, "-m", "controller.cli", *map(str, arguments)]


def _environment() -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
    return {**inherited, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}


class Standalone(Staged):
    """One folder, its Penstock, its upstreams and its load."""

    def __init__(
        self, folder: Path, *, steps: Any = LONG, decision: Mapping[str, Any] | None = None,
        options: tuple[str, ...] = (), start: bool = True, load: bool = True,
    ) -> None:  # fmt: skip
        self.api_port, self.traffic_port = pick_port(), pick_port()
        self.api = f"http://127.0.0.1:{self.api_port}"
        super().__init__(f"http://127.0.0.1:{self.traffic_port}/", HOST, start=start, load=load, api=self.api)
        self.policy_ref, self.route_ref = POLICY, ROUTE
        self.home = folder
        self.folder = folder / "manifests"
        self.layout = Layout(self.folder)
        self.log = folder / "penstock.log"
        self.policy = policy(steps, **(decision or {}))
        self._options = options
        self._controller: asyncio.subprocess.Process | None = None
        self._store: LocalStore | None = None

    async def _prepare(self) -> None:
        self.folder.mkdir()
        self.write_manifests()

    async def _end(self) -> None:
        """End Penstock as Ctrl-C does, then assert that nothing was left; end what was all the same."""
        try:
            if self._store is not None:
                await self._store.close()
            await self._stack.aclose()
            if self._controller is not None and self._controller.returncode is None:
                await self.stop(signal.SIGINT)
            else:
                await DataPlaneProcesses(self.layout).stop()
            left = of_folder(self.folder)
        finally:
            unkillable = await asyncio.to_thread(end_all_of, self.folder)
            if self._controller is not None:
                await self._controller.wait()
        assert (left, unkillable) == ({}, {})

    # --- manifests

    def write_manifests(self) -> None:
        """Write the folder as it should be."""
        ports = (self.control.port, "v1"), (self.candidate.port, "v2")
        destinations = [mesh.to("v1", 100, HOST), mesh.to("v2", 0, HOST)]
        route = mesh.routes({"name": "primary", "route": destinations, "retries": {"attempts": 0}})
        route["metadata"].pop("resourceVersion")
        self.write("policy.yaml", self.policy)
        self.write("route.yaml", route)
        self.write("rule.yaml", mesh.rule())
        self.write("entry.yaml", mesh.entry(endpoints=ports))

    def write(self, name: str, content: Object | str) -> None:
        """Replace a file of the folder as a whole, as editors do."""
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        fresh = self.folder / f".{name}.new"
        fresh.write_text(text)
        fresh.replace(self.folder / name)

    def read(self, name: str) -> str:
        """Return the text of a file of the folder."""
        return (self.folder / name).read_text()

    # --- processes

    async def up(self) -> None:
        """Start the controller and wait until its API answers."""
        arguments: tuple[str | Path, ...] = (
            "up", self.folder, "--api-port", str(self.api_port),
            "--publish", f"8080={self.traffic_port}", "--scrape-interval", SCRAPE_INTERVAL, *self._options,
        )  # fmt: skip
        with self.log.open("wb") as log:
            self._controller = await asyncio.create_subprocess_exec(
                *_command((), arguments), cwd=ROOT, env=_environment(), stdin=asyncio.subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        await self.eventually(self._answers, "the API to answer")

    async def _answers(self) -> bool:
        assert self._controller is not None
        assert self._controller.returncode is None, f"penstock up ended:\n{self.said()}"
        try:
            async with self.session.get("/healthz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    @property
    def controller_pid(self) -> int:
        """The pid of the controller that was started last."""
        assert self._controller is not None
        return self._controller.pid

    async def stop(self, number: int) -> int:
        """Send the controller a signal and wait for its end; return its exit status."""
        assert self._controller is not None
        self._controller.send_signal(number)
        return await asyncio.wait_for(self._controller.wait(), PATIENCE)

    async def pids(self) -> dict[str, int]:
        """Return the pids of the keeper and of what runs under it, which may just be late to say so."""
        running = await self._running()
        if running is None:
            return {}
        children = {name: child.pid for name, child in running.children.items() if child.pid is not None}
        return {"keeper": running.pid, **children}

    async def _running(self) -> Running | None:
        async def answer() -> tuple[Running | None] | None:
            with contextlib.suppress(KeeperError):  # it is busy: asked again
                return (await DataPlaneProcesses(self.layout).status(),)
            return None

        [running] = await self.eventually(answer, "the keeper to answer")
        return cast("Running | None", running)

    async def kill(self, name: str) -> None:
        """SIGKILL the keeper, Envoy or Prometheus."""
        os.kill((await self.pids())[name], signal.SIGKILL)

    async def back(self, name: str, before: Mapping[str, int]) -> None:
        """Wait until a process is there again, ready, and is another one."""

        async def again() -> bool:
            running = await self._running()
            if running is None or name == "keeper":
                return running is not None and running.pid != before[name]
            child = running.children.get(name)
            return child is not None and child.state == "ready" and child.pid != before[name]

        await self.eventually(again, f"{name} to be back")

    async def cli(self, *arguments: str) -> Said:
        """Run a command of `penstock` on this folder."""
        return await penstock(*arguments, "--dir", self.folder)

    async def down(self) -> Said:
        """Run `penstock down`."""
        return await penstock("down", self.folder)

    async def act(self, *verb: str) -> None:
        """Ask for a manual action by the API: a command asks the same, and takes a process of its own."""
        name = "promote-full" if verb == ("promote", "--full") else verb[0]
        secret = {"Authorization": f"Bearer {self.layout.token.read_text().strip()}"}
        asked = {"verb": name, "actor": "ann"}
        url = f"/v1/rollouts/ml/{HOST}/actions"
        async with self.session.post(url, json=asked, headers=secret) as response:
            assert response.status == 202, await response.text()

    def said(self) -> str:
        """Return what the present `up` said on its terminal."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # --- what is so

    async def get(self, path: str) -> Any:
        """Return an answer of the API."""
        async with self.session.get(path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def findings(self) -> list[dict[str, Any]]:
        """Return what the controller finds wrong with the folder."""
        found: list[dict[str, Any]] = (await self.get("/v1/findings"))["items"]
        return found

    async def events(self) -> list[dict[str, Any]]:
        """Return what happened, latest first."""
        found: list[dict[str, Any]] = (await self.get("/v1/events?limit=500"))["items"]
        return found

    async def history(self) -> dict[str, Any]:
        """Return the present run as recorded."""
        whole: dict[str, Any] = await self.get(f"/v1/runs/{(await self.run()).id}")
        return whole

    async def live(self, ref: Ref) -> Object:
        """Return an object as it is live, read past the controller."""
        if self._store is None:
            self._store = await LocalStore.open(self.layout.store)
        return await self._store.get(ref)

    async def until_found(self, *parts: str) -> dict[str, Any]:
        """Wait for a finding whose message has all these parts, and return it."""

        async def found() -> dict[str, Any] | None:
            seen[:] = await self.findings()
            return next((each for each in seen if all(part in str(each) for part in parts)), None)

        seen: list[dict[str, Any]] = []
        finding: dict[str, Any] = await self.eventually(found, f"a finding with {parts} in", seen)
        return finding

    def forget_storage(self) -> None:
        """Take Prometheus' samples away while it runs; it misses them when it starts again."""
        data = self.layout.prometheus / "data"
        data.rename(data.with_name("data.gone"))
        shutil.rmtree(data.with_name("data.gone"), ignore_errors=True)
