"""Write the kustomize base from the chart: `python tools/kustomize.py HELM [--check]`.

HELM is the helm program. The base is what the chart makes of its default values, so that there is one source;
tests compare them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "deploy" / "kustomize" / "penstock.yaml"
NAMESPACE = "penstock"
KUBERNETES = "1.35.4"
PROMETHEUS = "http://prometheus.monitoring:9090"
HEAD = "# Made by `python tools/kustomize.py HELM` from deploy/chart with its default values; do not edit.\n"


def base(helm: str | Path) -> str:
    """Return the text of the base; CalledProcessError when helm refuses."""
    values = ["--set", f"prometheus.url={PROMETHEUS}", "--kube-version", KUBERNETES]
    command = [helm, "template", "penstock", ROOT / "deploy" / "chart", "-n", NAMESPACE, *values]
    return HEAD + subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> int:
    """Write or check the base; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("helm", metavar="HELM")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the base is stale")
    options = parser.parse_args()
    text = base(options.helm)
    if BASE.exists() and BASE.read_text(encoding="utf-8") == text:
        return 0
    if options.check:
        sys.stderr.write("deploy/kustomize/penstock.yaml is stale: run `python tools/kustomize.py HELM`\n")
        return 1
    BASE.write_text(text, encoding="utf-8")
    sys.stderr.write("wrote deploy/kustomize/penstock.yaml\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
