import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from controller.cli import app
from tests.support.long_tables import mesh

HEADER = "interval,control_total,control_events,candidate_total,candidate_events"
HARMFUL = f"{HEADER}\n0,1800,20,200,4\n1,1800,20,200,12\n2,1800,20,200,14\n"
QUIET = f"{HEADER}\n0,1800,20,200,2\n1,1800,18,200,2\n"
EMPTY = f"{HEADER}\n0,0,0,0,0\n1,0,0,0,0\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in {"harmful": HARMFUL, "quiet": QUIET, "empty": EMPTY}.items():
        (tmp_path / f"{name}.csv").write_text(text)

    def invoke(*arguments, stdin=None):
        return CliRunner().invoke(app, ["judge", *arguments], input=stdin)

    return invoke


def test_json_is_one_object_a_line_in_the_order_of_the_files(run):
    result = run("harmful.csv", "empty.csv", "quiet.csv", "-o", "json")
    assert result.exit_code == 0
    harmful, empty, quiet = map(json.loads, result.stdout.splitlines())
    assert [each["file"] for each in (harmful, empty, quiet)] == ["harmful.csv", "empty.csv", "quiet.csv"]
    assert [each["verdict"] for each in (harmful, empty, quiet)] == ["Harmful", "NoData", "Undecided"]
    assert harmful["crossed_at"] == 1
    assert len(harmful["e_values"]) == harmful["intervals"] == 3
    assert harmful["bound"] == pytest.approx(20)
    assert harmful["confidence_sequence"][0] > 1
    assert harmful["assumed"]["planned_looks"] == 3
    assert empty["e_values"] == [1.0, 1.0]
    assert empty["odds_ratio"] is None
    assert quiet["crossed_at"] is None


def test_options_reach_the_judge(run):
    options = ["--alpha", "0.001", "--null-odds-ratio", "1.5", "--odds-ratios", "2,3", "--dispersion", "2"]
    result = run("harmful.csv", "-o", "json", "--no-restart", "--planned-looks", "9", *options)
    found = json.loads(result.stdout)
    assert found["alpha"] == 0.001
    assert found["assumed"]["null_odds_ratio"] == 1.5
    assert found["assumed"]["odds_ratios"] == [2, 3]
    assert found["assumed"]["dispersion"] == 2
    assert found["assumed"]["restart"] is False


def test_the_restart_half_is_on_unless_switched_off(run):
    with_it, without = (
        json.loads(run("harmful.csv", "-o", "json", *flags).stdout)["e_values"]
        for flags in ([], ["--no-restart"])
    )
    assert with_it != without


def test_text_is_a_sentence_per_file(run):
    result = run("harmful.csv", "quiet.csv")
    first, second = result.stdout.splitlines()
    assert first.startswith("harmful.csv: Harmful: ")
    assert "crossed in interval 1" in first
    assert second.startswith("quiet.csv: Undecided: ")


