"""How findings print, and that every code is explained once."""

import re
from pathlib import Path

from policies.findings import Finding, Source, errors

ROOT = Path(__file__).resolve().parents[2]


def test_a_finding_prints_place_object_path_found_and_allowed():
    finding = Finding(
        "PS008", "error", "is wrong", "spec.x", "Kind/ns/name", "1", "2", Source("a.yaml", 3, 5)
    )
    assert str(finding) == "a.yaml:3:5: error PS008: Kind/ns/name spec.x: is wrong; found 1; allowed: 2"


def test_what_the_message_says_already_is_not_said_twice():
    finding = Finding("PS010", "error", "must be one of a, b", allowed="one of a, b")
    assert str(finding) == "error PS010: must be one of a, b"


def test_only_errors_stop_an_apply():
    warning, error = Finding("PS011", "warning", "w"), Finding("PS001", "error", "e")
    assert errors([warning, error]) == [error]


def test_every_code_of_policies_is_explained_once():
    sources = [path for path in (ROOT / "policies").glob("*.py") if path.name != "findings.py"]
    used = {code for path in sources for code in re.findall(r'"(PS0\d\d)"', path.read_text())}
    explained = re.findall(r"^\| (PS0\d\d) \|", (ROOT / "docs" / "findings.md").read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(used)
