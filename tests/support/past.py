"""A past that a Prometheus would still have: cumulative counters per pod, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from controller.ports import Reading, Series

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP = 10
START = 1_700_000_000


@dataclass
class MadeUpPast:
    """`intervals` of 10 s of a service's version v1, by pods; a `controller.ports.Metrics`.

    Errors come in clusters of `cluster`; `gone` are numbers of intervals whose ends were never scraped.
    """

    pods: int = 6
    intervals: int = 200
    rps: float = 200.0
    baseline: float = 0.02
    cluster: int = 1
    gone: range = range(0)
    warnings: tuple[str, ...] = ()
    asked: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        dice, shape = np.random.default_rng(7), (self.intervals + 1, self.pods)
        total = dice.poisson(self.rps * STEP / self.pods, shape)
        bad = self.cluster * dice.binomial(total, self.baseline / self.cluster)
        self.total, self.bad = total, np.minimum(bad, total)
        self.counters = {"503": self.bad.cumsum(axis=0), "200": (total - self.bad).cumsum(axis=0)}

    @property
    def end(self) -> int:
        return START + self.intervals * STEP

    def series(self) -> Iterator[tuple[dict[str, str], list[tuple[int, int]]]]:
        """Every series as labels and points."""
        for code, counted in self.counters.items():
            for pod in range(self.pods):
                labels = {
                    "destination_service_namespace": "ml",
                    "destination_service_name": "ranker",
                    "destination_version": "v1",
                    "instance": f"pod-{pod}",
                    "request_protocol": "http",
                    "response_code": code,
                }
                kept = [i for i in range(self.intervals + 1) if i not in self.gone]
                yield labels, [(START + i * STEP, int(counted[i, pod])) for i in kept]

    async def read(self, query: str, *, start: int, end: int, step: int) -> Reading:
        """Answer as Prometheus would."""
        assert step == STEP
        self.asked.append((start, end))
        series = [
            Series(labels, tuple((at, float(value)) for at, value in points if start <= at <= end))
            for labels, points in self.series()
        ]
        return Reading(tuple(each for each in series if each.points), self.warnings)

    async def close(self) -> None:
        """Nothing is open."""

    def exposition(self) -> str:
        """The same as a file for `promtool tsdb create-blocks-from openmetrics`."""
        lines = ["# TYPE istio_requests counter"]
        for labels, points in self.series():
            named = ",".join(f'{name}="{value}"' for name, value in ({"reporter": "source"} | labels).items())
            lines += [f"istio_requests_total{{{named}}} {value} {at}" for at, value in points]
        return "\n".join([*lines, "# EOF", ""])
