"""One metric of many runs takes in an interval, as arrays over all of them: the core of `analysis.judge`.

Metrics with the same layout are worked on together; what each of them gets does not depend on the company.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.confidence import mantel_haenszel_terms
from analysis.eprocess import advance_restart, log_sum_exp, restart_log_weight, safe_log_prior
from analysis.evidence import MetricEvidence, parts
from analysis.hypergeometric import Floats, log_likelihood_ratios
from analysis.mean_guardrail import advance_mean_metrics
from analysis.overshoot import Bets, log_boosts
from analysis.points import Asked, advance_points, log_e_points
from analysis.stakes import log_bets, log_cash, log_worth
from analysis.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from analysis.design import Design, Interval, Layout, MetricDesign
    from analysis.evidence import Singles
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
    def planned(self) -> tuple[int, int]:
        """Which look it is, and how many are planned."""
        return self.look, self.design.planned_looks

    @property
    def dispersion(self) -> tuple[float, ...]:
        """By what each lane's evidence is divided. ValueError unless there is 1 or more for each lane."""
        lanes = self.metric.layout.lanes
        known = self.interval.dispersion.get(self.metric.name) or (self.metric.dispersion,) * lanes
        if len(known) != lanes or not all(phi >= 1 for phi in known):
            raise ValueError(f"metric {self.metric.name}: {lanes} dispersions of 1 or more, not {known}")
        return known

    @property
    def bound(self) -> float:
        """What ln E has to reach for harm."""
        return math.log(len(self.design.metrics) / self.design.false_rollback)


def advance_metrics(layout: Layout, places: Sequence[Place]) -> Iterable[MetricEvidence]:
    """Return the evidence of metrics of one layout after one interval each, as arrays over all of them."""
    if layout.mean is not None:
        return advance_mean_metrics(layout.mean, places)
    return _advance_proportions(layout, places)


def _advance_proportions(layout: Layout, places: Sequence[Place]) -> Iterable[MetricEvidence]:
    """Return the same for proportions and histograms."""
    tables = [_table(place) for place in places]
    counts = _stack_counts(layout, tables)
    phi = np.array([place.dispersion for place in places])
    own = np.arange(layout.lanes)
    increments = _log_ratios(counts, own, own, layout.odds_ratios) / phi[:, :, None]
    kept = _Sums.of(layout, places)
    sums = _advance_sums(layout, places, kept, increments)
    if layout.pairs:
        near, far = np.array(layout.pairs).T
        more = _log_ratios(counts, near, far, layout.pair_odds_ratios) / phi[:, near, None]
        sums = sums._replace(pairs=kept.pairs + more)
    terms = mantel_haenszel_terms(*_columns(counts, own, own))
    sums = sums._replace(
        mantel_haenszel=kept.mantel_haenszel + terms, dispersion=np.maximum(kept.dispersion, phi)
    )
    moments = _advance_moments(layout, places, counts, sums)
    harm = _harm(layout, places, sums, counts, phi)
    safe = (
        _safe(layout, places, sums, counts, phi) if layout.points is None else _within(moments, sums, layout)
    )
    singles = sums.rounded()
    data = counts[:, :, 0].min(axis=1) > 0
    for row, place in enumerate(places):
        old = place.old
        yield MetricEvidence(
            layout=layout,
            counts=old.counts + counts[row],
            singles=singles[row].copy(),
            moments=moments[row].copy(),
            log_boost=(harm.log_boost[row], safe.log_boost[row]),
            log_e=harm.log_e[row],
            peak=max(old.peak, harm.log_e[row]),
            log_safe=safe.log_e[row],
            safe_peak=max(old.safe_peak, safe.log_e[row]),
            last_data=place.interval.end if data[row] else old.last_data,
        )


class _Sums(NamedTuple):
    """The arrays of `MetricEvidence` for many metrics of one layout, in double precision."""

    likelihood: Floats
    start: Floats
    restart: Floats
    safe: Floats
    pairs: Floats
    mantel_haenszel: Floats
    dispersion: Floats

    @classmethod
    def of(cls, layout: Layout, places: Sequence[Place]) -> _Sums:
        """Return what the metrics have summed up so far."""
        singles = np.array([place.old.singles for place in places]).astype(np.float64)
        where = parts(layout)
        each = {
            name: singles[:, part.columns].reshape(len(places), *part.shape) for name, part in where.items()
        }
        return cls(**each)

    def rounded(self) -> Singles:
        """Return the sums as they are kept, (metrics, singles)."""
        flat = [each.reshape(len(each), math.prod(each.shape[1:])) for each in self]
        return np.concatenate(flat, axis=1).astype(np.float32)


