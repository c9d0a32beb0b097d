"""Measure what many rollouts cost; write bench/results/cluster.json and docs/cluster-figures.md.

    python -m bench.cluster [--rollouts 500] [--minutes 3] [--output PATH] [--page PATH]

With fewer than 500 rollouts nothing is written unless `--output` or `--page` says where.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.answers import STEP
from bench.cluster import measure
from bench.cluster.audit import POLICY
from bench.cluster.figures import figures
from bench.cluster.page import markdown, terminal
from bench.cluster.site import Site
from cluster.running import start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.running import Cluster

WHOLE = 500
PARTS = ("etcd", "kube-apiserver")
RESULTS, PAGE = Path("bench/results/cluster.json"), Path("docs/cluster-figures.md")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it from the command line."""
    options = _parser().parse_args(arguments)
    whole = options.rollouts >= WHOLE
    with tempfile.TemporaryDirectory() as folder, start(Path(folder), PARTS, POLICY) as cluster:
        cluster.install_istio_crds()
        cluster.install_crds()
        found = asyncio.run(everything(cluster, options.rollouts, max(1, round(60 * options.minutes / STEP))))
    rows = figures(found)
    print(terminal(rows))
    results = {"figures": [row.as_dict() for row in rows], "measured": found}
    _write(options.output or (whole and RESULTS), json.dumps(results, indent=1) + "\n")
    _write(options.page or (whole and PAGE), markdown(rows, found))


def _write(path: Path | None, text: str) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


async def everything(cluster: Cluster, rollouts: int, intervals: int) -> dict[str, Any]:
    """Measure with a dispersion that is given, and then while each run learns that of its control."""
    found: dict[str, Any] = {"rollouts": rollouts, "interval": STEP, "cpus": os.cpu_count()}
    found["down"] = measure.DOWN * STEP
    async with Site(cluster, "bench-fixed", rollouts, dispersion="1", interval=STEP) as site:
        found["holding"] = await measure.holding(site, intervals)
        found["scrape_cpu_ms"] = await measure.scrape(site)
        found["change"] = await measure.change(site)
        found["restart"] = await measure.restart(site, site.services[-1], signal.SIGTERM)
        found["killed"] = await measure.restart(site, site.services[-2], signal.SIGKILL)
        async with Site(cluster, "bench-bare", 0, dispersion="1", interval=STEP) as bare:
            found["idle"], found["bare_cpu_ms"] = await measure.idle(site, bare, intervals)
    async with Site(cluster, "bench-auto", rollouts, dispersion="auto", interval=STEP) as site:
        found["learning"] = await measure.holding(site, intervals)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rollouts", type=int, default=WHOLE)
    parser.add_argument("--minutes", type=float, default=3.0, help="behind each figure; better whole ones")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--page", type=Path, help="where to write the page")
    return parser


if __name__ == "__main__":
    main()
