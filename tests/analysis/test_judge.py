import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.eprocess import log_sum_exp, safe_log_prior, safe_odds_ratios
from analysis.hypergeometric import log_likelihood_ratios
from analysis.judge import Design, Evidence, Interval, MetricDesign, advance, fresh, verdict
from analysis.kinds import kinds
from analysis.stakes import START
from analysis.tables import Arm, MeanArm, MeanTable, Table

EDGES = (25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
ABOVE = np.array([0.9, 0.6, 0.3, 0.08, 0.02, 0.005])
ERRORS = MetricDesign("errors", "proportion", margin=0.5)
LATENCY = MetricDesign("latency", "histogram", EDGES, margin=1.0, unit="milliseconds")
DESIGN = Design((ERRORS, LATENCY), 0.01, 0.05, planned_looks=60, min_samples=100)


MORE = Design(
    (
        MetricDesign("score", "mean", margin=0.05, unit="ratio", higher_is_better=True),
        MetricDesign("errors", "proportion", margin_points=0.01),
        MetricDesign("good", "proportion", margin=0.5, higher_is_better=True),
    ),
    0.01,
    0.05,
    planned_looks=60,
    min_samples=100,
)


def more_intervals(count, *, seed=1, first=1):
    """A mean, errors and their absence, for a candidate of any quality; some intervals miss an arm."""
    rng = np.random.default_rng(seed)
    score, rate, found = rng.uniform(0.5, 1.0), rng.uniform(0.0, 0.1), []
    for end in range(10 * first, 10 * (first + count), 10):
        sizes, rates = (1800, int(rng.choice([0, 200, 400]))), (0.03, rate)
        bad = [int(rng.binomial(n, share)) for n, share in zip(sizes, rates, strict=True)]
        sums = [float(rng.normal(mu, 0.2, n).sum()) for n, mu in zip(sizes, (0.8, score), strict=True)]
        tables = {
            "score": MeanTable(end, *map(MeanArm, sizes, sums)),
            "errors": Table(end, *(Arm(n, (k,)) for n, k in zip(sizes, bad, strict=True))),
            "good": Table(end, *(Arm(n, (n - k,)) for n, k in zip(sizes, bad, strict=True))),
        }
        phi = float(rng.choice([1.0, 2.5]))
        found.append(Interval(end, 0.1, tables, sizes, dispersion={"score": (phi,), "errors": (phi,)}))
    return found


def intervals(count, *, errors=0.01, above=ABOVE, seed=1, sizes=(1800, 200), first=1):
    """A candidate with these rates against a control with 1 % errors and the usual latencies."""
    rng = np.random.default_rng(seed)
    found = []
    for at in range(first, first + count):
        arms = []
        for size, rate, shares in zip(sizes, (0.01, errors), (ABOVE, above), strict=True):
            times = np.sort(rng.random(size))
            arms.append((rng.binomial(size, rate), tuple(int((times < share).sum()) for share in shares)))
        tables = {
            "errors": Table(at * 10, *(Arm(n, (k,)) for n, (k, _) in zip(sizes, arms, strict=True))),
            "latency": Table(at * 10, *(Arm(n, ks) for n, (_, ks) in zip(sizes, arms, strict=True))),
        }
        found.append(Interval(at * 10, sizes[1] / sum(sizes), tables, sizes))
    return found


def judged(found, design=DESIGN):
    [evidence] = advance([(design, fresh(design), found)])
    return evidence


def test_a_candidate_with_more_errors_is_harmful_and_blamed_in_words():
    found = verdict(DESIGN, judged(intervals(12, errors=0.04)))
    assert (found.kind, found.blame) == ("Harmful", "errors")
    assert found.e_rollback_max >= found.bound_rollback == pytest.approx(100)
    assert found.sentence.startswith("errors ")
    assert "harm is proven" in found.sentence
    assert "99% sequence" in found.sentence


def test_a_candidate_with_a_slow_tail_is_harmful_at_the_edge_that_shows_it():
    found = verdict(DESIGN, judged(intervals(12, above=np.maximum(ABOVE, 0.06))))
    assert (found.kind, found.blame) == ("Harmful", "latency")
    latency = found.metrics[1]
    assert latency.worst_edge in {500.0, 1000.0}
    assert latency.sentence.startswith(f"latency over {latency.worst_edge:g} ms")


def test_a_good_candidate_becomes_safe_in_every_metric():
    found = verdict(DESIGN, judged(intervals(60, seed=3)))
    assert found.kind == "Safe"
    assert {metric.kind for metric in found.metrics} == {"Safe"}
    assert found.metrics[1].proven_margin == pytest.approx(1.5)
    assert "asked for 100%" in found.metrics[1].sentence


def test_a_good_candidate_is_undecided_at_first():
    found = verdict(DESIGN, judged(intervals(2)))
    assert found.kind == "Undecided"
    assert "harm is not proven" in found.sentence


def test_proven_harm_stays_proven():
    bad = judged(intervals(12, errors=0.04))
    [later] = advance([(DESIGN, bad, intervals(100, errors=0.0005, first=13))])
    assert verdict(DESIGN, later).e_rollback < 100
    assert verdict(DESIGN, later).kind == "Harmful"
    assert later.crossed_at == bad.crossed_at


def test_a_tolerated_harm_is_not_harmful():
    tolerant = replace(DESIGN, metrics=(replace(ERRORS, tolerance=2.0), LATENCY))
    harm = intervals(12, errors=0.025)
    assert verdict(DESIGN, judged(harm)).kind == "Harmful"
    assert verdict(tolerant, judged(harm, tolerant)).kind != "Harmful"


def test_dispersion_divides_the_evidence():
    wary = replace(DESIGN, metrics=(replace(ERRORS, dispersion=4.0), LATENCY))
    harm = intervals(3, errors=0.05)
    plain, tempered = judged(harm).metrics[0], judged(harm, wary).metrics[0]
    assert tempered.likelihood == pytest.approx(plain.likelihood / 4, rel=1e-6)
    assert tempered.log_e < plain.log_e


def test_the_evidence_of_a_histogram_is_the_stakes_on_its_edges_odds_ratios_and_beginnings():
    found = intervals(5, above=np.minimum(ABOVE * 1.1, 1))
    stakes, planned = LATENCY.layout.stakes, DESIGN.planned_looks
    rows = []
    for interval in found:
        table = interval.tables["latency"]
        pairs = zip(table.candidate.events, table.control.events, strict=True)
        lanes = [(table.candidate.total, k_c, table.control.total, k_b) for k_c, k_b in pairs]
        rows.append(log_likelihood_ratios(*np.array(lanes).T, stakes.odds_ratios))
    gains = np.array(rows)
    later = sum(np.exp(gains[begin:].sum(axis=0)) for begin in range(5)) / planned
    bets = np.exp(stakes.start) * np.exp(gains.sum(axis=0)) + np.exp(stakes.later) * later
    expected = bets.sum() / len(EDGES) + (1 - START) * (1 - 5 / planned)
    assert judged(found).metrics[1].log_e == pytest.approx(math.log(expected), abs=1e-5)


def test_the_run_is_the_average_of_its_metrics():
    evidence = judged(intervals(4, errors=0.03))
    each = [math.exp(metric.log_e) for metric in evidence.metrics]
    assert math.exp(evidence.log_e) == pytest.approx(sum(each) / 2)
    found = verdict(DESIGN, evidence)
    assert found.e_rollback == pytest.approx(sum(metric.e_share for metric in found.metrics))


def test_a_latency_margin_compares_shifted_edges_and_the_weakest_pair_counts():
    design = replace(DESIGN, metrics=(LATENCY,))
    control, candidate = Arm(1000, (990, 600, 300, 90, 20, 5)), Arm(100, (99, 55, 28, 9, 2, 0))
    table = Table(10, control, candidate)
    telling = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5))
    weakest = min(
        math.exp(log_sum_exp(row + safe_log_prior(1.0)))
        for near, far in telling
        for row in log_likelihood_ratios(
            100, candidate.events[far], 1000, control.events[near], safe_odds_ratios(1.0)
        )
    )
    found = verdict(design, judged([Interval(10, 0.1, {"latency": table})], design)).metrics[0]
    assert LATENCY.layout.pairs == telling
    assert found.e_safe == pytest.approx(weakest)


