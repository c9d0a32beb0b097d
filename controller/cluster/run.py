"""`penstock run`: the composition of a controller on Kubernetes, and its end.

Every replica mirrors the cluster and serves the API; one of them leads, and only it looks, decides and
writes. A term of leadership begins with an empty memory and goes on from status and history, so it does not
matter who led before. SIGTERM ends the term and gives the lease back; the traffic flows on as it is.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from controller import tracing
from controller.api.app import create_app
from controller.backend import ControllerBackend
from controller.clock import SystemClock
from controller.cluster.dataplane import AssumedDataPlane
from controller.cluster.kube import Kube
from controller.cluster.leading import Leadership, lead
from controller.cluster.lease import Lease, own_identity
from controller.cluster.lease_object import KubeLeases
from controller.cluster.resources import WATCHED
from controller.cluster.store import ClusterStore
from controller.evidence import Collector
from controller.fenced import FencedHistory
from controller.history import SqlHistory
from controller.loop import Loop
from controller.memory import look_for_cycles_less_often
from controller.memory_history import MemoryHistory
from controller.news import News
from controller.ports import ConflictError, UnavailableError
from controller.process import Process, attempt, closing
from controller.prometheus import PrometheusMetrics
from controller.record import Recorder
from controller.serving import listen, server
from controller.telemetry import Telemetry
from controller.timed import TimedMetrics
from policies.catalog import templates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from controller.api.hosts import Hosts
    from controller.cluster.kube import Observer
    from controller.prometheus_access import Access

log = logging.getLogger("penstock")

NO_HISTORY = "none"


class StartError(Exception):
    """The controller cannot start; the text says why."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `penstock run` can be told."""

    kubeconfig: Path | None
    context: str | None
    namespaces: tuple[str, ...]
    """To look after; empty: all."""
    prometheus_url: str
    prometheus_access: Access
    history_url: str
    host: str
    port: int
    hosts: Hosts
    """To which names the API answers."""
    token: str
    lease_name: str
    lease_namespace: str | None
    """None: the pod's, or that of the kubeconfig's context."""
    lease_seconds: int
    pod_uid: str
    """Of the pod that this process runs in; empty: of none."""
    propagation: float
    """Seconds until the proxies run new weights."""
    settle: float
    """Seconds from an instant until Prometheus has all samples of it."""


async def run(options: RunOptions, announce: Callable[[str], None]) -> None:
    """Run until SIGINT or SIGTERM; StartError."""
    controller = _Controller(options)
    try:
        with tracing.set_up("penstock"):
            try:
                await controller.start(announce)
                look_for_cycles_less_often()
                await controller.until_signal()
                announce("ending; traffic stays as it is")
            finally:
                await controller.close()
    except (UnavailableError, tracing.TracingError) as error:
        raise StartError(str(error)) from error


