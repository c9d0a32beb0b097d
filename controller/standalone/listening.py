"""Which loopback ports are free, and which process has one that is not. Linux (/proc); nothing is changed."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
LISTEN = "0A"


def is_free(port: int) -> bool:
    """Tell whether nothing listens on a loopback port, also not through a wildcard address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections may linger
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def pick_port(preferred: int | None = None) -> int:
    """Return `preferred` when it is free, else some free loopback port."""
    if preferred is not None and is_free(preferred):
        return preferred
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def holder(port: int) -> str | None:
    """Return `command (pid N)` of the process that listens on a port; None when it cannot be told.

    Another user's process cannot be told without root, since its descriptors are not readable.
    """
    inodes = _listening_inodes(port)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(_link(descriptor) in inodes for descriptor in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None


def _link(descriptor: Path) -> str | None:
    try:
        return str(descriptor.readlink())
    except OSError:  # closed meanwhile
        return None


def _listening_inodes(port: int) -> set[str]:
    """Return `socket:[INODE]` of every TCP socket that listens on `port` (proc_net_tcp)."""
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found
