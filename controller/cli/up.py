"""`penstock up` and `penstock down`: a standalone Penstock for one folder of manifests."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from controller.cli import prometheus
from controller.cli.options import ApiHosts, fail, hosts

Directory = Annotated[
    Path, typer.Argument(help="The folder with the manifests.", exists=True, file_okay=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(start)
    app.command("down")(stop)


def start(
    directory: Directory = Path(),
    api_port: Annotated[int | None, typer.Option(help="Port of the API; default 7420 or any.")] = None,
    api_host: ApiHosts = None,
    address: Annotated[str, typer.Option(help="Where Envoy listens.")] = "127.0.0.1",
    publish: Annotated[
        list[str] | None, typer.Option(help="SERVICE_PORT=PORT: listen on another port than the service's.")
    ] = None,
    prometheus_url: Annotated[
        str | None, typer.Option(help="Read this Prometheus instead of starting one.")
    ] = None,
    prometheus_token_file: prometheus.TokenFile = None,
    prometheus_header: prometheus.Headers = None,
    prometheus_ca_file: prometheus.CaFile = None,
    prometheus_cert_file: prometheus.CertFile = None,
    prometheus_key_file: prometheus.KeyFile = None,
    scrape_interval: Annotated[str, typer.Option(help="How often our Prometheus scrapes Envoy.")] = "1s",
    history_url: Annotated[
        str | None,
        typer.Option(
            help="Keep the history there (postgresql+psycopg://...).", envvar="PENSTOCK_HISTORY_URL"
        ),
    ] = None,
) -> None:
    """Run Penstock for a folder: controller, Envoy, Prometheus, API. Ctrl-C ends them all."""
    from controller.logs import set_up
    from controller.ports import UnavailableError
    from controller.standalone.alone import AlreadyRunningError
    from controller.standalone.control import DataPlaneError
    from controller.standalone.layout import LayoutError
    from controller.standalone.listening import LOOPBACK
    from controller.standalone.up import UpOptions, up

    given = (
        prometheus_token_file, prometheus_header, prometheus_ca_file, prometheus_cert_file,
        prometheus_key_file,
    )  # fmt: skip
    if any(given) and not prometheus_url:
        fail("the options of a guarded Prometheus need --prometheus-url: Penstock's own asks for nothing", 2)
    access = prometheus.access(prometheus_url, *given) if prometheus_url else None
    options = UpOptions(
        directory,
        api_port,
        address,
        ports(publish or []),
        prometheus_url,
        access,
        scrape_interval,
        history_url,
        hosts(LOOPBACK, api_host),
    )
    set_up()
    try:
        raise typer.Exit(asyncio.run(up(options, _announce)))
    except (AlreadyRunningError, DataPlaneError, LayoutError, UnavailableError) as error:
        _announce(f"error: {error}")
        raise typer.Exit(1) from error


def stop(directory: Directory = Path()) -> None:
    """End the controller of a folder, its Envoy and its Prometheus."""
    from controller.standalone.control import DataPlaneError
    from controller.standalone.up import down

    try:
        ran = asyncio.run(down(directory))
    except DataPlaneError as error:
        _announce(f"error: {error}")
        raise typer.Exit(1) from error
    _announce("ended" if ran else "nothing was running")


def ports(pairs: list[str]) -> dict[int, int]:
    """Read SERVICE_PORT=PORT pairs; typer.BadParameter says what is wrong."""
    found = {}
    for pair in pairs:
        service, _, listen = pair.partition("=")
        valid = all(part.isascii() and part.isdigit() and 0 < int(part) < 65536 for part in (service, listen))
        if not valid:
            raise typer.BadParameter(f"{pair!r}: must be SERVICE_PORT=PORT, such as 8080=18080")
        found[int(service)] = int(listen)
    return found


def _announce(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
