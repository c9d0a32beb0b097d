"""One interval of one metric: which dispersion it is divided by, what is summed, and how much is kept."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from analysis.hypergeometric import log_likelihood_ratios
from analysis.judge import Design, Evidence, Interval, MetricDesign, advance, fresh, verdict
from analysis.tables import Arm, Table

EDGES = (25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 1500.0, 2500.0)
ERRORS = MetricDesign("errors", "proportion", margin=0.5, dispersion=2.0)
LATENCY = MetricDesign("latency", "histogram", EDGES, margin=1.0, unit="milliseconds", dispersion=2.0)
DESIGN = Design((ERRORS, LATENCY), 0.01, 0.05, planned_looks=60, min_samples=100)
ONE = replace(DESIGN, metrics=(ERRORS,))
LANES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)


def interval(end, dispersion=None, *, errors=(17, 4), slow=4):
    """Control and candidate with 1,800 and 200 requests; `slow` of the candidate's are beyond every edge."""
    above = (1500, 1100, 600, 150, 40, 18, 9, 4)
    candidate = tuple(max(round(k / 9), slow) for k in above)
    tables = {
        "errors": Table(end, Arm(1800, (errors[0],)), Arm(200, (errors[1],))),
        "latency": Table(end, Arm(1800, above), Arm(200, candidate)),
    }
    return Interval(end, 0.1, tables, (1800, 200), dispersion=dispersion or {})


def judged(intervals, design=DESIGN):
    [evidence] = advance([(design, fresh(design), intervals)])
    return evidence


def test_one_increment_is_the_log_ratio_of_fishers_distribution():
    found = judged([interval(1, {"errors": (1.0,)})], ONE).metrics[0]
    at_2 = ERRORS.layout.stakes.odds_ratios.index(2.0)
    assert math.exp(found.start[0, at_2]) == pytest.approx(2.1789835, rel=1e-6)  # scipy's nchypergeom_fisher


def test_without_a_measured_dispersion_the_designs_divides():
    plain = replace(DESIGN, metrics=tuple(replace(m, dispersion=1.0) for m in DESIGN.metrics))
    for divided, whole in zip(
        judged([interval(1)]).metrics, judged([interval(1)], plain).metrics, strict=True
    ):
        assert divided.likelihood == pytest.approx(whole.likelihood / 2, rel=1e-5)
        assert divided.start == pytest.approx(whole.start / 2, rel=1e-5)


def test_a_measured_dispersion_overrides_the_designs_lane_by_lane():
    measured = judged([interval(1, {"latency": LANES})]).metrics
    assumed = judged([interval(1)]).metrics
    factor = 2.0 / np.array(LANES)[:, None]
    assert measured[1].likelihood == pytest.approx(assumed[1].likelihood * factor, rel=1e-5)
    assert measured[1].dispersion.tolist() == list(LANES)
    near = [first for first, _ in LATENCY.layout.pairs]
    assert measured[1].pairs == pytest.approx(assumed[1].pairs * factor[near], rel=1e-5)
    assert json.dumps(judged([interval(1)]).to_dict()["metrics"][0]) == json.dumps(
        judged([interval(1, {"latency": LANES})]).to_dict()["metrics"][0]
    )


def test_a_dispersion_that_changes_in_a_run_divides_only_what_comes_after():
    first, second = interval(1, {"errors": (4.0,)}), interval(2, {"errors": (1.5,)}, errors=(20, 5))
    found = judged([first, second]).metrics[0]
    ratios = ERRORS.layout.stakes.odds_ratios
    expected = (
        log_likelihood_ratios(200, 4, 1800, 17, ratios)[0] / 4
        + log_likelihood_ratios(200, 5, 1800, 20, ratios)[0] / 1.5
    )
    assert found.start[0] == pytest.approx(expected, rel=1e-5)
    assert found.dispersion.tolist() == [4.0]  # the largest is told


def test_the_verdict_tells_the_largest_dispersion_that_was_divided_by():
    found = verdict(DESIGN, judged([interval(1, {"errors": (4.0,)}), interval(2)]))
    assert [metric.dispersion for metric in found.metrics] == [4.0, 2.0]


def test_dispersion_makes_harm_later():
    def crossed(phi):
        return judged([interval(t, {"errors": (phi,)}, errors=(17, 7)) for t in range(1, 61)], ONE).crossed_at

    assert crossed(1.0) < crossed(3.0) < crossed(8.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"errors": (2.0, 2.0)},
        {"latency": (2.0,)},
        {"errors": (0.99,)},
        {"errors": (math.nan,)},
        {"latency": (*LANES[:-1], 0.0)},
    ],
)
def test_dispersions_below_1_or_for_another_number_of_lanes_are_refused(wrong):
    with pytest.raises(ValueError, match="dispersions of 1 or more"):
        judged([interval(1, wrong)])


@pytest.mark.parametrize("scale", [1, 10**5])
def test_eight_edges_are_kept_in_less_than_two_kilobytes(scale):
    def scaled(arm):
        return Arm(arm.total * scale, tuple(k * scale for k in arm.events))

    found = []
    for t in range(1_700_000_000, 1_700_000_030, 10):
        table = interval(t).tables["latency"]
        tables = {"latency": Table(t, scaled(table.control), scaled(table.candidate))}
        found.append(Interval(t, 0.1, tables, dispersion={"latency": LANES}))
    stored = judged(found, replace(DESIGN, metrics=(LATENCY,))).to_dict()["metrics"][0]
    assert stored["counts"][0][0] == 3 * 1800 * scale
    assert len(json.dumps(stored, separators=(",", ":"))) < 2048


def test_a_run_restored_after_any_interval_goes_on_bit_for_bit_with_its_dispersion():
    found = [interval(t, {"latency": LANES} if t % 2 else {"errors": (1.3,)}, slow=t) for t in range(1, 9)]
    whole = json.dumps(judged(found).to_dict())
    for cut in range(len(found)):
        kept = Evidence.from_dict(DESIGN, json.loads(json.dumps(judged(found[:cut]).to_dict())))
        [resumed] = advance([(DESIGN, kept, found[cut:])])
        assert json.dumps(resumed.to_dict()) == whole


def splits(sizes, taken):
    """Every way to take so many from groups of these sizes, and its chance when all are alike."""
    total = math.comb(sum(sizes), taken)
    for found in product(*(range(size + 1) for size in sizes)):
        if sum(found) == taken:
            yield found, math.prod(map(math.comb, sizes, found)) / total


def test_the_average_over_edges_is_a_fair_game_however_much_they_depend_on_each_other():
    """Requests are fast, slow or very slow; an identical candidate has a random part of them."""
    metric = MetricDesign("latency", "histogram", (1.0, 2.0))
    design = Design((metric,), 0.01, 0.05, planned_looks=2, min_samples=0)
    first, second = list(splits((4, 3, 2), 3)), list(splits((2, 5, 1), 4))
    mean = 0.0
    for (one, chance), (two, other) in product(first, second):
        tables = []
        for at, (sizes, own) in enumerate((((4, 3, 2), one), ((2, 5, 1), two)), 1):
            arms = [
                Arm(sum(part), (part[1] + part[2], part[2]))
                for part in (tuple(map(int.__sub__, sizes, own)), own)
            ]
            tables.append(Interval(at, 0.4, {"latency": Table(at, *arms)}))
        mean += chance * other * math.exp(judged(tables, design).log_e)
    assert mean == pytest.approx(1, abs=1e-6)
