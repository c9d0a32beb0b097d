"""Flux and Argo CD beside Penstock, on a real API server: who drifted is named, the policy's rule holds,
nobody fights, and no split is ever in force that neither side asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest

from controller.chores import FINALIZER
from controller.drifting import FREE
from tests.support.gitops import Another, argo_cd, flux, respecting
from tests.support.incluster import InCluster
from tests.support.standalone import LONG
from tests.support.upstream import Load
from tests.support.witness import owners

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cluster.running import Cluster
    from controller.ports import Object
    from controller.status import Condition, Status
    from tests.support.gitops import Tool
    from tests.support.watched import Watched
    from tests.support.witness import Witness

pytestmark = [pytest.mark.real, pytest.mark.cluster]

GIT, WANTED, AWAY = (100, 0), (70, 30), (0, 100)
RULES = ("correct", "adopt", "hold")
SLACK = 0.2
"""Seconds between what is stored and what is seen of it."""


def all_tools(cluster: Cluster) -> list[Tool]:
    return [flux(cluster), argo_cd(cluster), argo_cd(cluster, server_side=True)]


async def set_up(mesh: InCluster, found: dict[Tool, dict[str, Another]]) -> None:
    """Let each tool apply the routes of its rollouts, and the team all else; then start the controller."""
    await mesh.delete(mesh.policy_ref)  # each tool has rollouts of its own
    for tool, rollouts in found.items():
        each = list(rollouts.values())
        await asyncio.to_thread(
            mesh.apply, *(obj for one in each for obj in (one.entry, one.rule, one.policy))
        )
        await tool.apply(*(one.route for one in each))
    await mesh.up()


def stalled(status: Status) -> Condition:
    condition = status.condition("Stalled")
    assert condition is not None
    return condition


def says(reason: str, *words: str) -> Callable[[Status], bool]:
    """Tell whether a status says that it is stalled, why, and all of these words."""

    def fulfilled(status: Status) -> bool:
        found = status.condition("Stalled")
        return (
            found is not None and (found.status, found.reason) == ("True", reason)
            and all(word in found.message for word in words)
        )  # fmt: skip

    return fulfilled


async def goes_on(rollout: Watched) -> None:
    """Wait until a run is on its step, with the weights that it wants; most have no requests to measure."""

    def well(status: Status) -> bool:
        run, found = status.run, stalled(status)
        is_on_step = bool(run and run.active and run.applied and run.step_started_at)
        return is_on_step and (found.status == "False" or found.reason == "NoData")

    await rollout.until(well, "the run to go on")


async def test_a_tool_that_applies_its_own_weights_is_named_obeyed_by_rule_and_not_fought(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    tools = all_tools(cluster)
    async with InCluster(cluster, namespace, tmp_path, steps=LONG, start=False) as mesh:
        found = {
            tool: {rule: Another(mesh, f"{tool.name}-{rule}", onDrift=rule) for rule in RULES}
            for tool in tools
        }
        await set_up(mesh, found)
        measured = found[tools[0]]["correct"]
        load = Load(f"{cluster.gateway_url}/", measured.host, 60)
        async with load:
            witness = mesh.witness
            every = [one for rollouts in found.values() for one in rollouts.values()]
            for one in every:
                await one.under_way()
                assert await one.weights() == list(WANTED)
                assert owners(await one.live(one.route_ref)) == {"penstock"}

            # once, in the middle of the run
            await asyncio.gather(*(tool.apply(*routes(found[tool])) for tool in tools))
            for tool in tools:
                await obeyed_once(tool, found[tool])
            quiet = await at_rest(witness, [one for one in every if not one.name.endswith("correct")])

            # every three seconds
            began = time.time()
            async with contextlib.AsyncExitStack() as stack:
                for tool in tools:
                    await stack.enter_async_context(tool.applying(*routes(found[tool])))
                for tool in tools:
                    words = tool.manager, "stable 100%, candidate 0%; wanted: stable 70%", "docs/install.md"
                    await found[tool]["correct"].until(says("Contested", *words), "a contest")
                await found[tools[1]]["correct"].act("abort")
                aborted = await found[tools[1]]["correct"].until(
                    lambda s: s.run and s.run.outcome, "the abort"
                )
                assert aborted.run
                assert aborted.run.reason == "Aborted"
                await mesh.intervals(2)
            fought = time.time() - began
            await witness.up_to_date()
            for tool in tools:
                for rule in ("adopt", "hold"):
                    assert await found[tool][rule].weights() == list(GIT)
            assert {name: witness.statuses[name] for name in quiet} == quiet, "what holds is not written"

            # Git gives in: the run goes on where it was
            for tool in (tools[0], tools[2]):
                run = await found[tool]["correct"].run()
                await goes_on(found[tool]["correct"])
                assert await found[tool]["correct"].weights() == list(WANTED)
                assert (await found[tool]["correct"].run()).id == run.id
            await witness.up_to_date()
            for one in every:
                seen = {each.weights for each in witness.routes[one.name]}
                assert seen <= witness.wanted(one.name) | {GIT}
                allowed = (FREE + 1) * (1 + fought / 60) if one.name.endswith("correct") else 0
                assert len(witness.written(one.name, GIT, began)) <= allowed + 1
            await assert_measured_only_as_wanted(mesh, measured, witness)


async def at_rest(witness: Witness, rollouts: list[Another]) -> dict[str, int]:
    """Return how often each status was written, once that has changed no more for some intervals."""
    while True:
        counts = {one.name: witness.statuses[one.name] for one in rollouts}
        await rollouts[0].intervals(3)
        if counts == {one.name: witness.statuses[one.name] for one in rollouts}:
            return counts


def routes(rollouts: dict[str, Another]) -> list[Object]:
    return [one.route for one in rollouts.values()]


async def obeyed_once(tool: Tool, rollouts: dict[str, Another]) -> None:
    """Wait until each rule has done what it says about Git's weights, and the tool is named."""
    words = f"{tool.manager} changed the weights to stable 100%, candidate 0%"
    await rollouts["correct"].until_event("DriftCorrected", words)
    await goes_on(rollouts["correct"])
    assert await rollouts["correct"].weights() == list(WANTED)
    await rollouts["adopt"].until_event("DriftAdopted", words)
    await goes_on(rollouts["adopt"])
    assert (await rollouts["adopt"].run()).weights == {"stable": 100, "candidate": 0}
    await rollouts["hold"].until(says("Drift", words), "the drift to be told")
    await rollouts["hold"].until_event("Drift", words)
    assert (await rollouts["hold"].run()).weights == {"stable": 70, "candidate": 30}
    for rule in ("adopt", "hold"):
        assert await rollouts[rule].weights() == list(GIT)


