"""The benchmark of decisions: what it counts, that it repeats, what it writes. Its figures are its own."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from analysis.judge import Interval, advance, fresh, verdict
from analysis.simulate import Behaviour
from analysis.tables import Arm, Table
from bench.decision_quality import figures, goals, penstock, rules, traffic
from bench.decision_quality.__main__ import main
from bench.decision_quality.cases import CLUSTERS, HORIZON, LATE, LATENCY, PROMOTION, Slowness, all_cases
from bench.decision_quality.figures import Row
from bench.decision_quality.goals import GOALS, judged
from bench.decision_quality.page import render
from bench.decision_quality.rules import ASSUMED, CALIBRATED, KAYENTA, ORACLE, PENSTOCK
from bench.decision_quality.run import Sizes, measure
from bench.decision_quality.speed import METRIC, ROLLOUT, SPEED
from bench.decision_quality.speed import measure as measure_speed

CASES = {case.name: case for case in all_cases()}
TINY = Sizes(medians=12, chances=12, kayenta=2)


def case(*parts: str):
    return CASES[" / ".join(parts)]


def by_figure(rows: list[Row], engine: str = PENSTOCK) -> dict[str, Row]:
    return {row.figure: row for row in rows if row.engine == engine}


def test_every_case_has_a_name_of_its_own() -> None:
    assert len(CASES) == len(all_cases())


def test_every_goal_is_about_a_figure_that_is_measured() -> None:
    measured = {"median seconds", "median by that of the oracle", "false rollbacks", "false promotions"}
    for name, engine, figure in GOALS:
        if name not in {SPEED, METRIC}:
            assert figure in measured
            assert engine in {ASSUMED, CALIBRATED} if CASES[name].calibrated else engine == PENSTOCK


# ---- the real judge


def replayed(plan, tables, run: int, look: int):
    """Return the verdict of the loop's judge on one run after so many looks."""
    intervals = [
        Interval(end, 0.1, {"errors": Table(end, *(Arm(n, (k,)) for n, k in table[run].tolist()))})
        for end, table in enumerate(tables[:look], start=1)
    ]
    [evidence] = advance([(plan, fresh(plan), intervals)])
    return verdict(plan, evidence)


@pytest.mark.parametrize(("effect", "kind"), [(3.0, "Harmful"), (1.0, "Safe")])
def test_penstock_stops_a_run_at_the_look_at_which_the_verdict_changes(effect: float, kind: str) -> None:
    chosen = case(PROMOTION, "margin 2", "harmless, canary 10%")
    tables = traffic.errors(chosen, Behaviour(effect=effect), 3, (1, 2)).tables
    plan = penstock.design(chosen)
    found = penstock.judge(plan, tables, 0.1)
    for run, look in enumerate(found.harmful if kind == "Harmful" else found.safe):
        assert math.isfinite(look)
        assert replayed(plan, tables, run, int(look)).kind == kind
        assert replayed(plan, tables, run, int(look) - 1).kind != kind


def test_a_run_fares_the_same_in_other_company_and_a_dispersion_makes_it_slower() -> None:
    chosen = case(LATE, "x3")
    tables = traffic.errors(chosen, Behaviour(effect=2.0), 6, (3,)).tables
    plan = penstock.design(chosen)
    all_runs = penstock.judge(plan, tables, 0.1).harmful
    assert (penstock.judge(plan, tables[:, 2:4], 0.1).harmful == all_runs[2:4]).all()
    slower = penstock.judge(plan, tables, 0.1, np.full(6, 4.0)).harmful
    assert (slower >= all_runs).all()
    assert (slower > all_runs).any()


def test_equal_dispersions_are_judged_once_and_given_back_to_each_way() -> None:
    chosen = case(CLUSTERS, "bursts, mean 3")
    tables = traffic.errors(case(LATE, "x3"), Behaviour(effect=3.0), 4, (5,)).tables
    ways = {"a": np.ones(4), "b": np.array([5.0, 1.0, 2.0, 1.0]), "c": np.array([5.0])}
    found = rules._judge_all(chosen, tables, ways)
    for name, dispersion in ways.items():
        part = tables[:, : len(dispersion)]
        assert (found[name] == penstock.judge(penstock.design(chosen), part, 0.1, dispersion).harmful).all()


# ---- the traffic


