"""Decisions and evidence as they are kept, taken again: the same inputs give the same result (design rule).

A kept decision holds everything that `decide` looked at except the policy, which the run's facts hold. The
recorded intervals hold everything that the judge looked at except the design, which follows from the policy,
its templates and the run's choice of edges.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from analysis.judge import Interval, advance, fresh
from analysis.tables import Arm, MeanArm, MeanTable, Table
from controller.decision import Action, Case, Decision, Judgement, World
from controller.machine import decide
from controller.ports import Applied
from controller.standing import side
from controller.status import Status
from controller.tabulated import SHARE_TEMPLATE
from policies.parse import policy_from_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.judge import Design, Evidence


def kept(decision: Decision, case: Case) -> dict[str, Any]:
    """Return a decision with its inputs, as JSON values."""
    run = decision.status.run
    # the whole verdict stands beside it, with the look
    names = (field.name for field in fields(Judgement) if field.name != "numbers")
    judgement = {name: getattr(case.judgement, name) for name in names}
    return {
        "action": decision.action,
        "reason": decision.reason,
        "message": decision.message,
        "step": run.step if run else 0,
        "weights": dict(run.weights) if run else {},
        "inputs": {
            "status": case.status.dump(),
            "world": asdict(case.world),
            "judgement": judgement,
            "now": case.now,
        },
    }


def replay(policy: Mapping[str, Any], record: Mapping[str, Any]) -> Decision:
    """Take a kept decision again; `policy` is the one of the run's facts. Nothing is written."""
    inputs = record["inputs"]
    world = dict(inputs["world"])
    world["applied"] = Applied(**world["applied"])
    world["sides"] = {name: side(known) for name, known in world.get("sides", {}).items()}
    world["action"] = Action(**world["action"]) if world["action"] else None
    return decide(
        policy_from_object(dict(policy)),
        Status.model_validate(inputs["status"]),
        World(**world),
        Judgement(**inputs["judgement"]),
        inputs["now"],
    )


def rejudged(design: Design, rows: Sequence[Mapping[str, Any]]) -> Evidence:
    """Return the evidence that a run's recorded intervals give, bit for bit as it was then.

    `rows` are those of the history (`History.intervals`) since the evidence began, oldest first; `design` is
    the run's (`Dossier.design`).
    """
    ends: dict[int, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        ends.setdefault(row["end"], {})[row["metric"]] = row
    intervals = [_interval(end, recorded) for end, recorded in sorted(ends.items())]
    return advance([(design, fresh(design), intervals)])[0]


def _interval(end: int, recorded: Mapping[str, Mapping[str, Any]]) -> Interval:
    split = recorded[SHARE_TEMPLATE]
    return Interval(
        end=end,
        intended=split["intended"],
        tables={name: _table(end, row) for name, row in recorded.items() if name != SHARE_TEMPLATE},
        requests=(split["control"]["total"], split["candidate"]["total"]),
        inconsistent=tuple(split.get("inconsistent", ())),
        dispersion={name: tuple(lanes) for name, lanes in split.get("dispersion", {}).items()},
    )


def _table(end: int, row: Mapping[str, Any]) -> Table | MeanTable:
    arms = [row[arm] for arm in ("control", "candidate")]
    if "sum" in arms[0]:
        control, candidate = (MeanArm(arm["total"], arm["sum"]) for arm in arms)
        return MeanTable(end, control, candidate)
    return Table(end, *(Arm(arm["total"], tuple(arm["events"])) for arm in arms))
