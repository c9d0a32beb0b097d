import io
import json

import pytest
from typer.testing import CliRunner

from analysis.simulate import Behaviour
from controller.cli import app
from controller.cli import simulate as command
from controller.cli.simulated import Simulation, warnings
from controller.dossier import design_of
from controller.endings import Ending, Result
from policies.catalog import templates
from policies.parse import policy_from_object
from tests.support.policies import changed, policy, template, text

STEPS = [{"weight": 10, "hold": "30s"}, {"weight": 50, "hold": "30s", "pause": True}]
ERRORS = {"template": "istio-error-rate", "margin": "50%", "dispersion": "1"}
LATENCY = {"template": "istio-latency", "margin": "100%", "dispersion": "1"}


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


def test_a_measured_dispersion_is_said_and_helps_without_anybody_s_guess(run):
    metrics = [{**ERRORS, "dispersion": "auto"}]
    result = run("--scenario", "bursts", "--effects", "1", "--runs", "60", metrics=metrics)
    assert (
        "Dispersion of istio-error-rate: measured in each run on 6h of the control before it."
        in result.stdout
    )
    assert "WARNING" not in result.stdout


@pytest.mark.parametrize(("harm", "scenario", "effect", "promoted", "told"), [
    ("errors", "iid", 1.5, 30, True),
    ("errors", "iid", 1.5, 8, False),  # 8 % of 100, with an error of almost 3 %, may well be 5 %
    ("errors", "iid", 1.4, 30, False),
    ("shift", "iid", 1.5, 30, False),  # only the margin for times counts, which is 100 %
    ("shift", "iid", 2.0, 30, True),
    ("tail", "iid", 9.0, 30, False),
    ("errors", "late", 1.5, 30, True),
])  # fmt: skip
def test_promotions_beyond_the_margin_are_told(harm, scenario, effect, promoted, told):
    plan = policy_from_object(changed(policy(), "spec.metrics", [ERRORS, LATENCY]))
    bad = [Ending("promoted", "Safe", 60.0)] * promoted + [Ending("rolledBack", "Harmful", 60.0)] * 100
    results = (Result(1.0, (Ending("promoted", "Safe", 60.0),)), Result(effect, tuple(bad[:100])))
    behaviour = Behaviour(harm=harm, scenario=scenario)
    found = warnings(Simulation(plan, design_of(plan, templates()), behaviour, 100, 1, results))
    assert len(found) == told
    if told:
        words = (
            f"30.0% ±4.6% of the candidates with x{effect:g}, which is not within the margin, were promoted"
        )
        assert words in found[0]
        assert "falsePromote is 5%." in found[0]
        assert ("hold the last step longer" in found[0]) == (scenario == "late")


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


