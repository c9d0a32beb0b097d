"""A PostgreSQL server of its own in a temporary folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class NoPostgresqlError(Exception):
    """It cannot be started here; the text says why."""


@contextmanager
def running() -> Iterator[str]:
    """Yield the URL of a running server; NoPostgresqlError."""
    binaries = _binaries()
    folder, user = _folder()
    data = f"{folder}/data"
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "penstock", "-A", "trust", "-N", "--no-locale", "-E", "UTF8"],
        **user,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-F"],
        **user,
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    try:
        subprocess.run(
            ["/bin/sh", "-c", f"until {binaries}/pg_isready -q -h 127.0.0.1 -p {port}; do sleep 0.1; done"],
            check=True,
            timeout=30,
        )
        yield f"postgresql+psycopg://penstock@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def empty(url: str) -> None:
    """Drop all tables."""
    import psycopg  # noqa: PLC0415 - not installed everywhere

    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


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
