"""`kubectl penstock` without a cluster: its flags, its words, and what it makes of Kubernetes' answers."""

from __future__ import annotations

import json
import stat
import subprocess
import sys

import pytest
import typer

from controller.cli import app, peers, plugin
from controller.cli.client import ApiError, Client, connect, locate
from controller.cli.kubectl import Kubectl, kubectl_of
from controller.view import EventView, RolloutView
from tests.support.fake_backend import policy, running

SERVICE = {"metadata": {"namespace": "penstock", "name": "penstock"}}


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """A kubectl that answers from a table, by words of its command line, and notes what it was asked."""
    answers = tmp_path / "answers.json"
    asked = tmp_path / "asked"
    script = tmp_path / "kubectl"
    script.write_text(
        "#!/usr/bin/env python3\n"
        "import json, sys\n"
        f"line = ' '.join(sys.argv[1:]); open({str(asked)!r}, 'a').write(line + '\\n')\n"
        f"for words, answer in json.load(open({str(answers)!r})):\n"
        "    if words in line:\n"
        "        sys.exit(answer) if isinstance(answer, str) else print(json.dumps(answer))\n"
        "        sys.exit(0)\n"
        "sys.exit('error: nobody expected ' + line)\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def answer(*table):
        answers.write_text(json.dumps(table))
        return lambda: asked.read_text().splitlines() if asked.exists() else []

    return answer


def listing(*objects):
    return {"items": list(objects)}


@pytest.mark.parametrize(
    ("line", "server", "rest"),
    [
        ("list", "kubectl:?", ["list"]),
        ("list -A", "kubectl:?namespace=", ["list"]),
        ("status ranker -n ml --context prod", "kubectl:?context=prod", ["status", "ranker", "-n", "ml"]),
        ("--context=prod pause x --as ada", "kubectl:?context=prod&as=ada", ["pause", "x"]),
        ("report x --service a/b", "kubectl:?service=a%2Fb", ["report", "x"]),
        ("promote x --full", "kubectl:?", ["promote", "x", "--full"]),
    ],
)
def test_flags_of_kubectl_may_stand_anywhere(monkeypatch, line, server, rest):
    monkeypatch.delenv("PENSTOCK_SERVICE", raising=False)
    assert plugin.server_of(line.split()) == (server, rest)


def test_the_service_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("PENSTOCK_SERVICE", "a/b")
    assert plugin.server_of(["list"])[0] == "kubectl:?service=a%2Fb"
    assert plugin.server_of(["list", "--service", "c/d"])[0] == "kubectl:?service=c%2Fd"


def test_what_the_flags_become_is_understood():
    assert kubectl_of("kubectl:") == Kubectl()
    way = kubectl_of("kubectl:?context=prod&namespace=&service=a%2Fb")
    assert way == Kubectl({"context": "prod"}, "", "a/b")


def test_starting_imports_nothing_heavy():
    heavy = ("scipy", "pydantic", "requests")
    script = f"import sys, controller.cli.plugin; print(*[m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_any_command_goes_through_kubectl_when_told_so(kubectl):
    kubectl(["get rolloutpolicies", listing(running())])
    views = connect("kubectl:", None).pages(RolloutView, "v1", "rollouts")
    assert [view.key for view in views] == ["ml/ranker"]


@pytest.mark.parametrize(
    ("way", "query", "place"),
    [
        (Kubectl(), {}, ""),
        (Kubectl(namespace=""), {}, " --all-namespaces"),
        (Kubectl(namespace=""), {"namespace": "ml"}, " -n ml"),
    ],
)
def test_without_a_namespace_the_contexts_counts(kubectl, way, query, place):
    asked = kubectl(["get rolloutpolicies", listing()])
    Client(way).pages(RolloutView, "v1", "rollouts", **query)
    assert asked() == [f"get rolloutpolicies.penstock.dev{place} -o json --request-timeout=15s"]


def test_flags_reach_kubectl(kubectl):
    asked = kubectl(["get rolloutpolicies", listing()])
    Client(Kubectl({"context": "prod", "as": "ada"})).pages(RolloutView, "v1", "rollouts")
    assert "--context=prod --as=ada" in asked()[0]


def test_a_rollout_comes_with_evidence_from_the_controller(kubectl):
    live = {"object": None}
    kubectl(
        [
            "get --raw /api/v1/namespaces/penstock/services/http:penstock:http/proxy/v1/rollouts/ml/ranker",
            live,
        ],
        ["get services --all-namespaces", listing(SERVICE)],
        ["get rolloutpolicies", running()],
    )
    assert json.loads(Kubectl().ask("GET", ("v1", "rollouts", "ml", "ranker"), {}, None)) == live


def test_without_the_controller_a_rollout_comes_from_kubernetes_and_says_so_once(kubectl, capsys):
    happened = {
        "type": "Normal", "reason": "Started", "note": "run 3", "eventTime": "2026-11-20T10:00:00.000000Z",
        "series": {"count": 4, "lastObservedTime": "2026-11-20T10:05:00.000000Z"},
        "regarding": {"kind": "RolloutPolicy", "namespace": "ml", "name": "ranker"},
    }  # fmt: skip
    asked = kubectl(
        ["get services", listing()],
        ["get events", listing(happened)],
        ["get rolloutpolicies", running()],
    )
    client = Client(Kubectl())
    for _ in range(2):
        view = client.get(RolloutView, "v1", "rollouts", "ml", "ranker")
    assert (view.state, view.run.step, view.variants[1].weight) == ("Progressing", 2, 25)
    assert view.events == (
        EventView(
            "Normal",
            "Started",
            "run 3",
            4,
            "2026-11-20T10:00:00.000000Z",
            "2026-11-20T10:05:00.000000Z",
            "ml/ranker",
        ),
    )
    assert capsys.readouterr().err.count("without evidence") == 1
    assert sum("get services" in line for line in asked()) == 1


def test_an_action_is_an_annotation_guarded_by_what_was_read(kubectl):
    asked = kubectl(["get rolloutpolicies", running()], ["patch rolloutpolicies", {}])
    Client(Kubectl()).post(
        "v1", "rollouts", "ml", "ranker", "actions", body={"verb": "pause", "actor": "ada@here"}
    )
    line = asked()[-1]
    operations = json.loads(line.partition(" -p ")[2].partition(" --field-manager")[0])
    assert line.startswith("patch rolloutpolicies.penstock.dev ranker -n ml --type=json")
    assert operations[0] == {"op": "test", "path": "/metadata/resourceVersion", "value": "17"}
    asked_for = json.loads(operations[1]["value"]["penstock.dev/action"])
    assert (asked_for["verb"], asked_for["actor"]) == ("pause", "ada@here")


@pytest.mark.parametrize(
    ("obj", "verb", "words"),
    [
        (running(), "retry", "cannot retry ranker: a run is in progress"),
        (running(outcome="Promoted"), "abort", "cannot abort ranker: no run is in progress"),
        (policy(), "pause", "cannot pause ranker: no run is in progress"),
    ],
)
def test_an_action_that_makes_no_sense_is_refused_in_words(kubectl, obj, verb, words):
    kubectl(["get rolloutpolicies", obj])
    with pytest.raises(ApiError, match=words):
        Client(Kubectl()).post(
            "v1", "rollouts", "ml", "ranker", "actions", body={"verb": verb, "actor": "ada"}
        )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('Error from server (NotFound): rolloutpolicies "x" not found', "there is no rollout ml/ranker"),
        ("error: You must be logged in", "You must be logged in"),
        ("Warning: old\nError from server (Forbidden): no", r"Error from server \(Forbidden\): no"),
    ],
)
def test_what_kubectl_says_is_told(kubectl, said, words):
    kubectl(["get rolloutpolicies", said])
    with pytest.raises(ApiError, match=f"^{words}$"):
        Client(Kubectl()).get(RolloutView, "v1", "rollouts", "ml", "ranker")


