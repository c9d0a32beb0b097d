"""`penstock replay`: what it reads, finds, and says that it cannot show; once on a real Prometheus."""

import json
import xml.etree.ElementTree as ET

import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.cli.replay import moment
from controller.standalone.listening import pick_port
from tests.support.certificates import Authority
from tests.support.guarded_prometheus import guarded_prometheus
from tests.support.past import START, MadeUpPast
from tests.support.policies import changed, policy, text
from tests.support.stored_prometheus import prometheus_with

STEPS = [{"weight": 20, "hold": "2m"}]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(made, *arguments, url=None, dispersion="1", **decision):
        metric = {
            "template": "istio-error-rate",
            "margin": "100%",
            "name": "errors",
            "dispersion": dispersion,
        }
        obj = changed(policy(), "spec.strategy.canary.steps", STEPS)
        obj = changed(obj, "spec.metrics", [metric])
        obj = changed(obj, "spec.decision", {"deadline": "20m", "falseRollback": "5%", **decision})
        (tmp_path / "policy.yaml").write_text(text(obj))
        if url is None:
            monkeypatch.setattr("controller.prometheus.PrometheusMetrics", lambda *_, **__: made)
        until = [] if "--to" in arguments else ["--to", str(made.end)]
        since = [] if "--from" in arguments else ["--from", str(START)]
        where = ["--prometheus", url or "http://127.0.0.1:1"]
        return CliRunner().invoke(app, ["replay", "policy.yaml", *where, *since, *until, *arguments])

    return invoke


def test_text_says_what_was_read_how_placebos_are_made_and_what_became_of_them(run):
    result = run(MadeUpPast(intervals=360), "--runs", "30", "--effect", "3")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "ml/ranker: 30 placebo runs for each effect, seed 1"
    assert "History: 2023-11-14 22:13:20 UTC to 2023-11-14 23:13:20 UTC, 360 intervals." in lines
    assert "Control: ranker.ml version v1, 6 series (pod-0, pod-1, pod-2, pod-3, pod-4, ...)." in lines
    assert "Windows: 3 of 20m." in lines
    assert (
        "Placebos: a random part of the series plays the candidate, of about the share of the step." in lines
    )
    assert "Effects: x2 is twice the odds of an event of errors." in lines
    rows = [line.split("  ")[0] for line in lines]
    assert [row for row in rows if row == "identical" or row[:1] == "x"] == ["identical", "x3"]
    assert "of the placebos were rolled back for harm" in lines[-1]
    assert lines[-1].endswith("the policy asks for at most 5%.")
    assert result.stderr == ""


def test_json_has_the_history_the_windows_and_every_result(run):
    result = run(MadeUpPast(intervals=250, gone=range(5, 8)), "--runs", "20", "--effect", "2,4", "-o", "json")
    found = json.loads(result.stdout)
    assert found["history"]["intervals"] == 250
    assert found["history"]["to"] - found["history"]["from"] == 2500
    assert found["history"]["series"] == [f"pod-{pod}" for pod in range(6)]
    assert found["history"]["missing"] == ["errors: nothing is known of 4 of 250 intervals"]
    assert found["windows"] == {"count": 2, "intervals": 120, "leftOut": 0, "withOneSeries": 0}
    assert [each["effect"] for each in found["results"]] == [1, 2, 4]
    assert found["results"][2]["rolledBack"]["reasons"] == {"Harmful": 20}
    assert found["falseRollback"]["asked"] == 0.05
    assert found["falseRollback"]["exceeded"] is False
    assert found["dispersion"]["errors"]["method"] == "placebo"
    assert found["effectOn"] == "errors"


def test_clustered_errors_are_found_with_a_remedy_that_helps(run):
    made = MadeUpPast(pods=10, intervals=720, cluster=8)
    found = json.loads(run(made, "--runs", "60", "-o", "json").stdout)
    assert found["falseRollback"]["exceeded"] is True
    assert 5 < found["dispersion"]["errors"]["dispersion"] < 12
    assert found["falseRollback"]["windowError"] > 0
    assert "between windows) of the placebos were rolled back" in run(made, "--runs", "60").stdout
    assert "placebos are rolled back more often than falseRollback: 5% allows." in found["warnings"]
    assert any("raise `dispersion` (errors:" in words for words in found["warnings"])
    cured = json.loads(run(made, "--runs", "60", "-o", "json", dispersion="12").stdout)
    assert cured["falseRollback"]["exceeded"] is False
    assert cured["warnings"] == []


