import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from controller.cli import app, status
from tests.support.fake_backend import FakeBackend, event, policy, running
from tests.support.fake_run import POLICY, fake_run
from tests.support.served import TOKEN, served

ROOT = Path(__file__).parents[2]
RUN = fake_run(harmful=True)
COMMANDS = {
    "abort", "crd", "down", "get", "judge", "lint", "pause", "plan", "promote", "replay", "report", "resume",
    "retry", "run", "simulate", "status", "up", "version", "weights",
}  # fmt: skip


@pytest.fixture
def backend():
    return FakeBackend(
        [running(), policy("ml", "idle"), policy("web", "shop"), policy("lab", "shop")], [RUN], [event()]
    )


@pytest.fixture
def server(backend, monkeypatch):
    with served(backend) as url:
        monkeypatch.setenv("PENSTOCK_SERVER", url)
        monkeypatch.setenv("PENSTOCK_TOKEN", TOKEN)
        yield url


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch, tmp_path):
    """Start every test in an empty folder, with no controller in sight."""
    for name in ("PENSTOCK_SERVER", "PENSTOCK_TOKEN", "PENSTOCK_DIR", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments, code=0, stdin=None):
    """Run a command; return what it printed on stdout and stderr."""
    result = CliRunner().invoke(app, arguments, input=stdin)
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.stdout, result.stderr


def set_status(backend, *, stalled=False, **run_facts):
    obj = running(**run_facts)
    obj["status"]["conditions"] = [{"type": "Stalled", "status": str(stalled)}]
    backend.policies["ml", "ranker"] = obj


def test_all_commands_are_there():
    assert {command.name or command.callback.__name__ for command in app.registered_commands} == COMMANDS


def test_starting_imports_nothing_heavy():
    heavy = (
        "fastapi sqlalchemy scipy numpy kubernetes prometheus_api_client aiohttp uvicorn requests pydantic"
    )
    script = f"import sys, controller.cli; print(*[m for m in {heavy.split()} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert found.stdout.strip() == ""


# --- get


def test_get_lists_rollouts_as_a_table(server):
    out, err = run("get")
    lines = out.splitlines()
    assert lines[0].split() == ["NAMESPACE", "NAME", "STATE", "STEP", "WEIGHTS", "VERDICT", "HARM", "AGE"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["lab", "shop", "Pending"],
        ["ml", "idle", "Pending"],
        ["ml", "ranker", "Progressing"],
        ["web", "shop", "Pending"],
    ]
    assert err == ""


def test_get_reads_every_page(backend, server):
    backend.policies = {("ml", f"r{n}"): policy("ml", f"r{n}") for n in range(1001)}
    assert len(run("get", "-o", "name")[0].splitlines()) == 1001


def test_get_can_be_narrowed_and_named(server):
    assert run("get", "rollouts", "-n", "web", "-o", "name")[0] == "web/shop\n"
    assert run("get", "rollouts", "ranker", "-o", "name")[0] == "ml/ranker\n"
    assert "SUMMARY" in run("get", "-o", "wide")[0]


def test_get_gives_objects_as_kubectl_does(server):
    found = json.loads(run("get", "-o", "json")[0])
    assert (found["kind"], len(found["items"])) == ("List", 4)
    one = yaml.safe_load(run("get", "rollouts", "ml/ranker", "-o", "yaml")[0])
    assert (one["kind"], one["status"]["verdict"]) == ("RolloutPolicy", "Undecided")


def test_get_runs_and_events(server):
    assert "RolledBack" in run("get", "runs")[0]
    assert run("get", "runs", "ranker", "-o", "name")[0] == f"{RUN['id']}\n"
    assert run("get", "runs", "web/shop", "-o", "name")[0] == ""
    assert run("get", "runs", "-n", "web", "-o", "name")[0] == ""
    assert json.loads(run("get", "run", RUN["id"])[0]) == RUN
    assert json.loads(run("get", "runs", "-o", "json")[0])["items"][0]["outcome"] == "RolledBack"
    assert "Started" in run("get", "events", "ranker")[0]
    assert yaml.safe_load(run("get", "events", "-o", "yaml")[0])["items"][0]["object"] == "ml/ranker"


# --- names and failures


def test_a_name_without_namespace_must_be_the_only_one(server):
    _, err = run("status", "shop", code=1)
    assert err == "error: there are several rollouts shop: lab/shop, web/shop; say which\n"
    assert run("get", "rollouts", "shop", "-n", "web", "-o", "name")[0] == "web/shop\n"
    assert run("status", "nope", code=1)[1] == "error: there is no rollout nope\n"
    assert run("status", "ml/nope", code=1)[1] == "error: there is no rollout ml/nope\n"
    assert "not in namespace" in run("status", "ml/ranker", "-n", "web", code=1)[1]


def test_without_a_folder_the_message_says_what_to_do():
    out, err = run("get", code=1)
    assert out == ""
    assert err.startswith("error: neither ")
    assert "`penstock up DIR`" in err
    assert "`kubectl penstock`" in err


