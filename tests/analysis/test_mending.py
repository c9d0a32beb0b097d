"""A split that was wrong becomes right again: when, and what is proven anew from there."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from analysis.eprocess import e_value
from analysis.glance import glances
from analysis.judge import Design, Evidence, Interval, MetricDesign, advance, fresh, verdict
from analysis.kinds import kinds
from analysis.mending import ALPHA, BOUNDARY, KEPT, Episode, Mending, known, log_e_safe
from analysis.simulate import Behaviour, Streams
from analysis.tables import Arm, MeanArm, MeanTable, Table

ERRORS = MetricDesign("errors", "proportion", margin=1.0)
WATCHED = MetricDesign("watched", "proportion")
TIMES = MetricDesign("times", "histogram", (10.0, 20.0, 50.0, 100.0), margin=0.5, unit="milliseconds")
ABOVE = np.array([0.6, 0.3, 0.05, 0.01])
BLUNT = MetricDesign("blunt", "histogram", (10.0,), margin=0.5, unit="milliseconds")
POINTS = MetricDesign("points", "proportion", margin_points=0.02)
SCORE = MetricDesign("score", "mean", margin=0.2, unit="ratio", higher_is_better=True)
EVERY = (ERRORS, WATCHED, TIMES, BLUNT, POINTS, SCORE)


def design_of(*metrics, looks=60):
    return Design(metrics, 0.01, 0.05, planned_looks=looks, min_samples=100)


DESIGN = design_of(ERRORS)
BOUND = -math.log(ALPHA)


def tilted(share, tilt):
    """Return the share whose odds are `tilt` times those of another one."""
    return tilt * share / (1 - share + tilt * share)


def interval(end, metrics=(ERRORS,), *, share=0.2, tilt=1.0, total=2000, seed=0, worse=1.0):
    """Requests of which the candidate is meant to get `share`, and whose odds are off by `tilt`."""
    rng = np.random.default_rng((seed, end))
    candidate = int(rng.binomial(total, tilted(share, tilt)))
    sizes, tables = (total - candidate, candidate), {}
    for metric in metrics:
        if metric.kind == "mean":
            sums = [float(rng.normal(0.8, 0.2, size).sum()) for size in sizes]
            tables[metric.name] = MeanTable(end, *map(MeanArm, sizes, sums))
            continue
        rates = ABOVE[: len(metric.edges)] if metric.edges else np.array([0.02])
        drawn = [rng.random((size, 1)) for size in sizes]
        events = [(own < rate).sum(axis=0) for own, rate in zip(drawn, (rates, rates * worse), strict=True)]
        arms = (Arm(size, tuple(own.tolist())) for size, own in zip(sizes, events, strict=True))
        tables[metric.name] = Table(end, *arms)
    return Interval(end, share, tables, sizes)


def story(*parts, metrics=(ERRORS,), **how):
    """Return the intervals of (how many, tilt) one after the other."""
    tilts = [tilt for count, tilt in parts for _ in range(count)]
    return [interval(10 * at, metrics, tilt=tilt, **how) for at, tilt in enumerate(tilts, start=1)]


def judged(found, design=DESIGN, evidence=None):
    [evidence] = advance([(design, evidence or fresh(design), found)])
    return evidence


def same(a, b):
    return json.dumps(a.to_dict()) == json.dumps(b.to_dict())


def stored(evidence):
    return json.loads(json.dumps(evidence.to_dict(), allow_nan=False))


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("tilt", [1, BOUNDARY, 1.5, 4])
def test_against_a_split_that_is_wrong_by_the_boundary_or_more_nothing_is_won_on_average(share, tilt):
    total, side = 7, [[], []]
    for k in range(total + 1):
        shown = Interval(10, share, {}, (total - k, k))
        steps = Mending((), (0.0, 0.0), ()).after(shown).log_right
        for wins, step, own in zip(side, steps, (tilt, 1 / tilt), strict=True):
            wins.append(binom.pmf(k, total, tilted(share, own)) * math.exp(step))
    for wins in map(math.fsum, side):
        if tilt == BOUNDARY:
            assert wins == pytest.approx(1, rel=1e-9)
        else:
            assert (wins < 1) == (tilt > BOUNDARY)


def test_a_run_whose_split_was_never_wrong_knows_nothing_of_it():
    evidence = judged(story((12, 1.0)))
    assert evidence.mending is known(DESIGN, evidence) is None
    assert evidence.to_dict()["version"] == 2
    assert "mending" not in evidence.to_dict()
    found = verdict(DESIGN, evidence)
    assert (found.kind, found.srm.episodes) == ("Safe", ())
    assert "episodes" not in found.as_dict()["srm"]
    assert "anew" not in " ".join(found.reasons)


def test_a_wrong_split_says_so_until_it_is_right_and_then_safety_is_proven_anew():
    good = story((12, 1.0), (6, 3.0), (40, 1.0))
    before = judged(good[:12])
    assert verdict(DESIGN, before).kind == "Safe"
    wrong = judged(good[12:18], evidence=before)
    found = verdict(DESIGN, wrong)
    assert found.kind == "Invalid"
    assert "instead of 20%" in found.sentence
    assert found.sentence.endswith("once it is right again, the run goes on by itself")
    began = found.srm.episodes[0].began
    assert found.as_dict()["srm"]["episodes"] == [{"began": began, "ended": None}]

    evidence, seen = wrong, []
    for each in good[18:]:
        evidence = judged([each], evidence=evidence)
        seen.append(verdict(DESIGN, evidence))
    told = [each.kind for each in seen]
    changes = [kind for at, kind in enumerate(told) if at == 0 or kind != told[at - 1]]
    assert changes[-2:] == ["Undecided", "Safe"]
    first = seen[told.index("Undecided")]
    ended = first.srm.right_since
    assert first.srm.episodes == (Episode(began, ended),)
    assert (first.srm.requests, first.srm.e_max, first.srm.mismatch) == (0, 1.0, False)
    assert first.metrics[0].e_safe == pytest.approx(1)
    assert f"counted anew since 1970-01-01 00:{ended // 60:02}:{ended % 60:02} UTC" in first.sentence
    assert "it is right again, and safety is proven anew" in first.reasons[-1]
    assert seen[-1].metrics[0].e_safe >= seen[-1].bound_promote


@pytest.mark.parametrize("worse", [1.0, 4.0])
def test_harm_is_found_all_the_while(worse):
    bad = judged([*story((3, 1.0)), *story((12, 3.0), worse=worse)[3:]])
    found = verdict(DESIGN, bad)
    assert found.kind == "Invalid"
    assert (found.e_rollback_max >= found.bound_rollback) == (worse > 1)


def test_what_was_proven_until_a_recovery_is_asked_for_again():
    design = design_of(ERRORS, TIMES, POINTS, SCORE)
    found = story((20, 1.0), (5, 3.0), (9, 1.0), metrics=design.metrics, total=6000)
    evidence = judged(found[:25], design)
    while evidence.mending is None or evidence.mending.since is None:
        last, evidence = evidence, judged([found[evidence.looks]], design, evidence)
    whole = [log_e_safe(m, own) for m, own in zip(design.metrics, evidence.metrics, strict=True)]
    smallest = [min(each) for each in evidence.mending.proven_before]
    assert all(proof > 0 for proof in smallest)
    assert [whole[m] for m in (0, 2, 3)] == [smallest[m] for m in (0, 2, 3)]
    assert len(evidence.mending.proven_before[1]) == len(TIMES.layout.pairs) > 1
    for metric in verdict(design, evidence).metrics:
        assert metric.e_safe == pytest.approx(1), metric.name
    assert last.mending.since is None


def test_each_pair_of_edges_has_to_be_proven_anew():
    """One pair that was proven a thousandfold does not pass for what comes later."""
    own = judged(story((10, 1.0), metrics=(TIMES,)), design_of(TIMES)).metrics[0]
    nothing = [0.0] * len(TIMES.layout.pairs)
    assert log_e_safe(TIMES, own, nothing) == log_e_safe(TIMES, own) > 0
    for pair in range(len(nothing)):
        assert log_e_safe(TIMES, own, [*nothing[:pair], 1e6, *nothing[pair + 1 :]]) < -9e5


def test_a_split_that_is_wrong_again_is_told_and_mended_again():
    parts = ((10, 1.0), (4, 3.0), (12, 1.0), (6, 0.3), (12, 1.0))
    found = story(*parts)
    evidence = judged(found)
    first, second = evidence.mending.episodes
    assert first.began < first.ended < second.began < second.ended == evidence.mending.since
    assert first.began <= 10 * 12
    assert 10 * 26 < second.began <= 10 * 30
    until_first = judged(found[: first.ended // 10])
    assert evidence.mending.proven_before[0][0] >= until_first.mending.proven_before[0][0] > 0
    assert verdict(DESIGN, evidence).srm.episodes == (first, second)


def test_only_the_newest_episodes_are_kept():
    evidence = judged(story(*[(2, 5.0), (6, 1.0)] * (KEPT + 3)))
    assert len(evidence.mending.episodes) == KEPT
    assert evidence.mending.episodes[-1].ended > 80 * (KEPT + 2)
    assert len(json.dumps(evidence.to_dict()["mending"])) < 1024


@pytest.mark.parametrize("silent", [
    {"requests": None}, {"requests": (0, 0)}, {"intended": 0.0}, {"intended": 1.0},
])  # fmt: skip
def test_intervals_with_nothing_to_split_say_nothing(silent):
    wrong = judged(story((4, 3.0)))
    later = judged([replace(each, **silent) for each in story((60, 1.0))[4:]], evidence=wrong)
    assert verdict(DESIGN, later).kind == "Invalid"
    assert later.mending.log_right == tuple(max(0.0, each) for each in wrong.mending.log_right)


def test_evidence_of_before_there_was_mending_is_read_and_mended():
    found = story((4, 3.0), (12, 1.0))
    old = stored(judged(found[:1]))
    assert old["version"] == 2
    evidence = Evidence.from_dict(DESIGN, old)
    assert verdict(DESIGN, evidence).kind == "Invalid"
    assert judged(found[1:], evidence=evidence).mending.episodes[0].began == 10
    assert same(judged(found[1:], evidence=evidence), judged(found))


def test_an_older_penstock_does_not_take_mended_evidence_for_its_own():
    mended = stored(judged(story((4, 3.0), (12, 1.0))))
    assert mended["version"] == 3
    for wrong in ({**mended, "version": 2}, {**stored(judged(story((4, 1.0)))), "version": 3}):
        with pytest.raises(ValueError, match="does not belong"):
            Evidence.from_dict(DESIGN, wrong)
    with pytest.raises(ValueError, match="does not belong"):
        Mending.from_dict(design_of(ERRORS, POINTS), mended["mending"])


@st.composite
def stories(draw):
    metrics = tuple(draw(st.lists(st.sampled_from(EVERY), min_size=1, max_size=3, unique=True)))
    parts = draw(
        st.lists(st.tuples(st.integers(1, 4), st.sampled_from([1, 1, 0.3, 3])), min_size=1, max_size=5)
    )
    how = {"seed": draw(st.integers(0, 99)), "worse": draw(st.sampled_from([1.0, 1.3])), "total": 2000}
    return design_of(*metrics, looks=12), story(*parts, metrics=metrics, **how)


@settings(max_examples=10, deadline=None)
@given(st.lists(stories(), min_size=1, max_size=2), st.integers(0, 12))
def test_whatever_the_split_does_all_verdicts_agree_and_nothing_is_safer_than_without(told, cut):
    states = advance([(design, fresh(design), found) for design, found in told])
    for (design, found), evidence, glance in zip(
        told, states, glances([*zip([d for d, _ in told], states, strict=True)]), strict=True
    ):
        whole = verdict(design, evidence)
        assert kinds(design, [evidence, fresh(design)])[0] == glance.kind == whole.kind
        for position, (metric, own) in enumerate(zip(design.metrics, evidence.metrics, strict=True)):
            raw, shown = log_e_safe(metric, own), whole.metrics[position].e_safe
            assert (raw is None) == (shown is None)
            assert raw is None or shown <= e_value(raw)
            e_glance = glance.metrics[position].log_e_safe
            assert (None if e_glance is None else e_value(e_glance)) == shown
        halfway = Evidence.from_dict(design, stored(judged(found[:cut], design)))
        assert same(judged(found[cut:], design, halfway), evidence)
        assert json.dumps(whole.as_dict(), allow_nan=False)


def recoveries(*tilts, share, total, runs=100):
    """Return in which interval each run takes its split for right; if in none, how many there were."""
    rng = np.random.default_rng(11)
    shares = [tilted(share, tilt) for tilt in tilts]
    return np.array([_recovery(rng.binomial(total, shares).tolist(), share, total) for _ in range(runs)])


def _recovery(candidate, share, total):
    state = Mending((), (0.0, 0.0), ())
    for look, k in enumerate(candidate):
        state = state.after(Interval(10, share, {}, (total - k, k)))
        if state.is_right:
            return look
    return len(candidate)


@pytest.mark.parametrize(("tilt", "share"), [(1.5, 0.05), (1 / 1.5, 0.2), (1.5, 0.5), (0.5, 0.05)])
def test_a_split_that_stays_wrong_is_hardly_ever_taken_for_right(tilt, share):
    assert (recoveries(*[tilt] * 200, share=share, total=2000) == 200).mean() >= 0.99


@pytest.mark.parametrize("share", [1e-4, 0.05, 0.5, 0.95, 1 - 1e-4])
@pytest.mark.parametrize("tilt", [BOUNDARY, 1.5, 10, 1 / BOUNDARY, 1 / 1.5, 0.1])
def test_once_the_sides_have_changed_what_the_cap_leaves_is_lost_before_the_other_side_suffices(share, tilt):
    nothing, most = Interval(10, share, {}, (0, 0)), 1e9
    cap, _ = Mending((), (most, most), ()).after(nothing).log_right
    candidate = tilted(share, tilt)
    expected = Interval(10, share, {}, (1 - candidate, candidate))
    lost, won = sorted(Mending((), (0.0, 0.0), ()).after(expected).log_right)
    assert cap + lost * BOUND / won < BOUND < cap


@pytest.mark.parametrize("tilt", [2, 0.5])
def test_a_split_that_becomes_wrong_to_the_other_side_is_not_taken_for_right(tilt):
    tilts = [tilt] * 60 + [1 / tilt] * 60
    assert (recoveries(*tilts, share=0.2, total=200) == len(tilts)).mean() >= 0.99


@pytest.mark.parametrize("total", [50, 1000])
def test_at_the_boundary_a_hundred_intervals_pass_on_average_before_a_false_recovery(total):
    assert recoveries(*[BOUNDARY] * 600, share=0.5, total=total, runs=40).mean() > 1 / ALPHA


@pytest.mark.parametrize(("share", "requests"), [(0.05, 10_000), (0.2, 4000), (0.5, 2500)])
def test_a_right_split_is_soon_taken_for_right(share, requests):
    assert 100 * np.median(recoveries(*[1.0] * 200, share=share, total=100)) < requests


RUNS, LOOKS = 150, 50


def told_of(effect):
    """Return many runs whose split is wrong for a while: who was ever called safe, and who ever mended."""
    design = design_of(ERRORS, looks=LOOKS)
    streams = Streams(design, Behaviour(effect=effect, rps=200.0), RUNS, (7,))
    states, safe, mended = [fresh(design)] * RUNS, np.zeros(RUNS, dtype=bool), np.zeros(RUNS, dtype=bool)
    for look in range(LOOKS):
        real = np.full(RUNS, 0.4 if 5 <= look < 12 or 25 <= look < 30 else 0.2)
        intervals = [replace(each, intended=0.2) for each in streams.draw(real, 10, look)]
        states = advance([(design, s, [i]) for s, i in zip(states, intervals, strict=True)])
        safe |= np.array([kind == "Safe" for kind in kinds(design, states)])
        mended |= np.array([s.mending is not None and s.mending.since is not None for s in states])
    return design, states, safe, mended


def test_a_harmless_candidate_becomes_safe_in_the_end_and_a_harmful_one_hardly_ever():
    design, states, safe, mended = told_of(1.0)
    assert mended.all()
    assert (np.array(kinds(design, states)) == "Safe").mean() > 0.8
    _, states, safe, mended = told_of(2.0)
    assert mended.all()
    assert all(len(state.mending.episodes) >= 2 for state in states)
    assert safe.mean() <= 0.05