def test_a_single_series_says_what_it_cannot_show(run):
    result = run(MadeUpPast(pods=1, intervals=120, cluster=5), "--runs", "5")
    assert (
        "Placebos: the requests of the only series are split at random, which cannot show any"
        in result.stdout
    )
    assert "WARNING: there was only one series at a time" in result.stdout


def test_a_history_shorter_than_the_deadline_is_one_window_and_windows_can_be_chosen(run):
    def windows(*arguments):
        return json.loads(run(MadeUpPast(intervals=60), "--runs", "2", "-o", "json", *arguments).stdout)[
            "windows"
        ]

    assert (windows()["count"], windows()["intervals"]) == (1, 60)
    assert (windows("--window", "3m")["count"], windows("--window", "3m")["intervals"]) == (3, 18)


def test_the_picture_is_an_svg_file(run, tmp_path):
    result = run(MadeUpPast(intervals=120), "--runs", "5", "--effect", "3", "--picture", "out.svg")
    assert result.exit_code == 0, result.output
    root = ET.fromstring((tmp_path / "out.svg").read_text())
    words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"identical", "x3", "rolled back", "promoted", "held", "time to the decision"} <= set(words)


@pytest.mark.parametrize(("arguments", "status", "message"), [
    (["--from", "yesterday"], 2, "--from must be a time such as 2026-11-22T09:00:00Z, or how long ago: 6h"),
    (["--from", "1700001000", "--to", "1700000000"], 2, "--from must lie before --to"),
    (["--from", "2200-01-01T00:00:00Z", "--to", "2201-01-01T00:00:00Z"], 2, "--from must lie before --to"),
    (["--window", "long"], 2, "--window must be a duration"),
    (["--window", "2h"], 1, "ranker.ml version v1: the history has 60 intervals; a window needs 720"),
    (["--effect", "two"], 2, "--effect must be numbers with commas between, not two"),
    (["--metric", "latency"], 2, "--metric must be one of errors, not latency"),
    (["--version", "v7"], 1, "ranker.ml version v7: there is no history"),
])  # fmt: skip
def test_what_cannot_be_replayed_is_said_in_a_line(run, arguments, status, message):
    result = run(MadeUpPast(intervals=60), *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_prometheus_that_does_not_answer_fails_in_a_line(run):
    result = run(MadeUpPast(intervals=60), url=f"http://127.0.0.1:{pick_port()}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be reached" in result.stderr


def test_a_guarded_prometheus_is_asked_with_what_the_options_name(run, tmp_path):
    authority, token = Authority(tmp_path / "ca"), tmp_path / "token"
    token.write_text("not-the-one")
    options = ("--prometheus-token-file", str(token), "--prometheus-ca-file", str(authority.certificate))
    with guarded_prometheus(authority.server()) as guarded:
        guarded.wants = {"Authorization": "Bearer the-one"}
        result = run(MadeUpPast(intervals=60), *options, url=guarded.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"answers 401 Unauthorized; asked with the token from {token}" in result.stderr
    assert guarded.asked


@pytest.mark.parametrize(("words", "expected"), [
    ("6h", 1000 - 6 * 3600), ("0s", 1000), ("1700000000", 1.7e9), ("1700000000.5", 1700000000.5),
    ("2023-11-14T22:13:20Z", 1.7e9), ("2023-11-14T22:13:20", 1.7e9), ("2023-11-14T23:13:20+01:00", 1.7e9),
])  # fmt: skip
def test_times_are_given_as_people_write_them(words, expected):
    assert moment(words, 1000.0, "--from") == expected


@pytest.mark.parametrize("words", ["", "-5", "nan", "1e12", "soon"])
def test_other_words_are_no_times(words):
    with pytest.raises(ValueError, match="--from must be a time"):
        moment(words, 1000.0, "--from")


@pytest.mark.real
def test_a_real_prometheus_gives_the_same_as_its_counters_say(run, tmp_path):
    made = MadeUpPast(pods=3, intervals=120)
    expected = json.loads(run(made, "--runs", "10", "-o", "json").stdout)
    with prometheus_with(made.exposition(), tmp_path / "prometheus") as url:
        result = run(made, "--runs", "10", "-o", "json", url=url)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == expected
