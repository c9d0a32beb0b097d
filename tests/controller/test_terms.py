"""Leaders in turn on one database: each goes on exactly where the last one was, and none writes after it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from controller.dossier import design_of
from controller.fenced import FencedHistory
from controller.history import SqlHistory
from controller.replay import rejudged
from policies.catalog import templates
from policies.parse import policy_from_object
from tests.support.rig import GOOD, Rig, ended

if TYPE_CHECKING:
    from pathlib import Path


class _Leader:
    """A replica's lease, always valid as far as itself knows, and its own connection to the history."""

    where = "ops/penstock"

    def __init__(self, identity: str, database: SqlHistory) -> None:
        self.identity, self.database, self.resigned = identity, database, ""

    def check(self) -> None:
        pass

    def resign(self, why: str) -> None:
        self.resigned = why


async def _leader(rig: Rig, name: str) -> _Leader:
    """Let another replica lead: another process, which remembers nothing."""
    leader = _Leader(name, await SqlHistory.open(f"sqlite:///{rig.folder / 'history.db'}"))
    rig.history = FencedHistory(leader.database, leader)
    rig.crash()
    return leader


async def _opened(folder: Path) -> tuple[Rig, SqlHistory]:
    rig = Rig(folder)
    await rig.start(GOOD, metric={"margin": "50%"})
    return rig, rig.history


async def _closed(rig: Rig, own: SqlHistory, *leaders: _Leader) -> None:
    for leader in leaders:
        await leader.database.close()
    rig.history = own
    await rig.close()


async def test_leaders_in_turn_lose_no_interval_count_none_twice_and_repeat_no_step(tmp_path):
    rig, own = await _opened(tmp_path)
    leaders = [await _leader(rig, "0")]
    steps = []
    while not ended(status := await rig.run(7, until=ended)):
        steps.append(status.run.step)
        leaders.append(await _leader(rig, str(len(leaders))))
        assert len(leaders) < 90
    assert status.run.outcome == "Promoted"
    assert len(leaders) > 5
    assert steps == sorted(steps)
    whole = await rig.whole()
    assert [each["action"] for each in whole["decisions"]] == ["Start", "Advance", "Promote"]
    ends = await rig.ends()
    assert len(ends) == len(set(ends)) > 5
    holes = [(end, later) for end, later in pairwise(ends) if later - end != 5]
    assert len(holes) <= 1, "only the change of weights costs intervals"
    cursor, stored = await rig.history.evidence(whole["id"])
    design = design_of(policy_from_object(whole["policy"]), templates())
    assert cursor == ends[-1]
    assert rejudged(design, whole["intervals"]).to_dict() == stored["state"], "as one leader would have found"
    await _closed(rig, own, *leaders)


async def test_a_deposed_leader_that_does_not_know_leaves_no_trace_in_the_history_and_resigns(tmp_path):
    rig, own = await _opened(tmp_path)
    old = await _leader(rig, "old")
    await rig.run(12)
    deposed = rig.loop
    new = await _leader(rig, "new")
    await rig.run(1)
    before = await rig.whole()
    await rig.mesh.run(10)
    rig.clock.time += 10  # now there are intervals to record
    await deposed.look()
    assert await rig.whole() == before
    assert "new has claimed" in old.resigned
    await rig.run(1)
    assert len((await rig.whole())["ticks"]) > len(before["ticks"])
    assert not new.resigned
    await _closed(rig, own, old, new)