async def assert_measured_only_as_wanted(mesh: InCluster, one: Another, witness: Witness) -> None:
    """No interval of the run was counted in which the weights were Git's for a moment; then it goes on."""
    run, wrong = (await one.run()).id, witness.wrong(one.name, GIT)[1:]  # the first is before the run
    assert len(wrong) > FREE

    async def counted() -> list[int]:
        return [row["end"] for row in (await mesh.history_of(run))["intervals"]]

    async def again() -> bool:
        return max(await counted(), default=0) > wrong[-1][1]

    await mesh.eventually(again, "intervals after the contest")
    for end in await counted():
        assert not [each for each in wrong if each[0] < end - SLACK and end - 1 + SLACK < each[1]]


APPROVED = ({"weight": 20, "hold": "1s", "pause": True}, {"weight": 50, "hold": "1s", "pause": True})
"""Steps that wait for a person, so that a tool can apply in each of them."""


async def test_with_the_recipes_a_rollout_sees_no_drift_and_without_them_a_promotion_is_undone_and_told(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    tools = all_tools(cluster)
    async with InCluster(cluster, namespace, tmp_path, steps=APPROVED, start=False) as mesh:
        found = {tool: Another(mesh, tool.name) for tool in tools}
        witness = mesh.witness
        async with contextlib.AsyncExitStack() as stack:
            await set_up(mesh, {tool: {"": one} for tool, one in found.items()})
            for one in found.values():
                await stack.enter_async_context(Load(f"{cluster.gateway_url}/", one.host, 40))
            await asyncio.gather(*(promoted_with_recipe(tool, one) for tool, one in found.items()))
            for one in found.values():
                seen = [each.weights for each in witness.routes[one.name]]
                assert sorted(set(seen), key=seen.index) == [GIT, (80, 20), (50, 50), AWAY]
                reasons = {event["reason"] for event in await one.events()}
                assert not reasons & {"Drift", "DriftCorrected", "DriftAdopted", "Contested"}
            await asyncio.gather(*(undone_and_told(tool, one, witness) for tool, one in found.items()))


async def promoted_with_recipe(tool: Tool, one: Another) -> None:
    """Apply by the recipe of the installation page in every step of a rollout, and after it."""
    for step in (0, 1):
        await one.until(
            lambda s, at=step: s.run and s.run.step == at and s.run.waiting_for_approval, "a step's end"
        )
        await sync(tool, one)
        await one.act("promote")
    assert await one.decided() == ("Promoted", "Safe")
    await sync(tool, one)
    ready = (await one.status()).condition("Ready")
    assert ready is not None
    assert (ready.status, await one.weights()) == ("True", list(AWAY))


async def sync(tool: Tool, one: Another) -> None:
    """Let a tool apply what it applies by the recipe: the policy as it is, the route without its weights."""
    live = await one.live(one.route_ref)  # Flux: IfNotPresent leaves it alone
    routes = [] if tool.name == "flux" else [respecting(one.route, live)]
    await tool.apply(one.policy, *routes)


async def undone_and_told(tool: Tool, one: Another, witness: Witness) -> None:
    """Apply the original route after the promotion: it is told, and not fought."""
    await tool.apply(one.route)
    words = (
        f"{tool.manager} changed the weights to stable 100%, candidate 0%; wanted: stable 0%, candidate 100%"
    )
    status = await one.until(says("Drift", words, "docs/install.md"), "the drift to be told")
    await one.until_event("Drift", words)
    assert status.summary == "Promoted (Safe), but the weights were changed since"
    await witness.up_to_date()
    written = len(witness.routes[one.name]), witness.statuses[one.name]
    for _ in range(2):
        await tool.apply(one.route)
        await asyncio.sleep(1)
    await witness.up_to_date()
    assert (len(witness.routes[one.name]), witness.statuses[one.name]) == written
    assert await one.weights() == list(GIT)
    for destination, weight in zip(one.route["spec"]["http"][0]["route"], AWAY, strict=True):
        destination["weight"] = weight
    await tool.apply(one.route)  # Git is brought up to date
    await one.until(lambda s: stalled(s).status == "False", "the end of the drift")


async def test_an_action_in_git_or_in_an_annotation_happens_once_whatever_is_applied_or_removed(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with InCluster(cluster, namespace, tmp_path, steps=LONG, load=False) as mesh:
        await mesh.under_way()
        for tool, nonce in [(flux(cluster), "2026-11-22-1"), (argo_cd(cluster), "2026-11-22-2")]:
            git = {
                **mesh.policy,
                "spec": {**mesh.policy["spec"], "action": {"verb": "pause", "nonce": nonce}},
            }
            await tool.apply(git)
            await mesh.until(lambda s: s.run and s.run.paused, "the pause that Git asks for")
            await mesh.act("resume")
            await mesh.until(lambda s: s.run and not s.run.paused, "the resumption")
            for _ in range(2):
                await tool.apply(git)
            await still(mesh, paused=False)
            annotations = (await mesh.live(mesh.policy_ref))["metadata"]["annotations"]
            assert "penstock.dev/action" in annotations, "not Git's, so left alone"

        ask = {"metadata": {"annotations": {"penstock.dev/action": "pause:by-hand"}}}
        await mesh.patch(mesh.policy_ref, ask)
        await mesh.until(lambda s: s.run and s.run.paused, "the pause by annotation")
        await replace(mesh, mesh.policy)
        live = await mesh.live(mesh.policy_ref)
        assert "penstock.dev/action" not in (live["metadata"].get("annotations") or {})
        await still(mesh, paused=True)
        await mesh.act("resume")
        await mesh.until(lambda s: s.run and not s.run.paused, "the resumption")
        await mesh.patch(mesh.policy_ref, ask)
        await still(mesh, paused=False)

        async def held() -> bool:
            return FINALIZER in ((await mesh.live(mesh.policy_ref))["metadata"].get("finalizers") or ())

        await mesh.eventually(held, "the finalizer that `replace` took away")


async def replace(mesh: InCluster, obj: Object) -> None:
    """Put Git's object in the place of the live one, as Argo CD's Replace=true does."""
    await asyncio.to_thread(mesh.cluster.kubectl, "replace", "-f", "-", stdin=json.dumps(obj))


async def still(mesh: InCluster, *, paused: bool) -> None:
    """Let two looks pass; the run is as it was."""
    await mesh.intervals(2)
    assert (await mesh.run()).paused is paused
