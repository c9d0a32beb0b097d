import json

import pytest
from typer.testing import CliRunner

from controller.cli import app
from tests.support.policies import changed, policy, text

STEPS = [{"weight": 10, "hold": "30s"}, {"weight": 50, "hold": "30s", "pause": True}]
ERRORS = {"template": "istio-error-rate", "margin": "50%"}
LATENCY = {"template": "istio-latency", "margin": "100%"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments, metrics=(ERRORS,), **decision):
        obj = changed(policy(), "spec.strategy.canary.steps", STEPS)
        obj = changed(obj, "spec.metrics", list(metrics))
        obj = changed(obj, "spec.decision", {"deadline": "5m", **decision})
        (tmp_path / "policy.yaml").write_text(text(obj))
        return CliRunner().invoke(app, ["simulate", "policy.yaml", *arguments])

    return invoke


def test_text_tells_what_was_assumed_and_what_became_of_every_candidate(run):
    result = run("--runs", "20", "--effects", "3,1.5")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "ml/ranker: 20 simulated runs for each candidate, seed 1"
    assert "Traffic: 200 requests per second in all." in lines
    assert "Errors: 1% of the control's requests." in lines
    assert "Scenario iid: requests are independent of each other." in lines
    assert "Approvals are given at once." in lines
    rows = [line.split("  ")[0] for line in lines]
    assert [row for row in rows if row == "identical" or row[:1] == "x"] == ["identical", "x1.5", "x3"]
    assert lines[-1].endswith(
        "identical candidates were rolled back for harm; the policy asks for at most 1%."
    )
    assert "WARNING" not in result.stdout
    assert result.stderr == ""


def test_json_has_shares_with_errors_medians_and_reasons(run):
    result = run("--runs", "20", "--effects", "4", "-o", "json")
    found = json.loads(result.stdout)
    assert (found["policy"], found["runs"], found["scenario"], found["harm"]) == (
        "ml/ranker",
        20,
        "iid",
        "errors",
    )
    identical, bad = found["results"]
    assert (identical["effect"], bad["effect"]) == (1, 4)
    assert bad["rolledBack"]["reasons"] == {"Harmful": 20}
    assert bad["rolledBack"]["share"] == 1
    assert 0 < bad["rolledBack"]["error"] < 0.1
    assert bad["medianSeconds"] == bad["rolledBack"]["medianSeconds"] < 60
    for each in found["results"]:
        assert sum(each[outcome]["count"] for outcome in ("promoted", "rolledBack", "held")) == 20
    assert found["falseRollback"]["asked"] == 0.01
    assert found["falseRollback"]["exceeded"] is False
    assert found["warnings"] == []


def test_false_rollbacks_beyond_what_the_policy_asks_for_are_told_with_a_remedy_that_helps(run):
    found = json.loads(run("--scenario", "bursts", "--effects", "1", "--runs", "60", "-o", "json").stdout)
    assert found["falseRollback"]["exceeded"] is True
    [warning] = found["warnings"]
    assert "rolled back more often than falseRollback: 1% allows" in warning
    assert 'raise `dispersion` (istio-error-rate: "6") and try again' in warning
    cured = run(
        "--scenario", "bursts", "--effects", "1", "--runs", "60", metrics=[{**ERRORS, "dispersion": "6"}]
    )
    assert "WARNING" not in cured.stdout


def test_promotions_beyond_the_margin_are_told(run):
    """Harm that begins after most of the proof of safety was collected."""
    late = ("--scenario", "late", "--effects", "1.5", "--runs", "150", "--rps", "500")
    result = run(*late, falsePromote="5%")
    assert "x1.5, which is not within the margin, were promoted; falsePromote is 5%." in result.stdout
    assert "What it did before the harm counts too" in result.stdout
    assert "promoted; falsePromote" not in run(*late[2:]).stdout


def test_times_are_simulated_for_latency_metrics(run):
    shifted = run(
        "--runs", "5", "--effects", "1.5", "--latency-median", "40ms", "-o", "json", metrics=[LATENCY]
    )
    found = json.loads(shifted.stdout)
    assert found["harm"] == "shift"
    assert "Times: log-normal, median 40 ms, sigma 0.8." in found["assumptions"]
    assert found["results"][1]["rolledBack"]["count"] == 5
    tail = run("--runs", "5", "--effects", "4", "--harm", "tail", "-o", "json", metrics=[ERRORS, LATENCY])
    assert json.loads(tail.stdout)["results"][1]["rolledBack"]["count"] == 5


@pytest.mark.parametrize(("scenario", "words"), [
    ("bursts", "clusters of geometric size, 3 on average"),
    ("podnoise", "sd 0.3, correlation 0.8 over 10 s"),
    ("seasonal", "swing by 60% with a period of 10m"),
    ("incident", "30s in, both error rates are 10 times as high for 2m"),
    ("late", "as good as the control for 30s"),
])  # fmt: skip
def test_every_scenario_says_what_it_is(run, scenario, words):
    result = run("--scenario", scenario, "--runs", "2", "--effects", "1")
    assert result.exit_code == 0
    assert words in result.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (["--effects", "1,two"], "--effects must be numbers with commas between, not 1,two"),
    (["--effects", "nan"], "all numbers must be finite"),
    (["--effects", "0"], "an effect must be above 0"),
    (["--effects", "inf"], "all numbers must be finite"),
    (["--rps", "0"], "requests per second"),
    (["--baseline", "none"], "--baseline must be a percentage such as 25% or 0.5%, not none"),
    (["--baseline", "60%"], "the baseline must be above 0 and below 50 %"),
    (["--latency-median", "80"], "--latency-median must be a duration such as 90s, 5m or 1h30m, not 80"),
    (["--harm", "shift"], "the policy judges no times, so --harm shift would change nothing"),
    (["--runs", "1"], "--runs"),
    (["--seed", "-1"], "--seed"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused_in_a_line(run, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_errors_cannot_be_simulated_for_a_policy_without_them(run):
    for arguments in (["--harm", "errors"], ["--scenario", "bursts"]):
        result = run(*arguments, metrics=[LATENCY])
        assert result.exit_code == 2
        assert "the policy judges no errors" in result.stderr


def test_an_invalid_policy_gives_its_findings_and_nothing_else(run):
    result = run(metrics=[{"template": "istio-error-rat", "margin": "50%"}])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert 'did you mean "istio-error-rate"?' in result.stderr


def test_a_simulation_takes_one_policy(run, tmp_path):
    (tmp_path / "two.yaml").write_text(text(policy(), policy(name="other")))
    (tmp_path / "none.yaml").write_text("{}\n")
    result = CliRunner().invoke(app, ["simulate", "two.yaml"])
    assert result.exit_code != 0
    assert result.stdout == ""
    result = CliRunner().invoke(app, ["simulate", "missing.yaml"])
    assert result.exit_code == 2
    assert "missing.yaml" in result.stderr
