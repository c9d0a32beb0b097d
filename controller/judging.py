"""All runs that are owed intervals are judged in one step; where that fails, each is judged alone.

Together or alone, the result is the same, so that one run's trouble stays its own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from analysis.glance import glances
from analysis.judge import advance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analysis.judge import Interval
    from controller.evidence import Owed

log = logging.getLogger("penstock")

T = TypeVar("T")
R = TypeVar("R")


def judge_all(batch: Sequence[tuple[Owed, Sequence[Interval]]]) -> None:
    """Advance the dossiers of all runs by their intervals, and read what they know then."""
    runs = [each for each, _ in batch]
    work = [(each.dossier.design, each.dossier.evidence, intervals) for each, intervals in batch]
    taken = []
    for (each, intervals), state in zip(batch, _together(advance, runs, work), strict=True):
        try:
            if state is not None:
                each.dossier.take(state, intervals)
                taken.append(each)
        except Exception as error:  # whatever it is, it is this run's
            complain(each, error)
    known = [(each.dossier.design, each.dossier.evidence) for each in taken]
    for each, glance in zip(taken, _together(glances, taken, known), strict=True):
        if glance is not None:
            each.dossier.judge(glance)


def complain(each: Owed, error: Exception) -> None:
    """Tell that a run's evidence cannot be read."""
    log.error("%s: its evidence cannot be read", each.policy.key, exc_info=error)
    each.dossier.error = f"the evidence cannot be read: {error!r}"


def _together(
    do: Callable[[Sequence[T]], Sequence[R]], runs: Sequence[Owed], work: Sequence[T]
) -> list[R | None]:
    """Return what is done for all runs in one step or, if that fails, for each alone."""
    try:
        return [*do(work)]
    except Exception:
        log.exception("the runs cannot be judged together; each is judged alone")
    results: list[R | None] = []
    for each, one in zip(runs, work, strict=True):
        try:
            results += do([one])
        except Exception as error:  # whatever it is, it is this run's
            results.append(None)
            complain(each, error)
    return results
