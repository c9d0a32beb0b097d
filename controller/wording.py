"""The word of a verdict in the status: how often it is written when it is all that changed. Pure.

A verdict close to its bound may be `Safe` at one look and `Undecided` at the next. Nobody decides on that, so
it is not worth a write at each look: a change of this word alone is written at most once in `APART` seconds,
and what is the word then. Everything else is written at once, with the word of that moment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.status import Condition, Status

APART = 60.0
TO_AND_FRO = frozenset({"Safe", "Undecided"})
"""Words that may follow one another at each look; the other verdicts stay, or change a condition."""


@dataclass
class Wording:
    """When the word of one rollout's verdict was written alone, and whether it is out of date."""

    written_at: float = -math.inf
    owed: bool = False

    def is_early(self, now: float) -> bool:
        """Tell whether it is too early to write it again."""
        return 0 <= now - self.written_at < APART

    @property
    def due(self) -> float:
        """When a word that is owed is to be written, unix seconds."""
        return self.written_at + APART if self.owed else math.inf


def only_rewords(before: Status, after: Status) -> bool:
    """Tell whether a status differs from the one before by nothing but `Safe` or `Undecided`."""
    return {before.verdict, after.verdict} == TO_AND_FRO and _wordless(before) == _wordless(after)


def _wordless(status: Status) -> Status:
    """Return a status without the places in which the word stands."""
    conditions = tuple(map(_without_word, status.conditions))
    return status.model_copy(update={"verdict": "", "summary": "", "conditions": conditions})


def _without_word(condition: Condition) -> Condition:
    return condition.model_copy(update={"reason": ""}) if condition.reason in TO_AND_FRO else condition
