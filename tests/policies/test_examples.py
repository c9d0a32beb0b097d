"""The examples are right: nothing to say about them, and their objects fit together."""

from pathlib import Path

import pytest

from controller.cli import app
from policies.parse import parse
from policies.rules import check_all

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_examples_are_without_findings():
    for folder in EXAMPLES.iterdir():
        parsed = parse([(path.name, path.read_text()) for path in sorted(folder.glob("*.yaml"))])
        assert parsed.findings + check_all(parsed.policies, parsed.templates) == []
        assert parsed.policies


@pytest.mark.parametrize("folder", ["minimal", "kubernetes"])
def test_an_example_that_is_whole_passes_lint(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        app(["lint", str(EXAMPLES / folder)])
    assert (ended.value.code, capsys.readouterr().out) == (0, "")


def test_the_objects_of_the_minimal_example_fit_together():
    parsed = parse([(path.name, path.read_text()) for path in (EXAMPLES / "minimal").glob("*.yaml")])
    spec = parsed.policies[0].value.spec
    objects = {document.kind: document.data for document in parsed.others}
    (route,) = objects["VirtualService"]["spec"]["http"]
    subsets = {item["name"]: item["labels"] for item in objects["DestinationRule"]["spec"]["subsets"]}
    endpoints = objects["ServiceEntry"]["spec"]["endpoints"]
    assert spec.routes[0].routes == (route["name"],)
    assert {item["destination"]["subset"] for item in route["route"]} == {v.subset for v in spec.variants}
    assert [subsets[variant.subset] for variant in spec.variants] == [item["labels"] for item in endpoints]
    assert [item["ports"]["http"] for item in endpoints] == [9001, 9002]
