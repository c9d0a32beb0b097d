"""Placebos: parts of the control as candidates, with the shares of the steps, decided as the loop decides."""

import numpy as np
import pytest

from controller.dossier import design_of
from controller.filing import ArmKey
from controller.past import MetricPast, Past
from controller.placebo import Placebos, replay, window_error, windows_of
from policies.catalog import templates
from policies.parse import policy_from_object
from tests.support.past import START, STEP, MadeUpPast
from tests.support.policies import changed, policy

ERRORS = "istio-error-rate"


def past(**made):
    found = MadeUpPast(**made)
    known = np.array([i not in found.gone for i in range(1, found.intervals + 1)])
    counts = np.where(known[:, None], found.total[1:], 0), np.where(known[:, None], found.bad[1:], 0)
    metric = MetricPast(counts[0], counts[1][..., None], known)
    names = tuple(f"pod-{pod}" for pod in range(found.pods))
    return Past(ArmKey("ml", "ranker", "v1"), START, STEP, names, {ERRORS: metric})


def drawn(placebos, share, looks=10):
    """Requests and events of all runs and looks: ((looks, runs, control and candidate), the same)."""
    tables = [[interval.tables[ERRORS] for interval in placebos.draw(share, STEP, at)] for at in range(looks)]
    requests = [[(t.control.total, t.candidate.total) for t in row] for row in tables]
    events = [[(t.control.events[0], t.candidate.events[0]) for t in row] for row in tables]
    return np.array(requests), np.array(events)


def plan(dispersion="2", **decision):
    obj = changed(policy(), "spec.strategy.canary.steps", [{"weight": 20, "hold": "2m"}])
    obj = changed(obj, "spec.metrics", [{"template": ERRORS, "margin": "100%", "dispersion": dispersion}])
    return policy_from_object(
        changed(obj, "spec.decision", {"deadline": "10m", "falseRollback": "5%", **decision})
    )


def test_windows_follow_each_other_and_those_without_traffic_are_left_out():
    found = windows_of(past(intervals=100, gone=range(31, 60)), 30)
    assert found.starts.tolist() == [0, 60]
    assert found.left_out == 1
    assert not found.single.any()
    assert (found.load == past(intervals=100).metrics[ERRORS].totals[[*range(30)]].sum(axis=0)).all(axis=1)[0]


@pytest.mark.parametrize(("made", "length", "words"), [
    ({"intervals": 20}, 21, "the history has 20 intervals; a window needs 21"),
    ({"intervals": 20}, 0, "a window needs 0"),
    ({"intervals": 20, "rps": 0.0}, 10, "there is no history"),
    ({"intervals": 20, "gone": range(1, 21)}, 10, "there is no history"),
])  # fmt: skip
def test_without_a_history_there_are_no_windows(made, length, words):
    with pytest.raises(ValueError, match=words):
        windows_of(past(**made), length)


@pytest.mark.parametrize("pods", [1, 2, 6, 30])
@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.8])
def test_the_candidate_has_the_share_of_the_step_and_the_rates_are_the_same(pods, share):
    made = past(pods=pods, intervals=100)
    placebos = Placebos(made, windows_of(made, 50), 40, 1)
    requests, events = drawn(placebos, np.full(40, share), looks=50)
    per_run = requests.sum(axis=0)
    assert per_run[:, 1] / per_run.sum(axis=1) == pytest.approx(np.full(40, share), abs=0.01)
    rates = events.sum(axis=(0, 1)) / requests.sum(axis=(0, 1))
    assert rates == pytest.approx([0.02, 0.02], rel=0.05)


def test_at_no_share_there_is_no_candidate_and_at_the_whole_no_control():
    made = past(intervals=10)
    requests, _ = drawn(Placebos(made, windows_of(made, 10), 2, 1), np.array([0.0, 1.0]))
    totals = requests.sum(axis=0)
    assert totals[0, 1] == totals[1, 0] == 0
    assert totals[0, 0] > 0 < totals[1, 1]


