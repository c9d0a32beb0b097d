"""What is known of many runs beside their metrics, and what is concluded of them, as arrays over the runs.

The same as `analysis.judge` and `analysis.glance` do run by run, where all metrics have the same layouts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.eprocess import e_value
from analysis.evidence import NEVER, Evidence
from analysis.guardrail import Terms, larger
from analysis.kinds import first_of
from analysis.srm import LOG_TILTS, Split, log_evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analysis.design import Design, Layout
    from analysis.evidence import Kept, MetricEvidence, Singles
    from analysis.glance import SeenMetric
    from analysis.hypergeometric import Floats, Ints
    from analysis.overshoot import Flags
    from analysis.verdict import Kind


class Fixed(NamedTuple):
    """What is fixed of a member."""

    design: Design
    intended: float
    dispersion: Sequence[tuple[float, ...]]
    """Per metric, of each lane."""


class Rules(NamedTuple):
    """What is fixed of all members, as arrays over them."""

    metrics: Sequence[Terms]
    split: Split
    planned: list[int]
    harm: Floats
    """What ln E of the run has to reach."""
    srm: Floats
    """What E of the split has to reach."""
    min_samples: Ints
    proof: Flags
    """(metrics, runs): whether promotion needs the proof of its margin."""

    @classmethod
    def of(cls, layouts: Sequence[Layout], members: Sequence[Fixed]) -> Rules:
        """Return the rules of some runs."""
        designs = [member.design for member in members]
        proof = [[design.metrics[m].needs_proof for design in designs] for m in range(len(layouts))]
        return cls(
            metrics=[
                Terms.of(layout, designs, [member.dispersion[position] for member in members])
                for position, layout in enumerate(layouts)
            ],
            split=Split.of(np.array([member.intended for member in members], dtype=np.float64)),
            planned=[design.planned_looks for design in designs],
            harm=np.array([-math.log(design.false_rollback) for design in designs]),
            srm=np.array([1 / design.srm_alpha for design in designs]),
            min_samples=np.array([design.min_samples for design in designs], dtype=np.int64),
            proof=np.array(proof, dtype=np.bool_),
        )


class Runs(NamedTuple):
    """What `Evidence` has beside its metrics, as arrays over the runs."""

    srm: Singles
    requests: Ints
    expected: Floats
    looks: Ints
    end: Ints
    """`NEVER` stands for None."""
    log_e: Floats
    peak: Floats
    srm_peak: Floats
    crossed_at: Ints
    """`NEVER` stands for None."""
    blame: Ints
    """-1 stands for None."""

    @classmethod
    def of(cls, known: Sequence[Evidence]) -> Runs:
        """Return the arrays of some runs."""

        def never(times: Sequence[int | None]) -> Ints:
            return np.array([NEVER if time is None else time for time in times], dtype=np.int64)

        return cls(
            srm=np.array([each.srm for each in known], dtype=np.float32).reshape(-1, LOG_TILTS.size),
            requests=np.array([each.requests[:2] for each in known], dtype=np.int64).reshape(-1, 2),
            expected=np.array([each.requests[2] for each in known], dtype=np.float64),
            looks=np.array([each.looks for each in known], dtype=np.int64),
            end=never([each.end for each in known]),
            log_e=np.array([each.log_e for each in known], dtype=np.float64),
            peak=np.array([each.peak for each in known], dtype=np.float64),
            srm_peak=np.array([each.srm_peak for each in known], dtype=np.float64),
            crossed_at=never([each.crossed_at for each in known]),
            blame=np.array([-1 if each.blame is None else each.blame for each in known], dtype=np.int64),
        )

    def cut(self, metrics: Sequence[tuple[MetricEvidence, ...]]) -> list[Evidence]:
        """Return the evidence of each run, with that of its metrics."""
        numbers = zip(*(column.tolist() for column in self[1:]), strict=True)
        return [
            Evidence(
                metrics=own,
                srm=srm.copy(),
                requests=(*requests, expected),
                looks=looks,
                end=None if end == NEVER else end,
                log_e=log_e,
                peak=peak,
                srm_peak=srm_peak,
                crossed_at=None if crossed_at == NEVER else crossed_at,
                blame=None if blame < 0 else blame,
            )
            for own, srm, (requests, expected, looks, end, log_e, peak, srm_peak, crossed_at, blame) in zip(
                metrics, self.srm, numbers, strict=True
            )
        ]


def advance_runs(old: Runs, rules: Rules, requests: Ints, end: int, log_e_metrics: Floats) -> Runs:
    """Return what is known of the runs after an interval; `log_e_metrics` is (metrics, runs)."""
    control, candidate = requests.astype(np.float64).T
    sums = old.srm.astype(np.float64) + rules.split.log_increments(control, candidate)
    share = rules.split.share
    tested = np.where(((share > 0) & (share < 1))[:, None], requests, 0)
    log_e = _log_mean(log_e_metrics)
    crosses = (old.crossed_at == NEVER) & (log_e >= rules.harm)
    return Runs(
        srm=sums.astype(np.float32),
        requests=old.requests + tested,
        expected=old.expected + tested.sum(axis=1) * share,
        looks=old.looks + 1,
        end=np.full(len(log_e), end),
        log_e=log_e,
        peak=larger(old.peak, log_e),
        srm_peak=larger(old.srm_peak, log_evidence(sums)),
        crossed_at=np.where(crosses, end, old.crossed_at),
        blame=np.where(crosses, log_e_metrics.argmax(axis=0), old.blame),
    )


def _log_mean(log_e: Floats) -> Floats:
    """Return ln of the average over the metrics, of each run: with the functions that `judge` has it from.

    Those of numpy differ from them in the last bit.
    """
    top = log_e.max(axis=0)
    total = sum(_each(math.exp, log_e - top), np.zeros(len(top)))
    return np.asarray(top + _each(math.log, total / len(log_e)))


def _each(function: Callable[[float], float], values: Floats) -> Floats:
    return np.array([*map(function, values.ravel().tolist())]).reshape(values.shape)


def kinds(rules: Rules, runs: Runs, kept: Sequence[Kept], metrics: Sequence[SeenMetric]) -> list[Kind]:
    """Return what `analysis.glance` concludes of each run."""
    fewest = np.stack([metric.fewest for metric in metrics])
    judged = (fewest > 0) & (fewest >= rules.min_samples)
    bounds = [(terms.harm.bound, terms.safe.bound) for terms in rules.metrics]
    harm = [each.peak >= bound for each, (bound, _) in zip(kept, bounds, strict=True)]
    proven = [each.log_e_safe >= bound for each, (_, bound) in zip(metrics, bounds, strict=True)]
    blamed = runs.blame == np.arange(len(metrics))[:, None]
    return first_of(
        _each(e_value, runs.srm_peak) >= rules.srm,
        (fewest == 0).all(axis=0),
        (judged & (np.array(harm) | blamed)).any(axis=0),
        rules.proof.any(axis=0) & (~rules.proof | (judged & np.array(proven))).all(axis=0),
    )
