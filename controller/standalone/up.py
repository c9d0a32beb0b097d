"""`penstock up DIR`: the composition of a standalone Penstock, and its end.

Ctrl-C (SIGINT) ends everything. SIGTERM and SIGKILL end only the controller: Envoy and Prometheus live on
under the keeper, traffic flows on, and the next start adopts them and goes on where this one was.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from controller.api.app import create_app
from controller.api.hosts import Hosts
from controller.backend import ControllerBackend
from controller.clock import SystemClock
from controller.evidence import Collector
from controller.history import SqlHistory
from controller.loop import Loop
from controller.memory import look_for_cycles_less_often
from controller.news import News
from controller.process import Process, attempt, closing
from controller.prometheus import PrometheusMetrics
from controller.record import Recorder
from controller.serving import server
from controller.standalone.alone import end_the_other, only_one
from controller.standalone.control import DataPlaneError
from controller.standalone.dataplane import EnvoyDataPlane, UntranslatableError
from controller.standalone.envoy_server import envoy_binary, envoy_spec
from controller.standalone.folder import Folder
from controller.standalone.layout import Layout, read_json, write_json
from controller.standalone.listening import LOOPBACK, is_free
from controller.standalone.processes import DataPlaneProcesses, PortTakenError
from controller.standalone.prometheus_server import prometheus_spec
from controller.standalone.server import bind
from controller.standalone.store import LocalStore
from controller.standalone.validation import validate
from controller.standalone.xds import XdsFiles
from controller.telemetry import Telemetry
from controller.timed import TimedMetrics
from istio.envoy.bootstrap import bootstrap
from istio.envoy.telemetry import prometheus_config
from istio.envoy.translate import Options
from policies.catalog import templates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from controller.prometheus_access import Access
    from controller.standalone.child import ChildSpec

log = logging.getLogger("penstock")

API_PORT = 7420
KEEPER_POLL_SECONDS = 1.0
SETTLE_SECONDS = 0.5
"""From an interval's end until the scrapes before it can be read; the scraped Envoy is on this machine."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `penstock up` can be told."""

    directory: Path
    api_port: int | None = None
    address: str = "127.0.0.1"
    publish: Mapping[int, int] = field(default_factory=dict)
    prometheus_url: str | None = None
    prometheus_access: Access | None = None
    scrape_interval: str = "1s"
    history_url: str | None = None
    hosts: Hosts = field(default_factory=lambda: Hosts(LOOPBACK))
    """To which names the API answers."""


async def up(options: UpOptions, announce: Callable[[str], None]) -> int:
    """Run until a signal comes; return the exit status.

    Raises AlreadyRunningError, DataPlaneError and UnavailableError when it cannot start; nothing that it
    started is left then, and what ran before goes on. A failure later ends only the controller.
    """
    layout = Layout(options.directory)
    layout.create()
    with only_one(layout):
        controller = _Controller(options, layout)
        try:
            await controller.start(announce)
        except BaseException:
            # what ran before carries traffic, and goes on
            await controller.close(everything=controller.started_dataplane)
            raise
        look_for_cycles_less_often()
        try:
            everything = await controller.until_signal() == signal.SIGINT
        except BaseException:
            await controller.close(everything=False)
            raise
        announce("ending everything ..." if everything else "ending; Envoy and Prometheus go on")
        await controller.close(everything=everything)
    return 0