def test_a_single_series_is_split_so_that_nothing_is_lost_or_counted_twice():
    made = past(pods=1, intervals=10)
    requests, events = drawn(Placebos(made, windows_of(made, 10), 3, 1), np.full(3, 0.3))
    metric = made.metrics[ERRORS]
    assert (requests.sum(axis=2) == metric.totals).all()
    assert (events.sum(axis=2) == metric.events[..., 0]).all()


def test_different_runs_take_different_series_and_a_seed_gives_the_same_again():
    made = past(pods=10, intervals=10)
    first, again, other = (
        drawn(Placebos(made, windows_of(made, 10), 30, seed), np.full(30, 0.1)) for seed in (1, 1, 2)
    )
    assert (first[0] == again[0]).all()
    assert (first[0] != other[0]).any()
    assert np.unique(first[0][0, :, 1]).size > 5


def test_the_injected_effect_is_the_odds_ratio_and_hits_the_candidate_only():
    made = past(intervals=40)
    requests, events = drawn(
        Placebos(made, windows_of(made, 40), 60, 1, 3.0, ERRORS), np.full(60, 0.25), looks=40
    )
    control, candidate = events.sum(axis=(0, 1)) / requests.sum(axis=(0, 1))
    assert control == pytest.approx(0.02, rel=0.05)
    assert candidate / (1 - candidate) / (control / (1 - control)) == pytest.approx(3.0, rel=0.05)


def test_intervals_of_which_nothing_is_known_have_no_table_and_no_split_is_tested():
    made = past(intervals=10, gone=range(4, 5))
    placebos = Placebos(made, windows_of(made, 10), 2, 1)
    known = [
        interval.tables[ERRORS] is not None and interval.requests is None
        for at in range(10)
        for interval in placebos.draw(np.full(2, 0.5), STEP, at)[:1]
    ]
    assert known == [True] * 3 + [False] + [True] * 6


def test_intervals_of_another_length_are_refused():
    made = past(intervals=10)
    with pytest.raises(ValueError, match="length"):
        Placebos(made, windows_of(made, 10), 1, 1).draw(np.ones(1), 20, 0)


def test_placebos_are_promoted_and_injected_harm_is_rolled_back():
    made = past(intervals=240)
    policy_ = plan()
    design = design_of(policy_, templates())
    same, worse = (
        replay(policy_, design, Placebos(made, windows_of(made, 60), 40, 1, effect, ERRORS))
        for effect in (1.0, 3.0)
    )
    assert same.share("promoted", "Safe").count >= 36
    assert worse.share("rolledBack", "Harmful").count == 40
    assert worse.effect == 3.0


def test_clusters_show_between_series_and_not_within_a_single_one():
    def rolled_back(pods):
        made = past(pods=pods, intervals=600, cluster=8)
        policy_ = plan(dispersion="1", deadline="20m")
        found = replay(policy_, design_of(policy_, templates()), Placebos(made, windows_of(made, 120), 60, 1))
        return found.share("rolledBack", "Harmful").share

    assert rolled_back(8) > 0.2
    assert rolled_back(1) < 0.1


def test_a_run_ends_undecided_with_its_window():
    made = past(intervals=30)
    policy_ = plan(deadline="1h")
    told = []
    result = replay(
        policy_, design_of(policy_, templates()), Placebos(made, windows_of(made, 10), 6, 1),
        looked=lambda: told.append(1),
    )  # fmt: skip
    assert {ending.outcome for ending in result.endings} == {"held"}
    assert len(told) == 10


def test_the_error_between_windows_counts_windows_and_not_runs():
    hits = [True, False, True, False]  # two windows: one always, one never
    assert window_error(hits, 2) == pytest.approx(0.5)
    assert window_error([True, True, False, False], 2) == 0
    assert window_error(hits, 1) is None
