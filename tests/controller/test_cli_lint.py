"""`penstock lint`: lines, exit status, folders and stdin."""

from __future__ import annotations

import asyncio
import json

import pytest
import typer
from typer.testing import CliRunner

from controller.cli.lint import register
from tests.support.fake_prometheus import fake_prometheus
from tests.support.policies import changed, template, text

GOOD = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: team}
spec:
  hosts: [web]
  http:
  - route:
    - destination: {host: web}
"""
WARNED = GOOD.replace(
    "http:\n",
    "http:\n  - mirrorPercent: 5\n    route: [{destination: {host: web}}]\n    match: [{port: 80}]\n",
)
BAD = GOOD.replace("    - dest", "    - weight: -1\n      dest")
QUERIES = {"open": " + (", "only-prometheus-knows": " or or up"}
POLICY = """\
apiVersion: penstock.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: web, namespace: team}
spec:
  service: {host: web}
  virtualService: {name: web}
  variants:
  - {name: stable, subset: v1}
  - {name: candidate, subset: v2}
  strategy: {canary: {steps: [{weight: 5}]}}
  metrics: [{template: istio-error-rate, margin: 25%}]
"""


@pytest.fixture
def penstock():
    app = typer.Typer()
    register(app)

    @app.command()
    def other() -> None:
        """So that `lint` is a subcommand, as in the real application."""

    def call(*arguments, stdin=None):
        return CliRunner().invoke(app, ["lint", *map(str, arguments)], input=stdin)

    return call


@pytest.fixture
def folder(tmp_path):
    def write(**files):
        for name, content in files.items():
            path = tmp_path / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return write


def test_a_sound_file_is_silent_on_stdout(penstock, folder):
    result = penstock(folder(vs=GOOD) / "vs.yaml")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "0 errors and 0 warnings in 1 file\n"


async def test_a_prometheus_is_asked_to_parse_the_queries_that_are_no_problem_yet(penstock, folder):
    query = template()["spec"]["query"]
    own = {name: changed(template(name=name), "spec.query", query + rest) for name, rest in QUERIES.items()}
    path = folder(templates=text(*own.values()))
    async with fake_prometheus() as fake:
        fake.status, fake.body = 400, '{"status": "error", "error": "1:9: parse error"}'
        result = await asyncio.to_thread(penstock, path, "--prometheus", fake.url)
        assert [question["query"] for question in fake.asked] == [query + QUERIES["only-prometheus-knows"]]
        fake.status, fake.body = 200, '{"status": "success"}'
        better = await asyncio.to_thread(penstock, path, "--prometheus", fake.url)
        fake.status = 503
        down = await asyncio.to_thread(penstock, path, "--prometheus", fake.url)
    assert result.exit_code == 1
    told = {
        line.partition(" spec.query: ")[0].rpartition("/")[2]: line for line in result.stdout.splitlines()
    }
    assert told.keys() == QUERIES.keys()
    assert all("error PS059" in line for line in told.values())
    assert "answers 400 Bad Request: 1:9: parse error" in told["only-prometheus-knows"]
    assert better.stdout.count("PS059") == 1
    assert (down.exit_code, down.stdout) == (2, "")
    assert "answers 503" in down.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prometheus", ""], "must be http(s)://HOST"),
        (["--prometheus-token-file", "token"], "--prometheus-token-file needs --prometheus"),
        (["--prometheus-header", "X-Scope-OrgID=team"], "--prometheus-header needs --prometheus"),
    ],
)
def test_options_of_a_prometheus_that_would_not_be_asked_are_refused(penstock, folder, options, words):
    """`--prometheus "$URL"` without the variable must not pass for a check."""
    result = penstock(folder(vs=GOOD) / "vs.yaml", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


def test_the_variables_of_other_commands_do_not_disturb(penstock, folder, monkeypatch):
    monkeypatch.setenv("PENSTOCK_PROMETHEUS_TOKEN_FILE", "token")
    assert penstock(folder(vs=GOOD) / "vs.yaml").exit_code == 0


def test_an_error_is_one_line_with_its_place_and_status_1(penstock, folder):
    path = folder(vs=BAD) / "vs.yaml"
    result = penstock(path)
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{path}:8:7: error PS137: VirtualService/team/web spec.http[0].route[0].weight: ")
    assert result.exit_code == 1
    assert result.stderr == "1 error and 0 warnings in 1 file\n"


def test_warnings_alone_leave_status_0(penstock, folder):
    result = penstock(folder(vs=WARNED))
    assert result.exit_code == 0
    assert [line.split()[1:3] for line in result.stdout.splitlines()] == [["warning", "PS131:"]]


def test_the_files_of_a_folder_are_judged_together(penstock, folder):
    result = penstock(folder(vs=GOOD, policy=POLICY))
    codes = [line.split()[2] for line in result.stdout.splitlines()]
    assert codes == ["PS403:", "PS405:", "PS403:", "PS405:"]
    assert result.exit_code == 1


def test_what_a_policy_alone_needs_may_be_in_the_cluster(penstock, folder):
    result = penstock(folder(policy=POLICY))
    assert [line.split()[1:3] for line in result.stdout.splitlines()] == [
        ["warning", "PS401:"], ["warning", "PS405:"], ["warning", "PS405:"],
    ]  # fmt: skip
    assert result.exit_code == 0


def test_an_object_read_in_part_is_not_said_to_be_missing(penstock, folder):
    result = penstock(folder(policy=POLICY, vs=GOOD.replace("spec:", "metadata: {name: web}\nspec:")))
    codes = [line.split()[2] for line in result.stdout.splitlines()]
    assert codes == ["PS405:", "PS405:", "PS002:"]


def test_two_policies_for_one_route_are_an_error(penstock, folder):
    twin = POLICY.replace("name: web, namespace", "name: twin, namespace")
    assert "PS066" in penstock(folder(a=POLICY, b=twin)).stdout


def test_hidden_files_are_left_alone(penstock, folder):
    root = folder(vs=GOOD)
    (root / ".penstock").mkdir()
    (root / ".penstock" / "old.yaml").write_text(BAD)
    (root / ".swap.yaml").write_text(BAD)
    assert penstock(root).stderr == "0 errors and 0 warnings in 1 file\n"


def test_a_dash_is_stdin(penstock):
    result = penstock("-", stdin=BAD)
    assert result.stdout.startswith("stdin:8:7: error PS137")


def test_json_holds_every_part_of_a_finding(penstock, folder):
    path = folder(vs=BAD) / "vs.yaml"
    result = penstock(path, "-o", "json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding == {
        "code": "PS137", "severity": "error", "object": "VirtualService/team/web",
        "path": "spec.http[0].route[0].weight", "message": "weight must not be negative", "found": "-1",
        "allowed": None, "file": str(path), "line": 8, "column": 7,
    }  # fmt: skip


def test_names_cannot_steer_the_terminal(penstock, folder):
    result = penstock(folder(vs=BAD.replace("name: web,", 'name: "web\\e[31m\\x9b\\a",')))
    assert result.exit_code == 1
    assert not set(result.stdout) & set("\x1b\x9b\x07")
    assert all(line.count(": error PS1") == 1 for line in result.stdout.splitlines())


def test_text_that_is_no_yaml_is_an_error_with_its_line(penstock, folder):
    result = penstock(folder(vs=GOOD + "  bad: [\n"))
    assert result.exit_code == 1
    assert ": error PS001: " in result.stdout


def test_a_document_read_in_part_is_not_judged_further(penstock, folder):
    result = penstock(folder(vs=BAD + "      weight: 5\n"))
    assert [line.split()[2] for line in result.stdout.splitlines()] == ["PS002:"]


@pytest.mark.parametrize("name", ["missing.yaml", "latin.yaml", "empty"])
def test_what_cannot_be_read_is_status_2_and_nothing_on_stdout(penstock, tmp_path, name):
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    (tmp_path / "empty").mkdir()
    result = penstock(tmp_path / name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {tmp_path / name}: ")
    assert result.stderr.count("\n") == 1


def test_findings_come_in_the_order_of_the_text(penstock, folder):
    result = penstock(folder(b=BAD, a=WARNED.replace("name: web", "name: other")))
    places = [line.split(": ")[0].rsplit("/", 1)[1] for line in result.stdout.splitlines()]
    assert places == ["a.yaml:7:5", "b.yaml:8:7"]


def test_a_margin_finer_than_the_edges_is_a_warning_at_its_place(folder, penstock):
    fine = POLICY.replace("istio-error-rate, margin: 25%", "istio-latency, margin: 10%")
    result = penstock(folder(a=fine))
    [line] = [line for line in result.stdout.splitlines() if "PS067" in line]
    assert "a.yaml:11:39: warning PS067" in line
    assert "the margin is finer than the edges, which can prove 100% at best" in line
    assert result.exit_code == 0
    assert "PS067" not in penstock(folder(a=fine.replace("10%", "100%"))).stdout


def test_another_engine_is_a_warning_at_its_place(folder, penstock):
    named = POLICY.replace("  metrics:", "  decision: {engine: threshold}\n  metrics:", 1)
    assert named != POLICY
    result = penstock(folder(a=named))
    [line] = [line for line in result.stdout.splitlines() if "PS069" in line]
    assert "warning PS069" in line
    assert "does not keep falseRollback and falsePromote" in line
    assert result.exit_code == 0
