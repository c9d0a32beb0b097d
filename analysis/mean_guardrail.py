"""One metric of kind mean of many runs takes in an interval: `analysis.guardrail` for means.

What is kept of a run are the sums of `analysis.means` and, for people, the sum of each version's values:
`MEAN_MOMENTS` numbers in double precision. The e-values follow from them, from the planned looks and from the
largest dispersion so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.evidence import parts
from analysis.means import Allowance, MeanSums, advance_means, log_e_harm, log_e_safe
from analysis.tables import MeanTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from analysis.design import MeanQuestion
    from analysis.evidence import MetricEvidence
    from analysis.guardrail import Place
    from analysis.hypergeometric import Floats


def advance_mean_metrics(question: MeanQuestion, places: Sequence[Place]) -> Iterable[MetricEvidence]:
    """Return the evidence of means that ask the same question after one interval each."""
    tables = [_table(place) for place in places]
    rows = np.array([_row(table) for table in tables])
    known = np.array([(place.old.dispersion[0], place.dispersion[0]) for place in places], dtype=np.float32)
    phi = known.max(axis=1)
    kept = np.array([place.old.moments for place in places])
    sums = advance_means(mean_sums(kept), *rows.T)
    moments = np.concatenate([kept[:, :2] + rows[:, [1, 3]], _flat(sums)], axis=1)
    harm, safe = _log_e(question, places, sums, phi.astype(np.float64))
    singles = np.array([place.old.singles for place in places])
    singles[:, parts(places[0].old.layout)["dispersion"].columns] = phi[:, None]
    for row, (place, table) in enumerate(zip(places, tables, strict=True)):
        old, counts = place.old, rows[row, [0, 2]].astype(np.int64)
        yield old._replace(
            counts=old.counts + np.stack([counts, np.zeros_like(counts)], axis=1),
            singles=singles[row].copy(),
            moments=moments[row].copy(),
            log_e=harm[row],
            peak=max(old.peak, harm[row]),
            log_safe=safe[row],
            safe_peak=max(old.safe_peak, safe[row]),
            last_data=table.end if table is not None and counts.min() > 0 else old.last_data,
        )


def mean_sums(moments: Floats) -> MeanSums:
    """Return the sums of `analysis.means` among the moments (runs, MEAN_MOMENTS); two sums come before."""
    return MeanSums(moments[:, 2], moments[:, 3], moments[:, 4:8], moments[:, 8:].reshape(-1, 4, 4))


def _flat(sums: MeanSums) -> Floats:
    return np.concatenate([np.asarray(each).reshape(len(sums.first), -1) for each in sums], axis=1)


def _table(place: Place) -> MeanTable | None:
    table = place.interval.tables.get(place.metric.name)
    if table is not None and not isinstance(table, MeanTable):
        raise ValueError(f"metric {place.metric.name}: a mean needs sums, not events")
    return table


def _row(table: MeanTable | None) -> tuple[float, ...]:
    """Return n_b, sum_b, n_c, sum_c."""
    if table is None:
        return 0.0, 0.0, 0.0, 0.0
    return table.control.total, table.control.sum, table.candidate.total, table.candidate.sum


def _log_e(
    question: MeanQuestion, places: Sequence[Place], sums: MeanSums, phi: Floats
) -> tuple[list[float], list[float]]:
    """Return ln of the e-values for harm and against the margin (0 without one)."""
    planned = np.array([place.design.planned_looks for place in places], dtype=np.float64)
    better = question.higher_is_better
    tolerance = Allowance(question.tolerance, relative=True)
    harm = log_e_harm(
        sums, planned_looks=planned, tolerance=tolerance, higher_is_better=better, dispersion=phi
    )
    if question.margin is None:
        return harm.tolist(), [0.0] * len(places)
    margin = Allowance(question.margin, relative=True)
    safe = log_e_safe(sums, planned_looks=planned, margin=margin, higher_is_better=better, dispersion=phi)
    return harm.tolist(), safe.tolist()
