"""PromQL that no Prometheus takes is found, with its place; what some Prometheus takes never is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from policies.catalog import templates
from policies.parse import parse
from policies.promql import AGGREGATORS, FUNCTIONS, check_queries, problem
from tests.support.policies import changed, template, text
from tests.support.promql_corpus import INVALID, LINES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("query", [*LINES, "up{ # inside of braces )\n job='a'}", "\n\tup\r\n+ 1\n"])
def test_what_prometheus_takes_is_no_problem(query: str) -> None:
    assert problem(query) == ""


@pytest.mark.parametrize(("query", "line", "column", "words"), INVALID)
def test_what_no_prometheus_takes_is_told_with_its_place(
    query: str, line: int, column: int, words: str
) -> None:
    found = problem(query)
    assert found.startswith(f"line {line}, column {column} of the query: ")
    assert words in found


def queries(value: object) -> list[str]:
    """Return all texts under a key `query` or `expr`."""
    if isinstance(value, dict):
        own = [each for key in ("query", "expr") if isinstance(each := value.get(key), str)]
        return [*own, *(found for each in value.values() for found in queries(each))]
    return [found for each in value for found in queries(each)] if isinstance(value, list) else []


def test_no_query_of_this_repository_is_a_problem() -> None:
    found = [each.spec.query for each in templates().values()]
    for folder in ("examples", "policies", "demo", "deploy/kustomize", "bench"):
        for path in (ROOT / folder).rglob("*.yaml"):
            found += queries(list(yaml.safe_load_all(path.read_text("utf-8"))))
    for path in (ROOT / "docs").glob("*.md"):
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text("utf-8"), re.DOTALL):
            found += queries([*yaml.safe_load_all(block)] if "query:" in block else [])
    assert len(found) >= 4
    whole = [query for query in found if "..." not in query]  # else something was left out
    assert {query: words for query in whole if (words := problem(query))} == {}


@given(st.text(alphabet="ab({[]})\"'`\\, =~!#\n5m@:$by", max_size=40))
def test_whatever_is_written_there_is_an_answer(query: str) -> None:
    found = problem(query)
    if found:
        line, column = map(int, re.findall(r"\d+", found)[:2])
        assert query.split("\n")[line - 1 :], "a line that there is"
        assert 1 <= column <= len(query) + 1


@given(st.sampled_from(sorted(FUNCTIONS | AGGREGATORS)), st.integers(0, 3))
def test_every_function_is_known_and_none_of_its_misspellings(name: str, at: int) -> None:
    assert problem(f"{name}(up)") == ""
    wrong = f"{name[:at]}q{name[at:]}"
    assert "no function" in problem(f"{wrong}(up)")


def test_the_finding_names_file_line_field_and_place() -> None:
    broken = changed(template(), "spec.query", template()["spec"]["query"] + " + sm(up)")
    parsed = parse([("own.yaml", text(broken))])
    (finding,) = check_queries(parsed.templates)
    assert (finding.code, finding.severity, finding.path) == ("PS059", "error", "spec.query")
    assert str(finding).startswith("own.yaml:")
    assert "sm; sum is one" in finding.message
