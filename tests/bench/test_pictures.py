"""The pictures of the documentation can be drawn again, and broken assumptions do the damage that is told."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from analysis.simulate import Behaviour
from bench.pictures.__main__ import PICTURES, main
from bench.pictures.damage import PODS, Case, cases, damage, late, lost


@pytest.mark.parametrize("name", ["e-values", "peeking", "latency", "sequence"])
def test_a_picture_is_a_file_of_its_own_and_the_same_for_the_same_seed(name, tmp_path, capsys):
    main(["--runs", "4", "--only", name, "--folder", str(tmp_path)])
    drawn = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip().endswith(f"{name}.svg")
    root = ET.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    lines = [path for path in root.iter() if path.get("class", "").startswith("line ")]
    assert len(lines) >= 1
    assert "nan" not in drawn
    assert PICTURES[name](4, 1) == drawn
    assert PICTURES[name](4, 2) != drawn


def test_every_case_has_a_name_of_its_own():
    names = [case.name for case in cases()]
    assert len(set(names)) == len(names)


def test_bursts_that_are_taken_as_independent_roll_back_most_and_measured_ones_few():
    behaviour = Behaviour(scenario="bursts", pods=PODS)
    taken = damage(Case("taken", behaviour), 40, 2)
    known = damage(Case("known", behaviour, history=240), 40, 2)
    assert taken.harmful > 0.7
    assert known.harmful < 0.25
    assert known.dispersion == pytest.approx(5, rel=0.25)  # geometric clusters: mean squared over mean size


def test_a_clock_that_is_late_makes_a_shared_incident_the_candidates_own():
    behaviour = Behaviour(scenario="incident", onset=600)
    assert damage(Case("in time", behaviour), 20, 3).harmful < 0.3
    assert damage(Case("late", behaviour, wrong=late), 20, 3).harmful > 0.6


def test_lost_errors_make_a_candidate_at_the_margin_safe():
    worse = Behaviour(effect=1.5)
    assert damage(Case("counted", worse), 20, 4).safe < 0.3
    assert damage(Case("lost", worse, wrong=lost), 20, 4).safe > damage(Case("counted", worse), 20, 4).safe


def test_the_table_has_a_row_for_each_case_that_is_asked_for(capsys):
    main(["--runs", "2", "--table", "twice"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [
        case.name for case in cases() if "twice" in case.name
    ]
    assert len(rows) == 3


def test_another_split_than_intended_is_noticed_and_no_harm():
    found = damage(Case("split", Behaviour(), share=0.15), 20, 5)
    assert found.split_broken == 1
    assert found.harmful < 0.3
