"""Metrics that are timed and traced on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.tracing import span

if TYPE_CHECKING:
    from controller.ports import Metrics, Reading
    from controller.telemetry import Telemetry


class TimedMetrics:
    """`controller.ports.Metrics` that tells the telemetry how long every query took."""

    def __init__(self, metrics: Metrics, telemetry: Telemetry) -> None:
        self._metrics, self._telemetry = metrics, telemetry

    async def read(self, query: str, *, start: int, end: int, step: int) -> Reading:
        """Evaluate `query` at start, start+step .. end (unix seconds, inclusive). UnavailableError."""
        with self._telemetry.prometheus_seconds.time(), span("prometheus.query_range", query=query):
            return await self._metrics.read(query, start=start, end=end, step=step)
