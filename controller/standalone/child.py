"""One process under the keeper: started, probed, restarted with backoff, ended; its log bounded.

A `Child` never blocks for longer than one probe and owns no clock: the keeper calls `tick(now)` with
monotonic seconds and learns when to call again. A child ends with the process that started it, even when
that is killed (PR_SET_PDEATHSIG, prctl(2)), so there are no orphans. Linux only, standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0
HEALTHY_S = 30.0
GRACE_S = 5.0
PROBE_TIMEOUT_S = 0.5
PROBE_STARTING_S = 0.1
PROBE_READY_S = 1.0
HUNG_AFTER_PROBES = 60
LOG_BYTES = 8 << 20
TAIL_BYTES = 4096
TAIL_LINES = 8
PR_SET_PDEATHSIG = 1

State = Literal["starting", "ready", "unready", "waiting", "stopping", "stopped"]

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run. Two equal specs are the same child: it is adopted, not restarted."""

    name: str
    """Names the child in commands and its log, `NAME.log`."""
    argv: tuple[str, ...]
    ready_url: str
    """`http://127.0.0.1:PORT/PATH`: status 200 is ready, any other answer is alive."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """The loopback ports it listens on, by purpose."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Set in addition to the keeper's environment."""
    cwd: str | None = None
    revision: str = ""
    """A digest of files that it reads only when it starts: another one means a restart."""

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ChildSpec:
        """Return the spec that `to_json` wrote."""
        return cls(**{**value, "argv": tuple(value["argv"])})


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next start: 0.2 s, doubling to 10 s."""

    delay: float = FIRST_DELAY_S

    def next(self) -> float:
        """Return the seconds to wait now; the next wait is twice as long."""
        now, self.delay = self.delay, min(self.delay * 2, LONGEST_DELAY_S)
        return now

    def reset(self) -> None:
        """Forget past failures."""
        self.delay = FIRST_DELAY_S


class Child:
    """A process that should run, or should end, and what is known of it."""

    def __init__(self, spec: ChildSpec, log: Path) -> None:
        self.wanted: ChildSpec | None = spec
        self.state: State = "waiting"
        self.restarts = 0
        self._log = log
        self._running = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff = Backoff()
        self._due = 0.0  # when the next start, probe or SIGKILL is due, monotonic
        self._ready_since: float | None = None
        self._since = time.time()
        self._failures = 0  # ends in a row without having been ready
        self._silent = 0  # probes in a row without any answer, once it had been ready
        self._log_start = 0
        self._last_exit = ""
        self._last_lines: list[str] = []

    def want(self, spec: ChildSpec | None) -> None:
        """Run `spec` from now on, or nothing. A running child with an equal spec is left alone."""
        if spec == self.wanted:
            return
        self.wanted = spec
        self._fresh_start()

    def restart(self) -> None:
        """End the process and start it again without waiting."""
        self._fresh_start()

    def _fresh_start(self) -> None:
        self._backoff.reset()
        self._failures = 0
        if self._process is None:
            self._due = 0.0
        elif self.state != "stopping":
            self._process.terminate()
            self._due = time.monotonic() + GRACE_S
            self._enter("stopping")

    def tick(self, now: float) -> float:
        """Do what is due at `now` (monotonic seconds) and return when to call again."""
        if self._process is not None and self._process.poll() is not None:
            self._ended(now, self._process.returncode)
        if self._process is None:
            if self.wanted is None:
                self._enter("stopped")
                return now + HEALTHY_S
            if now >= self._due:
                self._start(now, self.wanted)
        elif now >= self._due:
            if self.state == "stopping":
                self._process.kill()
                self._due = now + GRACE_S
            else:
                self._probe(now, self._process)
        return self._due

    def status(self) -> dict[str, Any]:
        """Return what is known, as JSON; changes only when something happened."""
        return {
            "name": self._running.name,
            "state": self.state,
            "pid": self._process.pid if self._process else None,
            "since": self._since,
            "restarts": self.restarts,
            "failures": self._failures,
            "ports": dict(self._running.ports),
            "lastExit": self._last_exit,
            "lastLines": self._last_lines,
        }

    def _enter(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._since = time.time()

    def _start(self, now: float, spec: ChildSpec) -> None:
        self._running = spec
        self._ready_since, self._silent = None, 0
        bound_log(self._log)
        try:
            with self._log.open("ab") as log:
                self._log_start = log.tell()
                self._process = spawn(spec, log.fileno())
        except (OSError, ValueError, TypeError, subprocess.SubprocessError) as error:
            self._failed(now, f"could not be started: {error}")
            return
        self._due = now + PROBE_STARTING_S
        self._enter("starting")

    def _ended(self, now: float, code: int) -> None:
        was_stopping = self.state == "stopping"
        self._process = None
        if was_stopping:
            self._due = now
            self._enter("waiting")
            return
        hung = self._silent >= HUNG_AFTER_PROBES
        self._failed(now, "killed, since it had stopped answering" if hung else exit_words(code))

    def _failed(self, now: float, how: str) -> None:
        self._last_exit = how
        self._last_lines = tail(self._log, self._log_start)
        self._failures = 0 if self._ready_since is not None else self._failures + 1
        self.restarts += 1
        self._due = now + self._backoff.next()
        self._enter("waiting")

    def _probe(self, now: float, process: subprocess.Popen[bytes]) -> None:
        answer = probe(self._running.ready_url)
        bound_log(self._log)
        self._due = now + (PROBE_READY_S if answer == 200 else PROBE_STARTING_S)
        if answer == 200:
            self._silent = 0
            self._ready_since = (
                now if self.state != "ready" or self._ready_since is None else self._ready_since
            )
            self._enter("ready")
            if now - self._ready_since >= HEALTHY_S:
                self._backoff.reset()
        elif self._ready_since is not None:
            self._enter("unready")
            self._due = now + PROBE_READY_S
            self._silent = self._silent + 1 if answer is None else 0
            if self._silent >= HUNG_AFTER_PROBES:
                process.kill()


def spawn(spec: ChildSpec, log: int) -> subprocess.Popen[bytes]:
    """Start a process that dies with the calling thread; its output goes to the file descriptor `log`."""
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before prctl
            os._exit(1)

    return subprocess.Popen(
        spec.argv,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=spec.cwd,
        env={**os.environ, **spec.env},
        preexec_fn=die_with_parent,  # noqa: PLW1509 - the keeper has one thread
    )


def probe(url: str) -> int | None:
    """Return the HTTP status that `url` answers with, or None when nothing answers in time."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((host, port), timeout=PROBE_TIMEOUT_S) as connection:
            connection.sendall(request.encode("ascii"))
            status = connection.recv(64).split(b" ", 2)
        return int(status[1]) if status[0].startswith(b"HTTP/") else None
    except (OSError, ValueError, IndexError):
        return None


def bound_log(path: Path, limit: int = LOG_BYTES) -> None:
    """Move a log that has grown beyond `limit` bytes to `NAME.log.1` and go on with an empty one.

    The writer keeps its descriptor, opened for appending, so the file is copied and cut, not renamed; what is
    written in between (microseconds) is lost. On a full disk the old log is lost rather than the bound.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size > limit:
            with contextlib.suppress(OSError):
                shutil.copyfile(path, path.with_name(path.name + ".1"))
            os.truncate(path, 0)


def tail(path: Path, start: int) -> list[str]:
    """Return the last lines of a log that were written after offset `start`; none when it cannot be read."""
    try:
        with path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(start if start <= end else 0, end - TAIL_BYTES))  # it may have been cut meanwhile
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line[:500] for line in lines if line.strip()][-TAIL_LINES:]


def exit_words(code: int) -> str:
    """Say how a process ended, from its return code."""
    if code >= 0:
        return f"exit status {code}"
    return f"killed by signal {-code} ({signal.strsignal(-code)})"
