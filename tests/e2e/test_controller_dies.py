"""The controller ends or is killed at any point: no request is lost, and the next one goes on from there."""

from __future__ import annotations

import itertools
import random
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import alive, of_folder
from tests.support.recorded import assert_recorded_once, assert_steps_in_order
from tests.support.standalone import LONG, QUICK, Standalone

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

STEPS = tuple({"weight": weight, "hold": "2s"} for weight in (20, 35, 50, 65))
KILLS = 5


async def test_sigterm_costs_no_request_and_the_next_up_adopts_envoy_and_goes_on(tmp_path: Path) -> None:
    async with Standalone(tmp_path) as stack:
        run, pids = await stack.under_way(), await stack.pids()
        assert await stack.stop(signal.SIGTERM) == 0
        assert "Envoy and Prometheus go on" in stack.said()
        await stack.flowing()
        told = await stack.cli("status", "ranker")
        assert told.status == 1
        assert "no controller is running" in told.err
        await stack.up()
        await stack.flowing()
        assert await stack.pids() == pids
        assert (await stack.run()).id == run.id
        assert stack.load.lost == {}
        stack.candidate.error_rate = 0.6
        assert await stack.decided() == ("RolledBack", "Harmful")
        assert stack.load.lost == {}


async def test_sigkill_at_random_moments_costs_no_request_and_no_step(tmp_path: Path) -> None:
    """Moments are spread over a whole look, so that starts, steps, writes and reads are all hit."""
    dice = random.Random(3)
    async with Standalone(tmp_path, steps=STEPS) as stack:
        run, pids = await stack.under_way(), await stack.pids()
        await stack.flowing()
        assert stack.load.lost == {}  # the control: without kills nothing is lost either
        for _ in range(KILLS):
            await stack.intervals(dice.uniform(0.5, 2.5))
            await stack.weights()
            await stack.stop(signal.SIGKILL)
            await stack.weights()
            await stack.up()
        assert await stack.decided() == ("Promoted", "Safe")
        assert await stack.weights() == [0, 100]
        assert (await stack.run()).id == run.id
        assert await stack.pids() == pids
        assert stack.load.lost == {}
        history = await stack.history()
        assert_recorded_once(history, stack.load)
        assert_steps_in_order(history, [*(step["weight"] for step in STEPS), 100])
        actions = [decision["action"] for decision in history["decisions"]]
        assert actions == ["Start", *itertools.repeat("Advance", len(STEPS) - 1), "Promote"]


async def test_sigkill_at_random_moments_does_not_save_a_bad_candidate(tmp_path: Path) -> None:
    async with Standalone(tmp_path, steps=LONG) as stack:
        await stack.under_way()
        stack.candidate.error_rate = 0.3
        for pause in (0.1, 0.6):
            await stack.intervals(pause)
            await stack.stop(signal.SIGKILL)
            await stack.up()
        assert await stack.decided() == ("RolledBack", "Harmful")
        assert await stack.weights() == [100, 0]
        assert stack.load.lost == {}


@pytest.mark.parametrize("how", ["ctrl-c", "down", "down without a controller"])
async def test_ctrl_c_and_down_end_every_process(tmp_path: Path, how: str) -> None:
    async with Standalone(tmp_path, steps=QUICK) as stack:
        await stack.under_way()
        pids = {"controller": stack.controller_pid, **await stack.pids()}
        assert pids.keys() == {"controller", "keeper", "envoy", "prometheus"}
        if how == "ctrl-c":
            assert await stack.stop(signal.SIGINT) == 0
            done = await stack.down()
            assert (done.status, done.err) == (0, "nothing was running\n")
        else:
            if how != "down":
                await stack.stop(signal.SIGKILL)
            done = await stack.down()
            assert (done.status, done.err) == (0, "ended\n")
        assert [name for name, pid in pids.items() if alive(pid)] == []
        assert of_folder(stack.folder) == {}
