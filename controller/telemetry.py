"""What the controller tells of itself: Prometheus metrics, every label set of which starts at zero."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
        self.decisions = Counter(
            "penstock_decisions", "Decisions other than to hold", ["policy", "action"], registry=self.registry
        )
        self.weight = Gauge(
            "penstock_weight_percent", "Intended share", ["policy", "variant"], registry=self.registry
        )
        self.verdict = Gauge(
            "penstock_verdict", "1 for the verdict in force", ["policy", "verdict"], registry=self.registry
        )
        self.surges = Gauge(
            "penstock_surges", "Metrics with a surge since promotion", ["policy"], registry=self.registry
        )
        self.step_age = Gauge(
            "penstock_step_age_seconds",
            "Time since the proxies confirmed the weights of the open step; 0 without one",
            ["policy"],
            registry=self.registry,
        )
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
        for variant in self._shown.get(policy, ({}, "", 0, None))[0].keys() - weights.keys():
            self.weight.remove(policy, variant)
        self._shown[policy] = now
        for variant, weight in weights.items():
            self.weight.labels(policy, variant).set(weight)
        for kind in VERDICTS:
            self.verdict.labels(policy, kind).set(kind == verdict)
        self.surges.labels(policy).set(surges)
        self.step_age.labels(policy).set_function(lambda: self._clock() - since if since else 0.0)

    def forget(self, policy: str) -> None:
        """Drop what was told of a rollout that is gone."""
        if policy in self._shown:
            self._hide(policy)
        self.decisions.remove_by_labels({"policy": policy})

    def hide(self) -> None:
        """Drop the gauges of all rollouts: they are another's to tell of."""
        for policy in list(self._shown):
            self._hide(policy)

    def _hide(self, policy: str) -> None:
        for variant in self._shown.pop(policy)[0]:
            self.weight.remove(policy, variant)
        for kind in VERDICTS:
            self.verdict.remove(policy, kind)
        self.surges.remove(policy)
        self.step_age.remove(policy)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
