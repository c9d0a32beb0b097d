"""A policy that names an engine is judged by it: error rates only; what outranks the judge outranks it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest

from analysis.design import Design, Interval, MetricDesign
from analysis.engines.registry import engines
from analysis.judge import advance, fresh
from analysis.simulate import Behaviour
from analysis.tables import Arm, Table
from controller.dossier import Dossier, design_of
from controller.engines import SEQUENTIAL, EngineRun
from controller.simulate import simulate
from controller.tabulated import tabulate
from policies.catalog import templates
from policies.model import Decision
from policies.parse import policy_from_object
from tests.support.rig import BAD, GOOD, Rig, ended, manifests

if TYPE_CHECKING:
    from collections.abc import Sequence

ERRORS = MetricDesign("errors", "proportion", margin=0.5)
LATENCY = MetricDesign("latency", "histogram", edges=(100.0, 200.0, 400.0), margin=1.0)


def design(*metrics: MetricDesign, engine: str = "threshold") -> Design:
    return Design(metrics or (ERRORS,), 0.05, 0.05, planned_looks=100, min_samples=100, engine=engine)


def interval(end: int, control: int = 8, candidate: int = 2, **more: object) -> Interval:
    """800 requests of the control and 200 of the candidate, with so many errors; latency is alike."""
    tables = {
        "errors": Table(end, Arm(800, (control,)), Arm(200, (candidate,))),
        "latency": Table(end, Arm(800, (400, 80, 8)), Arm(200, (100, 20, 2))),
    }
    return replace(Interval(end, 0.2, tables, requests=(800, 200)), **more)


def judged(asked: Design, intervals: Sequence[Interval], *, at_once: int = 1) -> Dossier:
    """Return the dossier of a run with these intervals, `at_once` of them per look."""
    dossier = Dossier("run", asked, fresh(asked))
    for first in range(0, len(intervals), at_once):
        part = intervals[first : first + at_once]
        [state] = advance([(asked, dossier.evidence, part)])
        dossier.take(state, part)
        dossier.judge()
    return dossier


def test_a_policy_can_name_every_engine_there_is() -> None:
    named = get_args(Decision.model_fields["engine"].annotation)
    assert set(named) == {SEQUENTIAL, *engines}


def test_a_threshold_rolls_back_after_five_failed_checks_whatever_the_control_does() -> None:
    """An incident of both: the sequential judge sees no harm, the threshold does."""
    incident = [interval(10 * look, control=40, candidate=10) for look in range(1, 6)]
    assert judged(design(), incident[:4]).judgement.kind == "Undecided"
    found = judged(design(), incident).judgement
    assert (found.kind, found.blame) == ("Harmful", "errors")
    assert "by threshold, harm is found (5 against a bound of 5)" in found.harm
    assert judged(design(engine=SEQUENTIAL), incident).judgement.harm == ""


def test_harm_that_the_judge_alone_would_see_is_none() -> None:
    worse = [interval(10 * look, control=0, candidate=2) for look in range(1, 21)]
    assert judged(design(engine=SEQUENTIAL), worse).judgement.kind == "Harmful"
    found = judged(design(), worse).judgement
    assert (found.kind, found.harm) == ("Safe", "")


def test_latency_keeps_the_judge_and_needs_its_own_proof() -> None:
    both = design(ERRORS, LATENCY)
    slow = Table(10, Arm(800, (400, 80, 8)), Arm(200, (190, 150, 90)))
    found = judged(both, [replace(each := interval(10), tables={**each.tables, "latency": slow})]).judgement
    assert (found.kind, found.blame) == ("Harmful", "latency")
    assert "by threshold" not in found.harm
    # errors that only the judge takes for harm do not make latency harmful either
    worse = [interval(10 * look, control=0, candidate=2) for look in range(1, 21)]
    assert judged(both, worse).judgement.harm == ""


@pytest.mark.parametrize("name", sorted(engines))
def test_every_engine_gives_a_reading_that_can_be_written_as_json(name: str) -> None:
    looks = [interval(10 * look, control=8 + look % 3, candidate=2 + look % 2) for look in range(1, 13)]
    found = judged(design(engine=name), looks).judgement
    assert f"by {name}, " in found.numbers["metrics"][0]["sentence"]
    assert found.numbers["engine"]["name"] == name
    assert found.numbers["engine"]["lacks"]
    json.dumps(found.numbers["engine"], allow_nan=False)


@pytest.mark.parametrize("name", sorted(engines))
def test_how_intervals_are_cut_into_looks_changes_nothing(name: str) -> None:
    looks = [interval(10 * look, control=8 + look % 3, candidate=2 + 3 * (look % 4)) for look in range(1, 17)]
    one, many = judged(design(engine=name), looks), judged(design(engine=name), looks, at_once=5)
    assert one.judgement == many.judgement


@pytest.mark.parametrize("name", ["threshold", "mannWhitney"])
def test_a_restart_goes_on_from_the_intervals_of_the_history(name: str) -> None:
    looks = [interval(10 * look, control=8 + look % 3, candidate=2 + 3 * (look % 4)) for look in range(1, 17)]
    asked = design(engine=name)
    half = judged(asked, looks[:9])
    assert half.engine is not None
    rows = [row for each in looks[:9] for row in tabulate(each, {})]
    restored = EngineRun.restored(json.loads(json.dumps(half.engine.stored())))
    restored.refill(asked, rows)
    for run in (half.engine, restored):
        run.take(asked, looks[9:])
    assert restored == half.engine


def test_intervals_before_an_edit_of_the_policy_do_not_count() -> None:
    looks = [interval(10 * look) for look in range(1, 10)]
    run = EngineRun("threshold", since=50)
    run.refill(design(), [row for each in looks for row in tabulate(each, {})])
    assert len(run.tables["errors"]) == 4


def test_a_wrong_split_outranks_an_engine() -> None:
    incident = [interval(10 * look, control=40, candidate=10, requests=(200, 800)) for look in range(1, 9)]
    found = judged(design(), incident).judgement
    assert (found.kind, found.harm) == ("Invalid", "")


def test_when_a_split_is_right_again_an_engine_begins_with_samples_of_its_own() -> None:
    """Neither what the judge knows of before nor samples of before stand in for what it has not seen yet."""
    asked = replace(design(), min_samples=500)
    worse = [interval(10 * look, control=0, candidate=2) for look in range(1, 31)]
    dossier, told = Dossier("run", asked, fresh(asked)), []
    for at, each in enumerate(worse):
        one = replace(each, requests=(200, 800)) if at < 10 else each
        [state] = advance([(asked, dossier.evidence, [one])])
        dossier.take(state, [one])
        dossier.judge()
        told.append((dossier.judgement.kind, dossier.judgement.harm))
        if at >= 10 and dossier.engine is not None and not dossier.engine.readings:
            assert "too few samples to tell since it began" in dossier.judgement.sentence
    again = [kind for kind, _ in told].index("Undecided", 10)
    assert {harm for _, harm in told} == {""}, "the sequential judge takes it for harm"
    assert [kind for kind, _ in told[again:]] == ["Undecided"] * 5 + ["Safe"] * (25 - again)
    assert dossier.engine is not None
    assert dossier.engine.since == worse[again].end


def test_too_few_samples_outrank_an_engine() -> None:
    asked = replace(design(), min_samples=1_000_000)
    found = judged(asked, [interval(10 * look, candidate=10) for look in range(1, 9)]).judgement
    assert (found.kind, found.harm) == ("Undecided", "")


def test_where_higher_is_better_events_are_the_good_outcome() -> None:
    good = replace(ERRORS, higher_is_better=True)
    clicks = [interval(10 * look, control=796, candidate=199) for look in range(1, 9)]
    assert judged(design(good), clicks).judgement.kind == "Safe"
    assert judged(design(good), [interval(10 * look) for look in range(1, 9)]).judgement.kind == "Harmful"


async def test_the_loop_rolls_back_by_the_engine_that_the_policy_names(rig: Rig) -> None:
    await rig.start(BAD, engine="thresholdInARow")
    await rig.run(12)
    rig.crash()
    status = await rig.run(300, until=ended)
    assert status.run is not None
    assert (status.run.outcome, status.run.blame) == ("RolledBack", "istio-error-rate")
    assert "by thresholdInARow, harm is found" in status.run.message


async def test_a_policy_that_changes_its_engine_is_measured_anew(rig: Rig) -> None:
    await rig.start(GOOD, minSamples=1_000_000)
    await rig.run(20)
    await rig.put(*manifests(minSamples=1_000_000, engine="threshold"))
    await rig.run(12)
    assert "EvidenceDropped" in await rig.reasons()


def test_simulated_rollouts_are_judged_by_the_engine_too() -> None:
    """At three times the limit of 1 % both versions fail, and five failed checks roll back."""
    document, outcomes = manifests()[0], {}
    for engine in (SEQUENTIAL, "threshold"):
        document["spec"]["decision"]["engine"] = engine
        policy = policy_from_object(document)
        failing = Behaviour(rps=200, baseline=0.03)
        result = simulate(policy, design_of(policy, templates()), failing, runs=5, seed=1)
        outcomes[engine] = result.share("rolledBack").count
    assert outcomes == {SEQUENTIAL: 0, "threshold": 5}
