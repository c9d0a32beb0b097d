"""The definitions of the Prometheus operator's kinds, out of its Go module; no program of it is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.build import cache_folder, run_go, say
from cluster.golang import go_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.running import Cluster

MODULE = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
SUM = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
DEFINITIONS = "example/prometheus-operator-crd/monitoring.coreos.com_{}.yaml"


def install(cluster: Cluster, kinds: Sequence[str], folder: Path) -> None:
    """Install the definitions of kinds (plural, in small letters) in a cluster; NoClusterError."""
    module = _module(folder)
    for kind in kinds:
        cluster.define(module / DEFINITIONS.format(kind))


def _module(folder: Path) -> Path:
    """Return the module's sources; Go fetches them where they are not in its cache yet."""
    go = go_command(cache_folder(), say)
    found = json.loads(run_go(go, ("mod", "download", "-json", MODULE), folder, MODULE))
    assert found["Sum"] == SUM, f"{MODULE} is another one than it was"
    return Path(found["Dir"])
