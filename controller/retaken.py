"""A decision that is taken again, because who took it ended before it was carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

IDENTITY = ("action", "reason", "step", "weights")
"""What makes a decision: taken again after a crash, only its moment and its words may differ."""
ONCE = frozenset({"Start", "Advance", "Promote", "RollBack", "Supersede"})
"""What a run does at most once with the same step and weights. When it is the last decision of a run and is
taken again, it was not carried out before: the status did not say so."""


def identity(decision: Mapping[str, Any]) -> list[Any]:
    """Return what makes a decision, to be compared."""
    return [decision.get(field) for field in IDENTITY]


def takes_the_place(decision: Mapping[str, Any], last: Mapping[str, Any]) -> bool:
    """Tell whether a decision, taken at a later look, is one that was recorded and never carried out."""
    return decision.get("action") in ONCE and identity(decision) == identity(last)
