"""Events of the API server (events.k8s.io/v1): equal ones are counted in one object, and nobody is flooded.

The name of an Event follows from what it says and about which object, so that the next process counts on
where the last one ended. Per object, events are written at a bounded rate: what comes too fast is left out,
and the next Event that is written says how many were. An API server that lets an Event wait in vain (an
admission webhook that hangs) is not asked for the next ones for a while: traffic waits for no word twice.

Events are read one list at a time, and a list holds for a moment: however many people watch a dashboard, the
API server, which counts these requests as the controller's, is asked no more often.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

from controller.cluster.answers import Request
from controller.cluster.resources import EVENTS
from controller.ports import ConflictError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from controller.cluster.kube import Kube
    from controller.ports import Object, Ref

CONTROLLER = "penstock.dev/controller"
BURST = 25
REFILL_SECONDS = 10.0
"""An object may have `BURST` Events at once, and one more after each such time."""
OBJECTS = 2048
"""Of how many objects the rate and the counts are remembered."""
COUNTS = 64
"""How many different Events of one object are remembered."""
WITHIN = 3.0
"""Seconds that a request may take: traffic that is to be moved waits for the word of it."""
IN_VAIN = 1.0
"""An Event that failed after so many seconds was waited for in vain."""
REST = 10.0
"""Seconds for which none is written then."""
FRESH = 2.0
"""Seconds for which a list of Events holds, unless one is written here."""
_NOTE = 1000
"""The API server takes 1024 bytes."""


@dataclass(slots=True)
class _Told:
    """What was told about one object lately."""

    tokens: float = BURST
    at: float = 0.0
    left_out: int = 0
    counts: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """How often each Event was told, by its name."""

    def allows(self, now: float) -> bool:
        """Take a token if there is one."""
        passed = max(0.0, now - self.at)  # the clock may be set back
        self.tokens, self.at = min(BURST, self.tokens + passed / REFILL_SECONDS), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def note(self, name: str, count: int) -> None:
        """Remember how often an Event was told."""
        self.counts[name] = count
        self.counts.move_to_end(name)
        while len(self.counts) > COUNTS:
            self.counts.popitem(last=False)


class Events:
    """Writes and reads Events of this controller."""

    def __init__(self, kube: Kube, clock: Callable[[], float] = time.time) -> None:
        self._kube, self._clock = kube, clock
        self._told: OrderedDict[Ref, _Told] = OrderedDict()
        self._instance = f"penstock-{os.environ.get('HOSTNAME') or os.uname().nodename}"[:128]
        self._turns: WeakValueDictionary[Ref, asyncio.Lock] = WeakValueDictionary()
        """Events of one object are written one after another: each counts on what the last one left."""
        self._rests_until, self._problem = 0.0, ""
        self._listing = asyncio.Lock()
        self._lists: dict[tuple[Ref | None, tuple[str | None, ...]], tuple[float, list[Object]]] = {}
        """When each list was read, and what it said, newest first."""

    async def tell(
        self, about: Object, ref: Ref, type_: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Tell of something that happened to an object; UnavailableError when it could not be written."""
        async with self._turns.setdefault(ref, asyncio.Lock()):
            began = _now()
            if began < self._rests_until:
                raise UnavailableError(self._problem)
            try:
                await self._tell(about, ref, type_, reason, message)
            except UnavailableError as error:
                if _now() - began > IN_VAIN:
                    self._rests_until, self._problem = _now() + REST, str(error)
                raise
            finally:
                self._lists.clear()

    async def _tell(self, about: Object, ref: Ref, type_: str, reason: str, message: str) -> None:
        told = self._about(ref)
        if not told.allows(self._clock()):
            told.left_out += 1
            return
        regarding = _regarding(about, ref)
        name = _name(regarding, type_, reason, message)
        if name in told.counts and await self._count(ref, told, name):
            return
        note = message if not told.left_out else f"{message} ({told.left_out} events were left out before)"
        body = self._event(name, regarding, {"type": type_, "reason": reason, "note": _cut(note)})
        try:
            await self._kube.call(Request("create", EVENTS, ref.namespace), body, within=WITHIN)
        except ConflictError:  # told by the process before this one
            request = Request("get", EVENTS, ref.namespace, name)
            live = await self._kube.call(request, within=WITHIN)
            told.note(name, _count(live))
            await self._count(ref, told, name)
        else:
            told.note(name, 1)
            told.left_out = 0

    def _about(self, ref: Ref) -> _Told:
        """Return what was told about an object; those of which nothing was told for long are forgotten."""
        told = self._told.setdefault(ref, _Told(at=self._clock()))
        self._told.move_to_end(ref)
        if len(self._told) > OBJECTS:
            self._told.popitem(last=False)
        return told

    async def _count(self, ref: Ref, told: _Told, name: str) -> bool:
        """Count an Event that is there once more; False when it has expired."""
        count = told.counts[name] + 1
        series = {"count": count, "lastObservedTime": _micro(self._clock())}
        request = Request("patch", EVENTS, ref.namespace, name)
        try:
            await self._kube.call(request, {"series": series}, within=WITHIN)
        except NotFoundError:
            return False
        told.note(name, count)
        return True

    def _event(self, name: str, regarding: Mapping[str, Any], words: Mapping[str, str]) -> Object:
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": regarding["namespace"]},
            "eventTime": _micro(self._clock()),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": words["reason"],
            "regarding": dict(regarding),
            **words,
        }

    async def list(self, ref: Ref | None, namespaces: Sequence[str | None], limit: int) -> list[Object]:
        """Return Events of this controller, newest first: {type, reason, message, count, firstSeen, ...}."""
        async with self._listing:
            now = _now()
            self._lists = {each: kept for each, kept in self._lists.items() if now - kept[0] < FRESH}
            key = ref, tuple(namespaces)
            if key not in self._lists:
                self._lists[key] = now, [*await self._read(ref, namespaces)]
            return self._lists[key][1][:limit]

    async def _read(self, ref: Ref | None, namespaces: Sequence[str | None]) -> Sequence[Object]:
        chosen = [f"reportingController={CONTROLLER}"]
        if ref is not None:
            chosen += [f"regarding.kind={ref.kind}", f"regarding.name={ref.name}"]
            namespaces = [ref.namespace]
        found: list[Object] = []
        for namespace in namespaces:
            params = {"fieldSelector": ",".join(chosen)}
            async for items, _ in self._kube.pages(EVENTS, namespace, params):
                found += [shown(item) for item in items]
        return sorted(found, key=lambda event: str(event["lastSeen"]), reverse=True)


