"""What the controller tells of itself: Prometheus metrics, every label set of which starts at zero."""

from __future__ import annotations

import time
from collections import Counter as CountOf
from collections import defaultdict
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from controller.rollout_metric import RolloutMetric

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

VERDICTS = ("Harmful", "Safe", "Undecided", "NoData", "Invalid")
ERRORS = ("store", "history", "prometheus", "conflict", "internal")


class Telemetry:
    """The controller's own metrics, in a registry of their own."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.registry = CollectorRegistry()
        self.looks = Counter("penstock_looks", "Passes of the loop", registry=self.registry)
        self.look_seconds = Histogram("penstock_look_seconds", "Time of a pass", registry=self.registry)
        self.errors = Counter("penstock_errors", "Failures by origin", ["origin"], registry=self.registry)
        self.queries = Counter(
            "penstock_queries", "Grouped queries to Prometheus", ["template"], registry=self.registry
        )
        self.writes = Counter("penstock_writes", "Writes to the store", ["what"], registry=self.registry)
        self.prometheus_seconds = Histogram(
            "penstock_prometheus_seconds", "Time of a query to Prometheus", registry=self.registry
        )
        self.kube_requests = Counter(
            "penstock_kube_requests",
            "Requests to the API server",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.kube_seconds = Histogram(
            "penstock_kube_request_seconds", "Time of a request to the API server", registry=self.registry
        )
        self.stale = Gauge(
            "penstock_informer_stale_seconds",
            "Time since the API server was last heard of about a kind",
            ["kind"],
            registry=self.registry,
        )
        self.leader = Gauge("penstock_leader", "1 while this replica is the leader", registry=self.registry)
        self.rollouts_due = Gauge(
            "penstock_rollouts_due", "Rollouts looked at in the last pass", registry=self.registry
        )
        self.decisions = RolloutMetric(
            "penstock_decisions_total", "Decisions other than to hold", "action", "counter"
        )
        self.weight = RolloutMetric("penstock_weight_percent", "Intended share", "variant")
        self.verdict = RolloutMetric("penstock_verdict", "1 for the verdict in force", "verdict")
        self.surges = RolloutMetric("penstock_surges", "Metrics with a surge since promotion")
        self.step_age = RolloutMetric(
            "penstock_step_age_seconds",
            "Time since the proxies confirmed the weights of the open step; 0 without one",
        )
        self._decided: defaultdict[str, CountOf[str]] = defaultdict(CountOf)
        self._shown: dict[str, tuple[dict[str, int], str, int, float | None]] = {}
        for origin in ERRORS:
            self.errors.labels(origin)
        for what in ("weights", "status"):
            self.writes.labels(what)

    def show(
        self, policy: str, weights: Mapping[str, int], verdict: str, surges: int, since: float | None = None
    ) -> None:
        """Publish the state of one rollout, when it is another one than before.

        `since`: when the proxies confirmed the weights of the open step, unix seconds.
        """
        now = (dict(weights), verdict, surges, since)
        if self._shown.get(policy) == now:
            return
        self._shown[policy] = now
        self.weight.put(policy, weights)
        self.verdict.put(policy, {kind: kind == verdict for kind in VERDICTS})
        self.surges.put(policy, {"": surges})

    def decided(self, policy: str, action: str) -> None:
        """Count a decision other than to hold."""
        self._decided[policy][action] += 1
        self.decisions.put(policy, self._decided[policy])

    def forget(self, policy: str) -> None:
        """Drop what was told of a rollout that is gone."""
        self._hide(policy)
        self._decided.pop(policy, None)
        self.decisions.forget(policy)

    def keep_templates(self, names: Collection[str]) -> None:
        """Drop what was counted of all templates but these."""
        counted = {
            sample.labels["template"] for family in self.queries.collect() for sample in family.samples
        }
        for name in counted.difference(names):
            self.queries.remove(name)

    def hide(self) -> None:
        """Drop the gauges of all rollouts: they are another's to tell of."""
        for policy in list(self._shown):
            self._hide(policy)

    def _hide(self, policy: str) -> None:
        self._shown.pop(policy, None)
        for metric in (self.weight, self.verdict, self.surges, self.step_age):
            metric.forget(policy)

    def of_rollouts(self) -> Sequence[RolloutMetric]:
        """Return the metrics that have lines for each rollout, as they are now."""
        now = self._clock()
        for policy, (*_, since) in self._shown.items():
            self.step_age.put(policy, {"": now - since if since else 0.0})
        return self.decisions, self.weight, self.verdict, self.surges, self.step_age

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        texts = (metric.exposition() for metric in self.of_rollouts())
        return b"".join((generate_latest(self.registry), "".join(texts).encode()))
