"""`make cluster`: build what is missing, start everything, say where it is, end it on Ctrl-C.

python -m cluster [--folder DIR] [--build-only]
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.build import ensure_built, say
from cluster.errors import NoClusterError, PartError
from cluster.recipe import PARTS
from cluster.running import start

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cluster.running import Cluster


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where data and logs are kept (default: a temporary one)")
    parser.add_argument("--build-only", action="store_true", help="build the programs and end")
    parser.add_argument("--parts", default=",".join(PARTS), help="what to start, separated by commas")
    parser.add_argument("--crds", action="store_true", help="install Penstock's custom resource definitions")
    options = parser.parse_args(argv)
    options.parts = tuple(options.parts.split(","))
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"--parts: unknown: {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    if missing := {"etcd", "kube-apiserver"} - set(options.parts):
        parser.error(f"--parts: nothing runs without {' and '.join(sorted(missing))}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM; return the exit status."""
    options = parse(argv)
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell's `&` has SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        ensure_built()
        if not options.build_only:
            run(options)
    except (NoClusterError, PartError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run(options: argparse.Namespace) -> None:
    """Start the cluster, say where it is, and wait."""
    began = time.monotonic()
    say("starting ...")
    with a_folder(options.folder) as folder, start(folder, options.parts) as cluster:
        if options.crds:
            cluster.install_crds()
        say(f"ready after {time.monotonic() - began:.0f} s; Ctrl-C ends it")
        print(addresses(cluster), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
        say("ending ...")


@contextlib.contextmanager
def a_folder(wanted: Path | None) -> Iterator[Path]:
    """Yield the folder that was asked for, else one that goes with the cluster."""
    if wanted is not None:
        yield wanted
        return
    with tempfile.TemporaryDirectory(prefix="penstock-cluster-") as made:
        yield Path(made)


def addresses(cluster: Cluster) -> str:
    """Return what one needs to use the cluster, as shell can read it."""
    rows = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "KUBECTL": str(cluster.binary("kubectl")),
        "GATEWAY_URL": cluster.gateway_url if "envoy" in cluster.parts else "",
        "PROMETHEUS_URL": cluster.prometheus_url if "prometheus" in cluster.parts else "",
        "ISTIOD_URL": cluster.istiod_url if "istiod" in cluster.parts else "",
    }
    return "\n".join(f"export {name}={value}" for name, value in rows.items() if value)


if __name__ == "__main__":
    sys.exit(main())
