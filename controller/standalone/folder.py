"""The folder of manifests, kept in step with the store: edits are picked up live, bad ones are refused.

Guarantees: a sync is one write, all of it or nothing; what is refused leaves the last good state in force,
and findings say why; an unchanged file changes nothing, so live weights stay; a file is read when it has been
still for one poll, so half-written ones are not. A folder that cannot be listed is not an empty one.

Read are *.yaml, *.yml and *.json at any depth, except hidden files and what lies in hidden folders.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from controller.ports import UnavailableError
from controller.standalone.manifests import choose, objects_in
from controller.standalone.merge import merge
from policies.documents import MAX_BYTES
from policies.findings import Finding, Source, errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.ports import Ref
    from controller.standalone.database import Change
    from controller.standalone.manifests import Validate
    from controller.standalone.store import LocalStore

MANAGER = "folder"
POLL_SECONDS = 0.5
SUFFIXES = frozenset({".yaml", ".yml", ".json"})

_log = logging.getLogger(__name__)


class _Stamp(NamedTuple):
    """What changes when a file is written."""

    modified_ns: int
    size: int
    inode: int


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync wrote, and what it refused."""

    applied: tuple[Ref, ...] = ()
    deleted: tuple[Ref, ...] = ()
    refused: tuple[Finding, ...] = ()


class Folder:
    """Syncs the manifests below `path` to `store`; `validate` judges what parses (PS1xx and up)."""

    def __init__(
        self, path: Path, store: LocalStore, validate: Validate, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self.path = path
        self.findings: list[Finding] = []
        """What was wrong, warnings too, with the files as they were at the last sync."""
        self._store = store
        self._validate = validate
        self._poll_seconds = poll_seconds
        self._seen: dict[str, _Stamp] = {}
        """Files at the last look."""
        self._read: dict[str, _Stamp] = {}
        """Files as they were when they were read."""
        self._texts: dict[str, str] = {}
        self._unreadable: dict[str, Finding] = {}

    async def sync(self) -> SyncResult:
        """Read what is there now, whether still or not, and apply it. UnavailableError."""
        await self._look()
        await self._look()
        return await self._apply()

    async def run(self) -> NoReturn:
        """Apply every change until cancelled; whatever goes wrong is told once and tried again."""
        due, trouble = False, ""
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                due = await self._look() or due
                if due:
                    await self._apply()
                due, trouble = False, ""
            except Exception as error:  # no file may end the controller
                words = str(error) if isinstance(error, UnavailableError) else repr(error)
                if words != trouble:
                    unforeseen = not isinstance(error, UnavailableError)
                    _log.warning("manifests are not synced: %s", words, exc_info=unforeseen)
                trouble = words

    async def _look(self) -> bool:
        try:
            return await asyncio.to_thread(self._read_still_files)
        except OSError as error:
            raise UnavailableError(f"the folder {self.path} cannot be listed: {error.strerror}") from error

    def _read_still_files(self) -> bool:
        """Read the files that are as they were at the last look; tell whether anything is new."""
        before, self._seen = self._seen, dict(_scan(self.path))
        still = {
            path for path in before.keys() | self._seen.keys() if before.get(path) == self._seen.get(path)
        }
        gone = {path for path in self._read if path not in before and path not in self._seen}
        changed = {path for path in still if self._read.get(path) != self._seen[path]}
        for path in gone:
            self._forget(path)
        for path in changed:
            self._read_file(path)
        return bool(gone or changed)

    def _forget(self, path: str) -> None:
        self._read.pop(path, None)
        self._texts.pop(path, None)
        self._unreadable.pop(path, None)

    def _read_file(self, path: str) -> None:
        self._forget(path)
        self._read[path] = self._seen[path]
        try:
            with (self.path / path).open("rb") as file:
                data = file.read(MAX_BYTES + 1)  # the parser says so when it is too much
        except OSError as error:
            finding = Finding("PS001", "error", f"cannot be read: {error.strerror}")
            self._unreadable[path] = finding.at(Source(path, 1, 1))
        else:
            self._texts[path] = data.decode(errors="surrogateescape")  # likewise for what is not UTF-8

    async def _apply(self) -> SyncResult:
        good = await self._store.files()
        now = self._texts | {path: good[path] for path in self._unreadable if path in good}
        choice = await asyncio.to_thread(choose, now, good, self._validate)
        changed: set[Ref] = set()
        wanted = objects_in(choice.files)
        if choice.files != good:
            last = objects_in(good)
            changes: dict[Ref, Change] = {
                ref: partial(merge, last.get(ref), obj) for ref, obj in wanted.items()
            }
            changes |= {ref: lambda _: None for ref in last.keys() - wanted.keys()}
            changed = await self._store.change(changes, manager=MANAGER, applied=choice.files)
        self._report([*self._unreadable.values(), *choice.findings])
        return SyncResult(
            applied=tuple(sorted(changed & wanted.keys())),
            deleted=tuple(sorted(changed - wanted.keys())),
            refused=tuple(errors(self.findings)),
        )

    def _report(self, findings: list[Finding]) -> None:
        for finding in findings:
            if finding not in self.findings:
                _log.warning("%s", finding)
        if errors(self.findings) and not errors(findings):
            _log.info("all manifests are good again")
        self.findings = findings


def _scan(root: Path) -> Iterator[tuple[str, _Stamp]]:
    """Yield the manifests below `root` by their path from there; OSError when a folder cannot be listed."""

    def fail(error: OSError) -> NoReturn:
        raise error

    for folder, folders, names in os.walk(root, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if path.suffix in SUFFIXES and not name.startswith("."):
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    continue  # deleted since it was listed
                if not S_ISREG(stat.st_mode):
                    continue  # a pipe would never end
                yield path.relative_to(root).as_posix(), _Stamp(stat.st_mtime_ns, stat.st_size, stat.st_ino)