class _Controller:
    """Everything that runs in the controller's process."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._process = Process()
        self._telemetry, self._news = Telemetry(), News()
        self._leadership = Leadership()
        self._loop: Loop | None = None
        """The loop of the present term."""

    async def start(self, announce: Callable[[str], None]) -> None:
        """Bring everything up in order: API server, history, Prometheus, API, leadership."""
        options, process = self._options, self._process
        try:
            listener = listen(options.host, options.port)
        except OSError as error:
            raise StartError(f"cannot listen on {options.host}:{options.port}: {error.strerror}") from error
        process.closing(closing(listener.close))
        self._kube = await Kube.open(options.kubeconfig, options.context, _observer(self._telemetry))
        process.closing(self._kube.close)
        self._store = ClusterStore(self._kube, options.namespaces)
        for resource in WATCHED:
            stale = partial(self._store.stale_seconds_of, resource.kind)
            self._telemetry.stale.labels(resource.kind).set_function(stale)
        self._history = await _history(options.history_url)
        process.closing(self._history.close)
        reports = await self._reports()
        self._metrics = PrometheusMetrics(options.prometheus_url, access=options.prometheus_access)
        process.closing(self._metrics.close)
        self._lease = self._fence()
        backend = ControllerBackend(
            store=self._store.unfenced(), events=self._store, history=reports, looks=self,
            telemetry=self._telemetry, news=self._news, checks=self._checks(), findings=list,
            tolerated=("prometheus",),
        )  # fmt: skip
        api = server(create_app(backend, options.token, options.hosts))
        self._store.start()
        process.closing(self._store.close)
        process.run(api.serve(sockets=[listener]), "api")
        process.run(lead(self._lease, self._term, self._leadership), "leadership")
        process.run(self._follow(), "follow")
        where = ", ".join(options.namespaces) or "all namespaces"
        announce(f"Penstock serves {where} of {self._kube.server} at {options.host}:{options.port}")

    async def _reports(self) -> SqlHistory | MemoryHistory:
        """Return the history as readers get it: a database by a connection that no rollback waits for."""
        if isinstance(self._history, MemoryHistory):
            return self._history
        reports = await _history(self._options.history_url)
        self._process.closing(reports.close)
        return reports

    def _fence(self) -> Lease:
        """Return the lease, asked before each write."""
        options = self._options
        where = options.lease_namespace or self._kube.namespace
        leases = KubeLeases(self._kube, where, options.lease_name)
        lease = Lease(leases, identity=own_identity(options.pod_uid), seconds=options.lease_seconds)
        self._kube.before_write, self._kube.write_deadline = lease.check, lease.remaining
        self._telemetry.leader.set_function(lambda: float(lease.leads))
        return lease

    async def _term(self) -> None:
        """Do what only a leader does, from an empty memory, until cancelled."""
        telemetry = self._telemetry
        recorder = Recorder(self._store, telemetry, self._news)
        history = FencedHistory(self._history, self._lease)
        metrics = TimedMetrics(self._metrics, telemetry)
        collector = Collector(metrics, history, templates(), telemetry, settle=self._options.settle)
        self._loop = Loop(
            store=self._store, history=history, dataplane=AssumedDataPlane(self._options.propagation),
            collector=collector, recorder=recorder, clock=SystemClock(),
        )  # fmt: skip
        try:
            await self._store.first_read()
            await self._loop.run()
        finally:
            self._loop = None
            telemetry.hide()

    def verdict(self, key: str) -> Mapping[str, Any] | None:
        """Return a policy's last verdict with all numbers, as far as this process leads."""
        return self._loop.verdict(key) if self._loop else None

    async def record(self) -> None:
        """Record what was looked at so far, as far as this process leads."""
        if self._loop:
            await self._loop.record()

    async def _follow(self) -> None:
        """Tell listeners of this replica what the leader, another one, changes."""
        while True:
            try:
                async for event in self._store.watch(("RolloutPolicy",)):
                    if not self._leadership.leading and event.type != "DELETED":
                        self._news.tell("rollout", event.object)
            except ConflictError:
                continue  # some changes were too fast to be told

    def _checks(self) -> dict[str, Callable[[], Awaitable[str]]]:
        async def objects() -> None:
            self._store.check()

        return {
            "objects": lambda: attempt(objects()),
            "prometheus": lambda: attempt(self._metrics.ready()),
            "parts": self._process.ended,
        }

    async def until_signal(self) -> None:
        """Wait for SIGINT or SIGTERM, or for a part that fails, whose error is raised."""
        await self._process.until_signal()

    async def close(self) -> None:
        """End the term, give the lease back, and close everything."""
        await self._process.close()


async def _history(url: str) -> SqlHistory | MemoryHistory:
    """Open the history; without one, what this process has measured is known to itself alone."""
    return MemoryHistory() if url == NO_HISTORY else await SqlHistory.open(url)


def _observer(telemetry: Telemetry) -> Observer:
    def observe(verb: str, resource: str, code: int, seconds: float) -> None:
        telemetry.kube_requests.labels(verb, resource, str(code)).inc()
        telemetry.kube_seconds.observe(seconds)

    return observe
