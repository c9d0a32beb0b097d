"""Who may do what: keys, tokens and kubeconfigs, all below the cluster's folder."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from typing import TYPE_CHECKING

from cluster.errors import NoClusterError

if TYPE_CHECKING:
    from pathlib import Path


def admin_token(folder: Path) -> str:
    """Return the administrator's token, made once per folder."""
    table = folder / "tokens.csv"
    if not table.exists():
        table.touch(mode=0o600)
        table.write_text(f'{secrets.token_urlsafe(32)},admin,1,"system:masters"\n')
    return table.read_text().partition(",")[0]


def signing_key(folder: Path) -> Path:
    """Return the key that signs ServiceAccount tokens, made once per folder; NoClusterError."""
    key = folder / "service-accounts.key"
    if not key.exists():
        command = ["openssl", "genrsa", "-out", str(key), "2048"]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            raise NoClusterError("openssl is missing: apt-get install openssl") from None
    return key


def write_kubeconfig(path: Path, *, url: str, ca: Path, token: str, namespace: str = "default") -> Path:
    """Write a kubeconfig (as JSON, which is YAML) that needs no other file, and return its path."""
    authority = base64.b64encode(ca.read_bytes()).decode()
    context = {"cluster": "penstock", "user": "user", "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "penstock", "cluster": {"server": url, "certificate-authority-data": authority}}
        ],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "penstock", "context": context}],
        "current-context": "penstock",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1))
    return path
