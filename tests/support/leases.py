"""A Lease in memory behind a bad network, and a candidate's own clock, for tests in virtual time."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from controller.ports import ConflictError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 10_000.0


class LeaseServer:
    """The API server: one Lease, with resourceVersions."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self._version = 0
        self.writes = 0

    @property
    def spec(self) -> dict[str, Any]:
        assert self.stored is not None
        return self.stored["spec"]

    def handle(self, verb: str, lease: dict[str, Any] | None) -> dict[str, Any]:
        if verb == "create":
            if self.stored is not None:
                raise ConflictError("it is there already")
        elif self.stored is None:
            raise NotFoundError("no lease")
        elif verb == "read":
            return copy.deepcopy(self.stored)
        elif lease["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]:
            raise ConflictError("it has changed")
        self._version += 1
        self.writes += 1
        self.stored = copy.deepcopy(lease) | {"metadata": {"resourceVersion": str(self._version)}}
        return copy.deepcopy(self.stored)


@dataclass
class Weather:
    """What the network does to a request: seconds there and back; None: it is lost."""

    there: float | None = 0.0
    back: float | None = 0.0
    fails: bool = False
    """Answer at once that nothing works, without asking."""


@dataclass
class Wire:
    """One candidate's way to the server; a request that is on its way arrives even if nobody waits for it."""

    server: LeaseServer
    weather: Callable[[], Weather] = Weather
    sent: list[str] = field(default_factory=list)
    where: str = "ops/penstock"

    async def read(self) -> dict[str, Any]:
        return await self._send("read", None)

    async def create(self, lease: dict[str, Any]) -> dict[str, Any]:
        return await self._send("create", lease)

    async def replace(self, lease: dict[str, Any]) -> dict[str, Any]:
        return await self._send("replace", lease)

    async def _send(self, verb: str, lease: dict[str, Any] | None) -> dict[str, Any]:
        self.sent.append(verb)
        weather = self.weather()
        if weather.fails:
            raise UnavailableError("connection refused")
        loop = asyncio.get_running_loop()
        answer = loop.create_future()

        def arrive() -> None:
            try:
                result = self.server.handle(verb, lease)
                outcome = lambda: answer.done() or answer.set_result(result)  # noqa: E731
            except (ConflictError, NotFoundError) as error:
                failure = error
                outcome = lambda: answer.done() or answer.set_exception(failure)  # noqa: E731
            if weather.back is not None:
                loop.call_later(weather.back, outcome)

        if weather.there is not None:
            loop.call_later(weather.there, arrive)
        return await answer


@dataclass
class OwnClock:
    """A machine's clocks: wrong by any offset, and a little fast or slow."""

    offset: float = 0.0
    rate: float = 1.0
    wall_offset: float = 1_700_000_000.0

    def now(self) -> float:
        return self.offset + self.rate * asyncio.get_running_loop().time()

    def wall(self) -> float:
        return self.wall_offset + asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.rate)
