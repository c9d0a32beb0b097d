"""One metric of many runs takes in an interval, as arrays over all of them: the core of `analysis.judge`.

Metrics with the same layout are worked on together; what each of them gets does not depend on the company.
`analysis.judge` makes the arrays of objects and cuts them up again (`advance_metrics`), `analysis.herd` keeps
them from look to look (`advance_kept`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.confidence import mantel_haenszel_terms
from analysis.eprocess import advance_restart, log_sum_exp, restart_log_weight, safe_log_prior
from analysis.evidence import Kept, part_of
from analysis.hypergeometric import Floats, log_likelihood_ratios
from analysis.mean_guardrail import advance_mean_metrics
from analysis.overshoot import Bets, log_boosts
from analysis.points import Asked, advance_points, log_e_points
from analysis.stakes import log_bets, log_cash, log_worth
from analysis.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.design import Design, Interval, Layout, MetricDesign
    from analysis.evidence import MetricEvidence, Singles
    from analysis.hypergeometric import Ints
    from analysis.overshoot import Flags


_RESERVE = math.log(1.05)
"""So much further than the bound lies what is got back is cut off: the test then falls short of alpha by as
much, in reserve for a dispersion that is too small to be seen."""


class Place(NamedTuple):
    """One metric of one run about to take in one interval, its look number `look` (1, 2, ..)."""

    design: Design
    metric: MetricDesign
    interval: Interval
    look: int
    old: MetricEvidence

    @property
    def dispersion(self) -> tuple[float, ...]:
        """By what each lane's evidence is divided."""
        return dispersion_of(self.metric, self.interval.dispersion)


def dispersion_of(metric: MetricDesign, measured: Mapping[str, tuple[float, ...]]) -> tuple[float, ...]:
    """Return by what the evidence of each lane is divided. ValueError unless all of it is 1 or more."""
    lanes = metric.layout.lanes
    known = measured.get(metric.name) or (metric.dispersion,) * lanes
    if len(known) != lanes or not all(phi >= 1 for phi in known):
        raise ValueError(f"metric {metric.name}: {lanes} dispersions of 1 or more, not {known}")
    return known


class Aim(NamedTuple):
    """What ln E of each run has to reach, and how much each bet wins or loses with one event more."""

    bound: Floats
    slopes: Floats


class Terms(NamedTuple):
    """How metrics of one layout are judged, which no count changes: arrays over the runs."""

    layout: Layout
    dispersion: Floats
    """(runs, lanes)"""
    harm: Aim
    safe: Aim
    asked: Asked

    @classmethod
    def of(cls, layout: Layout, designs: Sequence[Design], dispersion: Sequence[tuple[float, ...]]) -> Terms:
        """Return the terms of some runs."""
        phi = np.array(dispersion).reshape(-1, layout.lanes)
        harm = [math.log(len(design.metrics) / design.false_rollback) for design in designs]
        safe = [-math.log(design.false_promote) for design in designs]
        return cls(
            layout,
            phi,
            Aim(np.array(harm), _slopes(np.tile(layout.stakes.odds_ratios, 2), layout.null, phi)),
            Aim(np.array(safe), _slopes(layout.odds_ratios[layout.safe], layout.safe_null, phi)),
            Asked(
                np.array([design.false_promote for design in designs]),
                np.array([design.planned_looks for design in designs]),
            ),
        )


def _slopes(odds_ratios: Floats, null: float | None, phi: Floats) -> Floats:
    """Return the slopes where what is overshot is got back: of bets on a proportion; else nothing."""
    if null is None or phi.shape[1] > 1:
        return np.zeros((len(phi), 0))
    return np.asarray(np.log(odds_ratios / null) / phi)


class Pace(NamedTuple):
    """How runs spend their bets on harm that begins later: ln of that at this look, and of what is left."""

    weight: Floats
    cash: Floats

    @classmethod
    def of(cls, looks: Sequence[tuple[int, int]]) -> Pace:
        """Return the pace at these looks (1, 2, ..) out of so many planned ones."""
        return cls(np.array([restart_log_weight(*each) for each in looks]), log_cash(looks))


