"""A split that was wrong is right again: its test starts afresh, and safety is proven anew from there.

Once the sequential test of the split (`analysis.srm`) has rejected, a run is Invalid. Harm is still looked
for: within an interval it is compared given how many requests each version had, whatever the split was. But
nothing is promoted until the split is shown to be the intended one again.

**When it is right again.** Of interval i let k_i of n_i requests go to the candidate, whose intended share is
rho_i, and let P_theta be their binomial probability when the odds are theta times the intended ones. Against
each of the tilts d = `BOUNDARY` and 1/d, truth "no tilt" collects

    l_i = ln P_1(k_i) - ln P_d(k_i) = n_i ln(1 - rho_i + d rho_i) - k_i ln d
    C_t = min(1.3 h, max(0, C_{t-1}) + l_t)

(a CUSUM: the evidence since the most telling moment), and the split is right again when both C are at least
h = ln(1/`ALPHA`) at once. With d > 1, exp l_i falls in k_i, and its expectation under P_d is 1. Binomial
probabilities have a monotone likelihood ratio, so a larger tilt moves k_i up, and the expectation under every
tilt >= d is at most 1; for 1/d and the tilts below it likewise. So while a split is wrong by at least d to
one side, one of both is the CUSUM of a process M_s = exp sum_{i>s} l_i with E[M_s] <= 1 from any start s.
Then R_t = (R_{t-1} + 1) exp l_t, the sum over all starts, has E[R_t - t] falling, and exp C_t <= R_t: at the
time T of a false recovery 1/ALPHA <= E[R_T] <= E[T]. So there are at least 1/ALPHA intervals before it on
average, however small they are (Lorden 1971 for independent ones, Shin, Ramdas & Rinaldo 2024 for all). In
practice a wrong split is further off, and hardly ever taken for right.

The cap is for a share that was too large and then is too small. Against "too small" the first part has
collected any amount of evidence, which would count until all of it is used up again. Once the sides have
changed, one C loses on average at least 0.306 of what the other wins, whatever the share and the tilt beyond
the boundary (from the expectations of l; least for a tilt by d itself of a small share or a large one): of
1.3 h it has less than h left when the other has h. That is an average: a split that is wrong by just d to one
side and then to the other may be taken for right more often than one that stays. Under a right split a C
stays within about 1 of its largest value, so that the cap costs no time.

A false recovery promotes nothing by itself: the fresh test of the split goes on and rejects again. So does
that of a split that is wrong by less than d: it is called right, and wrong, in turn. One that is wrong to one
side and to the other in turn, and right on the whole, is called right: the test of the split is made for a
lasting tilt as well. Intervals without requests or with nothing to split say nothing.

**The test of the split** then begins again with its whole alpha: from the moment of recovery, which is a
stopping time, it is the same martingale with E = 1, so that a right split is rejected with probability at
most `srm_alpha` in each segment, and not over the whole run.

**Safety** has to be proven by what came later. For every proof that a margin needs (one per metric, one per
pair of edges for latency) `proven_before` remembers ln E at the recovery (the largest of several; 0 if it was
below), and the proof is complete when ln E less that reaches ln(1/false_promote). E_t / E_tau is the
e-process that begins at tau, its prior over the alternatives being what was learnt until tau; but for the
part of `analysis.overshoot`, which is set for the bound and not for a multiple of it. Whatever that is worth,
E less something is never more than E, so a run is called Safe only where E itself has reached the bound:
`false_promote` needs no further proof.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from analysis import margin
from analysis.packing import pack_exact, unpack_exact
from analysis.srm import cost, is_rejected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.design import Design, Interval, MetricDesign
    from analysis.evidence import Evidence, MetricEvidence

BOUNDARY = 1.2
"""Odds that are off by a fifth: 54.5 % instead of 50 %, 5.9 % instead of 5 %. A weight that did not arrive
is off by far more. Half the distance would take four times the requests to show that all is well."""
ALPHA = 0.01
KEPT = 20
"""So many episodes are remembered, the newest."""
_BOUND = -math.log(ALPHA)
_CAP = 1.3 * _BOUND
_LOG_TILTS = np.array([math.log(BOUNDARY), -math.log(BOUNDARY)])
_NOTHING = 0.0, 0.0


class Episode(NamedTuple):
    """When the split was found to be wrong, and right again: ends of intervals, unix seconds."""

    began: int
    ended: int | None


class Mending(NamedTuple):
    """What is known of a split that was wrong."""

    episodes: tuple[Episode, ...]
    """Oldest first; only the last one may go on."""
    log_right: tuple[float, float]
    """While it is wrong: both CUSUMs, against a share too large and one too small."""
    proven_before: tuple[tuple[float, ...], ...]
    """Per metric and proof, ln of what was proven when the split was right again; 0 if nothing."""

    @property
    def since(self) -> int | None:
        """When the split was last found to be right again; None while it is not."""
        return self.episodes[-1].ended

    @property
    def is_right(self) -> bool:
        """Whether both CUSUMs say that a wrong split is right again."""
        return min(self.log_right) >= _BOUND

    def after(self, interval: Interval) -> Mending:
        """Return what is known after an interval of a split that is not shown to be right yet."""
        steps = zip(self.log_right, _log_ratios(interval), strict=True)
        large, small = (min(_CAP, max(0.0, before) + step) for before, step in steps)
        return self._replace(log_right=(large, small))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        exact = [*self.log_right, *chain.from_iterable(self.proven_before)]
        return {"episodes": [[*each] for each in self.episodes], "exact": pack_exact(*exact)}

    @classmethod
    def from_dict(cls, design: Design, data: Mapping[str, Any]) -> Self:
        """Return what `to_dict` wrote. Raises ValueError when it belongs to another design."""
        counts = [_proofs(metric) for metric in design.metrics]
        large, small, *proofs = unpack_exact(data["exact"], 2 + sum(counts))
        rest = iter(proofs)
        return cls(
            episodes=tuple(Episode(*each) for each in data["episodes"]),
            log_right=(large, small),
            proven_before=tuple(tuple(next(rest) for _ in range(count)) for count in counts),
        )


def known(design: Design, evidence: Evidence) -> Mending | None:
    """Return what is known of the run's split having been wrong, or being so; None if it never was."""
    old = evidence.mending
    if not is_rejected(evidence.srm_peak, design.srm_alpha) or (old is not None and old.since is None):
        return old
    begun = Episode(evidence.end or 0, None)
    if old is None:
        return Mending((begun,), _NOTHING, tuple((0.0,) * _proofs(metric) for metric in design.metrics))
    return old._replace(episodes=(*old.episodes, begun)[-KEPT:], log_right=_NOTHING)


