"""One process of a cluster: started, ready or a clear failure, paused, ended.

Each part is the leader of a process group of its own, so that a Ctrl-C at the terminal reaches only the
program that ends the parts in order. The kernel kills parts whose starter was killed: there are no orphans.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.errors import PartError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TAIL_LINES = 12
GRACE_S = 10.0
POLL_S = 0.05

# The kernel ties a child's life (PR_SET_PDEATHSIG, which Envoy's wheel sets too) to the thread that started
# it. So all parts are started by one thread that lives as long as this process, whoever asks.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cluster-starter")


@dataclass(frozen=True, slots=True)
class Spec:
    """How a part is run and how one knows that it serves."""

    name: str
    argv: tuple[str, ...]
    ready_url: str
    """Answers 200 when the part is ready."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Set in addition to this process's environment."""
    patience: float = 180.0
    """Seconds until it must be ready."""


class Part:
    """A process and its log; every method may be called from any thread, one at a time."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self.spec, self.name = spec, spec.name
        self.folder = folder / spec.name
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """The process id; PartError when it does not run."""
        if not self.running or self._process is None:
            raise PartError(f"{self.name} does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there, suspended or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it on the same ports and data as before, and wait until it is ready; PartError."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start it without waiting."""
        if self.running:
            raise PartError(f"{self.name} runs already")
        self.folder.mkdir(parents=True, exist_ok=True)
        _starter.submit(self._spawn).result()

    def _spawn(self) -> None:
        tied = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*tied, *self.spec.argv],
                cwd=self.folder,
                env={**os.environ, **self.spec.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Wait until it serves; PartError with its last words when it ended or is late."""
        end = time.monotonic() + self.spec.patience
        while not answers(self.spec.ready_url):
            if self._process is None or self._process.poll() is not None:
                code = None if self._process is None else self._process.returncode
                raise PartError(f"{self.name} ended with status {code}; its last words:\n{self.last_words()}")
            if time.monotonic() > end:
                late = f"{self.name} is not ready after {self.spec.patience:.0f} s; its last words:"
                raise PartError(f"{late}\n{self.last_words()}")
            time.sleep(POLL_S)

    def stop(self, grace: float = GRACE_S) -> None:
        """End it as its operator would, and by force when it takes longer than `grace` seconds."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a suspended process would never know
        try:
            if self._process is not None:
                self._process.wait(grace)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once, as the kernel does when memory is short; its children too."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def suspend(self) -> None:
        """Let it hang: it keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `suspend`."""
        self._signal(signal.SIGCONT)

    def last_words(self) -> str:
        """Return the last lines that it logged since its last start."""
        if not self.log.exists():
            return "(no log)"
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(line[:500] for line in lines[-TAIL_LINES:]) or "(nothing logged)"

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def _opener() -> urllib.request.OpenerDirector:
    """Return a client for loopback: it asks no proxy and accepts any certificate."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting)
    )


_loopback = _opener()


def answers(url: str) -> bool:
    """Tell whether a URL of loopback answers 200."""
    try:
        with _loopback.open(url, timeout=2) as answer:
            return int(answer.status) == 200
    except (OSError, http.client.HTTPException):  # OSError: also urllib's own errors
        return False
