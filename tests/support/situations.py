"""Situations for the decision's tests: a policy, a world, a run, a judgement, each with the usual values."""

from __future__ import annotations

from dataclasses import replace

from controller.decision import Judgement, World
from controller.ports import Applied
from controller.status import Roles, Run, Status
from policies.model import RolloutPolicy

NOW = 1_000_000.0
CONFIRMED = Applied(ok=True)


def policy(**decision: object) -> RolloutPolicy:
    return RolloutPolicy.model_validate(
        {
            "apiVersion": "penstock.dev/v1alpha1",
            "kind": "RolloutPolicy",
            "metadata": {"name": "ranker", "namespace": "ml"},
            "spec": {
                "service": {"host": "ranker"},
                "virtualService": {"name": "ranker"},
                "variants": [{"name": "stable", "subset": "v1"}, {"name": "candidate", "subset": "v2"}],
                "strategy": {
                    "canary": {
                        "steps": [
                            {"weight": 5, "hold": "60s"},
                            {"weight": 25, "pause": True},
                            {"weight": 50},
                        ]
                    }
                },
                "metrics": [{"template": "istio-error-rate", "margin": "25%"}],
                "decision": {"interval": "10s", "deadline": "1h", **decision},
            },
        }
    )


def world(**changes: object) -> World:
    base = World(
        revisions={"stable": "a", "candidate": "b"},
        live={"stable": 95, "candidate": 5},
        applied=CONFIRMED,
    )
    return replace(base, **changes)


def open_run(**changes: object) -> Status:
    run = Run(
        id="ml.ranker.1", number=1, control="stable", candidate="candidate",
        revisions={"stable": "a", "candidate": "b"}, steps=3, weights={"stable": 95, "candidate": 5},
        applied=True, started_at=NOW - 300, step_started_at=NOW - 100, weights_changed_at=NOW - 101,
    )  # fmt: skip
    run = run.model_copy(update=changes)
    return Status(roles=Roles(control="stable", candidate="candidate"), weights=run.weights, run=run)


def judged(kind: str, **changes: object) -> Judgement:
    base = Judgement(kind=kind, sentence=f"{kind} it is", enough=True, data_end=NOW - 5, blame="errors")
    return replace(base, **changes)


UNDECIDED = judged("Undecided")


def on_step(number: int, **changes: object) -> tuple[Status, World]:
    weight = (5, 25, 50)[number]
    weights = {"stable": 100 - weight, "candidate": weight}
    return open_run(step=number, weights=weights, **changes), world(live=weights)
