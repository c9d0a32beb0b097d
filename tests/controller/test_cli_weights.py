"""`penstock weights`: output, exit status, and one clear line per error."""

from __future__ import annotations

import json
from pathlib import Path

import jsonpatch
import pytest
import typer
import yaml
from typer.testing import CliRunner

from controller.cli.weights import register
from tests.support.virtualservices import CORPUS, request

VS = """\
# é comment\r
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ranker, namespace: ml, resourceVersion: "7"}
spec:
  http:
  - name: primary
    route:
    - destination: {host: ranker, subset: v1}
      weight: 100
    - destination: {host: ranker, subset: v2}
"""


@pytest.fixture
def penstock():
    app = typer.Typer()
    register(app)

    @app.command()
    def other() -> None:
        """So that `weights` is a subcommand, as in the real application."""

    def call(*arguments, stdin=None):
        return CliRunner().invoke(app, ["weights", *map(str, arguments)], input=stdin)

    return call


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "vs.yaml"
    path.write_bytes(VS.encode())
    return path


def test_the_patch_is_printed_as_one_json_array(penstock, file):
    result = penstock(file, "v1=90", "v2=10")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 90},
        {"op": "add", "path": "/spec/http/0/route/1/weight", "value": 10},
    ]


def test_the_edited_text_is_printed_byte_for_byte(penstock, file):
    result = penstock("-o", "yaml", file, "--route", "primary", "v1=90", "--virtual-service=ranker", "v2=10")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout_bytes == VS.replace("100", "90").encode() + b"      weight: 10\n"
    assert file.read_bytes() == VS.encode()


def test_stdin_is_read_for_a_dash(penstock):
    written = VS + "      weight: 0\n"
    assert penstock("-", "v1=100", "v2=0", stdin=written).stdout == "[]\n"
    edited = penstock("-", "v1=100", "v2=0", "-o", "yaml", stdin=VS.encode())
    assert edited.stdout_bytes == written.encode()


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_both_outputs_agree_on_the_corpus(penstock, path):
    text = path.read_text()
    asked = request(text)
    patch = penstock(path, *asked.arguments)
    edited = penstock(path, "-o", "yaml", *asked.arguments)
    if asked.outcome == "error":
        assert (patch.exit_code, patch.stdout, edited.exit_code, edited.stdout) == (2, "", 2, "")
        assert patch.stderr == edited.stderr
        return
    assert patch.exit_code == 0
    if asked.outcome == "edits":
        before, after = (list(yaml.safe_load_all(each)) for each in (text, edited.stdout))
        changed = [i for i in range(len(before)) if before[i] != after[i]]
        for i in changed:
            assert jsonpatch.apply_patch(before[i], json.loads(patch.stdout)) == after[i]
        assert len(changed) == (1 if json.loads(patch.stdout) else 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["v1=90", "v2=9"], "the weights must sum to 100: v1 90, v2 9 sum to 99"),
        ([], "the weights must sum to 100: none were given"),
        (["v1"], "'v1' must be SUBSET=WEIGHT"),
        (["=5"], "'=5' must be"),
        (["a/b/c=5"], "'a/b/c=5' must be"),
        (["v1=90", "v1=10"], "v1 is given twice"),
        (["v1=110", "v2=-10"], "the weight of v2 is negative: -10"),
        (["v1=99.5", "v2=0.5"], "the weight of v1 must be a whole number from 0 to 100, not '99.5'"),
        (["v1=1e2"], "not '1e2'"),
        (["v1="], "not ''"),
        (["v1=10=90"], "not '10=90'"),
        (["v1=" + "9" * 5000], "must be a whole number"),
        (["v1=\u0661\u0660\u0660"], "must be a whole number"),
        (["v1=90", "v3=10"], "route primary (http[0]) has no destination 'v3'; it has ranker/v1, ranker/v2"),
        (["v1=90", "v2=10", "--route", "primry"], "no route 'primry' (did you mean primary?)"),
        (["v1=90", "v2=10", "--route", "a\nb"], "no route 'a\\nb'"),
        (["v1=90", "v2=10", "-o", "xml"], "-o must be patch or yaml, not 'xml'"),
        (["v1=90", "v2=10", "--virtual-service", "x"], "no VirtualService 'x'; there is ml/ranker"),
    ],
)
def test_a_bad_request_is_one_line_on_stderr(penstock, file, arguments, words):
    result = penstock(file, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {file}: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"a: \xff\n", "line 1: not a text file in UTF-8, found byte 0xff"),
        (b"a: [1\nb: 2\n", "line 2, column 2"),
        (b"", "no VirtualService in it"),
        (b"kind: Gateway\n", "no VirtualService in it, only Gateway"),
        (VS.encode() + b"---\n" + VS.encode(), "2 VirtualServices: ml/ranker, ml/ranker"),
        (b"kind: VirtualService\nspec: 5\n", "spec must be a mapping, found the number 5"),
        (
            VS.replace("100", "'100'").encode(),
            "spec.http[0].route[0].weight must be a whole number, found '100'",
        ),
    ],
)
@pytest.mark.parametrize("output", ["patch", "yaml"])
def test_a_bad_file_is_one_line_on_stderr(penstock, tmp_path, content, words, output):
    file = tmp_path / "bad.yaml"
    if content is not None:
        file.write_bytes(content)
    result = penstock(file, "v1=90", "v2=10", "-o", output)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {file}: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_is_not_a_file(penstock, tmp_path):
    result = penstock(tmp_path, "v1=100")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {tmp_path}: Is a directory\n"


def test_stdin_has_a_name_in_errors(penstock):
    result = penstock(Path("-"), "v1=100", stdin="a: [")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: stdin: line 1, column ")