def mended(design: Design, old: Evidence, interval: Interval, new: Evidence) -> Evidence:
    """Return `new`, the evidence after an interval, with what that shows of a split that was wrong before."""
    wrong = known(design, old)
    if wrong is None or wrong.since is not None:
        return new
    state = wrong.after(interval)
    if not state.is_right:
        return replace(new, mending=state)
    proofs = zip(design.metrics, new.metrics, state.proven_before, strict=True)
    restored = state._replace(
        episodes=(*state.episodes[:-1], state.episodes[-1]._replace(ended=interval.end)),
        log_right=_NOTHING,
        proven_before=tuple(tuple(map(max, _log_proofs(m, own), before)) for m, own, before in proofs),
    )
    srm = np.zeros_like(new.srm)
    return replace(new, srm=srm, srm_peak=0.0, requests=(0, 0, 0.0), mending=restored)


def log_e_safe(metric: MetricDesign, own: MetricEvidence, before: Sequence[float] = ()) -> float | None:
    """Return ln of the e-value against "worse than the margin", or None when there is nothing to tell by.

    `before` is what was proven of it before the split was right again (`Mending.proven_before`). For a
    histogram every pair of edges that tells has to pass, tails too (`analysis.margin`).
    """
    if not metric.edges:
        return own.log_safe - (before[0] if before else 0.0) if metric.needs_proof else None
    pairs, dispersion = own.pairs[None].astype(np.float64), own.dispersion[None].astype(np.float64)
    earlier = np.array(before) if before else 0.0
    log_e = float(margin.log_e_safe(metric.layout, own.counts[None], pairs, dispersion, earlier)[0])
    return log_e if math.isfinite(log_e) else None


def proven_before(evidence: Evidence, position: int) -> tuple[float, ...]:
    """Return what a metric had proven before the split was right again; nothing if it was never wrong."""
    return evidence.mending.proven_before[position] if evidence.mending else ()


def _log_ratios(interval: Interval) -> tuple[float, float]:
    """Return ln of the likelihood ratios of "no tilt" against a share too large and one too small."""
    share = interval.intended
    if interval.requests is None or not 0 < share < 1:
        return _NOTHING
    control, candidate = interval.requests
    large, small = ((control + candidate) * cost(share, _LOG_TILTS) - candidate * _LOG_TILTS).tolist()
    return large, small


def _proofs(metric: MetricDesign) -> int:
    """Return how many proofs the margin of a metric needs."""
    return len(metric.layout.pairs) if metric.edges else int(metric.needs_proof)


def _log_proofs(metric: MetricDesign, own: MetricEvidence) -> list[float]:
    """Return ln of what each of these proofs has reached."""
    if not metric.layout.pairs:
        return [own.log_safe] * _proofs(metric)
    pairs, dispersion = own.pairs[None].astype(np.float64), own.dispersion[None].astype(np.float64)
    found: list[float] = margin.log_e_of_pairs(metric.layout, own.counts[None], pairs, dispersion)[0].tolist()
    return found
