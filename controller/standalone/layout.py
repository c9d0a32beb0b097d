"""Where a standalone Penstock keeps its own things: the private folder `.penstock` beside the manifests.

Everything in it is Penstock's; deleting it while nothing runs loses history and rollout state, never a
manifest. JSON files are replaced whole, so a reader sees the old content or the new, never half of it.
Standard library only: the keeper imports this module and has to stay small.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

STATE = ".penstock"
DIRECTORY_VARIABLE = "PENSTOCK_DIR"


class LayoutError(Exception):
    """No folder with a `.penstock` was found, the one given has none, or none can be made."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one folder of manifests. `root` is made absolute, so a later chdir changes nothing."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).expanduser().resolve())

    @classmethod
    def find(
        cls,
        explicit: Path | None = None,
        *,
        environment: Mapping[str, str] = os.environ,
        cwd: Path | None = None,
    ) -> Layout:
        """Return the layout that a command means: `explicit`, else $PENSTOCK_DIR, else the nearest upwards.

        Raises LayoutError when there is none; the message says where was looked and what to do.
        """
        named = explicit or environment.get(DIRECTORY_VARIABLE)
        if named:
            source = "--dir" if explicit else DIRECTORY_VARIABLE
            return cls._existing(Path(named), source)
        start = (cwd or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (folder / STATE).is_dir():
                return cls(folder)
        raise LayoutError(
            f"neither {start} nor a folder above it has a {STATE} folder:"
            f" run `penstock up DIR` first, or name the folder with --dir or {DIRECTORY_VARIABLE}"
        )

    @classmethod
    def _existing(cls, folder: Path, source: str) -> Layout:
        layout = cls(folder)
        if not layout.root.is_dir():
            raise LayoutError(f"{layout.root} (from {source}) is not a folder")
        if not layout.state.is_dir():
            raise LayoutError(
                f"{layout.root} (from {source}) has no {STATE} folder: run `penstock up {folder}` first"
            )
        return layout

    def create(self) -> None:
        """Make the folders, private to this user, and keep them out of the user's repository. LayoutError."""
        if not self.root.is_dir():
            raise LayoutError(f"{self.root} is not a folder")
        try:
            for folder in (self.state, self.xds, self.prometheus, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
            self.state.chmod(0o700)
            (self.state / ".gitignore").write_text("*\n")
        except OSError as error:
            raise LayoutError(f"cannot write in {self.state}: {error.strerror}") from error

    @property
    def state(self) -> Path:
        """The folder of everything below (0700)."""
        return self.root / STATE

    @property
    def store(self) -> Path:
        """Objects with their versions and status (SQLite)."""
        return self.state / "store.db"

    @property
    def history(self) -> Path:
        """Observations and decisions (SQLite)."""
        return self.state / "history.db"

    @property
    def token(self) -> Path:
        """The secret that authorises writes on the API."""
        return self.state / "token"

    @property
    def endpoint(self) -> Path:
        """The address of the running controller's API and its pid (JSON)."""
        return self.state / "endpoint.json"

    @property
    def keeper(self) -> Path:
        """What the keeper last said of itself: pid, start time, processes and their ports (JSON)."""
        return self.state / "keeper.json"

    @property
    def lock(self) -> Path:
        """Held by the one keeper of this folder as long as it lives."""
        return self.state / "keeper.lock"

    @property
    def socket(self) -> Path:
        """The keeper's control socket."""
        return self.state / "keeper.sock"

    @property
    def xds(self) -> Path:
        """Envoy's bootstrap and its dynamic configuration."""
        return self.state / "xds"

    @property
    def prometheus(self) -> Path:
        """Prometheus's configuration and samples."""
        return self.state / "prometheus"

    @property
    def logs(self) -> Path:
        """Logs of the keeper and of what it keeps: `NAME.log`, and `NAME.log.1` before it."""
        return self.state / "logs"


def write_json(path: Path, value: Any) -> None:
    """Replace a file by `value` as JSON, readable by this user only."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
    fresh.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a file; None when the file is not there or does not hold one."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None
