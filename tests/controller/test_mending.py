"""A run whose split was wrong goes on by itself when the split is right again; it is told, shown and kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.design import Design, Interval, MetricDesign
from analysis.judge import advance, fresh
from analysis.tables import Arm, Table
from controller.api.page import page
from controller.api.report import report
from controller.cli.prose import prose
from controller.dossier import Dossier, design_of, restored
from controller.replay import rejudged
from policies.catalog import templates
from policies.parse import policy_from_object
from tests.support.rig import GOOD, Rig, ended

if TYPE_CHECKING:
    from pathlib import Path

    from controller.status import Status

ERRORS = MetricDesign("errors", "proportion", margin=0.5)
TOLD = "The split was not the intended one from "


def says_invalid(status: Status) -> bool:
    return status.verdict == "Invalid"


async def test_weights_that_arrive_late_are_promoted_by_what_is_proven_after_that(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    await rig.start(GOOD)
    try:
        rig.mesh.in_force = (80, 20)
        wrong = await rig.run(200, until=says_invalid)
        assert wrong.run is not None
        assert (wrong.run.step, wrong.run.outcome) == (1, None)
        assert "once it is right again, the run goes on by itself" in wrong.condition("Stalled").message  # type: ignore[union-attr]
        await rig.run(30)
        assert says_invalid(await rig.status()), "it stays so while the split stays wrong"
        rig.crash()
        rig.mesh.in_force = None
        right = await rig.run(200, until=lambda status: not says_invalid(status))
        assert right.run is not None
        assert (right.run.outcome, right.verdict) == (None, "Undecided")
        await rig.run(10)
        assert "default/ranker" not in rig.loop.lane, "what is proven anew is not kept in arrays"
        assert "counted anew since 2023-11-14" in rig.verdict()["sentence"]

        status = await rig.run(600, until=ended)
        assert status.run is not None
        assert (status.run.outcome, status.run.reason) == ("Promoted", "Safe")
        reasons = await rig.reasons()
        assert reasons.count("SplitRestored") == 1
        assert reasons.index("Invalid") < reasons.index("SplitRestored") < reasons.index("Safe")

        whole = await rig.whole()
        stored = await rig.history.evidence(whole["id"])
        assert stored is not None
        design = design_of(policy_from_object(whole["policy"]), templates())
        assert rejudged(design, whole["intervals"]).to_dict() == stored[1]["state"]
        [episode] = report(whole).srm["episodes"]
        assert episode["began"] < episode["ended"] < status.run.decided_at
        assert TOLD in " ".join(prose(report(whole)).split())
        assert TOLD in page(report(whole))
    finally:
        await rig.close()


def interval(end: int, candidate: int) -> Interval:
    """1000 requests of which the candidate is meant to get 200, 1 % of them errors."""
    sizes = (1000 - candidate, candidate)
    table = Table(end, *(Arm(size, (size // 100,)) for size in sizes))
    return Interval(end, 0.2, {"errors": table}, sizes)


def judged(engine: str, *candidates: int) -> Dossier:
    """Return the dossier of a run after two looks at intervals with so many requests of the candidate."""
    design = Design((ERRORS,), 0.05, 0.05, planned_looks=100, min_samples=100, engine=engine)
    dossier, half = Dossier("run", design, fresh(design)), len(candidates) // 2
    found = [interval(10 * at, candidate) for at, candidate in enumerate(candidates, start=1)]
    for part in (found[:half], found[half:]):
        [state] = advance([(design, dossier.evidence, part)])
        dossier.take(state, part)
    dossier.judge()
    return dossier


def test_a_recovery_is_told_once_and_by_the_look_that_saw_it() -> None:
    wrong = judged("sequential", *[400] * 6)
    assert (wrong.judgement.kind, wrong.warnings) == ("Invalid", [])
    dossier = judged("sequential", *[400] * 3, *[200] * 9)
    [(reason, words)] = dossier.warnings
    assert reason == "SplitRestored"
    assert words.startswith("the split was not the intended one from 1970-01-01 00:00:")
    again = interval(130, 200)
    [state] = advance([(dossier.design, dossier.evidence, [again])])
    dossier.take(state, [again])
    assert len(dossier.warnings) == 1


def test_an_engine_that_adds_up_intervals_forgets_those_of_another_split() -> None:
    dossier = judged("fixedHorizonZ", *[400] * 3, *[200] * 9)
    mending = dossier.evidence.mending
    assert mending is not None
    assert dossier.engine is not None
    assert dossier.engine.since == mending.since
    assert len(dossier.engine.tables["errors"]) == (120 - dossier.engine.since) // 10
    stored = dossier.stored()
    kept = restored("run", dossier.design, (dossier.cursor, stored))
    assert kept.evidence.to_dict() == dossier.evidence.to_dict()
    assert kept.engine is not None
    kept.engine.refill(kept.design, [])
    assert kept.engine.since == mending.since


def test_evidence_that_this_version_cannot_read_is_not_called_an_edit() -> None:
    dossier = judged("sequential", *[400] * 3, *[200] * 9)
    stored = dossier.stored()
    later = {**stored, "state": {**stored["state"], "version": 4}}
    edited = {**stored, "design": "another"}
    for kept, words in ((later, "another version of Penstock"), (edited, "the policy was edited")):
        found = restored("run", dossier.design, (dossier.cursor, kept))
        assert found.news.startswith(words)
        assert (found.cursor, found.evidence.looks) == (dossier.cursor, 0)
    assert restored("run", dossier.design, (dossier.cursor, stored)).news == ""


def test_a_run_that_is_invalid_for_its_counters_alone_has_nothing_to_be_mended() -> None:
    design = Design((ERRORS,), 0.05, 0.05, planned_looks=100, min_samples=100)
    broken = replace(interval(10, 200), inconsistent=("errors: counters fell",))
    dossier = Dossier("run", design, fresh(design))
    [state] = advance([(design, dossier.evidence, [broken, interval(20, 200)])])
    dossier.take(state, [broken, interval(20, 200)])
    assert (state.mending, dossier.warnings) == (None, [])
