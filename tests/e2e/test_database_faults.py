"""The databases locked by another process, or read-only: it is said, traffic flows, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sqlite3
import sys
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from controller.history import WAIT_SECONDS
from tests.support.processes import of_folder
from tests.support.recorded import assert_steps_in_order
from tests.support.standalone import Said, Standalone, penstock, policy
from tests.support.watched import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

MANY = tuple({"weight": weight, "hold": "2s"} for weight in range(20, 80, 2))
"""A run that has steps left whenever a slow machine comes to lock its history."""
CAP_DAC_OVERRIDE, CAP_SETPCAP = 1, 8
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
AS_OTHERS = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({PR_CAPBSET_DROP}, {CAP_DAC_OVERRIDE})
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a command for which a file's mode counts, also when root starts it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Standalone]:
    async with Standalone(tmp_path_factory.mktemp("databases")) as stack:
        yield stack


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a database's write lock, as a backup program or a stuck process may."""
    with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
async def test_while_the_store_is_locked_an_action_is_refused_in_words_and_works_afterwards(
    stack: Standalone,
) -> None:
    run, weights = await stack.under_way(), await stack.weights()
    with locked(stack.layout.store):
        refused = await stack.cli("abort", "ranker")
        assert refused.status == 1
        assert "is locked by another process" in refused.err
        assert "Traceback" not in refused.err
        await stack.flowing()
        assert await stack.run() == run
        assert await stack.weights() == weights
    await stack.abort()
    assert stack.load.lost == {}


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
async def test_a_rollback_does_not_wait_for_a_locked_history_and_is_recorded_afterwards(
    stack: Standalone,
) -> None:
    async def complained() -> bool:
        return "is locked by another process" in stack.said()

    await stack.fresh_run()
    await stack.intervals(2)
    with locked(stack.layout.history):
        stack.candidate.error_rate = 0.6
        assert await stack.decided() == ("RolledBack", "Harmful")
        assert await stack.weights() == [100, 0]
        await stack.eventually(complained, "word of the lock")

    async def recorded() -> bool:
        return (await stack.history())["outcome"] == "RolledBack"

    await stack.eventually(recorded, "the record of the rollback")
    assert [each["action"] for each in (await stack.history())["decisions"]] == ["Start", "RollBack"]
    assert stack.load.lost == {}


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
async def test_a_step_waits_for_a_locked_history(stack: Standalone) -> None:
    known = (await stack.until(lambda s: s.run, "a run")).observed_generation
    stack.write("policy.yaml", policy(MANY))
    await stack.until(lambda s: s.observed_generation > known, "the edited policy")
    assert (await stack.fresh_run()).steps == len(MANY)
    with locked(stack.layout.history):
        await stack.intervals(3)  # a step that was recorded may still be taken
        run, weights = await stack.under_way(), await stack.weights()
        await stack.intervals(2 * WAIT_SECONDS)  # until the record of a step has been given up, too
        assert (await stack.run(), await stack.weights()) == (run, weights)
    await stack.until(lambda s: s.run and s.run.step > run.step, "the next step")
    await stack.abort()
    taken = MANY[: (await stack.run()).step + 1]
    assert_steps_in_order(await stack.history(), [step["weight"] for step in taken])


@pytest.mark.real
async def test_up_says_that_a_database_is_locked_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def fails(which: str) -> None:
        home = tmp_path / which
        home.mkdir()
        async with Standalone(home, start=False) as stack:
            stack.layout.create()
            path = getattr(stack.layout, which)
            with locked(path):
                done = await penstock("up", stack.folder, "--api-port", str(stack.api_port))
            assert_says(done, f"error: the {which}", f"{path} is locked by another process")
            assert of_folder(stack.folder) == {}

    await asyncio.gather(fails("store"), fails("history"))  # together, since each waits for the lock


def assert_says(done: Said, *words: str) -> None:
    assert done.status == 1
    assert [word for word in words if word not in done.err] == []
    assert "Traceback" not in done.err


def modes_can_count() -> bool:
    if os.geteuid() != 0:
        return True
    may_drop: int = ctypes.CDLL(None).prctl(PR_CAPBSET_READ, CAP_SETPCAP)
    return may_drop == 1


@pytest.mark.real
@pytest.mark.skipif(not modes_can_count(), reason="root here can write every file, and cannot change that")
@pytest.mark.parametrize("which", ["store", "history"])
async def test_up_says_that_a_database_is_read_only_and_leaves_nothing_behind(
    tmp_path: Path, which: str
) -> None:
    async with Standalone(tmp_path, start=False) as stack:
        stack.layout.create()
        path = getattr(stack.layout, which)
        path.touch()
        path.chmod(0o400)
        done = await penstock(
            "up", stack.folder, "--api-port", str(stack.api_port), prefix=(sys.executable, "-c", AS_OTHERS)
        )
        assert_says(done, f"error: the {which}", f"{path} is read-only")
        assert of_folder(stack.folder) == {}
