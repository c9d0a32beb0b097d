"""Envoy, Prometheus and the keeper are killed in the middle of a run: they come back, and the run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.support.standalone import Standalone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Standalone]:
    async with Standalone(tmp_path_factory.mktemp("processes")) as stack:
        yield stack


async def looked(stack: Standalone) -> int:
    """Return the end of the last interval with data of both versions."""
    ends = [row["end"] for row in (await stack.history())["intervals"] if row["control"]["total"]]
    return max(ends, default=0)


async def judging_again(stack: Standalone) -> None:
    """Wait until intervals with data are recorded that did not begin before now."""
    await stack.intervals(1)
    before = await looked(stack)

    async def more() -> bool:
        return await looked(stack) > before

    await stack.eventually(more, "another interval with data")


async def test_envoy_comes_back_and_its_reset_counters_are_no_harm(stack: Standalone) -> None:
    run = await stack.under_way()
    await judging_again(stack)
    before = await stack.pids()
    await stack.kill("envoy")
    await stack.back("envoy", before)
    await stack.flowing()
    await judging_again(stack)
    after = await stack.run()
    assert (after.id, after.active, after.weights) == (run.id, True, run.weights)
    assert await stack.weights() == [70, 30]
    stack.candidate.error_rate = 0.6
    assert await stack.decided() == ("RolledBack", "Harmful")
    assert await stack.weights() == [100, 0]
    await only_the_control_serves(stack)


async def only_the_control_serves(stack: Standalone) -> None:
    async def for_a_while() -> bool:
        served = stack.candidate.served
        await stack.flowing()
        return stack.candidate.served == served

    await stack.eventually(for_a_while, "the control alone to serve")


async def test_prometheus_comes_back_without_its_samples_and_the_run_goes_on(stack: Standalone) -> None:
    run = await stack.fresh_run()
    await judging_again(stack)
    stack.load.lost.clear()
    before = await stack.pids()
    stack.forget_storage()
    await stack.kill("prometheus")
    await stack.back("prometheus", before)
    await judging_again(stack)
    assert (await stack.run()).id == run.id
    assert (await stack.run()).active
    assert stack.load.lost == {}
    stack.candidate.error_rate = 0.6
    assert await stack.decided() == ("RolledBack", "Harmful")


async def test_a_killed_keeper_is_replaced_with_all_that_it_kept_and_the_run_goes_on(
    stack: Standalone,
) -> None:
    run = await stack.fresh_run()
    before = await stack.pids()
    await stack.kill("keeper")
    for name in ("keeper", "envoy", "prometheus"):
        await stack.back(name, before)
    assert "the keeper is gone" in stack.said()
    await stack.flowing()
    await judging_again(stack)
    assert (await stack.run()).id == run.id
    assert await stack.weights() == [70, 30]
    await stack.abort()
