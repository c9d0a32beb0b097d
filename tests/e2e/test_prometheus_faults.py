"""A Prometheus that is down, slow, wrong or empty: runs hold and say why, can be aborted, and go on after."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from controller.standalone.layout import Layout, read_json
from controller.standalone.listening import pick_port
from controller.standalone.processes import DataPlaneProcesses
from controller.standalone.prometheus_server import prometheus_spec
from istio.envoy.telemetry import prometheus_config
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.standalone import SCRAPE_INTERVAL, Standalone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from controller.status import Run, Status

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

STEPS = [{"weight": weight} for weight in range(20, 100, 2)]
"""A run that goes on as soon as it sees anything, so that one that stands still does so for a reason."""
ENOUGH = 20
"""Steps that must be left when a fault begins."""


class Stack(Standalone):
    """A Penstock that reads somebody else's Prometheus, through a proxy."""

    proxy: FaultProxy

    async def working(self) -> Run:
        """Let Prometheus be well, and return a run that has steps left and does not stand still."""
        await self.proxy.open()
        self.proxy.fault = ""
        status = await self.status()
        if status.run is None or status.run.outcome or status.run.step > len(STEPS) - ENOUGH:
            await self.fresh_run()
        return await self.goes_on()

    async def goes_on(self) -> Run:
        """Wait until the run takes another step."""
        step = (await self.run()).step
        await self.until(lambda s: s.run and s.run.step > step, "the next step")
        return await self.under_way()

    async def stands_still(self) -> None:
        """Assert that nothing moves for some intervals, and traffic flows on."""
        run, weights = await self.under_way(), await self.weights()
        await self.intervals(2)
        await self.flowing()
        assert await self.run() == run
        assert await self.weights() == weights
        assert self.load.lost == {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    home = tmp_path_factory.mktemp("prometheus")
    async with fault_proxy() as proxy:
        options = ("--prometheus-url", proxy.url)
        async with Stack(home, steps=STEPS, options=options) as stack:
            stack.proxy = proxy
            others = Layout(_made(home / "others"))
            try:
                proxy.target = await _prometheus(others, stack.layout)
                yield stack
            finally:
                await DataPlaneProcesses(others).stop()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def _prometheus(others: Layout, ours: Layout) -> str:
    """Start a Prometheus of its own for a folder's Envoy; return its address."""
    others.create()
    children = (read_json(ours.keeper) or {})["children"]
    admin = next(child["ports"]["admin"] for child in children if child["name"] == "envoy")
    port = pick_port()
    await DataPlaneProcesses(others).ensure(
        [prometheus_spec(others, prometheus_config(admin, SCRAPE_INTERVAL), port=port)]
    )
    return f"http://127.0.0.1:{port}"


def why_stalled(status: Status) -> str:
    condition = status.condition("Stalled")
    return f"{condition.reason} {condition.message}" if condition and condition.status == "True" else ""


def metrics(status: Status) -> tuple[str, str]:
    condition = status.condition("MetricsAvailable")
    return (condition.status, condition.reason) if condition else ("", "")


async def test_down_from_the_start_nothing_is_decided_and_abort_works(stack: Stack) -> None:
    refused = re.compile(r"MetricsUnavailable .*cannot be reached \(.*Connection refused\)")
    await stack.until(lambda s: refused.search(why_stalled(s)), "word of the fault")
    assert (await stack.run()).step == 0
    await stack.stands_still()

    async def unready() -> bool:
        async with stack.session.get("/readyz") as answer:
            parts = (await answer.json())["parts"]
            return answer.status == 503 and "Connection refused" in parts["prometheus"]

    await stack.eventually(unready, "word of the fault at /readyz")
    await stack.abort()
    await stack.proxy.open()
    await stack.fresh_run()
    await stack.goes_on()


@pytest.mark.parametrize(
    ("fault", "words", "condition"),
    [
        ("error", "answers 500", ("False", "MetricsUnavailable")),
        ("garbage", "something that is not JSON", ("False", "MetricsUnavailable")),
        ("empty", "NoData", ("False", "NoData")),
        ("nan", "not a number", ("True", "Invalid")),
    ],
)
async def test_a_run_holds_while_answers_are_bad_and_goes_on_when_they_are_good(
    stack: Stack, fault: str, words: str, condition: tuple[str, str]
) -> None:
    run = await stack.working()
    stack.proxy.fault = fault
    status = await stack.until(lambda s: words in why_stalled(s), f"word of {words}")
    assert metrics(status) == condition
    await stack.stands_still()
    stack.proxy.fault = ""
    assert (await stack.goes_on()).id == run.id


async def test_a_run_holds_while_answers_are_late_and_can_be_aborted(stack: Stack) -> None:
    await stack.working()
    stack.proxy.fault = "slow"
    status = await stack.until(lambda s: "does not answer within 5 s" in why_stalled(s), "word of it")
    assert metrics(status) == ("False", "MetricsUnavailable")
    await stack.stands_still()
    await stack.abort()


async def test_harm_is_found_after_a_fault_and_not_before(stack: Stack) -> None:
    await stack.working()
    stack.proxy.fault = "error"
    await stack.until(lambda s: "answers 500" in why_stalled(s), "word of the fault")
    stack.candidate.error_rate = 0.6
    await stack.stands_still()
    stack.proxy.fault = ""
    assert await stack.decided() == ("RolledBack", "Harmful")
    assert await stack.weights() == [100, 0]
