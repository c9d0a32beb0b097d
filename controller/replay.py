"""Decisions as they are kept, and taken again: the same inputs give the same decision (design rule).

A kept decision holds everything that `decide` looked at except the policy, which the run's facts hold.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from controller.decision import Action, Case, Decision, Judgement, World
from controller.machine import decide
from controller.ports import Applied
from controller.status import Status
from policies.parse import policy_from_object

if TYPE_CHECKING:
    from collections.abc import Mapping


def kept(decision: Decision, case: Case) -> dict[str, Any]:
    """Return a decision with its inputs, as JSON values."""
    run = decision.status.run
    judgement = asdict(case.judgement)
    judgement.pop("numbers")  # the whole verdict stands beside it, with the look
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
    world["action"] = Action(**world["action"]) if world["action"] else None
    return decide(
        policy_from_object(dict(policy)),
        Status.model_validate(inputs["status"]),
        World(**world),
        Judgement(**inputs["judgement"]),
        inputs["now"],
    )
