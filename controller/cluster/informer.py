"""A mirror of one kind of objects: list, then watch, for ever.

- A watch resumes from the last resourceVersion it has seen, bookmarks included; what is too old (410) is
  listed again. What was deleted meanwhile is told as deleted.
- The newer version of an object wins, whichever way it came (list, watch, own write): resourceVersions of one
  kind are compared as integers, which Kubernetes guarantees from 1.35 and etcd has always given.
- Failures are retried with a jittered, growing pause, told once in words, and do not empty the mirror.
- A kind that is not installed is empty. One that had objects must be found missing twice: an API server that
  starts may not know its kinds yet.
- An API server that was set back (etcd restored from a backup) is believed: the mirror begins anew.
- A watch that is silent for longer than bookmarks ever take, or outlasts its time, is dead and opened anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.cluster.answers import ForbiddenError, GoneError
from controller.ports import NotFoundError, UnavailableError, WatchEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from controller.cluster.kube import Kube
    from controller.cluster.resources import Resource
    from controller.ports import Object

log = logging.getLogger("penstock")

_RELIST = 4
"""After how many failures in a row everything is listed again."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    watch: tuple[int, int] = (300, 600)
    """How long a watch lasts, at random, so that many do not end together."""
    first_pause: float = 0.5
    longest_pause: float = 3.0
    absent_pause: float = 20.0
    """Between two looks for a kind that is not installed or not allowed."""
    confirm: float = 3.0
    """Until a kind that had objects is missed for the second time."""
    short: float = 1.0
    """A watch that ends sooner counts as failed, so that a server that ends them at once is not overrun."""
    blind: float = 30.0
    """How old a mirror that cannot be brought up to date may be."""
    resync: float = 3600.0
    """After how long everything is listed again, in case that a change was never told."""


