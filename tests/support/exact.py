"""What must hold of a run's history when only controllers died: it is as if one had lived all the time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from controller.dossier import design_of
from controller.history import SqlHistory
from controller.prior import with_edges
from controller.replay import rejudged
from policies.catalog import templates
from policies.parse import policy_from_object
from policies.units import Duration
from tests.support.recorded import METRIC, assert_recorded_once, assert_steps_in_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.support.incluster import InCluster


async def assert_as_of_one_controller(mesh: InCluster, weights: Sequence[int]) -> None:
    """Assert of the present run that it had these steps, an exact history, and lost no request."""
    history = await mesh.history()
    assert_recorded_once(history, mesh.load)
    assert_steps_in_order(history, weights)
    await assert_no_interval_lost(mesh, history)
    await assert_evidence_is_that_of_one_controller(mesh.history_url, history["id"])
    assert mesh.load.lost == {}


async def assert_no_interval_lost(mesh: InCluster, history: Mapping[str, Any]) -> None:
    """Assert that intervals follow each other without a hole, but where the weights changed.

    What Prometheus could not scrape is nobody's fault here: a busy machine may be late with that.
    """
    seconds = int(Duration.parse(history["policy"]["spec"]["decision"]["interval"]).seconds)
    ends = [row["end"] for row in history["intervals"] if row["metric"] == METRIC]
    moved = [each["at"] for each in history["decisions"] if each["action"] in {"Advance", "Promote"}]
    holes = [(a, b) for a, b in pairwise(ends) if not any(a <= at <= b for at in moved)]
    lost = [end for a, b in holes for end in range(a + seconds, b, seconds)]
    if lost:
        scraped = await _scraped(mesh, lost[0] - seconds, lost[-1], seconds)
        lost = [end for end in lost if {end - seconds, end} <= scraped]
    assert lost == [], f"steps began at {moved}"


async def _scraped(mesh: InCluster, start: int, end: int, step: int) -> set[int]:
    """Return the instants at which Prometheus knew the gateway's counters."""
    asked = {"query": "up == 1", "start": start, "end": end, "step": step}
    url = f"{mesh.cluster.prometheus_url}/api/v1/query_range"
    async with mesh.session.get(url, params=asked) as response:
        found = (await response.json())["data"]["result"]
    return {int(at) for series in found for at, _ in series["values"]}


async def assert_evidence_is_that_of_one_controller(url: str, run: str) -> None:
    """Assert that the stored evidence is, bit for bit, what the recorded intervals give."""
    history = await SqlHistory.open(url)
    try:
        whole, stored = await history.run(run), await history.evidence(run)
    finally:
        await history.close()
    assert whole is not None
    assert stored is not None
    cursor, evidence = stored
    design = with_edges(design_of(policy_from_object(whole["policy"]), templates()), evidence["edges"])
    assert cursor == whole["intervals"][-1]["end"]
    assert rejudged(design, whole["intervals"]).to_dict() == evidence["state"]
