"""Placebos from counts that really happened: some of the requests, and some that went worse.

Counts are requests, (runs,), and how many of them were events, (runs, lanes); for a histogram, those above
each of its rising edges, so that every lane is part of the one before. Dice come first, so that the same
dice give the same counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats, Ints


class Counts(NamedTuple):
    """Requests (runs,) and events among them (runs, lanes), lane within lane."""

    requests: Ints
    events: Ints

    def less(self, part: Counts) -> Counts:
        """Return what is left without a part of it."""
        return Counts(self.requests - part.requests, self.events - part.events)


def thinned(dice: np.random.Generator, counts: Counts, keep: Floats) -> Counts:
    """Return the counts of requests chosen at random, each with the chance `keep` (runs,).

    Given how many are chosen, the events among them are hypergeometric. A rate that wanders, wanders as much
    afterwards; clusters lose members.
    """
    before = np.concatenate([counts.requests[:, None], counts.events], axis=1)
    bins = before - np.concatenate([counts.events, np.zeros_like(before[:, :1])], axis=1)
    chosen = dice.binomial(bins, keep[:, None])
    kept = chosen[:, ::-1].cumsum(axis=1)[:, ::-1]
    return Counts(kept[:, 0], kept[:, 1:])


def worsened(dice: np.random.Generator, counts: Counts, shares: Floats, odds_ratio: float) -> Counts:
    """Return the counts as if the odds of every kind of event had been `odds_ratio` times as high.

    `shares`, (runs, lanes), are the shares of events to start from: those of everybody at that moment. With S
    for a share, it becomes S' = w S / (1 - S + w S). Requests that become events are chosen independently of
    each other (below 1: events that do not happen), lane by lane, each given the lane before; so a lane stays
    within the one before.
    """
    wanted = odds_ratio * shares / (1 - shares + odds_ratio * shares)
    first = np.ones_like(shares[:, :1])
    given = _ratio(shares, np.concatenate([first, shares[:, :-1]], axis=1))
    wanted = _ratio(wanted, np.concatenate([first, wanted[:, :-1]], axis=1))
    rise, fall = (
        _ratio(np.maximum(wanted - given, 0), 1 - given),
        1 - _ratio(np.minimum(wanted, given), given),
    )
    old, new, before, lanes = counts.requests, np.zeros_like(counts.requests), counts.requests, []
    for lane in range(shares.shape[1]):
        own = counts.events[:, lane]
        stay = dice.hypergeometric(own, before - own, old)
        joined = dice.binomial(new, given[:, lane])
        more = dice.binomial(old - stay + new - joined, rise[:, lane])
        old = stay - dice.binomial(stay, fall[:, lane])
        new = joined - dice.binomial(joined, fall[:, lane]) + more
        before = own
        lanes.append(old + new)
    return Counts(counts.requests, np.stack(lanes, axis=1))


def _ratio(above: Floats, below: Floats) -> Floats:
    """Return a quotient between 0 and 1; 1 where there is nothing to divide by."""
    return np.clip(np.divide(above, below, out=np.ones_like(above), where=below > 0), 0.0, 1.0)
