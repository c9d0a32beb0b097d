"""One `penstock run` process: started, signalled and ended; it never outlives its test."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from controller.standalone.listening import pick_port
from tests.support.watched import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
TIED = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()
"""Lets a controller end with its test, even if that is killed."""


class Replica:
    """One `penstock run` process."""

    def __init__(
        self, name: str, folder: Path, arguments: Sequence[str], env: Mapping[str, str], *, address: str
    ) -> None:
        self.log = folder / f"{name}.log"
        self.api_port = pick_port()
        self.api = f"http://{address}:{self.api_port}"
        self._arguments = [*arguments, "--api-address", f"{address}:{self.api_port}"]
        self._env = dict(env)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, **env: str) -> None:
        """Start it; it need not be ready when this returns. `env` adds to its environment."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *TIED, sys.executable, "-m", "controller.cli", "run", *self._arguments, cwd=ROOT,
                env=self._env | env, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and wait for its end; return its exit status."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
            if number != signal.SIGKILL:
                self._process.send_signal(signal.SIGCONT)  # a stopped process ends only then
        try:
            return await asyncio.wait_for(self._process.wait(), PATIENCE)
        finally:
            if self._process.returncode is None:  # it must not outlive its test
                self._process.kill()
                await self._process.wait()

    def said(self) -> str:
        """Return what it has said on its terminal."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""