def controller_folder(path, **endpoint):
    (path / ".penstock").mkdir()
    (path / ".penstock" / "token").write_text(TOKEN)
    if endpoint:
        (path / ".penstock" / "endpoint.json").write_text(json.dumps(endpoint))


@pytest.mark.parametrize("endpoint", [{}, {"url": "http://127.0.0.1:1", "pid": 1}])
def test_without_a_controller_the_message_says_what_to_do(tmp_path, endpoint):
    controller_folder(tmp_path, **endpoint)
    _, err = run("get", code=1)
    assert err.startswith(
        f"error: no controller is running for {tmp_path}; start one with `penstock up {tmp_path}`"
    )


def test_the_folder_gives_address_and_token(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with served(backend) as url:
        controller_folder(tmp_path, url=url)
        monkeypatch.chdir("/")
        run("pause", "ranker", "--dir", str(tmp_path))
    assert [action[:3] for action in backend.actions] == [("ml", "ranker", "pause")]


def test_a_server_that_is_something_else_is_told_in_one_line(server):
    assert (
        run("get", "--server", "http://127.0.0.1:1", code=1)[1]
        == "error: no answer from http://127.0.0.1:1\n"
    )
    assert run("get", "--server", f"{server}/nope", code=1)[1].count("\n") == 1
    assert "http://" in run("get", "--server", "localhost", code=2)[1]


@pytest.mark.parametrize(
    "arguments",
    [["get", "nothing"], ["status"], ["get", "-o", "xml"], ["report", "x", "-o", "pdf"], ["promot"]],
)
def test_wrong_usage_is_two(arguments):
    out, err = run(*arguments, code=2)
    assert out == ""
    assert "Traceback" not in err


def test_a_controller_that_cannot_answer_is_one_line(backend, server):
    backend.down = True
    assert run("get", code=1)[1] == "error: the store is locked\n"


# --- status


def test_status_draws_the_tree(server):
    out, err = run("status", "ranker", code=3)
    assert out.startswith("ml/ranker  Progressing  Step 2/3, 25% to candidate: undecided\n├── stable")
    assert "▶ step 2   25%" in out
    assert err == ""


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"outcome": "Promoted"}, 0),
        ({"outcome": "RolledBack"}, 1),
        ({}, 3),
        ({"paused": True}, 4),
        ({"waitingForApproval": True}, 4),
    ],
)
def test_status_exits_with_what_scripts_need(backend, server, facts, code):
    set_status(backend, **facts)
    out, _ = run("status", "ranker", "-o", "json", code=code)
    assert json.loads(out)["name"] == "ranker"


def changing(backend, *steps):
    """Let the rollout move on with each look of the command."""
    looks = iter(steps)
    ask = backend.rollout

    async def rollout(namespace, name):
        set_status(backend, **next(looks, steps[-1]))
        return await ask(namespace, name)

    backend.rollout = rollout


def test_watching_prints_each_change_and_ends_with_the_run(backend, server, monkeypatch):
    monkeypatch.setattr(status, "PERIOD", 0.01)
    changing(backend, {}, {}, {"paused": True}, {"outcome": "Promoted"})
    out, _ = run("status", "ranker", "--watch")
    assert [line.split()[2] for line in out.splitlines()] == ["Progressing", "Paused", "Promoted"]


def test_watching_ends_with_the_time(backend, server, monkeypatch):
    monkeypatch.setattr(status, "PERIOD", 0.01)
    out, err = run("status", "ranker", "--watch", "--timeout", "50ms", code=3)
    assert len(out.splitlines()) == 1
    assert err == "still Progressing after 0.05 s\n"
    assert "must be a duration" in run("status", "ranker", "--watch", "--timeout", "soon", code=2)[1]


def test_watching_bears_a_short_stall(backend, server, monkeypatch):
    monkeypatch.setattr(status, "PERIOD", 0.01)
    changing(backend, {"stalled": True}, {"stalled": True}, {"outcome": "Promoted"})
    out, _ = run("status", "ranker", "--watch")
    assert [line.split()[2] for line in out.splitlines()] == ["Stalled", "Promoted"]


def test_watching_does_not_bear_a_long_stall(backend, server, monkeypatch):
    monkeypatch.setattr(status, "PERIOD", 0.01)
    monkeypatch.setattr(status, "PATIENCE", 0.02)
    changing(backend, {"stalled": True})
    assert "Stalled" in run("status", "ranker", "--watch", code=1)[0]


def test_watching_as_data_prints_the_last_state_only(backend, server, monkeypatch):
    monkeypatch.setattr(status, "PERIOD", 0.01)
    changing(backend, {}, {"outcome": "RolledBack"})
    assert json.loads(run("status", "ranker", "--watch", "-o", "json", code=1)[0])["state"] == "RolledBack"


