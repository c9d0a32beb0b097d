"""What people do during a run: actions by the command line, and weights edited behind Penstock's back."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.support.standalone import ROOT, Said, Standalone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

STEPS = ({"weight": 30, "hold": "1h"}, {"weight": 60, "hold": "1h"})

KUBECTL_EDIT = """
import asyncio, sys
from pathlib import Path
from controller.ports import Ref
from controller.standalone.store import LocalStore

async def main():
    store = await LocalStore.open(Path(sys.argv[1]))
    route = "/spec/http/0/route"
    await store.patch(Ref("VirtualService", "ml", "ranker"), [
        {"op": "replace", "path": f"{route}/{at}/weight", "value": int(weight)}
        for at, weight in enumerate(sys.argv[2:])
    ], manager="kubectl-edit")
    await store.close()

asyncio.run(main())
"""
"""Another process that edits the live weights past Penstock."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Standalone]:
    async with Standalone(tmp_path_factory.mktemp("by-hand"), steps=STEPS) as stack:
        yield stack


async def command(stack: Standalone, verb: str, *options: str) -> None:
    """Act as a user does, on the command line."""
    done = await stack.cli(verb, "ranker", *options)
    assert done.status == 0, done.err


async def shown(stack: Standalone, status: int) -> Said:
    """Wait until `penstock status` ends with this exit status; return what it said."""

    async def so() -> Said | None:
        said = await stack.cli("status", "ranker")
        return said if said.status == status else None

    said: Said = await stack.eventually(so, f"exit status {status}")
    return said


async def edit_weights(stack: Standalone, *weights: int) -> None:
    editor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KUBECTL_EDIT, str(stack.layout.store), *map(str, weights), cwd=ROOT
    )
    assert await editor.wait() == 0


async def test_weights_edited_in_the_store_are_named_and_set_right(stack: Standalone) -> None:
    run = await stack.under_way()
    await edit_weights(stack, 10, 90)
    await stack.until_event("DriftCorrected", "kubectl-edit changed the weights to stable 10%, candidate 90%")
    await stack.under_way()
    assert await stack.weights() == [70, 30]
    assert (await stack.run()).id == run.id


async def test_weights_edited_in_the_folder_are_named_and_set_right(stack: Standalone) -> None:
    run, text = await stack.under_way(), stack.read("route.yaml")
    stack.write("route.yaml", text.replace("weight: 100", "weight: 40").replace("weight: 0", "weight: 60"))
    await stack.until_event("DriftCorrected", "folder changed the weights to stable 40%, candidate 60%")
    await stack.under_way()
    assert await stack.weights() == [70, 30]
    assert (await stack.run()).id == run.id
    stack.write("route.yaml", text)


async def test_with_on_drift_hold_the_edit_stays_the_run_holds_and_abort_works(stack: Standalone) -> None:
    run, text = await stack.fresh_run(), stack.read("policy.yaml")
    stack.write("policy.yaml", text.replace("decision:", "decision:\n    onDrift: hold"))
    await stack.until(lambda s: s.observed_generation > 1, "the edited policy")
    await edit_weights(stack, 55, 45)
    await stack.until_event("Drift", "kubectl-edit changed the weights to stable 55%, candidate 45%")
    await stack.intervals(2)
    assert await stack.weights() == [55, 45]
    assert (await stack.run()).weights == run.weights
    stalled = (await stack.status()).condition("Stalled")
    assert stalled
    assert (stalled.status, stalled.reason) == ("True", "Drift")
    await shown(stack, 1)
    await stack.abort()
    stack.write("policy.yaml", text)


async def test_pause_holds_and_resume_goes_on(stack: Standalone) -> None:
    await stack.fresh_run()
    await shown(stack, 3)
    await command(stack, "pause")
    await stack.until(lambda s: s.run and s.run.paused, "the pause")
    assert "pause" in (await shown(stack, 4)).out.lower()
    await command(stack, "resume")
    await stack.until(lambda s: s.run and not s.run.paused, "the end of the pause")
    await shown(stack, 3)


