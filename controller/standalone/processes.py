"""The controller's side of the keeper: bring up what should run, adopt what runs, end it.

Nothing is kept in memory: each call asks the keeper, so a restarted controller knows as much as the old one.
Timeouts are in seconds.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.standalone.child import ChildSpec, tail
from controller.standalone.control import (
    DataPlaneError,
    KeeperError,
    NoKeeperError,
    ask,
    keeper_pid,
    kill_keeper,
)
from controller.standalone.layout import Layout, read_json
from controller.standalone.listening import holder, is_free, pick_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
GONE_TIMEOUT_S = 5.0
PORT_PATIENCE_S = 3.0
POLL_S = 0.05
FAILURES_BEFORE_GIVING_UP = 3
PROJECT = Path(__file__).resolve().parents[2]


class PortTakenError(DataPlaneError):
    """Another process listens on a port that is needed."""

    def __init__(self, port: int, purpose: str) -> None:
        by = holder(port)
        super().__init__(f"port {port} ({purpose}) is already in use{f' by {by}' if by else ''}")
        self.port = port


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """One process under the keeper."""

    name: str
    state: str
    """starting, ready, unready (was ready before), waiting (for its next start) or stopping."""
    pid: int | None
    since: float
    """When the state was entered, unix seconds."""
    restarts: int
    """Starts after an end that nobody asked for."""
    failures: int
    """Ends in a row before it was ready."""
    ports: Mapping[str, int]
    last_exit: str
    last_lines: tuple[str, ...]
    """The last lines of its log before that exit."""


@dataclass(frozen=True, slots=True)
class Running:
    """The keeper of a folder and what it keeps."""

    pid: int
    children: Mapping[str, ChildStatus]
    adopted: bool = False
    """Whether the keeper ran before."""

    @property
    def ready(self) -> bool:
        """Whether every child is ready."""
        return all(child.state == "ready" for child in self.children.values())

    @property
    def ports(self) -> frozenset[int]:
        """The ports of all children."""
        return frozenset(port for child in self.children.values() for port in child.ports.values())


class DataPlaneProcesses:
    """The processes of one folder."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def ensure(self, specs: Sequence[ChildSpec], *, within: float = READY_TIMEOUT_S) -> Running:
        """Bring up exactly `specs` and wait until all are ready; calling it again changes nothing.

        A keeper that runs is adopted: children with an equal spec go on untouched, the others are started,
        restarted or ended. Raises DataPlaneError; a keeper that this call started is then ended again.
        """
        before = await self.status()
        await self._require_ports(specs, before)
        try:
            if before is None:
                await self._start_keeper()
            await ask(self._layout, {"do": "apply", "children": [spec.to_json() for spec in specs]})
            running = await self._wait_ready(within)
        except (DataPlaneError, asyncio.CancelledError):
            if before is None:
                await self.stop()
            raise
        return Running(running.pid, running.children, adopted=before is not None)

    async def status(self) -> Running | None:
        """Return what runs, or None when no keeper does. KeeperError when it runs but does not answer."""
        try:
            answer = await ask(self._layout, {"do": "status"})
        except NoKeeperError:
            return None
        return _running(answer)

    async def restart(self, name: str) -> None:
        """End one child and start it again, without waiting. KeeperError when there is no such child."""
        await ask(self._layout, {"do": "restart", "name": name})

    async def stop(self) -> bool:
        """End every child (SIGTERM, after 5 s SIGKILL) and the keeper; False when nothing ran.

        A keeper that does not answer is killed; the kernel then ends its children.
        """
        try:
            await ask(self._layout, {"do": "stop"}, within=STOP_TIMEOUT_S)
        except NoKeeperError:
            return False
        except KeeperError:
            kill_keeper(self._layout)
        await self._wait_gone()
        return True

    def port(
        self, child: str, purpose: str, *, wanted: int | None = None, preferred: int | None = None
    ) -> int:
        """Choose a port for a child: `wanted` without question, else the one it had, else `preferred` or any.

        So a restarted controller makes the same specs, and adopts. `ensure` finds out when `wanted` is taken.
        """
        if wanted is not None:
            return wanted
        table = read_json(self._layout.keeper) or {}
        for status in table.get("children", ()):
            remembered = status["ports"].get(purpose) if status["name"] == child else None
            if remembered and (is_free(remembered) or keeper_pid(self._layout) is not None):
                return int(remembered)
        return pick_port(preferred)

    async def _require_ports(self, specs: Sequence[ChildSpec], before: Running | None) -> None:
        """Raise PortTakenError unless each port is free or already ours; ports of the just killed free up."""
        ours = before.ports if before else frozenset()
        end = time.monotonic() + PORT_PATIENCE_S
        for spec in specs:
            for purpose, port in spec.ports.items():
                while port not in ours and not is_free(port):
                    if time.monotonic() > end:
                        raise PortTakenError(port, f"{spec.name} {purpose}")
                    await asyncio.sleep(POLL_S)

    async def _start_keeper(self) -> None:
        launcher = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "controller.standalone.keeper",
            str(self._layout.root),
            cwd=PROJECT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        starting = asyncio.ensure_future(launcher.communicate())
        try:
            _, errors = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await starting  # only a keeper that has started can be ended
            raise
        if launcher.returncode != 0:
            words = errors.decode(errors="replace").strip() or f"exit status {launcher.returncode}"
            raise KeeperError(f"the keeper could not be started: {words.splitlines()[-1]}")

    async def _wait_ready(self, within: float) -> Running:
        end = time.monotonic() + within
        first: Running | None = None
        while True:
            running = await self.status()
            if running is None:
                raise KeeperError(f"the keeper ended:\n{_indent(tail(self._layout.logs / 'keeper.log', 0))}")
            if running.ready:
                return running
            first = first or running
            late = time.monotonic() > end
            for child in running.children.values():
                if child.state != "ready" and (late or _hopeless(child, first.children.get(child.name))):
                    raise DataPlaneError(self._why_not(child))
            await asyncio.sleep(POLL_S)

    def _why_not(self, child: ChildStatus) -> str:
        log = self._layout.logs / f"{child.name}.log"
        if not child.failures:
            return f"{child.name} is not ready (it is {child.state}); its log is {log}"
        taken = [
            str(PortTakenError(port, purpose))
            for purpose, port in child.ports.items()
            if child.pid is None and not is_free(port)
        ]
        lines = _indent([*taken, *child.last_lines])
        return f"{child.name} ends as soon as it is started ({child.last_exit}); its log is {log}:\n{lines}"

    async def _wait_gone(self) -> None:
        end = time.monotonic() + GONE_TIMEOUT_S
        while (pid := keeper_pid(self._layout)) is not None:
            if time.monotonic() > end:
                raise KeeperError(f"the keeper (pid {pid}) does not end")
            await asyncio.sleep(POLL_S)


def _running(answer: Mapping[str, Any]) -> Running:
    return Running(
        pid=answer["pid"],
        children={
            child["name"]: ChildStatus(
                name=child["name"],
                state=child["state"],
                pid=child["pid"],
                since=child["since"],
                restarts=child["restarts"],
                failures=child["failures"],
                ports=child["ports"],
                last_exit=child["lastExit"],
                last_lines=tuple(child["lastLines"]),
            )
            for child in answer["children"]
        },
    )


def _hopeless(now: ChildStatus, first: ChildStatus | None) -> bool:
    """Tell whether a child fails again and again, and did so once more since `first` was seen."""
    return now.failures >= FAILURES_BEFORE_GIVING_UP and (first is None or now.failures > first.failures)


def _indent(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)
