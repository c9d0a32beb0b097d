"""`penstock run`: the controller on Kubernetes, in a cluster or beside one by kubeconfig."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import prometheus
from controller.cli.options import ApiHosts, fail, hosts
from policies.units import Duration

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class LogFormat(StrEnum):
    """How lines of the log look."""

    JSON = "json"
    TEXT = "text"


Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="The kubeconfig; without it KUBECONFIG, else the pod's account, else ~/.kube/config."),
]
Context = Annotated[str | None, typer.Option(help="A context of the kubeconfig.")]
Namespaces = Annotated[
    list[str] | None,
    typer.Option(
        help="Look after this namespace only; may be given several times.", envvar="PENSTOCK_NAMESPACES"
    ),
]
PrometheusUrl = Annotated[
    str, typer.Option(help="The Prometheus (Thanos, Mimir ...) to read.", envvar="PENSTOCK_PROMETHEUS_URL")
]
HistoryUrl = Annotated[
    str,
    typer.Option(
        help="sqlite:///PATH for one replica, postgresql+psycopg://... for several, or none: what was "
        "measured is then lost with the process.",
        envvar="PENSTOCK_HISTORY_URL",
    ),
]
ApiAddress = Annotated[
    str,
    typer.Option(
        help="HOST:PORT of API, health and metrics. Reading them needs no token.",
        envvar="PENSTOCK_API_ADDRESS",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="Holds the API's token; else PENSTOCK_TOKEN; without any, only kubectl can ask for actions.",
        envvar="PENSTOCK_TOKEN_FILE",
    ),
]
LeaseName = Annotated[str, typer.Option(help="The Lease of the leader.", envvar="PENSTOCK_LEASE_NAME")]
LeaseNamespace = Annotated[
    str | None,
    typer.Option(
        help="Where it is; else the pod's or the context's namespace.", envvar="PENSTOCK_LEASE_NAMESPACE"
    ),
]
LeaseSeconds = Annotated[
    int,
    typer.Option(
        min=3, help="How long a leader that is silent stays the leader.", envvar="PENSTOCK_LEASE_SECONDS"
    ),
]
PodUid = Annotated[
    str,
    typer.Option(
        help="The UID of the pod that this runs in: its next process then need not wait for the lease of a "
        "dead one.",
        envvar="PENSTOCK_POD_UID",
    ),
]
Propagation = Annotated[
    str, typer.Option(help="How long proxies take to run new weights.", envvar="PENSTOCK_PROPAGATION")
]
Settle = Annotated[
    str,
    typer.Option(
        help="How long after an instant Prometheus has all samples of it.", envvar="PENSTOCK_SETTLE"
    ),
]
Format = Annotated[LogFormat, typer.Option(help="Lines of the log.", envvar="PENSTOCK_LOG_FORMAT")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(start)


def start(
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespaces = None,
    prometheus_url: PrometheusUrl = "",
    prometheus_token_file: prometheus.TokenFile = None,
    prometheus_header: prometheus.Headers = None,
    prometheus_ca_file: prometheus.CaFile = None,
    prometheus_cert_file: prometheus.CertFile = None,
    prometheus_key_file: prometheus.KeyFile = None,
    history_url: HistoryUrl = "sqlite:///penstock.db",
    api_address: ApiAddress = "127.0.0.1:7420",
    api_host: ApiHosts = None,
    token_file: TokenFile = None,
    lease_name: LeaseName = "penstock",
    lease_namespace: LeaseNamespace = None,
    lease_seconds: LeaseSeconds = 15,
    pod_uid: PodUid = "",
    propagation: Propagation = "5s",
    settle: Settle = "1s",
    log_format: Format = LogFormat.JSON,
) -> None:
    """Run the controller on Kubernetes until it is told to end. Traffic flows on without it."""
    from controller.cluster.run import RunOptions, StartError, run
    from controller.logs import set_up

    if not prometheus_url.strip():
        fail("--prometheus-url (or PENSTOCK_PROMETHEUS_URL) must name the Prometheus to read", 2)
    access = prometheus.access(
        prometheus_url, prometheus_token_file, prometheus_header, prometheus_ca_file, prometheus_cert_file,
        prometheus_key_file,
    )  # fmt: skip
    host, port = _address(api_address)
    options = RunOptions(
        kubeconfig=kubeconfig, context=context, namespaces=_namespaces(namespace or ()),
        prometheus_url=prometheus_url, prometheus_access=access, history_url=history_url, host=host,
        port=port, hosts=hosts(host, api_host), token=_token(token_file), lease_name=lease_name,
        lease_namespace=lease_namespace, lease_seconds=lease_seconds, pod_uid=pod_uid,
        propagation=_seconds("--propagation", propagation), settle=_seconds("--settle", settle),
    )  # fmt: skip
    set_up(log_format.value)
    try:
        asyncio.run(run(options, _announce))
    except StartError as error:
        fail(str(error))


def _namespaces(names: Sequence[str]) -> tuple[str, ...]:
    """Return the namespaces, each once. The API server knows of no namespace that it could not have."""
    for name in names:
        if not _NAMESPACE.fullmatch(name):
            fail(f"--namespace {name} is no name of a namespace; give the option once for each", 2)
    return tuple(dict.fromkeys(names))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) < 65536):
        fail(f"--api-address must be HOST:PORT, such as 127.0.0.1:7420, not {text}", 2)
    return host.strip("[]"), int(port)


def _seconds(option: str, text: str) -> float:
    try:
        return Duration.parse(text).seconds
    except ValueError as error:
        fail(f"{option}: {error}", 2)


def _token(path: Path | None) -> str:
    """Return the API's token; one that nobody knows when none is given, so that nobody can act by the API."""
    if path is None:
        return os.environ.get("PENSTOCK_TOKEN", "").strip() or secrets.token_urlsafe(32)
    try:
        token = path.read_text().strip()
    except OSError as error:
        fail(f"--token-file {path} cannot be read: {error.strerror}", 2)
    except UnicodeDecodeError:
        fail(f"--token-file {path} holds no text: write the token as it is sent, such as in base64", 2)
    if not token:
        fail(f"--token-file {path} is empty", 2)
    return token


def _announce(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
