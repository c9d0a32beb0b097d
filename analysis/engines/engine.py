"""The interface of all engines: interval tables of many runs in, what the engine concludes at each look out.

An engine says in `lacks` which guarantees it does not give. What it reads at a look depends on the intervals
up to that look only. Like the judge's, a proof of harm stays: an engine that ever said `harmful` of a run
says so at all later looks, and never calls that run safe. Without a margin no engine calls a run safe.

`tolerance` and `margin` are fractions of the rate itself, not of the odds as in the judge: 0.5 is "half as
many again". For rare events that is the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np

from analysis.eprocess import LARGEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analysis.hypergeometric import Floats, Ints

    Flags = NDArray[np.bool_]

PEEKING = (
    "It is a test for one look at the planned end. Repeated at every look it rolls back a harmless candidate "
    "several times as often as it says."
)
POOLING = "It adds up all intervals: when the weights change, the time of day can look like harm, or hide it."
CLUSTERS = (
    "It takes requests as independent: errors that come in clusters make it roll back harmless candidates."
)


class Rates(NamedTuple):
    """What an engine is asked for; chances and fractions between 0 and 1, `margin` and `tolerance` above 0.

    `margin` is None where nothing has to be proven safe.
    """

    false_rollback: float
    false_promote: float
    margin: float | None = None
    tolerance: float = 0.0


class Readings(NamedTuple):
    """What an engine concludes, each (looks, runs): `harmful` once `statistic` has passed `bound`."""

    harmful: Flags
    safe: Flags
    statistic: Floats
    bound: Floats


class Engine(Protocol):
    """A test that can stand in for the judge's."""

    @property
    def name(self) -> str:
        """What a policy calls it."""
        ...

    @property
    def lacks(self) -> tuple[str, ...]:
        """The guarantees that it does not give, in sentences for a person."""
        ...

    def looks(self, tables: Ints, errors: Rates) -> Readings:
        """Return the readings of every run at every look.

        `tables` is (looks, runs, 4), per interval: requests and events of the control, then of the candidate.
        """
        ...


@runtime_checkable
class Stepwise(Protocol):
    """An engine so slow that it is asked for new looks only."""

    def looks_since(self, tables: Ints, errors: Rates, since: int) -> Readings:
        """Return the readings from look number `since` on (0 is the first), (looks - since, runs).

        Harm that was found earlier is not in them.
        """
        ...


class Counts(NamedTuple):
    """The columns of the tables, each (looks, runs): requests and events, per interval or summed up."""

    n_b: Floats
    k_b: Floats
    n_c: Floats
    k_c: Floats

    @property
    def both(self) -> Flags:
        """Whether both arms have requests."""
        return np.asarray((self.n_b > 0) & (self.n_c > 0))


def each(tables: Ints) -> Counts:
    """Return the counts of every interval."""
    return Counts(*np.moveaxis(np.asarray(tables, dtype=np.float64), -1, 0))


def so_far(tables: Ints) -> Counts:
    """Return the counts summed up to every look."""
    return each(np.cumsum(tables, axis=0))


def shares(counts: Counts) -> tuple[Floats, Floats]:
    """Return the shares of events of control and candidate, 0 for an arm without requests."""
    return counts.k_b / np.maximum(counts.n_b, 1), counts.k_c / np.maximum(counts.n_c, 1)


def nothing_safe(tables: Ints) -> Flags:
    """Return what is safe where no margin is asked for."""
    return np.zeros(tables.shape[:2], dtype=bool)


def conclude(harmful: Flags, safe: Flags, statistic: Floats, bound: Floats | float) -> Readings:
    """Return readings in which harm, once found, stays and rules out safety."""
    stays = np.logical_or.accumulate(harmful, axis=0)
    return Readings(stays, safe & ~stays, statistic, np.broadcast_to(np.asarray(bound, float), stays.shape))


def conclude_e(log_harm: Floats, log_safe: Floats | None, errors: Rates) -> Readings:
    """Return readings of e-values, given by their logarithms: (looks, runs), for harm and for safety."""
    statistic = np.exp(np.minimum(log_harm, math.log(LARGEST)))
    harmful = log_harm >= -math.log(errors.false_rollback)
    safe = np.zeros_like(harmful) if log_safe is None else log_safe >= -math.log(errors.false_promote)
    return conclude(harmful, safe, statistic, 1 / errors.false_rollback)
