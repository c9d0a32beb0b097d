"""A policy that is edited, renamed, deleted or created again while its run goes on; and kinds of variants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from controller.ports import Ref
from tests.support.rig import BAD, GOOD, POLICY, Rig, ended, endpoints, manifests, policy, route
from tests.support.simulated import Service

if TYPE_CHECKING:
    from controller.status import Run, Status


def open_run(status: Status) -> Run:
    assert status.run is not None
    assert status.run.active
    return status.run


async def test_another_interval_is_read_at_its_own_multiples_and_counts_nothing_twice(rig: Rig) -> None:
    await rig.start(GOOD, minSamples=1_000_000)
    await rig.run(18)
    before = await rig.ends()
    await rig.patch(POLICY, "/spec/decision/interval", "7s")
    await rig.run(30)
    after = [end for end in await rig.ends() if end not in before]
    assert len(after) >= 3
    assert all(end % 7 == 0 for end in after)
    assert after[0] - 7 >= before[-1]


async def test_a_longer_deadline_keeps_the_evidence(rig: Rig) -> None:
    await rig.start(GOOD, minSamples=1_000_000)
    await rig.run(18)
    before = rig.verdict()["metrics"][0]["control"]["total"]
    await rig.patch(POLICY, "/spec/decision/deadline", "2h")
    await rig.run(5)
    assert rig.verdict()["metrics"][0]["control"]["total"] > before
    assert "EvidenceDropped" not in await rig.reasons()
    rig.crash()
    await rig.run(5)
    assert rig.verdict()["metrics"][0]["control"]["total"] > before


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/spec/decision/falseRollback", "1%"),
        ("/spec/metrics", [{"template": "istio-latency", "margin": "10%"}]),
        ("/spec/metrics/0/margin", "50%"),
    ],
)
async def test_another_question_drops_the_evidence_and_says_so(rig: Rig, path: str, value: Any) -> None:
    await rig.start(GOOD, minSamples=1_000_000)
    await rig.run(18)
    before = rig.verdict()["metrics"][0]["control"]["total"]
    await rig.patch(POLICY, path, value)
    status = await rig.run(7)
    assert open_run(status).number == 1
    assert 0 < rig.verdict()["metrics"][0]["control"]["total"] < before
    assert (await rig.reasons()).count("EvidenceDropped") == 1
    ends = [row["end"] for row in (await rig.whole())["intervals"] if row["metric"] != "istio-request-share"]
    assert len(ends) == len(set(ends)), "an interval was counted twice"


async def test_renamed_variants_leave_the_run_and_start_another_with_evidence_of_its_own(rig: Rig) -> None:
    await rig.start(GOOD, minSamples=1_000_000)
    await rig.run(18)
    names = [{"name": "old", "subset": "v1"}, {"name": "new", "subset": "v2"}]
    await rig.patch(POLICY, "/spec/variants", names)
    status = await rig.run(3)
    run = open_run(status)
    assert (run.number, run.control, run.candidate, run.applied) == (2, "old", "new", True)
    assert await rig.weights() == [80, 20]
    first = await rig.whole(1)
    assert (first["outcome"], first["reason"]) == ("Superseded", "VariantsChanged")
    await rig.run(12)
    assert min(await rig.ends(2)) > max(await rig.ends(1))


async def test_a_policy_that_is_created_again_starts_a_run_of_its_own(rig: Rig) -> None:
    await rig.start(GOOD, minSamples=1_000_000)
    kept = policy(minSamples=1_000_000)
    kept["spec"]["onDeletion"] = "keep"
    await rig.put(kept)
    await rig.run(18)
    await rig.delete()
    await rig.looks(3)
    assert await rig.weights() == [80, 20], "traffic stays as it was"
    await rig.put(policy())
    status = await rig.run(2)
    assert open_run(status).number == 1
    runs = await rig.history.runs()
    assert len({run["id"] for run in runs}) == 2
    assert ended(await rig.run(300, until=ended))
    assert await rig.weights() == [0, 100]


async def test_versions_that_are_services_of_their_own_are_promoted_and_rolled_back(rig: Rig) -> None:
    await rig.open(Service("ranker", {"ranker-v1": 0.01, "ranker-v2": 0.06}))
    hosts = ("ranker-v1", "ranker-v2")
    await rig.put(
        policy_of_hosts(*hosts), route("ranker", *({"host": host} for host in hosts)),
        endpoints("ranker-v1", "a"), endpoints("ranker-v2", "b"),
    )  # fmt: skip
    status = await rig.run(300, until=ended)
    assert status.run is not None
    assert (status.run.outcome, status.run.reason) == ("RolledBack", "Harmful")
    assert await rig.weights() == [100, 0]


def policy_of_hosts(control: str, candidate: str) -> dict[str, Any]:
    changed = policy()
    changed["spec"]["variants"] = [
        {"name": "stable", "host": control}, {"name": "candidate", "host": candidate},
    ]  # fmt: skip
    return changed


async def test_a_team_s_own_share_template_is_not_asked_for_other_rollouts(rig: Rig) -> None:
    """Its name sorts before the catalog's, and it knows nothing of this service."""
    await rig.open(Service("ranker", GOOD), Service("other", GOOD))
    own = {
        "apiVersion": "penstock.dev/v1alpha1", "kind": "MetricTemplate",
        "metadata": {"name": "a-share", "namespace": "default"},
        "spec": {
            "kind": "share", "unit": "requests", "description": "Requests.",
            "query": "sum by (ns, service, version, instance) (own_total)",
            "labels": {"namespace": "ns", "service": "service", "version": "version"},
        },
    }  # fmt: skip
    mine, *rest = manifests("other")
    mine["spec"]["metrics"].append({"template": "a-share"})
    await rig.put(own, *manifests(), mine, *rest)
    await rig.run(12)
    rows = (await rig.whole())["intervals"]
    assert any(row["metric"] == "istio-request-share" and row["candidate"]["total"] for row in rows)
    assert not any(row["metric"] == "istio-request-share" and row["candidate"]["total"]
                   for row in (await rig.whole(name="other"))["intervals"])  # fmt: skip


async def test_a_control_that_changes_during_the_run_starts_nothing_by_itself(rig: Rig) -> None:
    await rig.start(GOOD)
    await rig.run(8)
    entry = await rig.store.get(Ref("ServiceEntry", "default", "ranker"))
    entry["spec"]["endpoints"][0]["labels"]["build"] = "2"
    await rig.put(entry)
    assert ended(await rig.run(300, until=ended))
    status = await rig.run(10)
    assert status.run is not None
    assert (status.run.number, status.run.outcome) == (1, "Promoted")
    assert await rig.weights() == [0, 100]


async def test_a_candidate_that_changes_during_the_run_starts_over_from_no_traffic(rig: Rig) -> None:
    await rig.start(BAD, minSamples=1_000_000)
    await rig.run(18)
    entry = await rig.store.get(Ref("ServiceEntry", "default", "ranker"))
    entry["spec"]["endpoints"][1]["labels"]["build"] = "2"
    await rig.put(entry)
    status = await rig.run(5)
    assert open_run(status).number == 2
    assert (await rig.whole(1))["outcome"] == "Superseded"
    weights = [each["weights"] for each in (await rig.whole(1))["decisions"]]
    assert weights[-1] == {"stable": 100, "candidate": 0}