def test_a_simulation_takes_one_policy_from_a_file_or_a_folder(run, tmp_path):
    other = changed(policy(name="other"), "spec.virtualService.name", "other")
    (tmp_path / "two.yaml").write_text(text(policy(), changed(other, "spec.service.host", "other")))
    result = CliRunner().invoke(app, ["simulate", "two.yaml"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a simulation takes one RolloutPolicy; two.yaml has 2" in result.stderr
    result = CliRunner().invoke(app, ["simulate", "missing.yaml"])
    assert result.exit_code == 2
    assert "missing.yaml" in result.stderr
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one.yaml").write_text(text(policy()))
    result = CliRunner().invoke(app, ["simulate", "folder", "--runs", "2", "--effects", "3", "--rps", "2000"])
    assert result.exit_code == 0


def test_a_template_of_the_users_own_is_simulated_with_its_edges(tmp_path):
    own = template("histogram", name="scoring-time", namespace="ml")
    obj = changed(policy(), "spec.metrics", [{"template": "scoring-time", "margin": "1000%"}])
    file = tmp_path / "own.yaml"
    file.write_text(text(changed(obj, "spec.decision.deadline", "3m"), own))
    result = CliRunner().invoke(app, ["simulate", str(file), "--runs", "3", "--effects", "2", "-o", "json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["results"][1]["rolledBack"]["count"] == 3


def test_on_a_terminal_progress_goes_to_stderr(monkeypatch):
    """The bar is drawn only for people: pipes and files see nothing of it (as all tests above show)."""
    plan = policy_from_object(changed(policy(), "spec.decision.deadline", "1m"))
    drawn = io.StringIO()
    monkeypatch.setattr("sys.stderr", drawn)
    monkeypatch.setattr(drawn, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    results = command._run(plan, design_of(plan, templates()), [Behaviour(), Behaviour(effect=2.0)], 2, 1)
    assert [result.effect for result in results] == [1.0, 2.0]
    assert "x1" in drawn.getvalue()
    assert "100%" in drawn.getvalue()


def test_candidates_exactly_at_the_margin_are_a_figure_of_their_own(run):
    result = run("--runs", "40", "--effects", "1", "-o", "json")
    found = json.loads(result.stdout)
    assert [each["effect"] for each in found["results"]] == [1]
    assert found["falsePromotion"]["effect"] == 1.5
    assert found["falsePromotion"]["asked"] == 0.05
    assert found["falsePromotion"]["exceeded"] is False
    words = run("--runs", "40", "--effects", "1").stdout
    assert (
        "of candidates exactly at the margin (x1.5) were promoted as safe; the policy asks for at most 5%."
        in words
    )


def test_without_a_margin_in_what_is_harmed_there_is_no_such_figure(run):
    metrics = [ERRORS, {"template": "istio-latency"}]
    found = json.loads(run("--runs", "2", "--harm", "shift", "-o", "json", metrics=metrics).stdout)
    assert found["falsePromotion"] is None


def test_the_margin_is_not_simulated_twice_when_it_is_asked_for(run):
    found = json.loads(run("--runs", "20", "--effects", "1.5", "-o", "json").stdout)
    at_margin = found["results"][1]
    assert at_margin["effect"] == found["falsePromotion"]["effect"]
    safe = at_margin["promoted"]["reasons"].get("Safe", 0)
    assert found["falsePromotion"]["share"] == safe / 20


def test_json_has_the_traffic_and_how_the_times_lie(run):
    found = json.loads(run("--runs", "30", "--effects", "3", "-o", "json").stdout)
    assert found["traffic"]["rps"] == 200
    assert found["traffic"]["pods"] == [1, 1]
    times = found["results"][1]["rolledBack"]
    assert sum(count for _, count in times["times"]) == times["count"]
    assert times["quantiles"]["10"] <= times["quantiles"]["50"] <= times["quantiles"]["90"]
    assert times["medianError"] >= 0


@pytest.mark.parametrize(("arguments", "words"), [
    (["--scenario", "betabinomial", "--phi", "2"], "errors of an interval vary 2 times as much"),
    (["--scenario", "podnoise", "--noise", "0.6", "--correlation", "0.95"], "sd 0.6, correlation 0.95 over"),
    (["--scenario", "podnoise", "--pods", "9,1"], "each pod's error rate wanders by itself"),
    (["--pods", "9,1"], "Pods: 9 of the control, 1 of the candidate."),
    (["--pods", "4"], "Pods: 4 of the control, 4 of the candidate."),
    (["--scenario", "seasonal+incident"], "period of 10m; 30s in, both error rates are 10 times as high"),
    (["--scenario", "ramp", "--onset", "45s"], "gets worse evenly and has the whole effect after 45s"),
])  # fmt: skip
def test_noise_pods_and_ramps_have_their_own_numbers(run, arguments, words):
    result = run("--runs", "2", "--effects", "1", *arguments)
    assert result.exit_code == 0, result.stderr
    assert words in result.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (["--pods", "0"], "each version must have 1 to 1000 pods"),
    (["--pods", "1,2,3"], "--pods must be one or two whole numbers with a comma between, not 1,2,3"),
    (["--pods", "few"], "--pods must be one or two whole numbers with a comma between, not few"),
    (["--phi", "0.5"], "phi must be from 1 to 1000"),
    (["--correlation", "1"], "its correlation at least 0 and below 1"),
    (["--onset", "soon"], "--onset must be a duration"),
])  # fmt: skip
def test_noise_and_pods_that_make_no_sense_are_refused_in_a_line(run, arguments, message):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_the_picture_is_drawn_into_the_file(run, tmp_path):
    result = run("--runs", "5", "--effects", "3", "--picture", "out.svg")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out.svg").read_text().startswith("<svg xmlns=")
    result = run("--runs", "2", "--effects", "1", "--picture", "nowhere/out.svg")
    assert result.exit_code == 1
    assert "nowhere/out.svg: No such file or directory" in result.stderr


def test_a_margin_in_points_is_simulated_at_the_odds_that_it_is_worth(run):
    metrics = [{"template": "istio-error-rate", "marginPoints": "1%", "dispersion": "1"}]
    found = json.loads(run("--runs", "20", "--effects", "1", "-o", "json", metrics=metrics).stdout)
    odds = (0.02 / 0.98) / (0.01 / 0.99)
    assert found["falsePromotion"]["effect"] == pytest.approx(odds, abs=1e-6)
    assert found["falsePromotion"]["exceeded"] is False


def test_a_mean_is_simulated_with_a_shift_of_its_values(tmp_path):
    metrics = [{"template": "own", "margin": "20%", "dispersion": "1"}]
    obj = changed(changed(policy(), "spec.metrics", metrics), "spec.decision", {"deadline": "5m"})
    (tmp_path / "policy.yaml").write_text(text(obj))
    (tmp_path / "template.yaml").write_text(text(template("mean")))
    command = ["simulate", str(tmp_path), "--runs", "20", "--effects", "2"]
    found = json.loads(CliRunner().invoke(app, [*command, "-o", "json"]).stdout)
    assert (found["harm"], found["falsePromotion"]["effect"]) == ("shift", 1.2)
    assert found["results"][-1]["rolledBack"]["count"] == 20
    words = CliRunner().invoke(app, command).stdout
    assert "Values of means: gamma-distributed" in words
    assert "Effects: x1.1 makes every time and value worse by 10%; errors stay as they are." in words
    refused = CliRunner().invoke(app, [*command, "--harm", "tail"])
    assert refused.exit_code != 0
    assert "judges no times" in refused.stderr
