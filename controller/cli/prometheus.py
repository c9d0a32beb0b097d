"""The options of a guarded Prometheus, which several commands share, and what they make: an Access."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.options import fail

if TYPE_CHECKING:
    from controller.prometheus_access import Access

HEADERS = "PENSTOCK_PROMETHEUS_HEADERS"

TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="Holds a bearer token for Prometheus; read again when it changes.",
        envvar="PENSTOCK_PROMETHEUS_TOKEN_FILE",
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--prometheus-header",
        metavar="NAME=VALUE",
        help=f"Send Prometheus this header, such as X-Scope-OrgID=team; may be given several times. {HEADERS}"
        " may hold more of them, one on each line.",
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        help="Trust these authorities (PEM) for Prometheus' certificate, instead of the public ones.",
        envvar="PENSTOCK_PROMETHEUS_CA_FILE",
    ),
]
CertFile = Annotated[
    Path | None,
    typer.Option(
        help="Penstock's own certificate (PEM), for a Prometheus that asks for one.",
        envvar="PENSTOCK_PROMETHEUS_CERT_FILE",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        help="Its key (PEM, no passphrase), if the certificate's file does not hold it.",
        envvar="PENSTOCK_PROMETHEUS_KEY_FILE",
    ),
]


def access(
    url: str,
    token_file: Path | None,
    headers: list[str] | None,
    ca_file: Path | None,
    cert_file: Path | None,
    key_file: Path | None,
) -> Access:
    """Return what the options say; ends the command when `url` cannot be asked so."""
    from controller.prometheus_access import Access, AccessError, read_headers

    lines = [*(headers or ()), *filter(str.strip, os.environ.get(HEADERS, "").splitlines())]
    try:
        made = Access(token_file, read_headers(lines), ca_file, cert_file, key_file)
        made.check(url)
    except AccessError as error:
        fail(f"{error.option}: {error}", 2)
    return made