def _advance_sums(layout: Layout, places: Sequence[Place], kept: _Sums, increments: Floats) -> _Sums:
    """Return the sums of log-likelihood ratios with those of the interval added."""
    nodes = layout.nodes
    gain = increments[:, :, layout.harm] - increments[:, :, nodes, None]
    weight = np.array([restart_log_weight(*place.planned) for place in places])[:, None, None]
    likelihood = kept.likelihood + increments[:, :, :nodes]
    restart = advance_restart(kept.restart, weight, gain)
    if layout.safe_null is None:
        return kept._replace(likelihood=likelihood, start=kept.start + gain, restart=restart)
    against = increments[:, :, layout.safe] - increments[:, :, layout.safe.start - 1, None]
    return kept._replace(
        likelihood=likelihood, start=kept.start + gain, restart=restart, safe=kept.safe + against
    )


class _Worth(NamedTuple):
    """ln of the e-values after an interval, and of what was got back of the overshoot, per metric."""

    log_e: list[float]
    log_boost: list[float]


def _harm(layout: Layout, places: Sequence[Place], sums: _Sums, counts: Ints, phi: Floats) -> _Worth:
    """Return the e-values for harm."""
    bets = log_bets(layout.stakes, sums.start, sums.restart)
    cash = log_cash([place.planned for place in places])
    boost = np.array([place.old.log_boost[0] for place in places])
    log_e = log_worth(bets, cash) + boost
    if layout.lanes > 1:  # edges depend on each other: what all of them overshoot together is not known
        return _Worth(log_e.tolist(), boost.tolist())
    slopes = np.log(np.tile(layout.stakes.odds_ratios, 2) / layout.null) / phi
    bound = np.array([place.bound for place in places])
    running = np.array([place.old.peak for place in places]) < bound
    more = _boosts(Bets(bets[:, 0], slopes, cash, bound), boost, layout.null, counts, running=running)
    return _Worth((log_e + more).tolist(), (boost + more).tolist())


def _safe(layout: Layout, places: Sequence[Place], sums: _Sums, counts: Ints, phi: Floats) -> _Worth:
    """Return the e-values against the margin of proportions."""
    boost = np.array([place.old.log_boost[1] for place in places])
    if layout.safe_null is None:
        return _Worth(boost.tolist(), boost.tolist())
    bets = sums.safe[:, 0] + safe_log_prior(layout.safe_null)
    slopes = np.log(layout.odds_ratios[layout.safe] / layout.safe_null) / phi
    bound = np.array([-math.log(place.design.false_promote) for place in places])
    running = np.array([place.old.safe_peak for place in places]) < bound
    nothing = np.full(len(places), -math.inf)
    found = Bets(bets, slopes, nothing, bound)
    more = _boosts(found, boost, layout.safe_null, counts, running=running)
    return _Worth((log_sum_exp(bets) + boost + more).tolist(), (boost + more).tolist())


def _advance_moments(layout: Layout, places: Sequence[Place], counts: Ints, sums: _Sums) -> Floats:
    """Return the sums for a margin in points, (runs, moments)."""
    kept = np.array([place.old.moments for place in places])
    if layout.points is None:
        return kept
    asked = [Asked(place.design.false_promote, place.design.planned_looks) for place in places]
    return advance_points(kept, counts, layout.points, asked, sums.dispersion[:, 0])


def _within(moments: Floats, sums: _Sums, layout: Layout) -> _Worth:
    """Return the e-values against a margin in points; nothing is got back of their overshoot."""
    log_e = log_e_points(moments, layout.points or 0.0, sums.dispersion[:, 0])
    return _Worth(log_e.tolist(), [0.0] * len(moments))


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
    """Return (tables, 2, 1 + lanes): per arm its requests, then what is bad. No table counts as zeros."""
    nothing = (0,) * (2 * layout.lanes + 2)
    rows = [
        nothing if t is None else (t.control.total, *t.control.events, t.candidate.total, *t.candidate.events)
        for t in tables
    ]
    if any(len(row) != len(nothing) for row in rows):
        raise ValueError(f"a table has other than {layout.lanes} numbers of events per arm")
    counts = np.array(rows, dtype=np.int64).reshape(len(rows), 2, -1)
    if layout.mirrored:
        counts[:, :, 1:] = counts[:, :, :1] - counts[:, :, 1:]
    return counts


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