class _Controller:
    """Everything that runs in the controller's process."""

    def __init__(self, options: UpOptions, layout: Layout) -> None:
        self._options, self._layout = options, layout
        self._processes = DataPlaneProcesses(layout)
        self._process = Process()
        self.started_dataplane = False

    async def start(self, announce: Callable[[str], None]) -> None:
        """Bring everything up in order: store, manifests, Envoy and Prometheus, loop, API."""
        options, layout = self._options, self._layout
        listener = bind(options.api_port, API_PORT)
        self._process.closing(closing(listener.close))
        store = await LocalStore.open(layout.store)
        self._process.closing(store.close)
        history_url = options.history_url or f"sqlite:///{layout.history}"
        history, reports = await SqlHistory.open(history_url), await SqlHistory.open(history_url)
        self._process.closing(history.close)
        self._process.closing(reports.close)  # who reads has a connection that no rollback waits for
        translation = Options(folder=str(layout.xds), address=options.address, publish=options.publish)
        folder = Folder(layout.root, store, validate=lambda parsed: validate(parsed, translation))
        for finding in (await folder.sync()).refused:
            announce(str(finding))
        dataplane, prometheus_url = await self._start_dataplane(store, translation)
        metrics = PrometheusMetrics(prometheus_url, access=options.prometheus_access)
        self._process.closing(metrics.close)
        telemetry, news = Telemetry(), News()
        timed = TimedMetrics(metrics, telemetry)
        collector = Collector(timed, history, templates(), telemetry, settle=SETTLE_SECONDS)
        loop = Loop(
            store=store, history=history, dataplane=dataplane, collector=collector,
            recorder=Recorder(store, telemetry, news), clock=SystemClock(),
        )  # fmt: skip
        backend = ControllerBackend(
            store=store, events=store, history=reports, looks=loop, telemetry=telemetry,
            news=news, checks=self._checks(store, metrics, dataplane),
            findings=lambda: _as_dicts(folder.findings),
        )  # fmt: skip
        api = server(create_app(backend, self._token(), options.hosts))
        url = f"http://{listener.getsockname()[0]}:{listener.getsockname()[1]}"
        self._process.run(folder.run(), "folder")
        self._process.run(dataplane.run(), "dataplane")
        self._process.run(loop.run(), "loop")
        self._process.run(api.serve(sockets=[listener]), "api")
        write_json(layout.endpoint, {"url": url, "pid": os.getpid()})
        announce(f"Penstock serves {layout.root} at {url}; {metrics.name}")
        if options.prometheus_url:
            announce(f"it must scrape Envoy as {layout.prometheus / 'scrape.json'} says")

    async def _start_dataplane(self, store: LocalStore, options: Options) -> tuple[EnvoyDataPlane, str]:
        """Adopt or start Envoy and Prometheus; return the data plane and Prometheus' address."""
        admin = self._processes.port("envoy", "admin")
        files = XdsFiles(self._layout.xds, admin, envoy=envoy_binary())
        dataplane = EnvoyDataPlane(store, files, options)
        running = await self._processes.status()
        if running is None or "envoy" not in running.children:
            await self._prepare(files, dataplane)
        specs = [envoy_spec(self._layout, bootstrap(admin, str(self._layout.xds)), admin_port=admin)]
        config = prometheus_config(admin, self._options.scrape_interval)
        if self._options.prometheus_url:
            write_json(self._layout.prometheus / "scrape.json", config)
        url = self._options.prometheus_url or self._own_prometheus(specs, config)
        self.started_dataplane = not (await self._processes.ensure(specs)).adopted
        self._process.run(self._keep_keeper(specs), "keeper")
        return dataplane, url

    async def _prepare(self, files: XdsFiles, dataplane: EnvoyDataPlane) -> None:
        """Write Envoy's first files and see that its ports are free, since Envoy itself would share them."""
        try:
            translation = await dataplane.translation()
        except UntranslatableError as error:
            raise DataPlaneError(f"the stored objects cannot be translated for Envoy: {error}") from error
        for listener in translation.listeners:
            port = listener["address"]["socket_address"]["port_value"]
            if not is_free(port):
                raise PortTakenError(port, "Envoy's traffic; choose another with --publish SERVICE_PORT=PORT")
        files.initial(translation)

    async def _keep_keeper(self, specs: list[ChildSpec]) -> None:
        """Start the keeper again, should it be killed; it looks after Envoy and Prometheus by itself."""
        while True:
            await asyncio.sleep(KEEPER_POLL_SECONDS)
            try:
                if await self._processes.status() is None:
                    log.warning("the keeper is gone, and Envoy and Prometheus with it: starting them again")
                    await self._processes.ensure(specs)
            except DataPlaneError as error:
                log.warning("%s", error)

    def _own_prometheus(self, specs: list[ChildSpec], config: Mapping[str, Any]) -> str:
        port = self._processes.port("prometheus", "web")
        specs.append(prometheus_spec(self._layout, config, port=port))
        return f"http://127.0.0.1:{port}"

    def _checks(
        self, store: LocalStore, metrics: PrometheusMetrics, dataplane: EnvoyDataPlane
    ) -> dict[str, Callable[[], Awaitable[str]]]:
        async def envoy() -> str:
            return dataplane.problem or "ok"

        return {
            "store": lambda: attempt(store.version()),
            "prometheus": lambda: attempt(metrics.ready()),
            "envoy": envoy,
            "loop": self._process.ended,
        }

    def _token(self) -> str:
        """Return the folder's API token; made at the first start, readable by this user only."""
        path = self._layout.token
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32))
        return path.read_text().strip()

    async def until_signal(self) -> int:
        """Wait for SIGINT or SIGTERM, or for a part that fails, whose error is raised."""
        return await self._process.until_signal()

    async def close(self, *, everything: bool) -> None:
        """End the controller, and with `everything` Envoy and Prometheus too."""
        await self._process.close()
        endpoint = read_json(self._layout.endpoint) or {}
        if endpoint.get("pid") == os.getpid():
            self._layout.endpoint.unlink(missing_ok=True)
        if everything:
            await self._processes.stop()


async def down(directory: Path) -> bool:
    """End the controller of a folder, its Envoy and its Prometheus; False when nothing ran."""
    layout = Layout(directory)
    ended = await end_the_other(layout)
    return await DataPlaneProcesses(layout).stop() or ended


def _as_dicts(findings: Any) -> list[dict[str, Any]]:
    return [asdict(finding) for finding in findings]