def advance_metrics(layout: Layout, places: Sequence[Place]) -> Sequence[MetricEvidence]:
    """Return the evidence of metrics of one layout after one interval each, as arrays over all of them."""
    if layout.mean is not None:
        return [*advance_mean_metrics(layout.mean, places)]
    tables = [_table(place) for place in places]
    designs = [place.design for place in places]
    terms = Terms.of(layout, designs, [place.dispersion for place in places])
    pace = Pace.of([(place.look, place.design.planned_looks) for place in places])
    kept = Kept.of([place.old for place in places])
    ends = np.array([place.interval.end for place in places])
    return advance_kept(terms, pace, kept, _stack_counts(layout, tables), ends).cut(layout)


def advance_kept(terms: Terms, pace: Pace, kept: Kept, counts: Ints, ends: Ints | int) -> Kept:
    """Return the sums of proportions or histograms of one layout after intervals with these counts.

    `counts` is (runs, 2, 1 + lanes): of control and candidate the requests, then the events of each lane.
    """
    layout = terms.layout
    if layout.mirrored:
        counts = np.concatenate([counts[:, :, :1], counts[:, :, :1] - counts[:, :, 1:]], axis=2)
    sums = _advance_sums(terms, pace, _Sums.of(layout, kept.singles), counts)
    moments = kept.moments
    if layout.points is not None:
        moments = advance_points(moments, counts, layout.points, terms.asked, sums.dispersion[:, 0])
    harm = _harm(terms, pace, sums, kept, counts)
    if layout.points is None:
        safe = _safe(terms, sums, kept, counts)
    else:
        safe = _Worth(log_e_points(moments, layout.points, sums.dispersion[:, 0]), np.zeros(len(counts)))
    data = counts[:, :, 0].min(axis=1) > 0
    return Kept(
        counts=kept.counts + counts,
        singles=sums.rounded(),
        moments=moments,
        log_boost=np.stack([harm.log_boost, safe.log_boost], axis=1),
        log_e=harm.log_e,
        peak=larger(kept.peak, harm.log_e),
        log_safe=safe.log_e,
        safe_peak=larger(kept.safe_peak, safe.log_e),
        last_data=np.where(data, ends, kept.last_data),
    )


def larger(old: Floats, new: Floats) -> Floats:
    """Return `max(old, new)` of each pair: the old one where both are 0, whatever their signs."""
    return np.where(new > old, new, old)


class _Sums(NamedTuple):
    """The sums in single precision of many metrics of one layout, each in its shape, as doubles."""

    likelihood: Floats
    start: Floats
    restart: Floats
    safe: Floats
    pairs: Floats
    mantel_haenszel: Floats
    dispersion: Floats

    @classmethod
    def of(cls, layout: Layout, singles: Singles) -> _Sums:
        """Return what the metrics have summed up so far."""
        doubles = singles.astype(np.float64)
        return cls(*(part_of(layout, doubles, name) for name in cls._fields))

    def rounded(self) -> Singles:
        """Return the sums as they are kept, (metrics, singles)."""
        flat = [each.reshape(len(each), math.prod(each.shape[1:])) for each in self]
        return np.concatenate(flat, axis=1).astype(np.float32)


def _advance_sums(terms: Terms, pace: Pace, kept: _Sums, counts: Ints) -> _Sums:
    """Return the sums with what an interval adds to them."""
    layout, phi = terms.layout, terms.dispersion
    own, nodes = np.arange(layout.lanes), layout.nodes
    increments = _log_ratios(counts, own, own, layout.odds_ratios)
    increments /= phi[:, :, None]
    gain = increments[:, :, layout.harm] - increments[:, :, nodes, None]
    found = kept._replace(
        likelihood=kept.likelihood + increments[:, :, :nodes],
        start=kept.start + gain,
        restart=advance_restart(kept.restart, pace.weight[:, None, None], gain),
        mantel_haenszel=kept.mantel_haenszel + mantel_haenszel_terms(*_columns(counts, own, own)),
        dispersion=np.maximum(kept.dispersion, phi),
    )
    if layout.safe_null is not None:
        against = increments[:, :, layout.safe] - increments[:, :, layout.safe.start - 1, None]
        found = found._replace(safe=kept.safe + against)
    if layout.pairs:
        near, far = np.array(layout.pairs).T
        more = _log_ratios(counts, near, far, layout.pair_odds_ratios) / phi[:, near, None]
        found = found._replace(pairs=kept.pairs + more)
    return found


