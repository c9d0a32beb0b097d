"""What is measured, in order: holding, a change of weight, two restarts, and policies whose runs have ended.

A pass of the loop comes right after each interval's end. So what is counted from the middle of an interval to
the middle of a later one is the cost of whole intervals.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.cluster.audit import Requests, without_leases, writes
from bench.cluster.objects import WEIGHTS
from controller.status import from_rfc3339

if TYPE_CHECKING:
    import signal
    from collections.abc import Awaitable, Callable

    from bench.cluster.site import Site

MIDDLE = 0.7
"""The part of an interval after whose end its pass is over."""
HOLDING = "Holding"
"""Why a rollout stays where it is while its step is not over."""
WARM_UP = 2
"""Intervals in which all runs hold before the first that is measured."""
SCRAPES = 20
DOWN = 2
"""Intervals for which the controller is away."""
PATIENCE = 600.0
POLL = 0.02


class TooSlowError(Exception):
    """Something has not happened in a time in which it must."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What some whole intervals have cost."""

    intervals: int
    cpu: float
    """Seconds."""
    told: Requests
    """Requests to the API server as the controller counts them."""
    audited: Requests
    """The same as the API server's audit log has them."""
    queries: Counter[str]
    """To Prometheus."""

    @property
    def cpu_ms(self) -> float:
        """Per interval."""
        return round(1000 * self.cpu / self.intervals, 2)

    def as_dict(self, rollouts: int) -> dict[str, Any]:
        """Return the figures, for the results."""
        checks = self.intervals * rollouts
        asked, own = self.audited.total(), without_leases(self.audited)
        return {
            "intervals": self.intervals,
            "cpu_ms_per_check": round(1000 * self.cpu / checks, 4),
            "cpu_ms_per_interval": self.cpu_ms,
            "api_requests_per_check": round(asked / checks, 5),
            "api_requests_by_its_own_count": self.told.total(),
            "api_requests": asked,
            "api_requests_for_the_lease": asked - own,
            "api_writes": sum(writes(self.audited).values()),
            "queries_per_interval": self.queries.total() / self.intervals,
            "templates": len(self.queries),
        }


async def holding(site: Site, intervals: int) -> dict[str, Any]:
    """Start the controller, and measure when all runs hold."""
    await site.controller.start()
    await until(lambda: _at(site, {WEIGHTS[0]}), "all runs to begin")
    began = time.time() - site.controller.started

    async def all_hold() -> bool:
        return await site.reasons() == {HOLDING} and "NoData" not in await site.verdicts()

    await until(all_hold, "all runs to hold and to be measured", site.interval)
    await asyncio.sleep(WARM_UP * site.interval)
    await _quiet(site)
    cost = await _measured(site, intervals)
    return {
        "all_started_after_seconds": round(began, 1),
        **cost.as_dict(len(site.services)),
        "memory_mib": {name: round(mib, 1) for name, mib in site.controller.memory_mib().items()},
    }


async def scrape(site: Site) -> float:
    """Return the ms that the controller takes to tell all its metrics once."""
    await _middle(site)
    cpu = site.controller.cpu_seconds()
    for _ in range(SCRAPES):
        await site.controller.scrape()
    return round(1000 * (site.controller.cpu_seconds() - cpu) / SCRAPES, 2)


async def change(site: Site) -> dict[str, int]:
    """Return the writes that follow when one rollout is promoted to its next step by hand."""
    await _middle(site)
    site.audit.requests(site.account)
    service = site.services[0]
    await site.act(service, "promote")

    async def moved() -> bool:
        return await site.weight(service) == WEIGHTS[1]

    await until(moved, "the next step", POLL)
    await site.stub.move(service)
    await _middle(site)
    await _quiet(site, found := Requests())
    return writes(found)


async def restart(site: Site, service: str, number: signal.Signals) -> dict[str, float]:
    """End the controller, have a candidate do harm, start it: return the seconds until it is rolled back."""
    await site.controller.end(number)
    await site.stub.harm(service)
    await asyncio.sleep(DOWN * site.interval)
    await site.controller.start()

    async def rolled_back() -> bool:
        return await site.weight(service) == 0

    await until(rolled_back, "the rollback of a harmful candidate", POLL)
    now, led = time.time(), from_rfc3339(await site.acquired())
    return {
        "seconds": round(now - site.controller.started, 2),
        "seconds_until_it_led": round(led - site.controller.started, 2),
        "seconds_from_then": round(now - led, 2),
        "cpu_seconds": round(site.controller.cpu_seconds(), 2),
    }


async def idle(site: Site, bare: Site, intervals: int) -> tuple[dict[str, Any], float]:
    """End all runs by hand, and measure what they cost from then on.

    Also return the ms per interval of a controller without policies, over the same intervals.
    """
    await bare.controller.start()
    await site.abort_all()
    await until(lambda: _at(site, {0}), "all runs to end")
    await asyncio.gather(_quiet(site), _quiet(bare))
    ended, without = await asyncio.gather(_measured(site, intervals), _measured(bare, intervals))
    return ended.as_dict(len(site.services)), without.cpu_ms


async def _at(site: Site, weights: set[int]) -> bool:
    return await site.weights() == weights


async def _quiet(site: Site, found: Requests | None = None) -> None:
    """Wait for an interval in which nothing is written; what was asked until then is added to `found`."""

    async def nothing_written() -> bool:
        await _middle(site)
        requests = site.audit.requests(site.account)
        if found is not None:
            found.update(requests)
        return not writes(requests)

    await until(nothing_written, "an interval without a write")


async def _middle(site: Site) -> None:
    """Wait for the next middle of an interval."""
    await asyncio.sleep((MIDDLE * site.interval - time.time()) % site.interval or site.interval)


async def _measured(site: Site, intervals: int) -> Cost:
    await _middle(site)
    site.audit.requests(site.account)
    told, asked = await site.controller.requests(), await site.stub.counts()
    cpu, began = site.controller.cpu_seconds(), time.time()
    await asyncio.sleep(intervals * site.interval)
    cpu = site.controller.cpu_seconds() - cpu
    queries = Counter(await site.stub.counts())
    queries.subtract(asked)
    return Cost(
        round((time.time() - began) / site.interval), cpu, Requests(await site.controller.requests()) - told,
        site.audit.requests(site.account), +queries,
    )  # fmt: skip


async def until(condition: Callable[[], Awaitable[object]], what: str, pause: float = 0.5) -> None:
    """Wait until something holds; TooSlowError."""
    end = time.monotonic() + PATIENCE
    while not await condition():
        if time.monotonic() > end:
            raise TooSlowError(f"{what}: not within {PATIENCE:.0f} s")
        await asyncio.sleep(pause)
