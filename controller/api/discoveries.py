"""Which harms hold among many runs: a list in which at most 5 % of the harms are expected to be none.

A run's e-value for harm keeps its promise for that run. Who looks through a hundred runs for those that did
harm makes a selection; e-BH bounds the share of mistakes in it, whatever the runs have in common
(`analysis.multiplicity.e_bh`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from analysis.multiplicity import e_bh

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FALSE_DISCOVERIES = 0.05
"""The expected share of harmless runs among those whose harm holds."""


def harms_that_hold(runs: Sequence[Mapping[str, Any]]) -> list[bool | None]:
    """Return per run of the history whether its harm holds among all of these; None without evidence."""
    found = [(run.get("verdict") or {}).get("e_rollback") for run in runs]
    judged = {at: e for at, e in enumerate(found) if e is not None}
    held = {[*judged][at] for at in e_bh([_log(e) for e in judged.values()], FALSE_DISCOVERIES)}
    return [None if e is None else at in held for at, e in enumerate(found)]


def _log(e: float) -> float:
    return math.log(e) if e > 0 else -math.inf