@pytest.mark.parametrize(("slower", "safe"), [(1.3, True), (2.6, False)])
def test_a_latency_margin_is_kept_by_a_little_slower_and_broken_by_much_slower(slower, safe):
    rng, found = np.random.default_rng(2), []
    for at in range(1, 21):
        arms = []
        for size, factor in ((900, 1.0), (300, slower)):
            times = rng.lognormal(math.log(60), 0.8, size) * factor
            arms.append(Arm(size, tuple(int((times > edge).sum()) for edge in EDGES)))
        found.append(Interval(10 * at, 0.25, {"latency": Table(10 * at, *arms)}))
    design = replace(DESIGN, metrics=(LATENCY,))
    e_safe = verdict(design, judged(found, design)).metrics[0].e_safe
    assert (e_safe >= 20) is safe


def test_a_tail_is_safe_when_fewer_than_one_in_a_hundred_are_proven_to_be_in_it():
    design = replace(DESIGN, metrics=(LATENCY,))
    for slow, is_safe in ((0, True), (10, False)):
        events = (slow,) * 6  # ten: two in a hundred take long, while the control's never do
        table = Table(10, Arm(1000, (0,) * 6), Arm(500, events))
        metric = verdict(design, judged([Interval(10, 0.33, {"latency": table})], design)).metrics[0]
        assert (metric.kind == "Safe") is is_safe


