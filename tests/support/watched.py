"""What tests wait for: status, events and weights of a rollout, whichever way Penstock runs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from controller.ports import NotFoundError, Ref
from controller.status import Status
from policies.units import Duration
from tests.support.upstream import Load, Upstream, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from controller.ports import Object
    from controller.status import Run

PATIENCE = 180.0
"""Seconds until a wait is in vain: also a machine that is busy with something else is faster."""
BASE_RATE = 0.05
REQUESTS_PER_SECOND = 80


class Watched:
    """A rollout under test: a control and a candidate, load, and a controller to be watched."""

    policy: Object
    control: Upstream
    candidate: Upstream
    load: Load
    policy_ref: Ref
    route_ref: Ref

    async def live(self, ref: Ref) -> Object:
        """Return an object as it is live, read past the controller; NotFoundError."""
        raise NotImplementedError

    async def events(self) -> list[dict[str, Any]]:
        """Return what happened: {reason, message, type, count}."""
        raise NotImplementedError

    async def act(self, *verb: str) -> None:
        """Ask for a manual action as a user does."""
        raise NotImplementedError

    def said(self) -> str:
        """Return what the controller said on its terminal."""
        raise NotImplementedError

    async def status(self) -> Status:
        """Return the rollout's status."""
        return Status.of(await self.live(self.policy_ref))

    async def run(self) -> Run:
        """Return the present or last run."""
        run = (await self.status()).run
        assert run is not None
        return run

    async def weights(self) -> list[int]:
        """Return the live weights of v1 and v2; they are whole and sum to 100, whatever else is so."""
        route = (await self.live(self.route_ref))["spec"]["http"][0]["route"]
        weights = [destination["weight"] for destination in route]
        assert all(type(weight) is int for weight in weights)
        assert sum(weights) == 100
        return weights

    # --- waiting

    async def eventually(self, condition: Callable[[], Awaitable[Any]], *what: object) -> Any:
        """Wait until a condition holds and return what it gave; `what` is said when it does not come."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while not (found := await condition()):
            words = " ".join(map(str, what))
            assert loop.time() < end, f"waited in vain for {words}; penstock said:\n{self.said()[-4000:]}"
            await asyncio.sleep(0.1)
        return found

    async def until(self, condition: Callable[[Status], object], what: str) -> Status:
        """Wait until the rollout's status fulfils a condition, and return it."""

        async def fulfilled() -> Status | None:
            with contextlib.suppress(NotFoundError):  # it is not applied yet
                status = await self.status()
                return status if condition(status) else None
            return None

        found: Status = await self.eventually(fulfilled, what)
        return found

    async def until_event(self, reason: str, *parts: str) -> dict[str, Any]:
        """Wait for an event with this reason whose message has all these parts, and return it."""

        async def found() -> dict[str, Any] | None:
            return next(
                (e for e in await self.events()
                 if e["reason"] == reason and all(part in e["message"] for part in parts)),
                None,
            )  # fmt: skip

        event: dict[str, Any] = await self.eventually(found, f"an event {reason} with {parts}")
        return event

    async def flowing(self) -> None:
        """Wait until the versions have answered some more requests."""
        goal = self.load.total + REQUESTS_PER_SECOND

        async def served() -> bool:
            return self.load.total >= goal

        await self.eventually(served, "answers to requests")

    async def intervals(self, count: float) -> None:
        """Let some intervals of the policy pass."""
        step = Duration.parse(self.policy["spec"]["decision"]["interval"])
        await asyncio.sleep(count * step.seconds)

    # --- runs

    async def under_way(self) -> Run:
        """Wait until a run is open and its weights are confirmed."""
        status = await self.until(lambda s: s.run and s.run.active and s.run.applied, "a run under way")
        assert status.run is not None
        return status.run

    async def fresh_run(self) -> Run:
        """Put everything right, end the present run and start another one."""
        self.control.error_rate = self.candidate.error_rate = BASE_RATE
        run = (await self.status()).run
        if run is not None and run.active:
            await self.abort()
        await self.act("retry")
        number = 0 if run is None else run.number
        await self.until(lambda s: s.run and s.run.number > number, "another run")
        return await self.under_way()

    async def abort(self) -> None:
        """Abort, and wait until all traffic is on the control."""
        await self.act("abort")
        status = await self.until(lambda s: s.run and s.run.outcome and s.run.applied, "the abort")
        assert status.run is not None
        assert (status.run.outcome, status.run.reason) == ("RolledBack", "Aborted")
        assert await self.weights() == [100, 0]

    async def decided(self) -> tuple[str | None, str]:
        """Wait until the run is over and its weights are in force; return outcome and reason."""
        status = await self.until(lambda s: s.run and s.run.outcome and s.run.applied, "a decision")
        assert status.run is not None
        return status.run.outcome, status.run.reason


class Staged(Watched):
    """A rollout with upstreams, load and controllers of its own; an async context manager.

    `start=False` leaves controllers and load to the test, `load=False` sends nothing.
    """

    def __init__(self, url: str, host: str, *, start: bool, load: bool, api: str | None = None) -> None:
        self.control, self.candidate = Upstream("v1", BASE_RATE), Upstream("v2", BASE_RATE)
        self.load = Load(url, host, REQUESTS_PER_SECOND)
        self._start, self._load, self._api = start, load, api
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            for upstream in (self.control, self.candidate):
                await self._stack.enter_async_context(serving(upstream))
            self.session = await self._stack.enter_async_context(aiohttp.ClientSession(self._api))
            await self._prepare()
            if self._start:
                await self.up()
            if self._start and self._load:
                await self.routed()
                await self._stack.enter_async_context(self.load)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _prepare(self) -> None:
        """Write what there is before the controllers start; the upstreams have their ports."""
        raise NotImplementedError

    async def up(self) -> None:
        """Start the controllers and wait until they serve."""
        raise NotImplementedError

    async def routed(self) -> None:
        """Wait until requests reach a version, so that from now on one that is lost is a fault."""

    async def _end(self) -> None:
        """End the controllers and all that is on the stack."""
        raise NotImplementedError
