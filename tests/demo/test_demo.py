"""`make demo` and `make demo-cluster`, as they are run: both bad candidates are found, on real traffic."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clusters import missing, refuse

ROOT = Path(__file__).resolve().parents[2]
SECONDS = "600"
"""For the decisions, on a machine that does much else."""


@pytest.mark.real
def test_the_demo_finds_both_bad_candidates(tmp_path: Path) -> None:
    assert_found("demo", tmp_path)


@pytest.mark.real
@pytest.mark.cluster
def test_the_demo_on_a_cluster_finds_both_bad_candidates(tmp_path: Path) -> None:
    if why := missing():
        refuse(why)
    assert_found("demo.cluster", tmp_path)


def assert_found(module: str, folder: Path) -> None:
    """Run a demo; what it writes for a person must say what it found.

    The good candidate may be rolled back, as rarely as its policy says: no test rests on that it is not.
    """
    summary, reports = folder / "summary.json", folder / "reports"
    options = ["--exit", "--timeout", SECONDS, "--summary", str(summary), "--reports", str(reports)]
    done = subprocess.run(
        [sys.executable, "-m", module, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    told = done.stdout + done.stderr
    assert summary.exists(), told
    rows = {row["name"]: row["decision"] for row in json.loads(summary.read_text())["rollouts"]}
    assert set(rows) == {"good", "errors", "slow-tail"}
    assert (rows["errors"], rows["slow-tail"]) == ("rolled-back", "rolled-back"), told
    assert rows["good"] in {"promoted", "rolled-back"}, told
    assert done.returncode == (0 if rows["good"] == "promoted" else 1), told
    assert {report.stem for report in reports.glob("*.html")} == set(rows), told
