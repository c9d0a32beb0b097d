"""A herd gives of every member, bit for bit, what the judge and the glance give of each run alone.

Covered: any members with any numbers of looks behind them, joining and leaving between looks; every kind of
proportion and histogram; runs that are harmful, safe, without data, or split wrongly; what is refused.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.glance import glances
from analysis.herd import Counted, Herd, Member
from analysis.judge import Design, Interval, MetricDesign, advance, fresh
from analysis.mending import known
from analysis.tables import Arm, Table

EDGES = (5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0)
ABOVE = (1.0, 0.9, 0.6, 0.3, 0.1, 0.03, 0.01, 0.004, 0.001, 0.0, 0.0)
METRICS = (
    MetricDesign("errors", "proportion", margin=0.25, dispersion=1.5),
    MetricDesign("tolerated", "proportion", margin=0.25, tolerance=0.5),
    MetricDesign("watched", "proportion"),
    MetricDesign("good", "proportion", margin=0.5, higher_is_better=True),
    MetricDesign("points", "proportion", margin_points=0.02),
    MetricDesign("accuracy", "proportion", margin_points=0.05, higher_is_better=True),
    MetricDesign("latency", "histogram", EDGES),
    MetricDesign("bounded", "histogram", EDGES, margin=1.0, tolerance=0.2),
    MetricDesign("few", "histogram", EDGES[2:5], margin=0.5, dispersion=2.0),
    MetricDesign("one", "histogram", EDGES[3:4], margin=0.5),
)
ERRORS, LATENCY = METRICS[0], METRICS[7]
DESIGN = Design((ERRORS, LATENCY), 0.01, 0.05, planned_looks=60, min_samples=100)


def arms(metric, rng, sizes, badness):
    """Control and candidate: requests, then events per lane; the candidate's are so much more frequent."""
    shares = np.array([ABOVE[EDGES.index(edge)] for edge in metric.edges] or [0.03])
    found = []
    for size, factor in zip(sizes, (1.0, badness), strict=True):
        bad = (rng.random(size)[:, None] < np.minimum(shares * factor, 1.0)).sum(axis=0).tolist()
        found.append((size, *([size - k for k in bad] if metric.higher_is_better else bad)))
    return found


def showing(end, member, rng, badness=1.0, scale=None):
    """Return an interval of one run, and the same as the rows of `Counted`."""
    scale = int(rng.choice([1, 20, 300, 3000], p=[0.1, 0.3, 0.57, 0.03])) if scale is None else scale
    sizes = rng.poisson((scale * 0.8, scale * 0.2)).tolist()
    rows = [arms(metric, rng, sizes, badness) for metric in member.design.metrics]
    tables = {
        metric.name: Table(end, *(Arm(total, tuple(events)) for total, *events in row))
        for metric, row in zip(member.design.metrics, rows, strict=True)
    }
    interval = Interval(end, member.intended, tables, (sizes[0], sizes[1]), (), member.dispersion)
    return interval, (rows, sizes)


def counted(rows):
    """Return the rows of several runs together."""
    metrics = zip(*(own for own, _ in rows), strict=True)
    return Counted([np.array(each) for each in metrics], np.array([sizes for _, sizes in rows]))


def advanced(member, intervals):
    [evidence] = advance([(member.design, member.evidence, intervals)])
    return member._replace(evidence=evidence)


def misrouted(member):
    """Tell whether a run may be no member, since its split is, or was, a wrong one."""
    return known(member.design, member.evidence) is not None


def looked(herd, members, end, shown):
    """Return the members after an interval, as the judge has them, and what the herd sees of it."""
    seen = herd.advance(end, counted([rows for _, rows in shown]))
    batch = [(member.design, member.evidence, [one]) for member, (one, _) in zip(members, shown, strict=True)]
    pairs = zip(members, advance(batch), strict=True)
    return [member._replace(evidence=evidence) for member, evidence in pairs], seen


def herd_of(*members):
    herd = Herd([metric.layout for metric in members[0].design.metrics])
    herd.add(members)
    return herd


def told(glance):
    """Return a glance as values that are equal only bit for bit."""
    metrics = [
        (*metric[:4], metric.likelihood.dtype, metric.likelihood.tobytes()) for metric in glance.metrics
    ]
    return repr((glance.kind, metrics))


def assert_same(herd, members, seen=None):
    assert len(herd) == len(members)
    known = glances([(member.design, member.evidence) for member in members])
    for row, (member, glance) in enumerate(zip(members, known, strict=True)):
        own = herd.evidence([row])[0]
        assert json.dumps(own.to_dict()) == json.dumps(member.evidence.to_dict())
        assert own.metrics[0].layout is member.design.metrics[0].layout
        if seen is not None:
            assert (seen.log_e[row], seen.peak[row]) == (member.evidence.log_e, member.evidence.peak)
            assert seen.fewest[row] == min(metric.fewest for metric in glance.metrics)
            own_log_e = [metric.log_e[row] for metric in seen.metrics]
            assert own_log_e == [metric.log_e for metric in member.evidence.metrics]