class _Worth(NamedTuple):
    """ln of the e-values after an interval, and of what was got back of the overshoot, per metric."""

    log_e: Floats
    log_boost: Floats


def _harm(terms: Terms, pace: Pace, sums: _Sums, kept: Kept, counts: Ints) -> _Worth:
    """Return the e-values for harm."""
    layout = terms.layout
    bets = log_bets(layout.stakes, sums.start, sums.restart)
    boost = kept.log_boost[:, 0]
    log_e = log_worth(bets, pace.cash) + boost
    if layout.lanes > 1:  # edges depend on each other: what all of them overshoot together is not known
        return _Worth(log_e, boost)
    running = kept.peak < terms.harm.bound
    found = Bets(bets[:, 0], terms.harm.slopes, pace.cash, terms.harm.bound)
    more = _boosts(found, boost, layout.null, counts, running=running)
    return _Worth(log_e + more, boost + more)


def _safe(terms: Terms, sums: _Sums, kept: Kept, counts: Ints) -> _Worth:
    """Return the e-values against the margin of proportions."""
    layout, boost = terms.layout, kept.log_boost[:, 1]
    if layout.safe_null is None:
        return _Worth(boost, boost)
    bets = sums.safe[:, 0] + safe_log_prior(layout.safe_null)
    running = kept.safe_peak < terms.safe.bound
    nothing = np.full(len(counts), -math.inf)
    found = Bets(bets, terms.safe.slopes, nothing, terms.safe.bound)
    more = _boosts(found, boost, layout.safe_null, counts, running=running)
    return _Worth(log_sum_exp(bets) + boost + more, boost + more)


def _boosts(bets: Bets, boost: Floats, null: float, counts: Ints, *, running: Flags) -> Floats:
    """Return ln of what is got back of this interval's overshoot while a bound is not reached, else 0."""
    result = np.zeros(len(boost))
    rows = np.flatnonzero(running)
    level, slope, cash, bound = (each[rows] for each in bets)
    before = boost[rows]
    tables = counts[rows][:, [1, 1, 0, 0], [0, 1, 0, 1]]
    bets = Bets(level + before[:, None], slope, cash + before, bound + _RESERVE)
    result[rows] = log_boosts(tables, null, bets)
    return result


def _table(place: Place) -> Table | None:
    table = place.interval.tables.get(place.metric.name)
    if table is not None and not isinstance(table, Table):
        raise ValueError(f"metric {place.metric.name}: a {place.metric.kind} needs events, not sums")
    return table


def _stack_counts(layout: Layout, tables: Sequence[Table | None]) -> Ints:
    """Return (tables, 2, 1 + lanes): per arm its requests, then its events. No table counts as zeros."""
    nothing = (0,) * (2 * layout.lanes + 2)
    rows = [
        nothing if t is None else (t.control.total, *t.control.events, t.candidate.total, *t.candidate.events)
        for t in tables
    ]
    if any(len(row) != len(nothing) for row in rows):
        raise ValueError(f"a table has other than {layout.lanes} numbers of events per arm")
    return np.array(rows, dtype=np.int64).reshape(len(rows), 2, -1)


def _columns(counts: Ints, near: Ints, far: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Return n_c, k_c (events of lanes `far`), n_b and k_b (of lanes `near`), each (tables, lanes)."""
    k_c, k_b = counts[:, 1, 1 + far], counts[:, 0, 1 + near]
    n_c, n_b = (np.broadcast_to(counts[:, arm, :1], k_c.shape) for arm in (1, 0))
    return n_c, k_c, n_b, k_b


def _log_ratios(counts: Ints, near: Ints, far: Ints, odds_ratios: Floats) -> Floats:
    """Return the log-likelihood ratios, (tables, lanes, odds ratios)."""
    n_c, k_c, n_b, k_b = (column.ravel() for column in _columns(counts, near, far))
    flat = log_likelihood_ratios(n_c, k_c, n_b, k_b, odds_ratios)
    return flat.reshape(len(counts), near.size, odds_ratios.size)
