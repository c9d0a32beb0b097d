"""The processes that are measured with: `penstock run` and the stub of Prometheus."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Self

from prometheus_client.parser import text_string_to_metric_families

from controller.standalone.listening import pick_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import aiohttp

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
_CPU_CLOCK = 2
"""Linux' number for the clock that a process runs by (clock_getcpuclockid)."""


class EndedError(Exception):
    """A process that is measured does not run."""

    def __init__(self, log: Path) -> None:
        super().__init__(f"it does not run; its last words:\n{log.read_text(errors='replace')[-4000:]}")


class Process:
    """A Python module that runs in a process of its own; an async context manager that ends it."""

    def __init__(self, module: str, *arguments: str, log: Path) -> None:
        tied = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()  # no orphans
        self._command, self.log = (*tied, sys.executable, "-m", module, *arguments), log
        self._environment: Mapping[str, str] = {}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end(signal.SIGTERM)

    async def start(self) -> None:
        """Start it, again if it has ended."""
        dropped = ("PENSTOCK_", "MALLOC_")
        clean = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        own = {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", **self._environment}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, cwd=ROOT, env=clean | own,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip

    async def end(self, number: int) -> None:
        """Send it a signal and wait for its end."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            await asyncio.wait_for(self._process.wait(), PATIENCE)

    async def first_line(self) -> str:
        """Return what it says first."""
        if self._process is None or self._process.stdout is None:
            raise EndedError(self.log)
        return (await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)).decode().strip()

    @property
    def _pid(self) -> int:
        if self._process is None or self._process.returncode is not None:
            raise EndedError(self.log)
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Return the processor time it has used so far, all threads, to the nanosecond."""
        return time.clock_gettime(~self._pid << 3 | _CPU_CLOCK)

    def memory_mib(self) -> dict[str, float]:
        """Return what of it is in memory now, and what was at most."""
        status = Path("/proc") / str(self._pid) / "status"
        lines = (line.split() for line in status.read_text().splitlines())
        kib = {line[0].rstrip(":"): int(line[1]) for line in lines if line[0] in {"VmRSS:", "VmHWM:"}}
        return {"now": kib["VmRSS"] / 1024, "highest": kib["VmHWM"] / 1024}


class Stub(Process):
    """The process that answers like Prometheus."""

    def __init__(self, http: aiohttp.ClientSession, namespace: str, rollouts: int, folder: Path) -> None:
        super().__init__("bench.cluster.stub", namespace, str(rollouts), log=folder / f"{namespace}-stub.log")
        self._http, self.url = http, ""

    async def start(self) -> None:
        """Start it and learn where it serves."""
        await super().start()
        self.url = f"http://127.0.0.1:{await self.first_line()}"

    async def counts(self) -> dict[str, int]:
        """Return how often each query was asked."""
        async with self._http.get(f"{self.url}/counts") as response:
            counts: dict[str, int] = await response.json()
            return counts

    async def harm(self, service: str) -> None:
        """Have the candidate of a service fail half of its requests from now on."""
        await self._tell("harm", service)

    async def move(self, service: str) -> None:
        """Send the candidate of a service the traffic of its next step from now on."""
        await self._tell("move", service)

    async def _tell(self, what: str, service: str) -> None:
        async with self._http.post(f"{self.url}/{what}", params={"service": service}) as response:
            response.raise_for_status()


class Controller(Process):
    """`penstock run`, with an `environment` beside its options."""

    def __init__(
        self, http: aiohttp.ClientSession, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        port = pick_port()
        address = ("--api-address", f"127.0.0.1:{port}")
        super().__init__("controller.cli", "run", *arguments, *address, log=log)
        self._environment = environment
        self._http, self._api = http, f"http://127.0.0.1:{port}"
        self.started = 0.0
        """When it was started last, unix time."""

    async def start(self) -> None:
        """Start it; it need not be ready when this returns."""
        self.started = time.time()
        await super().start()

    async def scrape(self) -> str:
        """Return what it tells of itself."""
        async with self._http.get(f"{self._api}/metrics") as response:
            return await response.text()

    async def requests(self) -> Counter[tuple[str, str]]:
        """Return the requests to the API server as it counts them itself, by verb and resource."""
        text = await self.scrape()
        found: Counter[tuple[str, str]] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "penstock_kube_requests_total":
                    found[sample.labels["verb"], sample.labels["resource"]] += int(sample.value)
        return found
