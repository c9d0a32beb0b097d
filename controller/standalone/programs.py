"""What Envoy and Prometheus have in common as programs: a binary to find, a configuration to know again."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from controller.standalone.control import DataPlaneError

if TYPE_CHECKING:
    from pathlib import Path


class MissingBinaryError(DataPlaneError):
    """A program is not on this machine; the message says what to run."""


def digest(value: Any) -> str:
    """Return a short digest of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def executable(path: Path, source: str) -> Path:
    """Return `path` made absolute, or raise MissingBinaryError when it is not an executable file."""
    path = path.expanduser().resolve()
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise MissingBinaryError(f"{path} (from {source}) is not an executable file")
    return path