def test_a_slow_tail_is_hardly_ever_called_safe():
    dice, design = np.random.default_rng(8), replace(DESIGN, metrics=(replace(LATENCY, margin=1.0),))
    states, safe = [fresh(design)] * 100, set()
    for end in range(1, 61):
        batch = []
        for state in states:
            bulk_b, bulk_c = dice.binomial(150, [0.9, 0.3]), dice.binomial(150, [0.9, 0.3])
            late = int(dice.binomial(150, 0.01))  # at the limit: one in a hundred beyond every other edge
            control = Arm(150, (*sorted(map(int, bulk_b), reverse=True), 0, 0, 0, 0))
            candidate = Arm(150, (*(max(int(x), late) for x in sorted(bulk_c, reverse=True)), *(late,) * 4))
            batch.append((design, state, [Interval(end, 0.5, {"latency": Table(end, control, candidate)})]))
        states = advance(batch)
        safe |= {run for run, kind in enumerate(kinds(design, states)) if kind == "Safe"}
    assert len(safe) <= 12  # 5 % of 100, and three standard errors


@pytest.mark.parametrize(
    ("edges", "margin", "pairs"),
    [
        ((100.0, 110.0, 150.0), 0.1, ((0, 1), (1, 2))),
        ((100.0, 105.0, 150.0), 0.1, ((0, 2), (1, 2))),
        ((100.0, 250.0), 2.0, ()),
    ],
)
def test_an_edge_is_paired_with_the_next_one_beyond_the_margin(edges, margin, pairs):
    assert MetricDesign("m", "histogram", edges, margin).layout.pairs == pairs


def test_no_requests_of_the_candidate_are_no_data():
    found = verdict(DESIGN, judged(intervals(3, sizes=(1000, 0))))
    assert found.kind == "NoData"
    assert found.sentence == "errors: no requests of the candidate"
    assert found.metrics[0].last_data is None
    assert verdict(DESIGN, fresh(DESIGN)).kind == "NoData"


def test_intervals_without_tables_are_looks_without_news():
    empty = [Interval(10 * i, 0.1, {"errors": None}) for i in range(1, 4)]
    evidence = judged(empty)
    assert evidence.looks == 3
    assert evidence.log_e == pytest.approx(0, abs=1e-6)  # sums are kept in single precision
    assert verdict(DESIGN, evidence).kind == "NoData"


def test_last_data_is_the_end_of_the_last_interval_with_both_arms():
    evidence = judged([*intervals(2), *intervals(1, sizes=(1800, 0), first=3)])
    assert [metric.last_data for metric in evidence.metrics] == [20, 20]


def test_a_metric_without_data_holds_back_safety_but_not_harm():
    def without(found):
        return [replace(each, tables={**each.tables, "latency": None}) for each in found]

    assert verdict(DESIGN, judged(without(intervals(60, seed=3)))).kind == "Undecided"
    assert verdict(DESIGN, judged(without(intervals(12, errors=0.04)))).kind == "Harmful"


@pytest.mark.parametrize("errors", [0.01, 0.5])
def test_too_few_samples_conclude_nothing(errors):
    found = verdict(DESIGN, judged(intervals(3, errors=errors, sizes=(1800, 12))))
    assert found.kind == "Undecided"
    assert found.sentence == "errors: too few samples: 36 of 100"


def test_a_wrong_split_is_invalid_and_stays_so_while_nothing_shows_that_it_is_right():
    wrong = [replace(each, intended=0.5) for each in intervals(3)]
    found = verdict(DESIGN, judged(wrong))
    assert found.kind == "Invalid"
    assert found.srm.mismatch
    assert found.sentence.startswith("the candidate had 10% of 6000 requests instead of 50%")
    [later] = advance([(DESIGN, judged(wrong), [replace(i, requests=None) for i in intervals(3, first=4)])])
    assert verdict(DESIGN, later).kind == "Invalid"


def test_inconsistent_counters_are_invalid_until_they_can_be_counted_again():
    broken = Interval(10, 0.1, {}, None, ("errors: buckets are not cumulative",))
    evidence = judged([broken])
    found = verdict(DESIGN, evidence)
    assert found.kind == found.metrics[0].kind == "Invalid"
    assert found.sentence == "inconsistent counters: errors: buckets are not cumulative"
    [later] = advance([(DESIGN, evidence, intervals(1, first=2))])
    assert verdict(DESIGN, later).kind == "Undecided"


def test_without_margins_a_run_never_becomes_safe():
    design = replace(DESIGN, metrics=(replace(ERRORS, margin=None),))
    assert verdict(design, judged(intervals(60, seed=3), design)).kind == "Undecided"


