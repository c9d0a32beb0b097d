"""The verdicts of many runs of one design as bare kinds: what `analysis.verdict` concludes, wordless.

A verdict in numbers and words costs half a millisecond; a simulation asks for a hundred thousand of them and
reads only the kind. Tests hold that both always agree.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import numpy as np

from analysis.margin import log_e_safe as log_e_pairs
from analysis.mending import proven_before
from analysis.srm import is_rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from analysis.design import Design, MetricDesign
    from analysis.evidence import Evidence, MetricEvidence
    from analysis.hypergeometric import Floats, Ints
    from analysis.verdict import Kind

    Flags = NDArray[np.bool_]


def kinds(design: Design, runs: Sequence[Evidence]) -> list[Kind]:
    """Return `verdict(design, evidence).kind` of every run."""
    if not runs:
        return []
    required = any(metric.needs_proof for metric in design.metrics)
    invalid = [bool(run.inconsistent) or is_rejected(run.srm_peak, design.srm_alpha) for run in runs]
    silent, safe = np.ones(len(runs), dtype=bool), np.full(len(runs), required)
    harmful = np.zeros(len(runs), dtype=bool)
    for position, metric in enumerate(design.metrics):
        own = [run.metrics[position] for run in runs]
        counts = np.array([each.counts for each in own])
        fewest = counts[:, :, 0].min(axis=1)
        judged = (fewest > 0) & (fewest >= design.min_samples)
        silent &= fewest == 0
        harmful |= judged & _harm_is_proven(design, runs, position)
        if metric.needs_proof:
            log_e = _log_e_safe(metric, own, counts, _before(runs, position))
            safe &= judged & (log_e >= -math.log(design.false_promote))
    return first_of(invalid, silent, harmful, safe)


def first_of(*flags: Flags | np.bool_ | list[bool]) -> list[Kind]:
    """Return of every run the first that holds: invalid, without data, harmful, safe; else undecided."""
    first = np.select([*map(np.asarray, flags)], ["Invalid", "NoData", "Harmful", "Safe"], "Undecided")
    return cast("list[Kind]", first.tolist())


def _harm_is_proven(design: Design, runs: Sequence[Evidence], position: int) -> Flags:
    """Tell for every run whether a metric proved harm by itself, or most of it together with others."""
    bound = math.log(len(design.metrics) / design.false_rollback)
    return np.array([run.metrics[position].peak >= bound or run.blame == position for run in runs])


def _before(runs: Sequence[Evidence], position: int) -> Floats:
    """Return what each proof of a metric had reached before the split was right again: (runs, proofs)."""
    known = [proven_before(run, position) for run in runs]
    nothing = (0.0,) * max(1, *map(len, known))
    return np.array([each or nothing for each in known])


def _log_e_safe(metric: MetricDesign, own: Sequence[MetricEvidence], counts: Ints, before: Floats) -> Floats:
    """Return ln of the e-value against "worse than the margin", per run; ln 0 where nothing tells of it."""
    layout = metric.layout
    if not metric.edges:
        return np.array([each.log_safe for each in own]) - before[:, 0]
    pairs = np.array([each.pairs for each in own], dtype=np.float64)
    dispersion = np.array([each.dispersion for each in own], dtype=np.float64)
    return log_e_pairs(layout, counts, pairs, dispersion, before)
