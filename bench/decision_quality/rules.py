"""The rules, and when each of them stops every run of a case: the number of the look, infinite for never.

What the rules other than Penstock's lack is said in their modules, `analysis.engines`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.engines.dkw import slower
from analysis.engines.engine import Rates
from analysis.engines.kayenta import QUANTILE, is_high, mean_ratio, shift_at
from analysis.engines.mann_whitney import LEAST_POINTS
from analysis.engines.oracle import OracleSprt
from analysis.engines.registry import engines
from analysis.simulate import Behaviour
from bench.decision_quality import traffic
from bench.decision_quality.cases import ALPHA
from bench.decision_quality.penstock import Found, design, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.engines.engine import Engine, Flags
    from analysis.hypergeometric import Floats, Ints
    from bench.decision_quality.cases import Case

PENSTOCK, ORACLE, KAYENTA = "Penstock", "oracle SPRT, knowing the harm", "Kayenta's judge at every look"
ASSUMED = f"{PENSTOCK}, dispersion 1 assumed"
_CALIBRATED = PENSTOCK + ", calibrated from {}"
CALIBRATED = _CALIBRATED.format("6 h")
_RATES = Rates(ALPHA, ALPHA)
_RULES: dict[str, Engine] = {
    "threshold 1 %, 5 failed checks": engines["threshold"],
    "threshold 1 %, 5 in a row": engines["thresholdInARow"],
    "z-test at every look": engines["fixedHorizonZ"],
    "Lindon-Malek": engines["lindonMalek"],
    "Turner": engines["turner"],
    "robust differences": engines["robustDifferences"],
}
_FAILED_CHECKS, _SLOWER = 5, 1.25
_QUANTILES = (0.5, 0.95, 0.99)


class Stops(NamedTuple):
    """By rule: the look at which each run was stopped, and the dispersion found for it.

    Slow rules have seen the first runs only.
    """

    looks: dict[str, Floats]
    dispersions: dict[str, Floats]


def stops(case: Case, runs: int, seed: Sequence[int], few: int) -> Stops:
    """Return when the rules stop `runs` runs of a case; Kayenta's judge, which is slow, sees the first `few`.

    The same seed gives the same runs; its first number is that of the whole benchmark.
    """
    if not isinstance(case.traffic, Behaviour):
        return _latency(case, traffic.latency(case, case.traffic, runs, seed).tables, seed[0], few)
    drawn = traffic.errors(case, case.traffic, runs, seed)
    if case.margin is not None:
        return Stops({PENSTOCK: _promoted(case, judge(design(case), drawn.tables, case.share))}, {})
    tables = drawn.tables.reshape(case.looks, runs, 4)
    others = _others(tables, few)
    if case.measure == "detection":
        others[ORACLE] = _oracle(tables, case.onset, case.traffic.effect)
    if not case.calibrated:
        return Stops({PENSTOCK: judge(design(case), drawn.tables, case.share).harmful, **others}, {})
    own = {ASSUMED: np.ones(runs), **_sizes(drawn.dispersions, runs)}
    found = _judge_all(case, drawn.tables, own)
    return Stops({**found, **others}, {name: phi for name, phi in own.items() if name != ASSUMED})


def _others(tables: Ints, few: int) -> dict[str, Floats]:
    """Return when the other rules for errors stop."""
    looks = {name: first(rule.looks(tables, _RATES).harmful) for name, rule in _RULES.items()}
    if few:
        looks[KAYENTA] = first(engines["mannWhitney"].looks(tables[:, :few], _RATES).harmful)
    return looks


def _oracle(tables: Ints, onset: int, effect: float) -> Floats:
    """Return when the oracle stops, which begins to look when harm begins."""
    return onset + first(OracleSprt(effect).looks(tables[onset:], _RATES).harmful)


def first(fired: Flags) -> Floats:
    """Return the number of the first look at which each run fires, of (looks, runs); infinite for never."""
    return np.where(fired.any(axis=0), fired.argmax(axis=0) + 1.0, np.inf)


def _promoted(case: Case, found: Found) -> Floats:
    """Return when runs are promoted. At the margin a proof counts even where harm was proven before."""
    if case.measure == "false promotion":
        return found.safe
    return np.where(found.safe < found.harmful, found.safe, np.inf)


def _sizes(dispersions: dict[str, Floats], runs: int) -> dict[str, Floats]:
    """Return the dispersions by rule; without a goal, with a short history, a fifth of the runs will do."""
    return {
        name: phi if name == CALIBRATED else phi[: max(1, runs // 5)]
        for name, phi in ((_CALIBRATED.format(length), phi) for length, phi in dispersions.items())
    }


def _judge_all(case: Case, tables: Ints, ways: dict[str, Floats]) -> dict[str, Floats]:
    """Return when Penstock stops each run with the dispersions of each way.

    Often two ways lead to the same dispersion; then the run is judged once.
    """
    once = sorted({pair for way in ways.values() for pair in enumerate(way.tolist())})
    runs, dispersion = np.array(once).T
    harmful = judge(design(case), tables[:, runs.astype(np.int64)], case.share, dispersion).harmful
    found = dict(zip(once, harmful.tolist(), strict=True))
    return {name: np.array([found[pair] for pair in enumerate(way.tolist())]) for name, way in ways.items()}


def _latency(case: Case, tables: Ints, seed: int, few: int) -> Stops:
    """Return when the rules for times stop; what they have to know of the past comes from one history."""
    past = _past(seed)
    judged = traffic.registered(past)
    own = tables[..., [0, *(1 + edge for edge in judged)]]
    plan = design(case, tuple(float(traffic.EDGES[edge]) for edge in judged))
    limit = _SLOWER * float(quantile(past, 0.99))
    failed = quantile(tables[..., 1, :], 0.99) > limit
    looks = {
        PENSTOCK: judge(plan, own, case.share).harmful,
        "DKW bands, half of alpha per arm": first(slower(tables, ALPHA)),
        "threshold p99 +25 %, 5 failed checks": first(failed.cumsum(axis=0) >= _FAILED_CHECKS),
    }
    if few:
        looks[KAYENTA] = np.min([_kayenta(tables[:, :few], share) for share in _QUANTILES], axis=0)
    return Stops(looks, {})


@lru_cache
def _past(seed: int) -> Ints:
    return traffic.history(seed)


def quantile(counts: Ints, share: float) -> Floats:
    """Return a quantile of times as Prometheus' `histogram_quantile` does: linear within a bucket.

    `counts` is (.., 1 + edges): requests, then those slower than each edge. Beyond the last edge it is that
    edge; without requests it is the first.
    """
    below = counts[..., :1] - counts[..., 1:]
    below = np.concatenate([np.zeros_like(below[..., :1]), below], axis=-1)
    rank = share * counts[..., :1]
    at = np.clip((below < rank).sum(axis=-1, keepdims=True), 1, len(traffic.EDGES))
    low, high = (np.take_along_axis(below, at - back, axis=-1) for back in (1, 0))
    edges = np.array([0, *traffic.EDGES], dtype=np.float64)
    part = np.clip((rank - low) / np.maximum(high - low, 1), 0.0, 1.0)
    return np.asarray((edges[at - 1] + part * (edges[at] - edges[at - 1]))[..., 0])


def _kayenta(tables: Ints, share: float) -> Floats:
    """Return when Kayenta's judge says High of one quantile per look, as `analysis.engines.mann_whitney`."""
    control, candidate = (quantile(tables[..., arm, :], share).T for arm in (0, 1))
    found = np.full(len(control), np.inf)
    for look in range(LEAST_POINTS, control.shape[1] + 1):
        rows = np.flatnonzero(np.isinf(found))
        x, y = candidate[rows, :look], control[rows, :look]
        high = is_high(shift_at(x, y, QUANTILE), shift_at(x, y, 0.0), mean_ratio(x, y))
        found[rows[high]] = look
    return found
