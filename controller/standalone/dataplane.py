"""The standalone data plane: whatever the objects say now, Envoy runs, or the reason why not is known.

It plays istiod's part: it follows the objects, translates them all, and gives Envoy the result. Objects that
cannot be translated leave the last good state in force; so does a configuration that Envoy rejects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from controller.ports import Applied, ConflictError, UnavailableError
from controller.standalone.xds import RejectedError
from istio.envoy.translate import Options, Translation, translate
from policies.findings import errors

if TYPE_CHECKING:
    from controller.ports import Object, Store
    from controller.standalone.xds import XdsFiles

log = logging.getLogger("penstock.dataplane")

KINDS = ("VirtualService", "DestinationRule", "ServiceEntry")
RETRY_SECONDS = 1.0
REJECTED_RETRY_SECONDS = 10.0
"""A configuration that Envoy rejected may pass later, for instance when a port is free again."""


class UntranslatableError(Exception):
    """The stored objects cannot be translated as a whole; the text lists why."""


class EnvoyDataPlane:
    """`controller.ports.DataPlane` on one Envoy."""

    def __init__(self, store: Store, files: XdsFiles, options: Options) -> None:
        self._store, self._files, self._options = store, files, options
        self.problem = ""
        """Why Envoy does not run what the objects say; empty when it does."""

    async def translation(self) -> Translation:
        """Translate all stored objects. UntranslatableError, UnavailableError."""
        objects = [obj for kind in KINDS for obj in await self._store.list(kind)]
        made = translate(objects, self._options)
        refused = errors(made.findings)
        if refused:
            raise UntranslatableError("; ".join(str(finding) for finding in refused))
        return made

    async def run(self) -> None:
        """Follow the objects until cancelled; changes that come together are applied together."""
        changed = asyncio.Event()
        changed.set()
        watcher = asyncio.create_task(self._watch(changed))
        try:
            while True:
                await changed.wait()
                changed.clear()
                pause = await self.apply()
                if pause is not None:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), pause)
                    changed.set()
        finally:
            watcher.cancel()

    async def _watch(self, changed: asyncio.Event) -> None:
        while True:
            try:
                since = await self._store.version()
                changed.set()  # what comes after `since` is watched, the rest is listed
                async for _ in self._store.watch(KINDS, since):
                    changed.set()
            except ConflictError:
                log.info("too many changes at once: all objects are read again")
            except UnavailableError as error:
                self._tell(str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def apply(self) -> float | None:
        """Bring Envoy to the present objects; return after how many seconds to try again, if at all."""
        try:
            await self._files.apply(await self.translation())
        except UnavailableError as error:
            self._tell(str(error))
            return RETRY_SECONDS
        except RejectedError as error:
            self._tell(str(error))
            return REJECTED_RETRY_SECONDS
        except UntranslatableError as error:
            # trying again cannot help before an object changes
            self._tell(str(error))
            return None
        except Exception as error:  # Envoy keeps what it has, and the rest of the controller goes on
            log.exception("the objects cannot be brought to Envoy")
            self._tell(f"the objects cannot be brought to Envoy: {error!r}")
            return REJECTED_RETRY_SECONDS
        self._tell("")
        return None

    def _tell(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.warning("%s; the last good configuration stays in force", problem)
        self.problem = problem

    async def applied(self, virtual_service: Object) -> Applied:
        """Tell whether this very version of a VirtualService is in force."""
        try:
            applied = await self._files.applied(virtual_service)
        except UnavailableError as error:
            return Applied(ok=False, detail=str(error))
        return applied if applied.ok or not self.problem else Applied(ok=False, detail=self.problem)