def test_every_verdict_is_json_without_nan():
    for found in ([], intervals(3), intervals(12, errors=0.9), intervals(2, sizes=(10, 0))):
        text = json.dumps(verdict(DESIGN, judged(found)).as_dict(), allow_nan=False)
        assert json.loads(text)["metrics"][0]["name"] == "errors"


def same(a, b):
    return json.dumps(a.to_dict()) == json.dumps(b.to_dict())


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 6), st.integers(0, 10**6))
def test_a_restored_run_goes_on_bit_for_bit(cut, seed):
    found = intervals(6, errors=0.02, seed=seed)
    whole = judged(found)
    stored = json.loads(json.dumps(judged(found[:cut]).to_dict(), allow_nan=False))
    [resumed] = advance([(DESIGN, Evidence.from_dict(DESIGN, stored), found[cut:])])
    assert same(resumed, whole)
    assert verdict(DESIGN, resumed) == verdict(DESIGN, whole)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 14), st.integers(0, 10**6))
def test_a_restored_run_of_means_and_points_goes_on_bit_for_bit(cut, seed):
    found = more_intervals(14, seed=seed)
    whole = judged(found, MORE)
    stored = json.loads(json.dumps(judged(found[:cut], MORE).to_dict(), allow_nan=False))
    [resumed] = advance([(MORE, Evidence.from_dict(MORE, stored), found[cut:])])
    assert same(resumed, whole)
    assert verdict(MORE, resumed) == verdict(MORE, whole)
    assert json.dumps(verdict(MORE, whole).as_dict(), allow_nan=False)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 10**6)), min_size=2, max_size=6))
def test_runs_of_means_and_points_together_have_the_evidence_they_have_alone(shapes):
    other = replace(MORE, planned_looks=7, false_promote=0.01)
    runs = [(MORE if seed % 2 else other, more_intervals(count, seed=seed)) for count, seed in shapes]
    together = advance([(design, fresh(design), found) for design, found in runs])
    for (design, found), evidence in zip(runs, together, strict=True):
        assert same(evidence, judged(found, design))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**6)), min_size=2, max_size=6))
def test_runs_together_have_the_evidence_they_have_alone(shapes):
    other = Design((replace(LATENCY, margin=None, dispersion=2.0), ERRORS), 0.05, 0.05, 7, 10)
    runs = [
        (DESIGN if seed % 2 else other, intervals(count, seed=seed, errors=0.02)) for count, seed in shapes
    ]
    together = advance([(design, fresh(design), found) for design, found in runs])
    for (design, found), evidence in zip(runs, together, strict=True):
        assert same(evidence, judged(found, design))


def test_advance_leaves_what_it_was_given():
    evidence = judged(intervals(2))
    before = json.dumps(evidence.to_dict())
    advance([(DESIGN, evidence, intervals(3, first=3))])
    assert json.dumps(evidence.to_dict()) == before


def test_an_interval_is_never_taken_in_twice():
    found = intervals(2)
    with pytest.raises(ValueError, match="not newer"):
        advance([(DESIGN, judged(found), found[1:])])


def test_a_table_with_other_edges_is_refused():
    wrong = Interval(10, 0.1, {"errors": Table(10, Arm(5, (1, 0)), Arm(5, (1, 0)))})
    with pytest.raises(ValueError, match="events per arm"):
        judged([wrong])


def test_evidence_of_another_design_is_refused():
    stored = judged(intervals(1)).to_dict()
    fewer_edges = replace(DESIGN, metrics=(ERRORS, replace(LATENCY, edges=EDGES[:3])))
    for design in (fewer_edges, replace(DESIGN, metrics=(ERRORS,))):
        with pytest.raises(ValueError, match="does not belong"):
            Evidence.from_dict(design, stored)


def test_stored_evidence_is_small():
    sizes = [len(json.dumps(metric)) for metric in judged(intervals(3)).to_dict()["metrics"]]
    assert sizes[0] < 1024
    assert sizes[1] < 1024 * len(EDGES)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "histogram"}, "edges"),
        ({"edges": (1.0,)}, "edges"),
        ({"kind": "histogram", "edges": (2.0, 1.0)}, "edges"),
        ({"margin": 0.0}, "margin"),
        ({"tolerance": -0.1}, "tolerance"),
        ({"dispersion": 0.5}, "dispersion"),
    ],
)
def test_a_metric_that_makes_no_sense_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        MetricDesign(**{"name": "m", "kind": "proportion", **fields})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"metrics": ()}, "metric"),
        ({"metrics": (ERRORS, ERRORS)}, "once"),
        ({"false_rollback": 0.0}, "error rates"),
        ({"planned_looks": 0}, "look"),
    ],
)
def test_a_design_that_makes_no_sense_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        replace(DESIGN, **fields)
