"""A private certificate authority for tests, made with openssl, and servers' and clients' ends of TLS."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from pathlib import Path


class Issued(NamedTuple):
    """A certificate and its key, in PEM."""

    certificate: Path
    key: Path


class Authority:
    """An authority of its own, below `folder`; `certificate` is what others trust. Skips without openssl."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl on this machine")
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate, self._key = self._request("ca", "-days", "2")

    def issue(self, name: str) -> Issued:
        """Return a certificate for 127.0.0.1 by this authority."""
        by = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-days", "2")
        return self._request(name, *by, "-addext", "subjectAltName=IP:127.0.0.1")

    def _request(self, name: str, *more: str) -> Issued:
        made = Issued(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
        files = ("-out", str(made.certificate), "-keyout", str(made.key))
        command = ["openssl", "req", "-x509", *curve, *files, "-subj", f"/CN={name}", *more]
        subprocess.run(command, check=True, capture_output=True)
        return made

    def server(self, *, clients: bool = False) -> ssl.SSLContext:
        """Return a server's end; with `clients` it wants certificates of them, by this authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.certificate)
        context.load_cert_chain(*self.issue("server"))
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
        return context
