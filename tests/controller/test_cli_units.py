import builtins
import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest

from analysis.means import Allowance
from analysis.unit_rows import from_columns
from analysis.units import UnitSettings
from controller.cli.units import allowance, is_parquet, is_units, judge_units, read_units

HEADER = ["variant", "value", "covariate", "unit"]


def experiment(n=600, effect=-1.0):
    """Columns of rows: a control and two candidates, of which the first is worse."""
    rng = np.random.default_rng(4)
    variants = rng.choice(["control", "first", "second"], n)
    x = rng.normal(size=n)
    values = 20 + x + rng.normal(size=n) + effect * (variants == "first")
    units = [f"u{i}" for i in range(n)]
    return {"variant": variants.tolist(), "value": values.tolist(), "covariate": x.tolist(), "unit": units}


def write_csv(file, columns):
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    file.write_text("\n".join(lines))
    return file


def write_parquet(file, columns):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table(columns), file)
    return file


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_csv_and_parquet_give_the_same_verdict(tmp_path, write):
    settings = UnitSettings(higher_is_better=True, margin=Allowance(0.05, relative=True))
    found = judge_units(read_units(write(tmp_path / "rows", experiment())), settings).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["verdict"], found["kind"], found["bound"]) == ("Harmful", "mean", 40)
    first, second = found["candidates"]["first"], found["candidates"]["second"]
    assert (first["verdict"], second["verdict"]) == ("Harmful", "Safe")
    assert first["confidence_sequence"][0] < first["estimate"] < first["confidence_sequence"][1] < 0
    assert first["p_value"] == pytest.approx(1 / first["e_value"])
    wider = first["unadjusted"]["confidence_sequence"]
    assert wider[0] < first["confidence_sequence"][0] < first["confidence_sequence"][1] < wider[1]


def test_a_single_candidate_has_its_fields_at_the_top(tmp_path):
    kept = [i for i, name in enumerate(experiment()["variant"]) if name != "second"]
    columns = {name: [cells[i] for i in kept] for name, cells in experiment().items()}
    found = judge_units(read_units(write_csv(tmp_path / "a.csv", columns)), UnitSettings()).as_dict()
    assert (found["candidate"], found["verdict"], found["bound"]) == ("first", "Undecided", 20)
    assert found["control_units"] + found["candidate_units"] == len(kept)
    assert "candidates" not in found


def test_sentences_say_what_was_seen_proven_and_left_out(tmp_path):
    columns = experiment()
    columns["unit"][:2] = ["same", "same"]
    columns["variant"][:2] = ["control", "first"]
    settings = UnitSettings(higher_is_better=True, margin=Allowance(0.05, relative=True))
    first, second, left_out = judge_units(
        read_units(write_csv(tmp_path / "a.csv", columns)), settings
    ).sentences()
    assert first.startswith("first: Harmful: 18.")
    assert "adjusted by the covariate, 97.5% sequence -1." in first
    assert "harm is proven, e = " in first
    assert "second: Safe: " in second
    assert "not worse by 5% of the control's mean, e = " in second
    assert left_out == "left out: 2 seen in several variants (1 of control, 1 of first)"


def test_proportions_are_told_in_percent(tmp_path):
    columns = {"variant": ["control", "new"] * 500, "value": [1, 1, 0, 1] * 250}
    [sentence] = judge_units(
        read_units(write_csv(tmp_path / "a.csv", columns)), UnitSettings(tolerance=Allowance(0.1))
    ).sentences()
    assert sentence.startswith("new: Harmful: 100% against 50% (500 units against 500; difference 50%, 95%")
    assert "harm beyond 0.1 is proven" in sentence


def test_nothing_to_compare_is_told():
    for variants in ([], ["control"]):
        rows = from_columns({"variant": variants, "value": [1.0] * len(variants)})
        judged = judge_units(rows, UnitSettings())
        assert judged.as_dict()["verdict"] == "NoData"
        assert judged.sentences() == ("NoData: no rows of a candidate",)
    rows = from_columns({"variant": ["control", "new"], "value": [1.0, 2.0]})
    [sentence] = judge_units(rows, UnitSettings()).sentences()
    assert sentence == "new: Undecided: 2 against 1 (1 units against 1): values vary too little to tell"
    assert judge_units(rows, UnitSettings()).as_dict()["confidence_sequence"] == [None, None]


def test_all_units_of_an_arm_may_be_left_out():
    times = {"exposed_at": [0, 0, 90], "labelled_at": [10, 10, 100]}
    rows = from_columns({"variant": ["control", "control", "new"], "value": [1, 0, 1], **times})
    judged = judge_units(rows, UnitSettings(label_age=50.0))
    assert judged.sentences() == (
        "new: NoData: no units of new",
        "left out: 1 exposed too late to be of that age (1 of new)",
    )
    assert "labels of all ages count" in judge_units(rows, UnitSettings()).sentences()[-1]


def test_times_in_parquet_are_unix_seconds(tmp_path):
    pa = pytest.importorskip("pyarrow")
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for zone, unit in ((None, "ms"), ("UTC", "ns"), ("Europe/Berlin", "us")):
        moments = pa.array([moment, moment], pa.timestamp(unit, tz=zone))
        labels = pa.array([moment, None], pa.timestamp(unit, tz=zone))
        columns = {"variant": ["a", "b"], "value": [True, None], "exposed_at": moments, "labelled_at": labels}
        rows = read_units(write_parquet(tmp_path / "t", columns))
        assert rows.exposed_at.tolist() == [moment.timestamp()] * 2
        assert math.isnan(rows.labelled_at[1])


def test_a_bad_cell_in_parquet_is_named(tmp_path):
    file = write_parquet(tmp_path / "bad.parquet", {"variant": ["a", "b"], "value": [1.0, None]})
    with pytest.raises(ValueError, match=r"bad.parquet: row 2: value must be a finite number, not ''"):
        read_units(file)


def test_a_broken_parquet_file_is_one_line(tmp_path):
    pytest.importorskip("pyarrow")
    file = tmp_path / "broken.parquet"
    file.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ValueError, match=r"broken.parquet: not a Parquet file that can be read"):
        read_units(file)


def test_without_pyarrow_the_message_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    file = tmp_path / "a.parquet"
    file.write_bytes(b"PAR1")
    with pytest.raises(
        ValueError, match=r"a.parquet: reading Parquet needs pyarrow: pip install 'penstock\[pa"
    ):
        read_units(file)


def test_a_bad_row_of_csv_is_named_with_its_file(tmp_path):
    (tmp_path / "bad.csv").write_text("variant,value\ncontrol,much\n")
    with pytest.raises(ValueError, match=r"bad.csv: row 2: value must be a finite number, not 'much'"):
        read_units(tmp_path / "bad.csv")


def test_rows_are_told_from_tables_and_parquet_from_text(tmp_path):
    assert is_units(HEADER)
    assert not is_units(["interval", "variant", "series", "total", "events"])
    assert not is_parquet(write_csv(tmp_path / "a", {"variant": ["a"], "value": [1]}))
    assert not is_parquet(tmp_path / "absent")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2%", Allowance(0.02, relative=True)), ("0.02", Allowance(0.02)), ("0", Allowance(0.0))],
)
def test_allowances_are_of_the_control_with_a_percent_sign_and_absolute_without(text, expected):
    assert allowance(text, "--margin") == expected


@pytest.mark.parametrize("text", ["", "%", "-1", "nan", "inf%", "two"])
def test_other_allowances_are_refused(text):
    with pytest.raises(ValueError, match="--margin must be a percentage"):
        allowance(text, "--margin")