@pytest.mark.parametrize(
    ("harm", "above_500", "above_10000"),
    [
        (Slowness(), 0.0110, 0.0),
        (Slowness(factor=1.2), 0.0198, 0.0),
        (Slowness(share=0.02, seconds=1.0), 0.0308, 0.0),
        (Slowness(share=0.01, seconds=10.0), 0.0209, 0.01),
    ],
)
def test_times_are_as_slow_as_said(harm: Slowness, above_500: float, above_10000: float) -> None:
    drawn = traffic.latency(case(LATENCY, "A/A"), harm, 20, (1,)).tables.sum(axis=(0, 1))
    slower = drawn[1, 1:] / drawn[1, 0]
    control = drawn[0, 1:] / drawn[0, 0]
    for edge, share, usual in ((500, above_500, 0.0110), (10000, above_10000, 0.0)):
        at = traffic.EDGES.index(edge)
        assert slower[at] == pytest.approx(share, abs=6e-4)
        assert control[at] == pytest.approx(usual, abs=3e-4)
    assert drawn[1, 0] / drawn[:, 0].sum() == pytest.approx(0.1, abs=1e-3)


def test_edges_are_registered_from_history_with_two_above() -> None:
    edges = [traffic.EDGES[at] for at in traffic.registered(traffic.history(1))]
    assert edges == [25, 50, 100, 250, 500, 1000, 2500]


@pytest.mark.parametrize(
    ("slower", "share", "expected"),
    [
        ([100] * 5 + [50] + [0] * 7, 0.5, 100.0),  # half of them within 50 to 100 ms: up to its upper edge
        ([100] * 5 + [50] + [0] * 7, 0.25, 75.0),
        ([100] * 5 + [50] + [0] * 7, 0.75, 175.0),
        ([100] * 13, 0.5, 30000.0),
        ([0] * 13, 0.5, 0.5),
    ],
)
def test_quantiles_are_those_of_prometheus(slower: list[int], share: float, expected: float) -> None:
    assert float(rules.quantile(np.array([100, *slower]), share)) == pytest.approx(expected)


def test_the_past_of_bursts_shows_a_dispersion_and_that_of_independent_requests_hardly_any() -> None:
    def median(column: str) -> float:
        chosen = case(CLUSTERS, column)
        return float(np.median(traffic.errors(chosen, chosen.traffic, 8, (7,)).dispersions["6 h"]))

    assert median("independent") < 1.3
    assert 4 < median("bursts, mean 3") < 7


# ---- figures


def test_a_run_stopped_before_the_onset_has_not_found_the_harm() -> None:
    looks = np.array([3.0, 90.0, 91.0, 100.0, math.inf])
    assert figures.since_onset(looks, 90).tolist() == [math.inf, math.inf, 1.0, 10.0, math.inf]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([20.0] * 100, (20.0, 0.0)),
        ([*range(101)], (50.0, 5.0)),
        ([10.0] * 40 + [math.inf] * 60, (None, None)),
        ([10.0] * 51 + [math.inf] * 49, (10.0, (HORIZON - 10) / 2)),
    ],
)
def test_a_median_comes_with_the_width_of_its_order_statistics(values: list[float], expected: object) -> None:
    assert figures.middle(np.array(values, dtype=float)) == expected


def test_the_error_of_a_share_is_never_nothing() -> None:
    assert figures.share_error(0, 1000) > 0
    assert figures.share_error(500, 10_000) == pytest.approx(math.sqrt(0.05 * 0.95 / 10_000), rel=0.01)


@pytest.mark.parametrize(
    ("value", "error", "met"),
    [(0.05, 0.0, True), (0.0539, 0.002, True), (0.0541, 0.002, False), (None, None, False)],
)
def test_a_goal_is_met_when_two_errors_explain_the_rest(value: float, error: float, met: bool) -> None:
    name = case(LATENCY, "A/A").name
    row = judged(Row(name, PENSTOCK, "false rollbacks", value, error))
    assert (row.goal, row.met) == (0.05, met)


def test_the_page_tells_what_is_met_only_within_two_errors() -> None:
    name = case(LATENCY, "A/A").name
    values = (0.01, 0.051, 0.09)
    page = render(
        [judged(Row(name, PENSTOCK, "false rollbacks", value, 0.002)) for value in values], TINY, seed=1
    )
    lines = [line for line in page.split("## Goals")[1].splitlines() if line.startswith(f"| {name}")]
    assert [line.split(" | ")[-1] for line in lines] == ["yes |", "within two errors |", "**no** |"]
    assert "Of 3 goals 2 are met" in page
    assert "What was missed" in page


def test_other_rules_have_no_goals() -> None:
    row = judged(Row(case(LATENCY, "A/A").name, KAYENTA, "false rollbacks", 0.9, 0.01))
    assert row.goal is row.met is None


