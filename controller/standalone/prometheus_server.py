"""The Prometheus of a standalone data plane: where its binary is and how it is run.

What it scrapes is not decided here: the configuration comes from `istio.envoy`.
"""

from __future__ import annotations

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

PROMETHEUS_VARIABLE = "PENSTOCK_PROMETHEUS"
RETENTION = "15d"
RETENTION_SIZE = "2GB"


def prometheus_binary(environment: Mapping[str, str] = os.environ) -> Path:
    """Return $PENSTOCK_PROMETHEUS, else the one on PATH, else the one that tools/prometheus.sh fetched.

    MissingBinaryError when there is none; it says what to run.
    """
    named = environment.get(PROMETHEUS_VARIABLE)
    if named:
        return executable(Path(named), PROMETHEUS_VARIABLE)
    found = shutil.which("prometheus", path=environment.get("PATH", ""))
    if found:
        return Path(found)
    cache = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    fetched = cache / "penstock" / "prometheus" / "usr" / "bin" / "prometheus"
    if os.access(fetched, os.X_OK):
        return fetched
    raise MissingBinaryError(
        "no Prometheus found: run `make setup` or `apt-get install prometheus`,"
        f" set {PROMETHEUS_VARIABLE} to its binary, or use one that runs with --prometheus-url"
    )


def prometheus_spec(
    layout: Layout, config: Mapping[str, Any], *, port: int, binary: Path | None = None
) -> ChildSpec:
    """Write the configuration (as JSON, which is YAML) and return how to run Prometheus with it.

    It listens on 127.0.0.1:`port` and keeps 15 days or 2 GB of samples, whichever is less. Another
    configuration means a restart, which costs a scrape or two and no stored sample. A reload would spare
    that, but needs the lifecycle API, through which any web page that the user opens could also end
    Prometheus, or SIGHUP, which tells of a refused configuration only in the log.
    """
    path = layout.prometheus / "prometheus.yml"
    write_json(path, config)
    return ChildSpec(
        name="prometheus",
        argv=(
            str(binary or prometheus_binary()),
            f"--config.file={path}",
            f"--storage.tsdb.path={layout.prometheus / 'data'}",
            f"--storage.tsdb.retention.time={RETENTION}",
            f"--storage.tsdb.retention.size={RETENTION_SIZE}",
            f"--web.listen-address={LOOPBACK}:{port}",
            "--log.level=warn",
        ),
        ready_url=f"http://{LOOPBACK}:{port}/-/ready",
        ports={"web": port},
        cwd=str(layout.state),
        revision=digest(config),
    )
