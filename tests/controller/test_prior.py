"""What the control's past says before a run: dispersion, the edges worth judging, noise that hides harm."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from controller.baseline import PAUSES, Baselines
from controller.dossier import design_of
from controller.filing import ArmKey
from controller.past import MetricPast, Past, Question, read_past
from controller.ports import UnavailableError
from controller.prior import (
    at_edges,
    calibration_of,
    choose_edges,
    measured_metrics,
    question_of,
    telling_edges,
    too_noisy,
    uncalibrated,
    weights_of,
    with_edges,
)
from controller.telemetry import Telemetry
from policies.catalog import templates
from policies.parse import policy_from_object
from tests.support.past import MadeUpPast
from tests.support.policies import changed, policy

ERRORS = {"template": "istio-error-rate", "margin": "100%"}
LATENCY = {"template": "istio-latency", "margin": "100%"}
ARM = ArmKey("ml", "ranker", "v1")
HOUR = 360


def plan(*metrics, **decision):
    obj = changed(policy(), "spec.metrics", list(metrics))
    return policy_from_object(changed(obj, "spec.decision", {"interval": "10s", **decision}))


def latency_past(shares, *, intervals=HOUR, rps=40):
    """A past in which these shares of the requests exceed the edges."""
    dice = np.random.default_rng(4)
    totals = dice.poisson(rps * 10, (intervals, 3))
    slots = dice.multinomial(totals, [*-np.diff([1.0, *shares]), shares[-1]])
    above = slots[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:]
    return Past(ARM, 0, 10, ("a", "b", "c"), {
        "istio-latency": MetricPast(totals, above, np.ones(intervals, dtype=bool))
    })  # fmt: skip


@pytest.mark.parametrize(("shares", "kept"), [
    ((1.0, 0.99, 0.6, 0.1, 0.01, 0.001, 0, 0, 0, 0, 0), slice(2, 7)),
    ((0.5, 0.1, 0.05, 0.02, 0.01, 0.008, 0.007, 0.006, 0.005, 0.004, 0.003), slice(0, 11)),
    ((1.0, 1.0, 1.0, 0, 0, 0, 0, 0, 0, 0, 0), slice(3, 5)),  # all requests between two edges
    ((0.0,) * 11, slice(0, 2)),
    ((1.0,) * 11, slice(0, 11)),  # beyond all edges: nothing to choose by
])  # fmt: skip
def test_edges_are_those_that_requests_tell_of_and_two_above(shares, kept):
    [metric] = design_of(plan(LATENCY), templates()).metrics
    assert len(metric.edges) == len(shares)
    assert telling_edges(metric, latency_past(shares).metrics["istio-latency"]) == metric.edges[kept]


def test_chosen_edges_bring_their_own_dispersion_and_design():
    plan_, shares = plan(LATENCY), (1, 0.99, 0.6, 0.1, 0.01, 0.001, 0, 0, 0, 0, 0)
    design, past = design_of(plan_, templates()), latency_past(shares)
    calibration = calibration_of(design.metrics, past, (5, 50))
    edges = choose_edges(plan_, design, calibration, past)
    fewer = at_edges(calibration, design, edges)
    assert fewer.at(5)["istio-latency"] == calibration.at(5)["istio-latency"][2:7]
    assert with_edges(design, edges).metrics[0].layout.lanes == 5
    short = latency_past(shares, intervals=HOUR - 1)
    assert choose_edges(plan_, design, calibration_of(design.metrics, short, (5,)), short) == {}


def test_only_metrics_that_the_policy_wants_measured_are():
    plan_ = plan(ERRORS, {**ERRORS, "name": "fixed", "dispersion": "2"}, LATENCY)
    found = measured_metrics(plan_, design_of(plan_, templates()))
    assert [metric.name for metric in found] == ["istio-error-rate", "istio-latency"]


def test_six_hours_before_the_run_are_asked_for_up_to_its_start():
    plan_ = plan(ERRORS)
    question = question_of(
        plan_,
        design_of(plan_, templates()),
        {"istio-error-rate": templates()["istio-error-rate"]},
        ARM,
        100_007.3,
    )
    assert (question.start, question.end, question.step) == (100_000 - 6 * 3600, 100_000, 10)
    assert weights_of(plan_) == (5, 50)


def test_without_a_past_the_assumption_holds():
    plan_ = plan({**ERRORS, "assume": "3"})
    design = design_of(plan_, templates())
    nothing = MetricPast(np.zeros((9, 0), int), np.zeros((9, 0, 1), int), np.zeros(9, bool))
    found = calibration_of(design.metrics, Past(ARM, 0, 10, (), {"istio-error-rate": nothing}), (5,))
    assert found.at(5) == {"istio-error-rate": (3.0,)}
    assert (found.why, found.failed) == ("the control has no past", False)
    assert uncalibrated(question(MadeUpPast()), (5,), "no answer").failed


def question(made):
    plan_ = plan(ERRORS)
    read_by = {"istio-error-rate": templates()["istio-error-rate"]}
    return Question(design_of(plan_, templates()), read_by, ARM, made.end - 400 * 10, made.end, 10)


async def test_noise_that_hides_five_fold_harm_until_the_deadline_is_found():
    made = MadeUpPast(intervals=400, rps=20, cluster=30)
    plan_ = plan(ERRORS, deadline="10m")
    past, design = await read_past(made, question(made)), design_of(plan_, templates())
    calibration = calibration_of(design.metrics, past, (5, 50))
    [words] = too_noisy(plan_, design, calibration, past)
    assert words.startswith("istio-error-rate: its events vary ")
    assert words.endswith(" to show at 5% of the requests; the deadline is 10m")
    assert too_noisy(plan(ERRORS, deadline="10h"), design, calibration, past) == []
    calm = replace(calibration, metrics={})
    assert too_noisy(plan_, design, calm, past) == []


def itself(past):
    """Teach nothing."""
    return past


class Refusing(MadeUpPast):
    """A Prometheus that refuses the first few times."""

    refusals = 2

    async def read(self, query, **span):
        """Refuse, or answer."""
        if self.refusals:
            self.refusals -= 1
            raise UnavailableError("no")
        return await super().read(query, **span)


async def test_a_refused_past_is_asked_for_again_with_pauses_and_then_no_more():
    made = Refusing(intervals=400)
    baselines, now, told = Baselines(made, Telemetry()), 0.0, []
    made.refusals = 99
    for pause in (*PAUSES, 9e9, 9e9):
        assert baselines.ask("run", question(made), itself, now) in {None, *told[:1]}
        await asyncio.wait([baselines._readings["run"].task])
        told.append(baselines.ask("run", question(made), itself, now))
        assert baselines.ask("run", question(made), itself, now + pause - 1) == told[0]
        now += pause
    assert told == ["the control's past cannot be read: no"] * len(told)
    assert 99 - made.refusals == 1 + len(PAUSES)


async def test_a_run_that_is_gone_is_not_read_for():
    made = MadeUpPast(intervals=400)
    baselines = Baselines(made, Telemetry())
    assert baselines.ask("run", question(made), itself, 0.0) is None
    assert baselines.waits("run", 29.0)
    assert not baselines.waits("run", 31.0)
    baselines.keep(())
    await asyncio.sleep(0)
    assert not baselines.waits("run", 0.0)
    assert made.asked == []


async def answered(baselines, run, asked, teach):
    """Ask until there is an answer."""
    while (found := baselines.ask(run, asked, teach, 0.0)) is None:
        await asyncio.wait([baselines._readings[run].task])
    return found


async def test_others_have_their_turns_while_a_past_is_thought_about():
    made, thinking, enough = MadeUpPast(intervals=400), threading.Event(), threading.Event()
    turns = []

    def teach(_past):
        thinking.set()
        return enough.wait(60)  # on the loop's own thread nobody else would get a turn

    async def others():
        while len(turns) < 1000:
            await asyncio.sleep(0)
            if thinking.is_set():
                turns.append(1)
        enough.set()

    baselines = Baselines(made, Telemetry())
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(others())
        assert await answered(baselines, "run", question(made), teach) is True
    assert len(turns) == 1000


async def test_pasts_are_thought_about_one_at_a_time():
    made, alone, overlaps = MadeUpPast(intervals=400), threading.Lock(), []

    def teach(past):
        overlaps.append(not alone.acquire(blocking=False))
        threading.Event().wait(0.01)  # another one would have begun by now
        alone.release()
        return past

    baselines = Baselines(made, Telemetry())
    await asyncio.gather(*(answered(baselines, f"run-{n}", question(made), teach) for n in range(6)))
    assert overlaps == [False] * 6


async def test_what_cannot_be_learnt_is_told_and_tried_again_later(caplog):
    made = MadeUpPast(intervals=400)
    baselines, tries = Baselines(made, Telemetry()), []

    def teach(past):
        tries.append(1)
        if len(tries) == 1:
            raise ArithmeticError("no number")
        return past

    asked = question(made)
    assert await answered(baselines, "run", asked, teach) == "the control's past cannot be read: no number"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert baselines.ask("run", asked, teach, PAUSES[0]) is None
    assert isinstance(await answered(baselines, "run", asked, teach), Past)


async def test_another_question_is_read_for_and_the_answer_to_the_first_is_dropped():
    made = MadeUpPast(intervals=400)
    baselines, first = Baselines(made, Telemetry()), question(made)
    assert baselines.ask("run", first, itself, 0.0) is None
    later = replace(first, start=first.start + 100)
    found = await answered(baselines, "run", later, itself)
    assert (found.start, found.intervals) == (later.start, 390)
