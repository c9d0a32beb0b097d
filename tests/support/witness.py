"""A witness of the routes and policies of a namespace: it sees every version that is ever stored.

It goes by raw watches of its own, past the controller, and holds what was told against what was done: every
split is whole and sums to 100, Penstock writes only weights that a status wanted before, and no run goes back
a step or skips one, whatever fails meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from controller.status import from_rfc3339
from tests.support.tls import tls_session
from tests.support.watched import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.running import Cluster
    from controller.ports import Object

ROUTES, POLICIES = "VirtualService", "RolloutPolicy"
PATHS = {
    POLICIES: "apis/penstock.dev/v1alpha1/namespaces/{}/rolloutpolicies",
    ROUTES: "apis/networking.istio.io/v1/namespaces/{}/virtualservices",
}
PENSTOCK = frozenset({"penstock"})
"""Who owns a route whose weights Penstock wrote last."""
AGAIN_S = 0.1
"""Seconds after which an API server that does not answer is asked again."""


@dataclass(frozen=True)
class Seen:
    """A version of a VirtualService as it was stored."""

    at: float
    """When it was stored, unix seconds; it may have been so a moment earlier."""
    version: int
    weights: tuple[int, ...]
    owners: frozenset[str]
    """The field managers of `spec.http`."""


@dataclass(frozen=True)
class Told:
    """A version of a policy whose status has a run."""

    version: int
    uid: str
    number: int
    step: int
    applied: bool
    over: bool
    weights: tuple[int, ...]
    """What is wanted, in the order of a route."""


@dataclass
class Witness:
    """Watches while it is entered; an API server that ends or hangs is asked again."""

    cluster: Cluster
    namespace: str
    routes: defaultdict[str, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    """Each VirtualService's versions, oldest first."""
    told: defaultdict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    """What each policy's status said of its runs, oldest first."""
    statuses: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How many versions of each policy there were."""
    _since: dict[str, str] = field(default_factory=dict)
    _lost: dict[str, int] = field(default_factory=dict)
    """Up to which version a watch had told when it was cut off for good."""
    _gaps: list[range] = field(default_factory=list)
    """Versions of policies that may never have been told."""
    _last: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        self._session = await self._stack.enter_async_context(
            tls_session(
                self.cluster.ca,
                headers={"Authorization": f"Bearer {self.cluster.token}"},
                timeout=aiohttp.ClientTimeout(total=None),
                read_bufsize=2**22,
            )
        )
        self._watches = [asyncio.create_task(self._watch(kind)) for kind in PATHS]
        await self.up_to_date()
        return self

    async def __aexit__(self, *_: object) -> None:
        for watch in self._watches:
            watch.cancel()
        ended = await asyncio.gather(*self._watches, return_exceptions=True)
        await self._stack.aclose()
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended

    # --- what was seen

    async def up_to_date(self) -> None:
        """Wait until the watches have told everything that is there now."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        for kind in PATHS:
            for obj in (await self._listed(kind) or {"items": ()})["items"]:
                name, version = obj["metadata"]["name"], int(obj["metadata"]["resourceVersion"])
                while self._last[kind, name] < version:
                    assert loop.time() < end, f"the watch of {kind} has not told of {name}"
                    await asyncio.sleep(AGAIN_S)

    def wanted(self, name: str) -> set[tuple[int, ...]]:
        """Return all weights that the status of a policy has wanted."""
        return {each.weights for each in self.told[name]}

    def written(self, name: str, git: Sequence[int], since: float = 0.0) -> list[Seen]:
        """Return the versions of a route that are not as Git has it: Penstock wrote them."""
        return [each for each in self.routes[name] if each.weights != tuple(git) and each.at >= since]

    def wrong(self, name: str, git: Sequence[int]) -> list[tuple[float, float]]:
        """Return from when until when the weights were Git's."""
        seen = self.routes[name]
        ends = [*(each.at for each in seen[1:]), time.time()]
        return [(each.at, end) for each, end in zip(seen, ends, strict=True) if each.weights == tuple(git)]

    # --- what must hold

    async def assert_right(self) -> None:
        """Assert of all that was stored until now that splits were valid, wanted, and taken step by step."""
        await self.up_to_date()
        for name, versions in self.routes.items():
            for each in versions:
                assert all(type(weight) is int and weight >= 0 for weight in each.weights), each
                assert sum(each.weights) == 100, each
            for before, now in pairwise(versions):
                is_ours = now.weights != before.weights and now.owners == PENSTOCK
                if is_ours and not self._may_lack(now.version, now.version):
                    assert now.weights == self._wanted_at(name, now.version), f"{name}: {now} was not wanted"
        in_force = any(each.applied for statuses in self.told.values() for each in statuses)
        ours = any(each.owners == PENSTOCK for versions in self.routes.values() for each in versions)
        assert ours or not in_force or self._gaps, (
            "weights came into force, but no write is known to be Penstock's"
        )
        for name, statuses in self.told.items():
            for earlier, later in pairwise(statuses):
                followed = follows(earlier, later) or self._may_lack(earlier.version, later.version)
                assert followed, f"{name}: {earlier} was followed by {later}"

    def _wanted_at(self, name: str, version: int) -> tuple[int, ...] | None:
        """Return what the last status before a version wanted."""
        return next((each.weights for each in reversed(self.told[name]) if each.version < version), None)

    def _may_lack(self, first: int, last: int) -> bool:
        """Tell whether a policy may have had a version in this range that was never told."""
        cut_off = self._lost.get(POLICIES, last)
        return cut_off < last or any(gap.start <= last and first < gap.stop for gap in self._gaps)

    # --- watching

    async def _watch(self, kind: str) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                if kind not in self._since and (listed := await self._listed(kind)):
                    for obj in listed["items"]:
                        self._take(kind, obj)
                    self._since[kind] = listed["metadata"]["resourceVersion"]
                    if kind == POLICIES and kind in self._lost:
                        self._gaps.append(range(self._lost.pop(kind) + 1, int(self._since[kind]) + 1))
                if kind in self._since:
                    await self._follow(kind)
            await asyncio.sleep(AGAIN_S)

    async def _follow(self, kind: str) -> None:
        """Take what comes; forget where it was when that is known no more."""
        query = {"watch": "1", "resourceVersion": self._since[kind]}
        async with self._session.get(self._url(kind), params=query) as answer:
            if answer.status >= 400:
                self._lost[kind] = int(self._since.pop(kind))
                return
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    self._lost[kind] = int(self._since.pop(kind))
                    return
                self._take(kind, event["object"])
                self._since[kind] = event["object"]["metadata"]["resourceVersion"]

    async def _listed(self, kind: str) -> dict[str, Any] | None:
        """Return the objects of a kind as soon as the API server tells; None if it does not know the kind."""
        while True:
            async with self._session.get(self._url(kind)) as answer:
                if answer.status == 404:
                    return None
                if answer.status == 200:
                    found: dict[str, Any] = await answer.json()
                    return found
            await asyncio.sleep(AGAIN_S)

    def _url(self, kind: str) -> str:
        return f"{self.cluster.api_url}/{PATHS[kind].format(self.namespace)}"

    def _take(self, kind: str, obj: Object) -> None:
        name, version = obj["metadata"]["name"], int(obj["metadata"]["resourceVersion"])
        if version <= self._last[kind, name]:
            return
        self._last[kind, name] = version
        if kind == ROUTES:
            weights = tuple(each.get("weight") for each in obj["spec"]["http"][0]["route"])
            self.routes[name].append(Seen(stored_at(obj), version, weights, owners(obj)))
            return
        self.statuses[name] += 1
        status = obj.get("status") or {}
        if run := status.get("run"):
            wanted = tuple(status["weights"][variant] for variant in ("stable", "candidate"))
            self.told[name].append(
                Told(
                    version, obj["metadata"]["uid"], run["number"], run["step"], run["applied"],
                    "outcome" in run, wanted,
                )
            )  # fmt: skip


def follows(earlier: Told, later: Told) -> bool:
    """Tell whether a status may come after another one: the same step, or the next when that was in force."""
    if later.uid != earlier.uid:
        return True
    if later.number != earlier.number:
        return (later.number, later.step) == (earlier.number + 1, 0)
    if later.over:
        return True
    return later.step == earlier.step or (later.step == earlier.step + 1 and earlier.applied)


def stored_at(obj: Object) -> float:
    """Return when an object that was just told of was stored, however late that is told."""
    entries = obj["metadata"].get("managedFields") or ()
    whole_second = max(
        (from_rfc3339(each["time"]) for each in entries if "time" in each), default=time.time()
    )
    return min(time.time(), whole_second + 1)


def owners(obj: Object) -> frozenset[str]:
    """Return who owns the http routes of a VirtualService."""
    entries = obj["metadata"].get("managedFields") or ()
    return frozenset(
        each["manager"] for each in entries if "f:http" in (each.get("fieldsV1", {}).get("f:spec") or {})
    )