def test_crossing_with_alternatives_below_the_null_is_safe(run, tmp_path):
    (tmp_path / "good.csv").write_text(HEADER + "".join(f"\n{i},1800,20,200,2" for i in range(40)))
    found = json.loads(
        run("good.csv", "--null-odds-ratio", "2", "--odds-ratios", "1,0.8", "-o", "json").stdout
    )
    assert found["verdict"] == "Safe"
    assert found["assumed"]["null"] == "odds ratio >= 2"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "bad.csv: row 1: the header must be"),
        (HEADER.encode() + b"\n0,10,11,5,0\n", "bad.csv: row 2: control_events 11 is above control_total 10"),
        (HEADER.encode() + b"\n0,10,1,5,-1\n", "bad.csv: row 2: candidate_events"),
        (bytes(range(256)), "bad.csv: row 2: not a text file in UTF-8, found byte 0x80"),
        (b"\x00" * 50, "bad.csv: row 1: the header must be"),
        (b"interval,variant,series,total,events\n0,new,x,5,6\n", "bad.csv: row 2: events 6 is above total 5"),
        (None, "bad.csv: No such file or directory"),
    ],
)
def test_a_bad_file_is_one_line_on_stderr_and_nothing_on_stdout(run, tmp_path, content, words):
    if content is not None:
        (tmp_path / "bad.csv").write_bytes(content)
    result = run("quiet.csv", "bad.csv", "-o", "json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_table_may_come_from_stdin(run):
    result = run("-", "-o", "json", stdin=QUIET)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["file"] == "stdin"


def test_a_folder_is_no_table(run):
    result = run(".")
    assert result.exit_code == 2
    assert "Is a directory" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--alpha", "1"], "alpha"),
        (["--alpha", "nan"], "alpha"),
        (["--dispersion", "0"], "dispersion"),
        (["--odds-ratios", "2,x"], "--odds-ratios"),
        (["--odds-ratios", ""], "--odds-ratios"),
        (["--odds-ratios", "0.5,2"], "all above or all below"),
        (["--planned-looks", "0"], "planned looks"),
        (["--dispersion", "much"], "--dispersion must be a number from 1 or auto, not 'much'"),
        (["--dispersion", "auto"], "quiet.csv: --dispersion auto needs the long form"),
        (["--dispersion", "2", "--assume", "2"], "--assume goes with --dispersion auto only"),
        (["--margin", "0"], "--margin must be a percentage such as 50%"),
        (["--margin", "1"], "--margin must be a percentage such as 50%"),
        (["--margin", "-5%"], "--margin must be a percentage such as 50%"),
        (["--margin", "half"], "--margin must be a percentage such as 50%"),
        (["--margin", "50%", "--null-odds-ratio", "2", "--odds-ratios", "1"], "must lie above the null"),
    ],
)
def test_a_bad_option_is_one_line_on_stderr(run, options, words):
    result = run("quiet.csv", *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("margin", ["50%", "0.5", "1.5"])
def test_a_margin_may_be_a_percentage_a_fraction_or_the_odds_ratio(run, tmp_path, margin):
    (tmp_path / "good.csv").write_text(HEADER + "".join(f"\n{i},1800,20,200,2" for i in range(40)))
    found = json.loads(run("good.csv", "--margin", margin, "-o", "json").stdout)
    assert found["verdict"] == "Safe"
    assert found["margin"] == 0.5
    assert found["e_safe"][found["safe_at"]] >= 20 > found["e_safe"][found["safe_at"] - 1]


def test_a_margin_of_time_names_the_file_whose_edges_are_incomplete(run, tmp_path):
    rows = "0,10,1,10,2,100\n0,10,1,10,2,200\n1,10,1,10,2,100"
    (tmp_path / "edges.csv").write_text(f"{HEADER},edge\n{rows}\n")
    assert run("edges.csv").exit_code == 0
    result = run("edges.csv", "--margin", "50%")
    assert result.exit_code == 2
    assert "edges.csv: interval 1: for a margin, every edge must have the same totals" in result.stderr


def test_long_form_is_known_by_its_header_and_says_its_dispersion(run, tmp_path):
    (tmp_path / "long.csv").write_text(mesh(1, ("new", 0.03), history=120, cluster=5))
    result = run("quiet.csv", "long.csv", "-o", "json")
    quiet, long = map(json.loads, result.stdout.splitlines())
    assert (quiet["file"], long["file"]) == ("quiet.csv", "long.csv")
    assert long["candidate"] == "new"
    assert long.keys() - quiet.keys() == {"candidate", "dispersion"}
    assert long["dispersion"]["method"] == "given"
    measured = json.loads(run("long.csv", "-o", "json", "--dispersion", "auto").stdout)["dispersion"]
    assert measured["method"] == "placebo"
    assert measured["value"] > 3
    assert "120 intervals of 9 series" in measured["rests_on"]
    assert "dispersion" in run("long.csv", "--dispersion", "auto").stdout


def test_what_is_assumed_reaches_a_table_without_history(run, tmp_path):
    (tmp_path / "long.csv").write_text(mesh(2, ("new", 0.01), intervals=20))
    found = json.loads(run("long.csv", "-o", "json", "--dispersion", "auto", "--assume", "6").stdout)
    assert min(found["dispersion"]["path"]) == 6


def test_several_candidates_have_an_object_and_a_line_each(run, tmp_path):
    (tmp_path / "long.csv").write_text(mesh(3, ("a", 0.01), ("b", 0.04)))
    found = json.loads(run("long.csv", "-o", "json").stdout)
    assert (found["verdict"], found["blame"]) == ("Harmful", "b")
    assert {name: own["verdict"] for name, own in found["candidates"].items()} == {
        "a": "Undecided",
        "b": "Harmful",
    }
    assert [own["bound"] for own in found["candidates"].values()] == pytest.approx([40, 40])
    run_line, *lines = run("long.csv").stdout.splitlines()
    assert run_line.startswith("long.csv: Harmful: 2 candidates, average e-value")
    assert [line.split(": ")[1:3] for line in lines] == [["a", "Undecided"], ["b", "Harmful"]]


def test_rows_of_units_are_known_by_their_header_beside_tables(run, tmp_path):
    rng = np.random.default_rng(1)
    values = [("control", 0.0), ("new", 1.0)] * 200
    rows = "".join(f"\n{name},{shift + rng.normal():.3f}" for name, shift in values)
    (tmp_path / "units.csv").write_text(f"variant,value{rows}\n")
    result = run("units.csv", "quiet.csv", "-o", "json", "--margin", "50%")
    units, quiet = map(json.loads, result.stdout.splitlines())
    assert (units["file"], units["verdict"], units["candidate"]) == ("units.csv", "Harmful", "new")
    assert quiet["margin"] == 0.5
    better = json.loads(run("units.csv", "--higher-is-better", "-o", "json").stdout)
    assert better["verdict"] != "Harmful"
    assert run("-", stdin=f"variant,value{rows}\n").stdout.startswith("stdin: new: Harmful")


@pytest.mark.parametrize(
    ("file", "options", "words"),
    [
        ("quiet.csv", ["--age", "24h"], "--age concerns rows of units, and no file has any"),
        ("units.csv", ["--dispersion", "3"], "--dispersion concerns tables of counts, and no file has any"),
        ("units.csv", ["--age", "long"], "--age must be a duration such as 90s, 5m or 1h30m, or seconds"),
        ("units.csv", ["--margin", "much"], "--margin must be a percentage of the control's mean"),
        ("units.csv", ["--alpha", "2"], "alpha must be above 0 and below 1"),
    ],
)
def test_an_option_that_concerns_no_file_or_makes_no_sense_is_refused(run, tmp_path, file, options, words):
    (tmp_path / "units.csv").write_text("variant,value\ncontrol,1\nnew,2\n")
    result = run(file, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr


def test_a_bad_row_of_units_names_its_file(run, tmp_path):
    (tmp_path / "units.csv").write_text("variant,value\ncontrol,1\nnew,x\n")
    result = run("units.csv")
    assert result.exit_code == 2
    assert "units.csv: row 3: value must be" in result.stderr


def test_a_name_in_a_table_cannot_steer_the_terminal(run, tmp_path):
    (tmp_path / "long.csv").write_text(mesh(4, ("new\x1b[31m", 0.01), intervals=3))
    assert "\x1b" not in run("long.csv").stdout


@pytest.mark.parametrize("options", [["-o", "xml"], ["--alpha", "much"], ["--unknown"], []])
def test_usage_errors_have_status_2(run, options):
    result = run(*options) if not options else run("quiet.csv", *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_a_byte_order_mark_is_no_part_of_the_header(run, tmp_path):
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + QUIET.encode())
    assert run("bom.csv").exit_code == 0


def test_judging_imports_nothing_that_it_does_not_need(tmp_path):
    (tmp_path / "quiet.csv").write_text(QUIET)
    code = (
        "import sys; from controller.cli import app\n"
        f"app(['judge', {str(tmp_path / 'quiet.csv')!r}], standalone_mode=False)\n"
        "print([m for m in ('fastapi', 'kubernetes', 'sqlalchemy', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
