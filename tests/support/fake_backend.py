"""A backend of the API on plain lists: no loop, no store, but the same answers and the same errors."""

import asyncio
import copy

from controller.ports import ConflictError, NotFoundError, UnavailableError
from tests.support.fake_run import POLICY, START, fake_run, rfc3339


def policy(namespace="ml", name="ranker", **status):
    obj = copy.deepcopy(POLICY)
    obj["metadata"] |= {
        "namespace": namespace,
        "name": name,
        "resourceVersion": "17",
        "creationTimestamp": rfc3339(START),
    }
    if status:
        obj["status"] = status
    return obj


def running(namespace="ml", name="ranker", **run):
    """A rollout on its second step, with a verdict that says nothing yet."""
    verdict = fake_run(finished=False, looks=12)["verdict"]
    facts = {
        "id": f"{namespace}.{name}.3.{START}",
        "number": 3,
        "step": 1,
        "steps": 3,
        "startedAt": rfc3339(START),
        "stepStartedAt": rfc3339(START + 90),
        "applied": True,
        "paused": False,
        "waitingForApproval": False,
        "control": "stable",
        "candidate": "candidate",
    }
    return policy(
        namespace,
        name,
        observedGeneration=1,
        summary="Step 2/3, 25% to candidate: undecided",
        verdict="Undecided",
        roles={"control": "stable", "candidate": "candidate"},
        weights={"stable": 75, "candidate": 25},
        run=facts | run,
        lastVerdict=verdict,
        conditions=[{"type": "Stalled", "status": "False"}],
    )


def event(
    reason="Started",
    message="run 3, step 1 of 3, 5% to candidate",
    after=0,
    namespace="ml",
    name="ranker",
    type_="Normal",
):
    seen = rfc3339(START + after)
    return {
        "type": type_,
        "reason": reason,
        "message": message,
        "count": 1,
        "firstSeen": seen,
        "lastSeen": seen,
        "object": {"kind": "RolloutPolicy", "namespace": namespace, "name": name},
    }


class FakeBackend:
    def __init__(self, policies=(), runs=(), events=(), changes=()):
        self.policies = {(p["metadata"]["namespace"], p["metadata"]["name"]): p for p in policies}
        self.stored = list(runs)
        self.told = list(events)
        self.coming = list(changes)
        self.actions = []
        self.refusal = None
        self.down = False
        self.state = {"store": "ok", "prometheus": "ok", "ready": True}

    def _check(self):
        if self.down:
            raise UnavailableError("the store is locked")

    async def rollouts(self):
        self._check()
        return list(self.policies.values())

    async def rollout(self, namespace, name):
        self._check()
        if (namespace, name) not in self.policies:
            raise NotFoundError(f"there is no rollout {namespace}/{name}")
        return self.policies[namespace, name]

    async def runs(self, policy=None, limit=100):
        keys = {run["id"]: "{namespace}/{name}".format(**run["policy"]["metadata"]) for run in self.stored}
        return [run for run in self.stored if policy in {None, keys[run["id"]]}][:limit]

    async def run(self, run_id):
        return next((run for run in self.stored if run["id"] == run_id), None)

    async def act(self, namespace, name, verb, actor):
        await self.rollout(namespace, name)
        if self.refusal == "conflict":
            raise ConflictError("it changed")
        if self.refusal:
            raise ValueError(self.refusal)
        self.actions.append((namespace, name, verb, actor))
        return f"{verb}-{len(self.actions)}"

    async def events(self, namespace=None, name=None):
        return [event for event in self.told if name in {None, event["object"]["name"]}]

    async def changes(self):
        for change in self.coming:
            await asyncio.sleep(0)
            yield change

    async def findings(self):
        return [
            {
                "code": "PS001",
                "severity": "error",
                "message": "must be a percentage",
                "path": "spec.metrics[0].margin",
            }
        ]

    async def health(self):
        return self.state

    def metrics(self):
        return b"penstock_looks_total 3.0\n"