@st.composite
def newcomers(draw, metrics, end):
    """A run that asks the same of its metrics as others, which has seen some intervals until `end`."""
    known = draw(st.lists(st.sampled_from([m.name for m in metrics]), unique=True))
    phi = {
        metric.name: tuple(draw(st.floats(1, 9)) for _ in range(metric.layout.lanes))
        for metric in metrics
        if metric.name in known
    }
    errors = (draw(st.sampled_from([0.01, 0.2])), draw(st.sampled_from([0.05, 0.3])))
    design = Design(tuple(metrics), *errors, draw(st.integers(1, 12)), draw(st.sampled_from([0, 50, 5000])))
    member = Member(design, fresh(design), draw(st.sampled_from([0.0, 0.05, 0.2, 0.2, 1.0])), phi)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    looks = draw(st.integers(0, min(9, end // 10)))
    badness = draw(st.sampled_from([0.1, 1.0, 3.0]))
    shown = [showing(end - 10 * back, member, rng, badness)[0] for back in reversed(range(looks))]
    return advanced(member, shown)


@settings(max_examples=30)
@given(st.data())
def test_members_are_judged_as_each_run_alone_whoever_joins_and_leaves(data):
    metrics = data.draw(st.lists(st.sampled_from(METRICS), min_size=1, max_size=3, unique=True))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    herd, members = Herd([metric.layout for metric in metrics]), []
    for end in range(100, 100 + 10 * data.draw(st.integers(1, 10)), 10):
        leave = data.draw(st.sets(st.integers(0, len(members) - 1))) if members else set()
        leave |= {row for row, member in enumerate(members) if misrouted(member)}
        herd.remove(sorted(leave))
        members = [member for row, member in enumerate(members) if row not in leave]
        more = data.draw(st.lists(newcomers(metrics, end - 10), max_size=3))
        more = [member for member in more if not misrouted(member)]
        herd.add(more)
        members += more
        shown = [showing(end, member, rng, rng.choice([0.1, 1.0, 4.0])) for member in members]
        if not shown:
            continue
        members, seen = looked(herd, members, end, shown)
        assert_same(herd, members, seen)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_run_to_its_end_and_beyond_is_the_same_in_a_herd(metric):
    design = Design((metric,), 0.01, 0.05, planned_looks=12, min_samples=100)
    rng, kinds = np.random.default_rng(3), set()
    members = [Member(design, fresh(design), 0.2, {}) for _ in range(6)]
    herd = herd_of(*members)
    for end in range(10, 160, 10):
        shown = [showing(end, member, rng, 0.6 * row, scale=500) for row, member in enumerate(members)]
        members, seen = looked(herd, members, end, shown)
        kinds |= {*seen.kinds}
    assert_same(herd, members, seen)
    assert {"Harmful", "Undecided"} <= kinds


def test_many_members_are_the_same_as_few():
    rng = np.random.default_rng(4)
    phi = {"bounded": tuple(1 + rng.random(11))}
    members = [Member(DESIGN, fresh(DESIGN), 0.2, phi if row % 2 else {}) for row in range(300)]
    herd = herd_of(*members)
    for end in (10, 20):
        shown = [showing(end, member, rng) for member in members]
        members, seen = looked(herd, members, end, shown)
    assert_same(herd, members, seen)


def test_harm_is_blamed_and_kept_as_by_the_judge():
    rng = np.random.default_rng(5)
    members = [Member(DESIGN, fresh(DESIGN), 0.2, {})] * 2
    herd = herd_of(*members)
    for end in range(10, 200, 10):
        shown = [showing(end, each, rng, 5.0 * (end < 60) * row, 1000) for row, each in enumerate(members)]
        members, seen = looked(herd, members, end, shown)
        assert_same(herd, members, seen)
    assert members[1].evidence.crossed_at is not None
    assert members[1].evidence.blame is not None
    assert members[0].evidence.crossed_at is None
    assert seen.kinds[1] == "Harmful"


def test_a_wrong_split_makes_invalid_and_silence_makes_no_data():
    rng = np.random.default_rng(6)
    members = [Member(DESIGN, fresh(DESIGN), share, {}) for share in (0.2, 0.6)]
    herd = herd_of(*members, members[0])
    shown = [showing(10, member, rng, scale=3000)[1] for member in members]
    seen = herd.advance(10, counted([*shown, showing(10, members[0], rng, scale=0)[1]]))
    assert seen.kinds == ["Undecided", "Invalid", "NoData"]


def test_what_is_seen_and_counted_can_do_without_some():
    rng = np.random.default_rng(7)
    member = Member(DESIGN, fresh(DESIGN), 0.2, {})
    shown = counted([showing(10, member, rng)[1] for _ in range(5)])
    seen = herd_of(*[member] * 5).advance(10, shown)
    fewer = herd_of(*[member] * 3).advance(10, shown.without([3, 0]))
    less = seen.without([3, 0])
    left = [*map(told, seen.glances([1, 2, 4]))]
    assert [*map(told, less.glances(range(3)))] == left
    assert [*map(told, fewer.glances(range(3)))] == left
    assert (less.end, less.kinds) == (fewer.end, fewer.kinds)
    for name in ("fewest", "log_e", "peak"):
        assert getattr(less, name).tolist() == getattr(fewer, name).tolist()


def test_a_herd_may_be_empty_before_and_after():
    rng = np.random.default_rng(8)
    member = Member(DESIGN, fresh(DESIGN), 0.2, {})
    herd = Herd([metric.layout for metric in DESIGN.metrics])
    herd.add([])
    assert len(herd) == 0
    herd.add([member])
    shown, rows = showing(10, member, rng)
    herd.advance(10, counted([rows]))
    herd.remove([0])
    assert len(herd) == 0
    nothing = Counted(
        [np.zeros((0, 2, 2), np.int64), np.zeros((0, 2, 12), np.int64)], np.zeros((0, 2), np.int64)
    )
    assert herd.advance(20, nothing).kinds == []
    herd.add([advanced(member, [shown])])
    assert_same(herd, [advanced(member, [shown])])


@pytest.mark.parametrize("end", [5, 10])
def test_an_interval_that_is_not_newer_is_refused_and_changes_nothing(end):
    rng = np.random.default_rng(9)
    member = Member(DESIGN, fresh(DESIGN), 0.2, {})
    old = advanced(member, [showing(10, member, rng)[0]])
    herd = herd_of(member, old)
    with pytest.raises(ValueError, match="is not newer"):
        herd.advance(end, counted([showing(end, member, rng)[1] for _ in range(2)]))
    assert_same(herd, [member, old])


@pytest.mark.parametrize("wrong", ["runs", "lanes", "requests", "metrics", "negative", "events"])
def test_counts_that_do_not_fit_are_refused_and_change_nothing(wrong):
    rng = np.random.default_rng(10)
    member = Member(DESIGN, fresh(DESIGN), 0.2, {})
    herd = herd_of(member, member)
    metrics, requests = counted([showing(10, member, rng)[1] for _ in range(2)])
    if wrong == "runs":
        metrics = [each[:1] for each in metrics]
    elif wrong == "lanes":
        metrics = [metrics[0], metrics[1][:, :, :-1]]
    elif wrong == "requests":
        requests = requests[:1]
    elif wrong == "metrics":
        metrics = metrics[:1]
    elif wrong == "negative":
        metrics[0][1, 0] = (5, -1)
    else:
        metrics[1][0, 1, 3] = metrics[1][0, 1, 0] + 1
    with pytest.raises(ValueError, match="counts"):
        herd.advance(10, Counted(metrics, requests))
    assert_same(herd, [member, member])


def test_runs_that_do_not_belong_here_are_refused_and_none_is_added():
    member = Member(DESIGN, fresh(DESIGN), 0.2, {})
    other = replace(DESIGN, metrics=(LATENCY, ERRORS))
    fewer = replace(DESIGN, metrics=(ERRORS,))
    broken = Interval(10, 0.2, {}, None, ("the series restarted",))
    wrong, right = (Interval(end, 0.2, {}, sizes) for end, sizes in ((10, (2000, 8000)), (20, (8000, 2000))))
    strangers = {
        "other layouts": [Member(other, fresh(other), 0.2, {}), Member(fewer, fresh(fewer), 0.2, {})],
        "inconsistent": [advanced(member, [broken])],
        "the split of a run was wrong": [advanced(member, [wrong]), advanced(member, [wrong, right])],
        "dispersions of 1 or more": [member._replace(dispersion={"errors": (0.5,)})],
    }
    herd = herd_of(member)
    for words, runs in strangers.items():
        for run in runs:
            with pytest.raises(ValueError, match=words):
                herd.add([member, run])
    assert len(herd) == 1


def test_means_have_no_herd():
    with pytest.raises(ValueError, match="no means"):
        Herd([MetricDesign("score", "mean", margin=0.1).layout])


def test_evidence_that_was_handed_out_does_not_change_later():
    rng = np.random.default_rng(11)
    member = Member(DESIGN, fresh(DESIGN), 0.2, {})
    herd = herd_of(member, member)
    handed = []
    for end in (10, 20, 30):
        seen = herd.advance(end, counted([showing(end, member, rng)[1] for _ in range(2)]))
        [evidence], [glance] = herd.evidence([1]), seen.glances([1])
        handed.append((evidence, json.dumps(evidence.to_dict()), glance, told(glance)))
    for evidence, stored, glance, words in handed:
        assert json.dumps(evidence.to_dict()) == stored
        assert told(glance) == words
        assert all(metric.singles.base is None for metric in evidence.metrics)
        assert math.isfinite(evidence.log_e)
