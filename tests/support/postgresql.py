"""A PostgreSQL server of its own in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class NoPostgresqlError(Exception):
    """It cannot be started here; the text says why."""


class Server:
    """A server that can be stopped and started again on the same port and data."""

    def __init__(self, folder: str, user: dict[str, Any]) -> None:
        self._folder, self._user, self._binaries = folder, user, _binaries()
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"postgresql+psycopg://penstock@127.0.0.1:{self._port}/postgres"
        subprocess.run(
            [self._binaries / "initdb", "-D", f"{folder}/data", "-U", "penstock", "-A", "trust", "-N",
             "--no-locale", "-E", "UTF8"],
            **user, cwd=folder, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip

    def start(self) -> None:
        """Start it and wait until it answers."""
        where = ["-D", f"{self._folder}/data", "-p", str(self._port), "-k", self._folder, "-h", "127.0.0.1"]
        self._process = subprocess.Popen(
            [self._binaries / "postgres", *where, "-F"],
            **self._user, cwd=self._folder, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        ready = f"{self._binaries}/pg_isready -q -h 127.0.0.1 -p {self._port}"
        subprocess.run(["/bin/sh", "-c", f"until {ready}; do sleep 0.1; done"], check=True, timeout=90)

    def stop(self) -> None:
        """End it as an operator in a hurry: sessions are cut off, data is kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(90)
            self._process = None


@contextmanager
def running_server() -> Iterator[Server]:
    """Yield a running server; NoPostgresqlError."""
    _binaries()
    folder, user = _folder()
    try:
        server = Server(folder, user)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running() -> Iterator[str]:
    """Yield the URL of a running server; NoPostgresqlError."""
    with running_server() as server:
        yield server.url


def empty(url: str) -> None:
    """Drop all tables."""
    import psycopg  # noqa: PLC0415 - not installed everywhere

    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


@contextmanager
def suspended(url: str) -> Iterator[None]:
    """Let a server hang with all its processes: it keeps its connections and answers nothing."""
    import psycopg  # noqa: PLC0415

    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    server = int((Path(row[0]) / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    processes = [server, *map(int, children)]
    try:
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):  # one that served a connection may end
                os.kill(process, signal.SIGCONT)


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise NoPostgresqlError("no PostgreSQL server on this machine")
    return found[-1].parent


def _folder() -> tuple[str, dict[str, Any]]:
    """Return a new folder, and as whom to run: PostgreSQL refuses to run as root."""
    folder = tempfile.mkdtemp()
    if os.geteuid() != 0:
        return folder, {}
    try:
        shutil.chown(folder, "postgres")
    except LookupError:
        shutil.rmtree(folder)
        raise NoPostgresqlError("PostgreSQL does not run as root, and there is no user postgres") from None
    return folder, {"user": "postgres", "group": "postgres", "extra_groups": []}
