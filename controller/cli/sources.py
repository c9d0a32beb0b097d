"""The files that offline commands are given: folders opened, `-` for stdin, text in UTF-8.

What cannot be read ends the command with one line on stderr and exit status 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from controller.cli.options import fail

if TYPE_CHECKING:
    from collections.abc import Iterable

STDIN = Path("-")
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def name(file: Path) -> str:
    """Return what to call a file in messages."""
    return "stdin" if file == STDIN else str(file)


def read(file: Path, line: str = "line") -> str:
    """Return the text of a file; `line` is what its lines are called in the message when it has none."""
    try:
        data = typer.get_binary_stream("stdin").read() if file == STDIN else file.read_bytes()
        return data.decode()
    except UnicodeDecodeError as error:
        number, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        fail(f"{name(file)}: {line} {number}: not a text file in UTF-8, found byte 0x{byte:02x}", 2)
    except (OSError, ValueError) as error:
        fail(f"{name(file)}: {getattr(error, 'strerror', None) or error}", 2)


def manifests(files: Iterable[Path]) -> list[Path]:
    """Return the files, and for a folder those that `penstock up` would read: no hidden ones."""
    found: list[Path] = []
    for file in files:
        inside = _inside(file) if file.is_dir() else [file]
        if not inside:
            fail(f"{file}: there is no .yaml, .yml or .json file in it", 2)
        found += inside
    return list(dict.fromkeys(found))


def _inside(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in _SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