class Informer:
    """One kind, in one namespace or in all; `changed` is told of each change, in order."""

    def __init__(
        self, kube: Kube, resource: Resource, namespace: str | None,
        changed: Callable[[WatchEvent], None], timing: Timing | None = None,
    ) -> None:  # fmt: skip
        self.resource, self.namespace = resource, namespace
        self.objects: dict[tuple[str, str], Object] = {}
        """By namespace and name; not to be changed by anybody else."""
        self.synced = False
        """Whether everything was read at least once."""
        self.tried = asyncio.Event()
        """Set once everything was read, or it is known why it cannot be."""
        self.problem = ""
        """What is wrong now, in words."""
        self._logged = ""
        """The problem that was logged last."""
        self._kube, self._changed, self._timing = kube, changed, timing or Timing()
        self._random = random.Random()  # noqa: S311
        self._version = ""
        """Where the next watch begins; empty: everything must be listed."""
        self._highest = 0
        """The newest resourceVersion that the API server has told; it only falls if etcd was set back."""
        self._failures = 0
        self._missed = False
        self._listed = self._heard = _now()

    @property
    def stale_seconds(self) -> float:
        """Seconds since the API server was last heard of this kind."""
        return _now() - self._heard

    def check(self) -> None:
        """Raise UnavailableError when the mirror says nothing about the cluster as it is."""
        if not self.synced:
            raise UnavailableError(f"{self.resource} were not read yet{self._because}")
        if self._missed:
            raise UnavailableError(f"{self.resource} were there, and cannot be found just now")
        if self.problem and self.stale_seconds > self._timing.blind:
            blind = self._timing.blind
            raise UnavailableError(f"{self.resource} were not read for {blind:.0f} s now{self._because}")

    @property
    def _because(self) -> str:
        return f": {self.problem}" if self.problem else ""

    def wrote(self, obj: Object) -> None:
        """Take in the answer to an own write, unless the object is gone or newer by now."""
        if _key(obj) in self.objects:
            self._take(obj)

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            pause = await self._once()
            self.tried.set()
            if pause:
                await asyncio.sleep(pause * self._random.uniform(0.5, 1.0))

    async def _once(self) -> float:
        """List if that is due, and watch once; return how long to wait then."""
        try:
            if not self._version:
                await self._list()
            await self._watch()
        except GoneError:
            self._version = ""
            log.info(
                "%s: the API server no longer knows what changed; everything is read again", self.resource
            )
            return self._grown_pause()
        except NotFoundError:
            return self._not_found()
        except UnavailableError as error:
            forbidden = isinstance(error, ForbiddenError)
            everyday = self.synced and not self.problem  # a watch that breaks and will be opened anew
            self.problem = str(error)
            if forbidden or not everyday:
                self._log_problem()
            return self._timing.absent_pause if forbidden else self._grown_pause()
        except Exception as error:
            log.exception("%s: unforeseen", self.resource)
            self.problem = self._logged = f"unforeseen: {error!r}"
            self._version = ""
            return self._grown_pause()
        return 0.0

    async def _list(self) -> None:
        found: set[tuple[str, str]] = set()
        version = ""
        async for items, version in self._kube.pages(self.resource, self.namespace):
            if int(version) < self._highest:
                log.warning("%s: the API server was set back; everything is read anew", self.resource)
                self._drop(self.objects)
            self._highest = int(version)
            for item in items:
                obj = self.resource.trim(item)
                found.add(_key(obj))
                self._take(obj)
            self._heard = _now()
        self._drop(
            key for key, obj in self.objects.items()
            # an own write may be newer than the list
            if key not in found and _version(obj) <= int(version)
        )  # fmt: skip
        self._version, self._listed = version, _now()
        self.synced, self._missed = True, False
        self._works()

    async def _watch(self) -> None:
        opened, seconds = _now(), self._random.randint(*self._timing.watch)
        async with self._kube.watch(self.resource, self.namespace, self._version, seconds) as events:
            self._heard = _now()
            self._works()
            async for type_, obj in events:
                self._heard = _now()
                self._follow(type_, obj)
        if _now() - opened < self._timing.short:
            raise UnavailableError(f"the API server ends watches of {self.resource} at once")
        self._failures = 0
        if _now() - self._listed > self._timing.resync:
            self._version = ""

    def _follow(self, type_: str, item: Object) -> None:
        version = _version(item)
        if version < self._highest:
            raise GoneError(f"version {version} came after {self._highest}")  # a list will tell why
        if type_ != "BOOKMARK":
            obj = self.resource.trim(item)
            if type_ != "DELETED":
                self._take(obj)
            elif (known := self.objects.get(_key(obj))) and _version(known) <= _version(obj):
                self._drop([_key(obj)], last=obj)
            self._failures = 0
        self._version, self._highest = str(version), version

    def _take(self, obj: Object) -> None:
        """Remember an object unless it is known as new or newer."""
        key = _key(obj)
        known = self.objects.get(key)
        if known is not None and _version(known) >= _version(obj):
            return
        if known is not None and known["metadata"].get("uid") != obj["metadata"].get("uid"):
            self._drop([key])  # deleted and made anew while nobody looked
            known = None
        self.objects[key] = obj
        self._changed(WatchEvent("ADDED" if known is None else "MODIFIED", obj))

    def _drop(self, keys: Iterable[tuple[str, str]], last: Object | None = None) -> None:
        for key in list(keys):
            known = self.objects.pop(key)
            self._changed(WatchEvent("DELETED", last or known))

    def _not_found(self) -> float:
        """Take a kind that is not there for empty; at once only if it was so before."""
        self._version = ""
        if self.objects and not self._missed:
            self._missed = True
            return self._timing.confirm
        self._drop(self.objects)
        self.synced, self._missed, self._heard = True, False, _now()
        self.problem = "this kind is not installed in the cluster (404), so there are none"
        self._log_problem()
        return self._timing.absent_pause

    def _grown_pause(self) -> float:
        self._failures += 1
        if self._failures == _RELIST:
            self._version = ""  # a version that the API server has never had is waited for in vain
        return min(self._timing.longest_pause, self._timing.first_pause * 2.0 ** min(self._failures - 1, 10))

    def _log_problem(self) -> None:
        if self._logged != self.problem:
            log.warning("%s: %s", self.resource, self.problem)
        self._logged = self.problem

    def _works(self) -> None:
        if self._logged:
            log.info("%s: works again", self.resource)
        self.problem = self._logged = ""
        self.tried.set()


def _key(obj: Object) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("namespace") or "default", metadata["name"]


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


def _now() -> float:
    return asyncio.get_running_loop().time()