@pytest.mark.parametrize(
    ("services", "words"),
    [
        ([], "none with the chart's labels"),
        ([SERVICE, {"metadata": {"namespace": "b", "name": "c"}}], "several: penstock/penstock, b/c"),
    ],
)
def test_a_service_that_is_not_clear_has_to_be_said(kubectl, services, words):
    kubectl(["get services", listing(*services)])
    with pytest.raises(ApiError, match=f"{words}: say --service NAMESPACE/NAME"):
        Client(Kubectl()).text("v1", "runs", "ml.ranker.3", "report.html")


def test_no_kubectl_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ApiError, match="kubectl cannot be started: No such file"):
        Client(Kubectl()).pages(RolloutView, "v1", "rollouts")


def test_without_a_namespace_the_message_says_where_was_looked(kubectl):
    kubectl(("get rolloutpolicies", listing()))
    with pytest.raises(ApiError, match=r"no rollout x in the context's namespace: say -n NAMESPACE, or -A$"):
        locate(Client(Kubectl()), "x", None)
    with pytest.raises(ApiError, match=r"no rollout x$"):
        locate(Client(Kubectl(namespace="")), "x", None)


@pytest.fixture
def say(capsys):
    """Run a program's command; return its exit status, stdout and stderr."""

    def said(*arguments, program=plugin.command, name=plugin.NAME):
        with pytest.raises(SystemExit) as ended:
            program()(arguments, prog_name=name)
        return ended.value.code, *capsys.readouterr()

    return said


@pytest.mark.parametrize("verb", peers.ELSEWHERE)
def test_a_verb_of_another_tool_is_answered_with_what_does_it_here(say, verb):
    status, out, err = say(verb, "ranker", "-n", "ml")
    assert (status, out) == (2, "")
    assert err.endswith(f"there is no {verb!r} here: {peers.ELSEWHERE[verb]}\n")
    assert verb not in plugin.command().commands


def test_other_unknown_verbs_are_no_commands(say):
    assert "No such command 'fly'" in say("fly")[2]


def test_the_help_tells_of_kubectl_and_of_no_server(say):
    told = say("status", "--help")[1]
    assert told.startswith("Usage: kubectl penstock status")
    assert "the context's" in told
    assert "--server" not in told
    assert "--dir" not in told


def test_the_list_may_be_asked_for_as_users_of_argo_rollouts_do(kubectl, say, monkeypatch):
    kubectl(("get rolloutpolicies", listing(policy("ml", "idle"))))
    monkeypatch.setenv("PENSTOCK_SERVER", "kubectl:")
    assert "idle" in say("list", "rollouts")[1]


@pytest.mark.parametrize("program", [plugin.command, lambda: typer.main.get_command(app)])
def test_the_first_sentence_of_each_command_fits_a_terminal(say, program):
    assert "..." not in say("--help", program=program)[1].partition("Commands:")[2]


def test_following_takes_one_rollout(say):
    for arguments in (
        ["get", "-w"],
        ["get", "runs", "ranker", "-w"],
        ["get", "rollout", "x", "-w", "-o", "json"],
    ):
        status, _, err = say(*arguments)
        assert (status, "--watch follows one rollout" in err) == (2, True)
