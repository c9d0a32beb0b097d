"""Everything the demo runs: model servers, Penstock, and the load; started in order, ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import string
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import aiohttp

if TYPE_CHECKING:
    from types import TracebackType

SERVICE_PORT = 8080
TEMPLATE = Path(__file__).with_name("service.yaml")
START_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Service:
    """One rollout of the demo: its name, the right decisions, and how the candidate misbehaves."""

    name: str
    right: tuple[str, ...]
    faults: tuple[str, ...]

    def harmless(self) -> Service:
        """Return the same service with a candidate like its control: anything but a rollback is right."""
        return replace(self, right=("promoted", "held"), faults=())


class DemoError(Exception):
    """Something of the demo did not start; the text says what, and the last words of it."""


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def manifests(name: str, control: int, candidate: int) -> str:
    """Return the manifests of a service, with the ports of its two versions."""
    text = string.Template(TEMPLATE.read_text())
    return text.substitute(name=name, control_port=control, candidate_port=candidate)


class Stack:
    """The running demo; an async context manager. This one runs `penstock up`."""

    def __init__(self, folder: Path, services: tuple[Service, ...], *, rate: float) -> None:
        self.folder, self.services, self.rate = folder, services, rate
        self.api_port, self._traffic_port, *self._model_ports = free_ports(2 + 2 * len(services))
        self.url = f"http://127.0.0.1:{self.api_port}"
        self.traffic_url = f"http://127.0.0.1:{self._traffic_port}"
        self._processes: list[asyncio.subprocess.Process] = []
        self._penstock: asyncio.subprocess.Process | None = None

    def host(self, name: str) -> str:
        """Return the host that reaches a service."""
        return name

    def publish(self, name: str, manifests: str) -> None:
        """Give Penstock the manifests of a service."""
        target = self.folder / "manifests"
        target.mkdir(exist_ok=True)
        (target / f"{name}.yaml").write_text(manifests)

    def penstock(self) -> tuple[str, ...]:
        """Return how Penstock is run."""
        return (
            "up", str(self.folder / "manifests"),
            "--api-port", str(self.api_port), "--publish", f"{SERVICE_PORT}={self._traffic_port}",
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _start(self) -> None:
        say("starting six model servers ...")
        for at, service in enumerate(self.services):
            control, candidate = self._model_ports[2 * at : 2 * at + 2]
            await self._model_server(control, "v1", ())
            await self._model_server(candidate, "v2", service.faults)
            self.publish(service.name, manifests(service.name, control, candidate))
        for port in self._model_ports:
            await self._answering(f"http://127.0.0.1:{port}/v1/models/ready")
        command = self.penstock()
        say(f"starting penstock {command[0]} ...")
        # the objects are there first and the load last: nothing is judged before there is traffic
        self._penstock = await self._spawn("-m", "controller.cli", *command, log="penstock.log")
        await self._answering(f"{self.url}/readyz")
        say(f"sending {self.rate:.0f} requests per second to each service ...")
        hosts = [part for service in self.services for part in ("--host", self.host(service.name))]
        url = f"{self.traffic_url}/v1/models/model:predict"
        await self._spawn("-m", "demo.load", "--url", url, "--rate", str(self.rate), *hosts, log="load.log")

    async def _model_server(self, port: int, version: str, faults: tuple[str, ...]) -> None:
        arguments = ("--port", str(port), "--version", version, *faults)
        await self._spawn("-m", "demo.model_server", *arguments, log=f"model-{port}.log")

    async def _spawn(self, *arguments: str, log: str) -> asyncio.subprocess.Process:
        with (self.folder / log).open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdout=output, stderr=asyncio.subprocess.STDOUT,
                cwd=TEMPLATE.parent.parent, start_new_session=True, env={**os.environ, "NO_COLOR": "1"},
            )  # fmt: skip
        self._processes.append(process)
        return process

    async def _answering(self, url: str) -> None:
        """Wait until `url` answers 200; DemoError with the last words of whatever ended or is late."""
        async with aiohttp.ClientSession() as session:
            loop = asyncio.get_running_loop()
            end = loop.time() + START_TIMEOUT
            while loop.time() < end:
                self._check_alive()
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(0.1)
        raise DemoError(f"{url} does not answer; the last words of Penstock:\n{self._tail('penstock.log')}")

    def _check_alive(self) -> None:
        if self._penstock is not None and self._penstock.returncode is not None:
            raise DemoError(f"Penstock ended:\n{self._tail('penstock.log')}")

    def _tail(self, name: str) -> str:
        log = self.folder / name
        return "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""

    async def _stop(self) -> None:
        """End the load first and Penstock (with its Envoy and Prometheus) before the model servers."""
        for process in reversed(self._processes):
            # Ctrl-C is what ends Penstock with its Envoy and Prometheus
            await _end(process, signal.SIGINT if process is self._penstock else signal.SIGTERM)
        self._processes.clear()


async def _end(process: asyncio.subprocess.Process, number: int) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    try:
        await asyncio.wait_for(process.wait(), 20)
    except TimeoutError:
        process.kill()
        await process.wait()


def say(text: str) -> None:
    """Tell a person what goes on."""
    print(text, file=sys.stderr, flush=True)
