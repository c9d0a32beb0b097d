"""Every document of the corpus gets exactly the codes that its first line names.

The verdicts were checked against the validation of istioctl 1.29 and the CRDs of the same release.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from istio.lint import lint_all, lint_object
from istio.lint.codes import catalogue
from policies.documents import read
from policies.findings import errors

CORPUS = Path(__file__).parents[1] / "corpus" / "lint"
FILES = sorted(CORPUS.glob("*/*.yaml"))
ELSEWHERE = {
    # bodies of a megabyte: test_lint_object
    *("PS143", "PS144"),
    # what cannot go wrong in one of the kinds
    *(
        "PS115",
        "PS204",
        "PS210",
        "PS212",
        "PS214",
        "PS216",
        "PS305",
        "PS306",
        "PS310",
        "PS312",
        "PS313",
        "PS316",
    ),
}


def expected(file: Path) -> set[str]:
    first = file.read_text().partition("\n")[0]
    return set(first.removeprefix("# expect: ").split()) - {"none"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_document_gets_the_codes_that_it_names(file):
    findings = lint_object(yaml.safe_load(file.read_text()))
    assert {finding.code for finding in findings} == expected(file), findings
    verdict = "reject" if errors(findings) else "warn" if findings else "accept"
    assert verdict == file.parent.name


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_finding_names_its_object_and_has_a_place_in_the_file(file):
    (document,), _ = read(file.name, file.read_text())
    for finding in lint_object(document.data):
        assert finding.object == document.name
        place = document.place(finding.path)
        assert place is not None
        assert place.line > 1 or finding.path == "", finding


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_without_policies_linting_all_is_linting_each(file):
    obj = yaml.safe_load(file.read_text())
    assert lint_all([obj], []) == lint_object(obj)


def test_the_corpus_has_an_example_of_every_code():
    codes = {code for code in catalogue() if not code.startswith("PS4")}
    assert codes - {code for file in FILES for code in expected(file)} - ELSEWHERE == set()