async def test_a_paused_run_is_rolled_back_all_the_same_when_harm_is_proven(stack: Standalone) -> None:
    await stack.fresh_run()
    await command(stack, "pause")
    await stack.until(lambda s: s.run and s.run.paused, "the pause")
    stack.candidate.error_rate = 0.6
    assert await stack.decided() == ("RolledBack", "Harmful")
    assert (await stack.cli("status", "ranker")).status == 1


async def test_promote_skips_a_step_but_does_not_replace_the_proof_of_safety(stack: Standalone) -> None:
    await stack.fresh_run()
    await command(stack, "promote")
    await stack.until(lambda s: s.run and s.run.step == 1 and s.run.applied, "the second step")
    assert await stack.weights() == [40, 60]
    await command(stack, "promote")
    await stack.until_event("ActionRefused", "promote --full")
    assert await stack.weights() == [40, 60]


async def test_abort_rolls_back_and_retry_starts_another_run(stack: Standalone) -> None:
    run = await stack.fresh_run()
    refused = await stack.cli("retry", "ranker")
    assert (refused.status, refused.out) == (1, "")
    assert "a run is in progress" in refused.err
    await command(stack, "abort")
    assert await stack.decided() == ("RolledBack", "Aborted")
    assert await stack.weights() == [100, 0]
    aborted = await stack.cli("status", "ranker")
    assert aborted.status == 1
    assert "aborted by" in aborted.out
    refused = await stack.cli("pause", "ranker")
    assert (refused.status, refused.out) == (1, "")
    assert "no run is in progress" in refused.err
    await command(stack, "retry")
    await stack.until(lambda s: s.run and s.run.number == run.number + 1, "another run")


async def test_promote_full_goes_all_the_way_and_the_candidate_is_the_next_control(stack: Standalone) -> None:
    await stack.fresh_run()
    await command(stack, "promote", "--full")
    assert await stack.decided() == ("Promoted", "PromotedByHand")
    assert await stack.weights() == [0, 100]
    assert (await stack.cli("status", "ranker", "--watch")).status == 0
    roles = (await stack.status()).roles
    assert roles
    assert (roles.control, roles.candidate) == ("candidate", "stable")
    await command(stack, "retry")
    await stack.until(lambda s: s.run and s.run.active and s.run.control == "candidate", "the next run")
    await stack.under_way()
    assert await stack.weights() == [30, 70]
    await command(stack, "promote", "--full")
    assert await stack.decided() == ("Promoted", "PromotedByHand")
    assert await stack.weights() == [100, 0]


async def test_everything_that_happened_can_be_read_on_the_command_line(stack: Standalone) -> None:
    """No request was lost in all of this."""
    last = await stack.run()
    table = await stack.cli("get")
    assert (table.status, table.err) == (0, "")
    assert "ranker" in table.out
    policy = json.loads((await stack.cli("get", "rollout", "ranker", "-o", "json")).out)
    assert policy["status"]["run"]["id"] == last.id
    runs = (await stack.cli("get", "runs", "ranker", "-o", "name")).out.split()
    assert runs[0] == last.id
    assert len(runs) == len(set(runs)) == last.number
    assert "DriftCorrected" in (await stack.cli("get", "events", "ranker")).out
    for run in (last.id, runs[-1]):
        assert json.loads((await stack.cli("report", run, "-o", "json")).out)
    assert "promoted" in (await stack.cli("report", "ranker")).out.lower()
    page = stack.home / "report.html"
    assert (await stack.cli("report", "ranker", "-o", "html", "--output", str(page))).status == 0
    assert "<html" in page.read_text()
    nobody = await stack.cli("status", "nobody")
    assert (nobody.status, nobody.out) == (1, "")
    assert "there is no rollout nobody" in nobody.err
    assert stack.load.lost == {}
