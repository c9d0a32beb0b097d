"""Until when a run may stay in the lane."""

from __future__ import annotations

from controller.decision import Case
from controller.held import _until
from controller.machine import decide
from tests.support.situations import NOW, UNDECIDED, judged, on_step, policy


def test_a_run_that_waited_for_a_person_leaves_the_lane_when_its_deadline_is_over() -> None:
    waited = 86_400.0
    status, here = on_step(2, started_at=NOW - waited - 600, waited=waited)
    asked = policy(deadline="1h", onDeadline="rollback")
    until = _until(Case(asked, status, here, UNDECIDED, NOW))
    assert until == NOW + 3000
    late = judged("Undecided", data_end=until - 4)
    assert decide(asked, status, here, late, until - 1).action == "Hold"
    assert decide(asked, status, here, late, until + 1).reason == "DeadlineExceeded"


def test_a_run_looked_at_in_the_very_moment_of_its_deadline_leaves_the_lane_at_the_next_look() -> None:
    status, here = on_step(2, started_at=NOW - 3600)
    asked = policy(deadline="1h", onDeadline="rollback")
    assert decide(asked, status, here, UNDECIDED, NOW).action == "Hold"
    assert _until(Case(asked, status, here, UNDECIDED, NOW)) == NOW
