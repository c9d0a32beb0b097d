"""A simulated mesh for the loop: requests follow the live weights, and Prometheus has counted them.

Time is a number that the test moves. Each second every service gets `rps` requests, split by the weights that
the VirtualService has then; outcomes are drawn with a fixed seed, so that a run is repeatable.
"""

from __future__ import annotations

import bisect
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from controller.ports import Applied, Object, Reading, Series, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.standalone.store import LocalStore

EDGES = ("5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "+Inf")
_UPPER = [float(edge) for edge in EDGES[:-1]]


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


class Proxies:
    """Proxies that run whatever was written, unless told to lag."""

    def __init__(self) -> None:
        self.lagging = False

    async def applied(self, _obj: Object) -> Applied:
        return Applied(ok=not self.lagging, detail="lagging" if self.lagging else "")


@dataclass
class Service:
    """How the versions of one service behave, by subset, or by host where a destination has none."""

    name: str
    error_rates: dict[str, float]
    median_ms: dict[str, float] = field(default_factory=lambda: {"v1": 20.0, "v2": 20.0})
    rps: int = 150


class Mesh:
    """Traffic, counted second by second, and the Prometheus that scraped it (`controller.ports.Metrics`)."""

    def __init__(self, store: LocalStore, clock: Clock, *services: Service, seed: int = 7) -> None:
        self._store, self._clock, self._services = store, clock, services
        self._dice = random.Random(seed)
        self._counts: dict[tuple[str, str, str], int] = {}
        self._times: list[int] = []
        self._scrapes: list[dict[tuple[str, str, str], int]] = []
        self.down = ""
        self.silent = False
        self.in_force: Sequence[int] | None = None
        """Weights that the proxies go by, whatever the VirtualService says."""
        self.warnings: tuple[str, ...] = ()
        self.reads: list[str] = []
        self.spans: list[int] = []
        """Of each read, how many instants it asked for."""

    async def run(self, seconds: int) -> None:
        """Let time pass."""
        for _ in range(seconds):
            for service in self._services:
                await self._second(service)
            self._clock.time += 1
            self._times.append(int(self._clock.time))
            self._scrapes.append(self._scrape())

    def remember(self, service: Service, seconds: int, *, cluster: int = 1) -> None:
        """Let time have passed with all requests on v1, scraped every five seconds; errors in clusters."""
        dice, every = np.random.default_rng(11), 5
        times = dice.lognormal(math.log(service.median_ms["v1"]), 0.4, 2000)
        places = np.bincount(np.searchsorted(_UPPER, times), minlength=len(EDGES)) / times.size
        for _ in range(seconds // every):
            total = service.rps * every
            bad = cluster * int(dice.binomial(total // cluster, service.error_rates["v1"]))
            counts = {"500": bad, "200": total - bad}
            slots = dice.multinomial(total, places).tolist()
            counts |= {f"le={edge}": number for edge, number in zip(EDGES, slots, strict=True)}
            for what, number in counts.items():
                key = (service.name, "v1", what)
                self._counts[key] = self._counts.get(key, 0) + number
            self._clock.time += every
            self._times.append(int(self._clock.time))
            self._scrapes.append(self._scrape())

    async def _second(self, service: Service) -> None:
        objects = await self._store.list("VirtualService")
        named = {each["metadata"]["name"]: each for each in objects}
        if service.name not in named:
            return
        route = named[service.name]["spec"]["http"][0]["route"]
        places = [(each["destination"]["host"], each["destination"].get("subset", "")) for each in route]
        weights = self.in_force or [each.get("weight", 0) for each in route]
        for host, subset in self._dice.choices(places, weights, k=0 if self.silent else service.rps):
            version = subset or host
            code = "500" if self._dice.random() < service.error_rates.get(version, 1.0) else "200"
            self._count(host, version, code)
            duration = self._dice.lognormvariate(0, 0.4) * service.median_ms.get(version, 20.0)
            self._count(host, version, f"le={EDGES[bisect.bisect_left(_UPPER, duration)]}")

    def _count(self, *key: str) -> None:
        self._counts[key] = self._counts.get(key, 0) + 1

    def _scrape(self) -> dict[tuple[str, str, str], int]:
        """Return all counters; those of buckets are cumulative."""
        scrape = {key: value for key, value in self._counts.items() if not key[2].startswith("le=")}
        for service, version in {key[:2] for key in scrape}:
            total = 0
            for edge in EDGES:
                total += self._counts.get((service, version, f"le={edge}"), 0)
                scrape[service, version, f"le={edge}"] = total
        return scrape

    def restart(self) -> None:
        """Let the counting process start again at zero."""
        self._counts.clear()

    async def read(self, query: str, *, start: int, end: int, step: int) -> Reading:
        """Answer as Prometheus would for the templates of the catalog."""
        self.reads.append(query)
        self.spans.append(len(range(start, end + 1, step)))
        if self.down:
            raise UnavailableError(self.down)
        points: dict[tuple[tuple[str, str], ...], dict[int, float]] = {}
        for instant in range(start, end + 1, step):
            at = bisect.bisect_right(self._times, instant) - 1
            if at < 0:
                continue
            for key, value in self._scrapes[at].items():
                labels = _labels(query, *key)
                if labels:
                    values = points.setdefault(tuple(labels.items()), {})
                    values[instant] = values.get(instant, 0) + value
        series = tuple(Series(dict(k), tuple(sorted(v.items()))) for k, v in points.items())
        return Reading(series, self.warnings)


def _labels(query: str, service: str, version: str, what: str) -> dict[str, str] | None:
    labels = {
        "destination_service_namespace": "default",
        "destination_service_name": service,
        "destination_version": version,
        "instance": "gateway",
    }
    if "_bucket" in query:
        return {**labels, "le": what[3:]} if what.startswith("le=") else None
    if what.startswith("le="):
        return None
    if "response_code" in query:
        return {**labels, "request_protocol": "http", "response_code": what}
    return labels
