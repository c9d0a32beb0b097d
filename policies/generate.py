"""Write what is made from the model: `python -m policies.generate [--check]`.

With `--check` nothing is written: exit status 1 and the names of stale files. A tool, so the one module here
that does file I/O besides the catalog.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from policies import crd, reference

ROOT = Path(__file__).resolve().parent.parent
CRD_FOLDERS = ("policies/crd", "deploy/chart/crds", "deploy/kustomize/crds")
"""Where the CRDs are: Helm and kustomize read only what is inside their own folders."""
_HEAD = "# Made by `python -m policies.generate` from policies/model.py and the rules; do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Writes parts that are shared in memory in full, without anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def files() -> dict[str, str]:
    """Return the content of every generated file, by its path in the repository."""
    definitions = {
        name: _HEAD + yaml.dump(definition, Dumper=_Dumper, sort_keys=False, width=110)
        for name, definition in crd.definitions().items()
    }
    copies = {f"{folder}/{name}": text for folder in CRD_FOLDERS for name, text in definitions.items()}
    return {**copies, "docs/policy-reference.md": reference.markdown()}


def stale(root: Path) -> list[str]:
    """Return the paths whose content in `root` differs from what the model says."""
    return [
        path
        for path, content in files().items()
        if not (root / path).exists() or (root / path).read_text(encoding="utf-8") != content
    ]


def main() -> int:
    """Write or check the generated files; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m policies.generate", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    check = parser.parse_args().check
    found = stale(ROOT)
    for path in found:
        if not check:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(files()[path], encoding="utf-8")
        sys.stderr.write(f"{path} is stale: run `make generate`\n" if check else f"wrote {path}\n")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
