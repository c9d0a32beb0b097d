"""How many intervals of a run were lost: counted per metric, kept over a restart, told once when many."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.judge import Interval
from analysis.tables import Arm, Table
from controller.api.report import report
from controller.cli.prose import prose
from controller.coverage import RECENT, Coverage, covered, news
from controller.metric_view import CoverageView
from tests.support.fake_run import fake_run
from tests.support.rig import GOOD

if TYPE_CHECKING:
    from controller.ports import Reading
    from tests.support.rig import Rig

NAME = "istio-error-rate"


def after(pattern: str) -> Coverage:
    """The coverage after intervals, `-` for a lost one."""
    coverage = Coverage()
    for sign in pattern:
        coverage = coverage.after(lost=sign == "-")
    return coverage


@given(st.text("+-", max_size=100))
def test_intervals_lost_ones_and_the_longest_gap_are_counted(pattern):
    assert after(pattern).as_dict() == {
        "intervals": len(pattern),
        "lost": pattern.count("-"),
        "longest_gap": max(map(len, pattern.split("+"))),
        "resets": 0,
    }


@given(st.text("+-", max_size=60), st.integers(0, 50))
def test_intervals_that_were_all_measured_are_counted_at_once_as_one_by_one(pattern, more):
    assert after(pattern).measured(more) == after(pattern + "+" * more)


@pytest.mark.parametrize(
    ("pattern", "sparse"),
    [
        ("-" * 6, False),
        ("-" * 7, True),
        ("+" * 24 + "-" * 6, False),
        ("+" * 100 + "-" * 7, True),
        ("+++-" * 8, True),
        ("++++-" * 20, False),
        ("-" * 7 + "+" * 100, True),
    ],
)
def test_more_than_a_fifth_of_the_last_thirty_is_too_many_and_stays_so(pattern, sparse):
    assert after(pattern).sparse == sparse
    assert len(after(pattern).recent) <= RECENT


def test_a_person_is_told_once_per_metric():
    fine, bad, worse = {"x": after("+" * 9)}, {"x": after("-" * 7)}, {"x": after("-" * 9)}
    assert news({}, fine) == []
    assert news(fine, bad) == [
        "x: 7 of 7 intervals could not be measured; the longest gap is 7. Are all processes scraped?"
    ]
    assert news(bad, worse) == []


def test_an_interval_without_a_table_is_lost_for_that_metric_only():
    table = Table(10, Arm(5, (0,)), Arm(5, (0,)))
    intervals = [
        Interval(10, 0.5, {"a": table, "b": None}),
        Interval(20, 0.5, {"a": table, "b": table}),
        Interval(30, 0.5, {"a": None, "b": None}, inconsistent=("a: buckets are not cumulative",)),
    ]
    found = covered({}, ["a", "b"], intervals)
    assert {name: each.lost for name, each in found.items()} == {"a": 1, "b": 2}
    assert covered(found, ["a"], intervals)["a"].intervals == 6


def test_resets_are_counted_for_their_metric():
    tables = {"a": None, "b": None}
    intervals = [Interval(10, 0.5, tables, resets={"a": 2}), Interval(20, 0.5, tables, resets={"a": 1})]
    found = covered({}, ["a", "b"], intervals)
    assert {name: each.resets for name, each in found.items()} == {"a": 3, "b": 0}


def test_it_is_stored_and_restored():
    coverage = after("++--+-" * 9)
    assert Coverage(**coverage.stored()) == coverage


def test_words_are_only_about_what_is_missing():
    assert CoverageView(9, 0, 0).words == ""
    assert CoverageView(9, 1, 1).words == "1 of 9 intervals could not be measured"
    assert CoverageView(9, 0, 0, 2).words == "counters began again from 0 2 times"
    assert CoverageView(9, 1, 1, 1).words.endswith("could not be measured; counters began again from 0 once")
    assert CoverageView(9, 3, 2).words == "3 of 9 intervals could not be measured; the longest gap is 2"


def test_the_report_says_what_was_lost():
    run = fake_run(looks=5)
    last = run["ticks"][-1]
    lost = {"latency": {"intervals": 9, "lost": 4, "longest_gap": 3}}
    run["ticks"][-1] = {**last, "verdict": {**last["verdict"], "coverage": lost}}
    found = report(run)
    assert [row.view.coverage for row in found.metrics] == [None, CoverageView(9, 4, 3)]
    assert "- latency: 4 of 9 intervals could not be measured; the longest gap is 3" in prose(found)


async def test_what_is_left_out_after_a_change_of_weights_is_not_lost(rig: Rig) -> None:
    await rig.start(GOOD, warmUp="20s")
    await rig.run(28)
    coverage = rig.verdict()["coverage"][NAME]
    assert coverage == {"intervals": coverage["intervals"], "lost": 0, "longest_gap": 0, "resets": 0}
    assert coverage["intervals"] > len(await rig.ends())


async def test_a_restarted_process_is_counted(rig: Rig) -> None:
    await rig.start(GOOD)
    await rig.run(8)
    rig.mesh.restart()
    await rig.run(4)
    assert rig.verdict()["coverage"][NAME]["resets"] == 1


async def test_lost_scrapes_are_counted_over_a_restart_and_told_once(rig: Rig) -> None:
    await rig.start(GOOD)
    read = rig.mesh.read

    async def lossy(query: str, *, start: int, end: int, step: int) -> Reading:
        """Every third instant is missing, and with it two intervals of three."""
        reading = await read(query, start=start, end=end, step=step)
        kept = (
            replace(one, points=tuple(point for point in one.points if point[0] // 5 % 3))
            for one in reading.series
        )
        return replace(reading, series=tuple(kept))

    rig.mesh.read = lossy  # type: ignore[method-assign]
    await rig.run(35)
    half = rig.verdict()["coverage"][NAME]
    assert 0 < half["lost"] < 7
    rig.crash()
    await rig.run(75)
    whole = rig.verdict()["coverage"][NAME]
    assert whole["intervals"] > half["intervals"]
    assert whole["lost"] > 7
    assert whole["longest_gap"] == 2
    assert (await rig.reasons()).count("IntervalsLost") == 1
