"""Envoy's configuration files: replaced atomically, make-before-break, and confirmed by Envoy itself.

    clusters old + new -> routes and listeners -> clusters without the old

Each arrow waits until Envoy reports the version it reads from the file. When Envoy rejects a file, the last
good one is put back and `RejectedError` carries Envoy's reason; Envoy itself never left the last good state.
Nothing is kept in memory: what is in force stands in the files and in Envoy, so a restarted controller and an
interrupted `apply` go on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from controller.ports import Applied, UnavailableError
from istio.envoy.bootstrap import static
from istio.envoy.registry import subject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.ports import Object
    from istio.envoy.translate import Translation

Json = dict[str, Any]
_TYPE = "type.googleapis.com/envoy.config"
_KINDS = {"cds": f"{_TYPE}.cluster.v3.Cluster", "lds": f"{_TYPE}.listener.v3.Listener"}
_ROUTES = f"{_TYPE}.route.v3.RouteConfiguration"
_REFUSED = r"\.(cds|lds|rds\.[0-9]+)\.update_(rejected|failure)$"
_WARMING = r"^(cluster_manager\.warming_clusters|listener_manager\.total_listeners_warming)$"
_STATE = "applied"
_POLL = 0.02


class RejectedError(Exception):
    """Envoy rejected a configuration; it goes on with the last good one, which is back in the files."""


class XdsFiles:
    """The files of one Envoy in `folder`, and its admin interface on a loopback port.

    `envoy` is the binary that is asked for the reason of a rejection; `timeout` (seconds) bounds each wait.
    """

    def __init__(
        self, folder: Path, admin_port: int, *, envoy: Path | None = None, timeout: float = 10
    ) -> None:
        self._folder = folder
        self._admin = f"http://127.0.0.1:{admin_port}"
        self._envoy = envoy
        self._timeout = timeout
        self._lock = asyncio.Lock()

    def initial(self, translation: Translation) -> None:
        """Write all files before Envoy starts: it refuses to start without them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, content in _files(translation).items():
            self._write(name, content)
        self._remember(translation)

    async def apply(self, translation: Translation) -> None:
        """Bring Envoy to `translation` and wait until it runs it. RejectedError, UnavailableError."""
        async with self._lock:
            last_good = self._current()
            try:
                await self._replace(_files(translation))
            except RejectedError as error:
                reason = await self._reason(translation, str(error))
                await self._replace(last_good)
                raise RejectedError(reason) from error
            self._remember(translation)

    async def _replace(self, wanted: Mapping[str, Json]) -> None:
        """Bring Envoy to these files, so that no request meets a route whose cluster is not there."""
        await self._put("cds", _response("cds", self._with_old_clusters(wanted["cds"]["resources"])))
        for name in sorted(wanted.keys() - {"cds", "lds"}):
            await self._put(name, wanted[name])
        await self._put("lds", wanted["lds"])
        await self._wait({name: _version(wanted[name]) for name in wanted.keys() - {"cds"}})
        await self._put("cds", wanted["cds"])
        for path in self._folder.glob("rds-*.json"):
            if path.stem not in wanted:
                path.unlink()

    async def confirm(self) -> Applied:
        """Tell whether Envoy runs exactly what was applied last. UnavailableError."""
        running = await self._versions()
        behind = [name for name, version in self._state()["files"].items() if running.get(name) != version]
        detail = f"Envoy does not run {', '.join(sorted(behind))} as applied last" if behind else ""
        return Applied(ok=not behind, detail=detail)

    async def applied(self, obj: Object) -> Applied:
        """Tell whether this very version of an object is in force. UnavailableError."""
        known = self._state()["objects"].get(subject(obj))
        version = str(obj.get("metadata", {}).get("resourceVersion", ""))
        if known != version:
            state = f"in force with version {known}, not {version}" if known else "not in force yet"
            return Applied(ok=False, detail=f"{subject(obj)} is {state}")
        return await self.confirm()

    async def _put(self, name: str, content: Json) -> None:
        """Replace one file unless Envoy runs it already, and wait until Envoy does."""
        running = await self._versions()
        if running.get(name) == _version(content) and self._read(name) == content:
            return
        refused = await self._sum("Counters", _REFUSED)
        await asyncio.to_thread(self._write, name, content)
        # Envoy subscribes to the routes of a new port only when its listener arrives
        if name in running:
            await self._wait({name: _version(content)}, refused)

    async def _wait(self, wanted: Mapping[str, str], refused: int | None = None) -> None:
        """Wait until Envoy runs these versions, warmed up; RejectedError when it refuses another file."""
        names = ", ".join(sorted(wanted))
        try:
            async with asyncio.timeout(self._timeout):
                while not await self._runs(wanted):
                    if refused is not None and await self._sum("Counters", _REFUSED) > refused:
                        raise RejectedError(f"Envoy rejected {names}")
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            raise UnavailableError(f"Envoy did not take over {names} in {self._timeout:g} s") from error

    async def _runs(self, wanted: Mapping[str, str]) -> bool:
        running = await self._versions()
        in_force = all(running.get(name) == version for name, version in wanted.items())
        return in_force and not await self._sum("Gauges", _WARMING)

    async def _versions(self) -> dict[str, str]:
        """Return the version in force by file; `http.NAME.rds.8080.version_text` is that of `rds-8080`."""
        texts = await self._get("/stats", type="TextReadouts", format="json")
        versions = {item["name"]: item["value"] for item in texts["stats"]}
        return {
            name.replace(".rds.", ".rds-").split(".")[-2]: version
            for name, version in versions.items()
            if name.endswith(".version_text")
        }

    async def _sum(self, kind: str, names: str) -> int:
        """Return the sum of the counters or gauges whose names match."""
        answer = await self._get("/stats", type=kind, filter=names, format="json")
        return sum(item["value"] for item in answer["stats"] if "name" in item)

    async def _get(self, path: str, **params: str) -> Json:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout)) as session,
                session.get(self._admin + path, params=params) as response,
            ):
                response.raise_for_status()
                answer: Json = json.loads(await response.text())
                return answer
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnavailableError(f"Envoy's admin interface does not answer: {error}") from error

    async def _reason(self, translation: Translation, fallback: str) -> str:
        """Return Envoy's own words: of a failed listener, else what its validation says of the whole."""
        dump = await self._get("/config_dump", resource="dynamic_listeners")
        failed = [item["error_state"]["details"] for item in dump.get("configs", ()) if "error_state" in item]
        if failed:
            return f"{fallback}: {'; '.join(dict.fromkeys(failed))}"
        words = await validate(self._envoy, translation) if self._envoy else None
        return f"{fallback}: {words}" if words else fallback

    def _with_old_clusters(self, clusters: Sequence[Json]) -> list[Json]:
        """Return the new clusters and those still in force, which routes may use until they are replaced."""
        names = {cluster["name"] for cluster in clusters}
        old = (self._read("cds") or {}).get("resources", ())
        return [*clusters, *(item for item in old if item["name"] not in names)]

    def _current(self) -> dict[str, Json]:
        names = ["cds", "lds", *(path.stem for path in self._folder.glob("rds-*.json"))]
        return {name: content for name in names if (content := self._read(name)) is not None}

    def _read(self, name: str) -> Json | None:
        try:
            content: Json = json.loads((self._folder / f"{name}.json").read_text("utf-8"))
        except FileNotFoundError:
            return None
        return content

    def _write(self, name: str, content: Json) -> None:
        """Replace a file as a whole: Envoy and a crash see the old one or the new one."""
        new = self._folder / f".{name}.new"
        with new.open("w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._folder / f"{name}.json")

    def _remember(self, translation: Translation) -> None:
        files = {name: _version(content) for name, content in _files(translation).items()}
        self._write(_STATE, {"objects": translation.versions, "files": files})

    def _state(self) -> Json:
        """Return the object and file versions of the last translation that Envoy was given and took."""
        return self._read(_STATE) or {"objects": {}, "files": {}}


async def validate(envoy: Path, translation: Translation) -> str | None:
    """Ask `envoy --mode validate` what is wrong with a translation; None when nothing is."""
    config = static(translation.clusters, translation.listeners, translation.routes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "envoy.json")
        await asyncio.to_thread(path.write_text, json.dumps(config), "utf-8")
        process = await asyncio.create_subprocess_exec(
            *(str(envoy), "-c", str(path), "--mode", "validate", "-l", "error", "--disable-hot-restart"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, words = await process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return _last_words(words.decode(errors="replace"), str(path)) if process.returncode else None


def _last_words(log: str, path: str) -> str:
    """Return the reason at the end of Envoy's log, without its place in Envoy's source and our file."""
    lines = [line for line in log.splitlines() if line.strip()]
    text = next((line for line in reversed(lines) if "rror initializing configuration" in line), "")
    reason = text.partition(path)[2].lstrip("': ") or (lines[-1] if lines else "no reason given")
    return reason[:500]


def _files(translation: Translation) -> dict[str, Json]:
    """Return the content of every file by its name without suffix."""
    return {
        "cds": _response("cds", translation.clusters),
        "lds": _response("lds", translation.listeners),
        **{f"rds-{name}": _response("rds", [routes]) for name, routes in translation.routes.items()},
    }


def _response(kind: str, resources: Sequence[Json]) -> Json:
    """Return a discovery response whose version is the hash of what it says."""
    typed = [{**resource, "@type": _KINDS.get(kind, _ROUTES)} for resource in resources]
    digest = hashlib.sha256(json.dumps(typed, sort_keys=True).encode()).hexdigest()
    return {"version_info": digest[:16], "resources": typed}


def _version(content: Json) -> str:
    return str(content["version_info"])
