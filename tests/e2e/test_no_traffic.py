"""No traffic at all: a run holds, says so, and can be aborted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.standalone import Standalone

if TYPE_CHECKING:
    from pathlib import Path


STEPS = [{"weight": 30}, {"weight": 60}]


@pytest.mark.real
async def test_without_traffic_nothing_is_decided_and_abort_works(tmp_path: Path) -> None:
    async with Standalone(tmp_path, steps=STEPS, load=False) as stack:
        await stack.under_way()
        status = await stack.until(
            lambda s: (stalled := s.condition("Stalled")) and stalled.reason == "NoData", "word of no data"
        )
        assert status.verdict == "NoData"
        await stack.until_event("NoData", "no data for")
        assert (await stack.run()).step == 0
        assert await stack.weights() == [70, 30]
        assert (await stack.cli("status", "ranker")).status == 1
        await stack.abort()