# --- actions


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [
        (["promote"], "promote"),
        (["promote", "--full"], "promote-full"),
        (["abort"], "abort"),
        (["pause"], "pause"),
        (["resume"], "resume"),
        (["retry"], "retry"),
    ],
)
def test_actions_reach_the_controller_with_who_asked(backend, server, arguments, verb):
    out, err = run(*arguments, "ml/ranker")
    assert out == ""
    assert err == f"ml/ranker: {verb} asked for; see `penstock status ml/ranker`\n"
    ((*place, found, actor),) = backend.actions
    assert (place, found) == (["ml", "ranker"], verb)
    assert "@" in actor


def test_a_refused_action_says_why(backend, server, monkeypatch):
    backend.refusal = "cannot retry ranker: a run is in progress"
    assert run("retry", "ranker", code=1)[1] == "error: cannot retry ranker: a run is in progress\n"
    monkeypatch.setenv("PENSTOCK_TOKEN", "other")
    assert "token" in run("abort", "ranker", code=1)[1]
    monkeypatch.delenv("PENSTOCK_TOKEN")
    assert "set PENSTOCK_TOKEN" in run("abort", "ranker", code=1)[1]


# --- report


def test_the_report_of_a_rollout_is_that_of_its_last_run(server):
    by_name, by_run = run("report", "ranker")[0], run("report", RUN["id"])[0]
    assert by_name == by_run
    assert by_name.startswith("Rolled back candidate after 1m31s")


def test_the_report_as_data_and_as_a_page_in_a_file(server, tmp_path):
    assert json.loads(run("report", "ranker", "-o", "json")[0])["outcome"] == "RolledBack"
    out, err = run("report", "ranker", "-o", "html", "--output", str(tmp_path / "r.html"))
    assert (out, err) == ("", f"wrote {tmp_path / 'r.html'}\n")
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert "cannot write" in run("report", "ranker", "--output", str(tmp_path / "no" / "r"), code=1)[1]


def test_no_run_yet_and_unknown_runs_are_told(server):
    assert run("report", "idle", code=1)[1] == "error: ml/idle has had no run yet\n"
    assert run("report", "ml.x.1.2", code=1)[1] == "error: there is no run ml.x.1.2\n"


# --- offline


def test_plan_tells_in_words_what_will_happen(tmp_path):
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    out, err = run("plan", str(tmp_path))
    assert out.startswith("ml/ranker\n")
    assert "STEP  WEIGHT" in out
    assert err == ""
    (item,) = json.loads(run("plan", "policy.yaml", "-o", "json")[0])["items"]
    assert [step["weight"] for step in item["steps"]] == [5, 25, 50]
    assert run("plan", "-", stdin=yaml.safe_dump(POLICY))[0] == out


def test_plan_tells_how_long_decisions_take_when_it_knows_the_traffic(tmp_path):
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    out, _ = run("plan", "policy.yaml", "--rps", "200", "--baseline", "0.5%")
    assert "METRIC  WEIGHT  HARM x1.5" in out
    assert [line.split()[:2] for line in out.splitlines()[-3:]] == [
        ["errors", "5%"],
        ["errors", "25%"],
        ["errors", "50%"],
    ]
    assert "must be a percentage" in run("plan", "policy.yaml", "--rps", "200", "--baseline", "x", code=2)[1]
    assert "rps must be positive" in run("plan", "policy.yaml", "--rps", "0", code=2)[1]


def test_plan_says_what_an_engine_lacks(tmp_path):
    named = {**POLICY, "spec": {**POLICY["spec"], "decision": {"engine": "threshold"}}}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(named))
    out, _ = run("plan", "policy.yaml")
    assert "What threshold does not guarantee:" in out
    assert "It states no error rate" in out
    (item,) = json.loads(run("plan", "policy.yaml", "-o", "json")[0])["items"]
    assert len(item["lacks"]) == 3


def test_plan_names_what_is_wrong(tmp_path):
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(POLICY).replace("25%", "lots"))
    out, err = run("plan", "bad.yaml", code=1)
    assert out == ""
    assert "bad.yaml:" in err
    assert "spec.metrics[0].margin" in err
    assert "no such file" in run("plan", "nope.yaml", code=2)[1].lower()
    (tmp_path / "other.yaml").write_text("kind: Service\napiVersion: v1\nmetadata: {name: x}\n")
    assert "no RolloutPolicy" in run("plan", "other.yaml", code=1)[1]
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in run("plan", "binary.yaml", code=2)[1]


def test_crd_prints_definitions_that_can_be_applied():
    documents = list(yaml.safe_load_all(run("crd")[0]))
    assert {document["kind"] for document in documents} == {"CustomResourceDefinition"}
    assert {document["spec"]["names"]["kind"] for document in documents} == {
        "RolloutPolicy",
        "MetricTemplate",
    }


def test_version():
    assert run("version")[0].startswith("penstock 0.")


def penstock(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = "from controller.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment, **options)


def test_a_reader_who_leaves_early_gets_no_traceback():
    process = penstock("crd", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


def test_colours_are_for_terminals_only(server):
    process = penstock("status", "ranker", stdout=subprocess.PIPE)
    out, _ = process.communicate()
    assert process.returncode == 3
    assert b"\x1b" not in out
