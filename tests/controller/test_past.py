"""The control's past, read part by part: every count once, series by series, and what is missing is said."""

import numpy as np
import pytest

from controller.dossier import design_of
from controller.observe import ArmKey
from controller.past import PART, Question, control_arm, read_past
from policies.catalog import templates
from policies.parse import policy_from_object
from tests.support.past import START, STEP, MadeUpPast
from tests.support.policies import changed, policy

ARM = ArmKey("ml", "ranker", "v1")


def question(made, *, start=START, arm=ARM):
    plan = policy_from_object(policy())
    design = design_of(plan, templates())
    read_by = {"istio-error-rate": templates()["istio-error-rate"]}
    return Question(design, read_by, arm, start, made.end, STEP)


async def test_every_request_of_every_series_is_counted_once_over_all_parts():
    made = MadeUpPast(pods=3, intervals=2 * PART + 5)
    told = []
    past = await read_past(made, question(made), done=lambda: told.append(1))
    assert past.series == ("pod-0", "pod-1", "pod-2")
    assert past.intervals == 2 * PART + 5
    found = past.metrics["istio-error-rate"]
    assert (found.totals == made.total[1:]).all()  # the first value is where counting starts
    assert (found.events[..., 0] == made.bad[1:]).all()
    assert found.known.all()
    assert past.missing == ()
    assert len(told) == len(made.asked) == 3
    assert max(end - start for start, end in made.asked) == PART * STEP
    assert [start for start, _ in made.asked][1:] == [end for _, end in made.asked][:-1]


async def test_intervals_that_were_never_scraped_are_not_known_and_said():
    made = MadeUpPast(intervals=30, gone=range(10, 14))
    past = await read_past(made, question(made))
    known = past.metrics["istio-error-rate"].known
    assert np.flatnonzero(~known).tolist() == [9, 10, 11, 12, 13]
    assert past.missing == ("istio-error-rate: nothing is known of 5 of 30 intervals",)
    assert past.metrics["istio-error-rate"].totals[~known].sum() == 0


async def test_partial_answers_are_left_out_and_said():
    made = MadeUpPast(intervals=20, warnings=("a store is gone",))
    past = await read_past(made, question(made))
    assert past.series == ()
    assert "istio-error-rate: parts are left out, since Prometheus says: a store is gone" in past.missing


async def test_other_versions_are_not_the_control():
    made = MadeUpPast(intervals=10)
    past = await read_past(made, question(made, arm=ArmKey("ml", "ranker", "v2")))
    assert past.series == ()
    everyone = await read_past(made, question(made, arm=ArmKey("ml", "ranker", None)))
    assert len(everyone.series) == 6


async def test_counters_that_cannot_be_right_are_left_out_and_said():
    made = MadeUpPast(pods=2, intervals=10)
    made.counters["200"][5, 0] = -1
    past = await read_past(made, question(made))
    assert past.metrics["istio-error-rate"].totals[4, 0] == 0
    assert past.metrics["istio-error-rate"].totals[4, 1] > 0
    assert any("not whole or not a number (left out)" in words for words in past.missing)


RULE = {
    "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
    "metadata": {"name": "ranker", "namespace": "ml"},
    "spec": {"host": "ranker", "subsets": [{"name": "v1", "labels": {"version": "blue"}}]},
}  # fmt: skip
ENTRY = {
    "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
    "metadata": {"name": "ranker", "namespace": "ml"},
    "spec": {"hosts": ["ranker"], "endpoints": [{"address": "127.0.0.1", "labels": {"version": "blue"}}]},
}  # fmt: skip


@pytest.mark.parametrize(("objects", "variant", "version"), [
    ([], {"name": "stable", "subset": "v1"}, "v1"),
    ([], {"name": "stable", "subset": "v1", "version": "one"}, "one"),
    ([], {"name": "stable", "host": "ranker-old"}, None),
    ([RULE, ENTRY], {"name": "stable", "subset": "v1"}, "blue"),
])  # fmt: skip
def test_the_control_is_found_by_the_objects_or_by_the_policy_alone(objects, variant, version):
    arm = control_arm(policy_from_object(changed(policy(), "spec.variants.0", variant)), objects)
    assert arm == ArmKey("ml", variant.get("host", "ranker"), version)
