"""What must hold of a run's history, whatever happened during the run: nothing lost, doubled or invented."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.upstream import Load

METRIC = "istio-error-rate"
BY_EVIDENCE = frozenset({"Advance", "Promote"})
"""Actions that only evidence, or a person, may bring about."""
BY_HAND = frozenset({"SkippedByHand", "PromotedByHand"})


def assert_recorded_once(history: dict[str, Any], load: Load) -> None:
    """Every interval is there once and in order, and no request is counted twice or invented."""
    ends = [row["end"] for row in _intervals(history)]
    assert ends == sorted(set(ends))
    counted = sum(row[arm]["total"] for row in _intervals(history) for arm in ("control", "candidate"))
    assert counted <= load.sent  # Envoy counts an answer before it is read here


def assert_steps_in_order(history: dict[str, Any], weights: Sequence[int]) -> None:
    """Assert that the run had these steps, each once and in this order, and none without evidence."""
    decisions = history["decisions"]
    steps = [each for each in decisions if each["action"] in {"Start", *BY_EVIDENCE}]
    assert [each["weights"]["candidate"] for each in steps] == list(weights)
    ends = [row["end"] for row in _intervals(history)]
    for before, now in itertools.pairwise(steps):
        seen = [end for end in ends if before["at"] < end <= now["at"]]
        assert seen or now["reason"] in BY_HAND, f"{now['action']} without an interval since {before['at']}"


def _intervals(history: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in history["intervals"] if row["metric"] == METRIC]
