"""The generated files are those in the repository, and a stale one is named."""

import sys

import pytest
import yaml

from policies import crd, generate, reference
from policies.rules import RULES


def test_the_generated_files_are_fresh():
    assert generate.stale(generate.ROOT) == []


def test_a_stale_or_missing_file_fails_the_check_and_is_written_otherwise(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert generate.main() == 1
    assert "docs/policy-reference.md is stale" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["generate"])
    assert generate.main() == 0
    (tmp_path / "docs" / "policy-reference.md").write_text("old")
    assert generate.stale(tmp_path) == ["docs/policy-reference.md"]
    monkeypatch.setattr(sys, "argv", ["generate", "--nonsense"])
    with pytest.raises(SystemExit):
        generate.main()


def test_the_crd_files_hold_the_definitions_without_anchors():
    for name, definition in crd.definitions().items():
        content = generate.files()[f"policies/crd/{name}"]
        assert yaml.safe_load(content) == definition
        assert "&id" not in content


def test_the_reference_names_every_part_and_rule():
    page = reference.markdown()
    for heading in ("spec", "spec.strategy.canary.steps[]", "spec.metrics[]", "spec.outcome"):
        assert f"### {heading}\n" in page
    for rule in RULES:
        assert f"- {rule.code}: {rule.message}" in page
    assert "| `noDataTimeout` | a duration such as 90s, 5m or 1h30m | `5m` |" in page
    assert "| `istio-latency` | histogram | milliseconds |" in page