# ---- all of it, with few runs


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    chosen = [
        case("Errors: looks every 60 s, canary 5%, 1.0% errors", "A/A"),
        case("Errors: looks every 60 s, canary 5%, 1.0% errors", "x3"),
        case(LATENCY, "+50 %"),
        case(CLUSTERS, "bursts, mean 3"),
        case(LATE, "x5"),
        case(PROMOTION, "margin 3", "harmless, canary 25%"),
        case(PROMOTION, "margin 3", "as bad as the margin, canary 10%"),
    ]
    return measure(chosen, TINY, seed=1, jobs=1)


def of(rows: list[Row], *parts: str) -> list[Row]:
    return [row for row in rows if row.case == " / ".join(parts)]


def test_large_harm_is_found_by_penstock_about_as_soon_as_by_the_oracle(rows: list[Row]) -> None:
    own = of(rows, "Errors: looks every 60 s, canary 5%, 1.0% errors", "x3")
    assert by_figure(own)["found"].value == 1.0
    assert by_figure(own)["median seconds"].value <= 120
    assert 0.5 <= by_figure(own)["median by that of the oracle"].value <= 2
    assert by_figure(own, ORACLE)["found"].value == 1.0
    assert by_figure(own, KAYENTA)["median seconds"].value >= 300  # five points at least


def test_bursts_fool_whoever_assumes_independence_and_not_who_calibrates(rows: list[Row]) -> None:
    own = of(rows, CLUSTERS, "bursts, mean 3")
    assert by_figure(own, ASSUMED)["false rollbacks"].value >= 0.5
    assert by_figure(own, CALIBRATED)["false rollbacks"].value <= 0.25
    assert by_figure(own, CALIBRATED)["median dispersion"].value > 3
    assert by_figure(own, ASSUMED)["false rollbacks"].met is None


def test_late_harm_slow_times_and_promotion_have_their_figures(rows: list[Row]) -> None:
    late, slow = of(rows, LATE, "x5"), of(rows, LATENCY, "+50 %")
    assert by_figure(late)["median seconds"].value <= 60
    assert by_figure(slow)["median seconds"].value <= 30
    assert {row.engine for row in slow} >= {PENSTOCK, KAYENTA, "DKW bands, half of alpha per arm"}
    promoted = by_figure(of(rows, PROMOTION, "margin 3", "harmless, canary 25%"))
    assert promoted["promoted"].value >= 0.75
    assert promoted["median seconds"].value <= 60
    at_margin = by_figure(of(rows, PROMOTION, "margin 3", "as bad as the margin, canary 10%"))
    assert at_margin["false promotions"].goal == 0.05


def test_the_page_has_all_groups_with_penstock_in_bold_and_the_goals(rows: list[Row]) -> None:
    page = render(rows, TINY, seed=1)
    for group in dict.fromkeys(row.case.split(" / ")[0] for row in rows):
        assert f"## {group}\n" in page
    bold = [line for line in page.splitlines() if line.startswith(f"| **{PENSTOCK}")]
    assert len(bold) == 7
    assert sum(row.goal is not None for row in rows) == page.split("## Goals")[1].count("\n| ") - 1


def test_neither_jobs_nor_company_change_a_figure(rows: list[Row]) -> None:
    chosen = [case(PROMOTION, "margin 3", "harmless, canary 25%"), case(LATE, "x5")]
    again = measure(chosen, TINY, seed=1, jobs=2)
    assert again == [*of(rows, PROMOTION, "margin 3", "harmless, canary 25%"), *of(rows, LATE, "x5")]
    assert measure(chosen[1:], TINY, seed=2, jobs=1) != of(rows, LATE, "x5")


def test_speed_and_size_are_measured() -> None:
    speed, metric, rollout = map(judged, measure_speed(5))
    assert (speed.case, speed.goal) == (SPEED, 1.0)
    assert speed.value > 0
    assert (metric.case, rollout.case) == (METRIC, ROLLOUT)
    assert 500 < metric.value < rollout.value
    assert metric.met


def test_the_command_writes_both_files(tmp_path, capsys) -> None:
    json_file, page = tmp_path / "a" / "out.json", tmp_path / "page.md"
    group = "Errors: looks every 60 s, canary 5%, 1.0% errors / x5"
    main(["--runs", "5", "--only", group, "--json", str(json_file), "--page", str(page)])
    found = json.loads(json_file.read_text())
    assert {row["case"] for row in found} == {group}
    assert set(found[0]) == {"case", "engine", "figure", "value", "error", "goal", "met"}
    assert "| **Penstock** |" in page.read_text()
    assert "figures" in capsys.readouterr().out


def test_goals_are_those_of_cases_in_the_list() -> None:
    names = {name for name, _, _ in goals.GOALS} - {SPEED, METRIC}
    assert names <= CASES.keys()
