"""The controller as the API sees it: objects with the newest verdict, the history, and manual actions."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from controller.actions import request, untimely
from controller.ports import ConflictError, Ref
from controller.scene import MANAGER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence

    from controller.api.backend import Verb
    from controller.news import News
    from controller.ports import History, Object, Store
    from controller.telemetry import Telemetry


ATTEMPTS = 5
"""How often an action is tried on an object that keeps changing."""
EVENTS = 500
"""The most events that are told at once."""
EVERY_EVENT = 1_000_000
"""So many are asked for before those that nobody wants are left out."""
CHECK_SECONDS = 2.0
"""How long a part may take to say how it is: the kubelet ends a process whose health is not told in time."""


class EventStore(Protocol):
    """A store that can also be asked for its events."""

    async def events(self, ref: Ref | None = None, limit: int = 100) -> Sequence[Object]:
        """Return events, newest first."""


class Looks(Protocol):
    """What the loop of this process knows."""

    def verdict(self, key: str) -> Mapping[str, Any] | None:
        """Return a policy's last verdict with all numbers."""

    async def record(self) -> None:
        """Record what was looked at so far."""


class ControllerBackend:
    """`controller.api.backend.Backend` over the ports and the loop."""

    def __init__(
        self, *, store: Store, events: EventStore, history: History, looks: Looks, telemetry: Telemetry,
        news: News, checks: Mapping[str, Callable[[], Awaitable[str]]],
        findings: Callable[[], list[dict[str, Any]]], tolerated: Collection[str] = (),
    ) -> None:  # fmt: skip
        """Put the parts together.

        `checks` are parts of the system by name, each "ok" or what is wrong; without the `tolerated` ones
        there is still something to serve.
        """
        self._store, self._events, self._history, self._looks = store, events, history, looks
        self._telemetry, self._news, self._checks, self._findings = telemetry, news, checks, findings
        self._tolerated = tolerated

    async def rollouts(self) -> list[Object]:
        """Return all policies with status and the newest verdict."""
        return [self._with_verdict(obj) for obj in await self._store.list("RolloutPolicy")]

    async def rollout(self, namespace: str, name: str) -> Object:
        """Return one policy; NotFoundError."""
        return self._with_verdict(await self._store.get(Ref("RolloutPolicy", namespace, name)))

    def _with_verdict(self, obj: Object) -> Object:
        """Add the verdict of the last look, which is not stored since it changes at every look."""
        meta = obj["metadata"]
        verdict = self._looks.verdict(f"{meta.get('namespace', 'default')}/{meta['name']}")
        return {
            **obj,
            "status": {**(obj.get("status") or {}), **({"lastVerdict": dict(verdict)} if verdict else {})},
        }

    async def runs(self, policy: str | None = None, limit: int = 100) -> list[Mapping[str, Any]]:
        """Return runs, newest first."""
        await self._looks.record()
        return await self._history.runs(policy, limit)

    async def run(self, run_id: str) -> Mapping[str, Any] | None:
        """Return one run, or None."""
        await self._looks.record()
        return await self._history.run(run_id)

    async def act(self, namespace: str, name: str, verb: Verb, actor: str) -> str:
        """Leave an action for the loop and return its nonce; ValueError when it makes no sense now."""
        ref = Ref("RolloutPolicy", namespace, name)
        for _ in range(ATTEMPTS - 1):
            with suppress(ConflictError):  # the loop wrote its status meanwhile
                return await self._ask(ref, verb, actor)
        return await self._ask(ref, verb, actor)

    async def _ask(self, ref: Ref, verb: Verb, actor: str) -> str:
        obj = await self._store.get(ref)
        if why := untimely(verb, obj):
            raise ValueError(f"cannot {verb} {ref.name}: {why}")
        nonce, operations = request(obj, verb, actor)
        await self._store.patch(ref, operations, manager=f"{MANAGER}-api")
        return nonce

    async def events(self, namespace: str | None = None, name: str | None = None) -> list[Object]:
        """Return the newest events of one rollout, of a namespace, of a name in all namespaces, or of all."""
        if namespace and name:
            return list(await self._events.events(Ref("RolloutPolicy", namespace, name), limit=EVENTS))
        wanted = {"namespace": namespace, "name": name}
        found = await self._events.events(limit=EVERY_EVENT if namespace or name else EVENTS)
        chosen = [
            each
            for each in found
            if all(value in {None, each["object"][key]} for key, value in wanted.items())
        ]
        return chosen[:EVENTS]

    async def changes(self) -> AsyncIterator[dict[str, Any]]:
        """Yield changes from now on; a rollout comes with its newest verdict."""
        async for item in self._news.listen():
            if item["type"] == "rollout":
                item = {**item, "object": self._with_verdict(item["object"])}  # noqa: PLW2901
            yield item

    async def findings(self) -> list[dict[str, Any]]:
        """Return what is wrong with manifests that were refused."""
        return self._findings()

    async def health(self) -> dict[str, Any]:
        """Return each part and whether the whole is ready."""
        words = await asyncio.gather(*map(_in_time, self._checks.values()))
        parts = dict(zip(self._checks, words, strict=True))
        ready = all(word == "ok" for name, word in parts.items() if name not in self._tolerated)
        return {**parts, "ready": ready}

    def metrics(self) -> bytes:
        """Return the controller's own metrics."""
        return self._telemetry.exposition()


async def _in_time(check: Callable[[], Awaitable[str]]) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