def _regarding(about: Object, ref: Ref) -> dict[str, Any]:
    """Return the reference to an object; without a uid when it is not known."""
    metadata = about.get("metadata") or {}
    found = {
        "apiVersion": about.get("apiVersion"), "kind": ref.kind, "namespace": ref.namespace, "name": ref.name,
        "uid": metadata.get("uid"), "resourceVersion": metadata.get("resourceVersion"),
    }  # fmt: skip
    return {key: value for key, value in found.items() if value}


def _name(regarding: Mapping[str, Any], *said: str) -> str:
    text = "\0".join((regarding.get("uid", ""), regarding["kind"], *said))
    return f"{regarding['name'][:200]}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _cut(note: str) -> str:
    encoded = note.encode()
    return note if len(encoded) <= _NOTE else encoded[:_NOTE].decode(errors="ignore") + " ..."


def _now() -> float:
    return asyncio.get_running_loop().time()


def _micro(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _count(event: Object) -> int:
    return int((event.get("series") or {}).get("count") or event.get("deprecatedCount") or 1)


def shown(event: Object) -> Object:
    """Return an Event of the API server as the controller's own store tells events."""
    first = event.get("eventTime") or event["metadata"].get("creationTimestamp")
    regarding = event.get("regarding") or {}
    return {
        "type": event.get("type"),
        "reason": event.get("reason"),
        "message": event.get("note"),
        "count": _count(event),
        "firstSeen": first,
        "lastSeen": (event.get("series") or {}).get("lastObservedTime") or first,
        "object": {key: regarding.get(key) for key in ("kind", "namespace", "name")},
    }
