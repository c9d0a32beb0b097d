"""Made-up traffic with a known truth: interval tables of many runs at once, repeatable from a seed.

In every interval the requests of a run are Poisson, each goes to the candidate with the share of that moment
and to one of its version's pods, errors are binomial and times are log-normal. The candidate's odds of an
error, or its times, are worse by `Behaviour.effect`. The values of a mean are gamma-distributed, with mean
and variance of those times, and as much worse as times are; where higher is better, by (effect - 1) of the
mean. What is counted of a proportion for which higher is better are the requests without an error. A scenario
adds what real traffic does to a judge (docs/statistics.md):

    iid                nothing: requests are independent
    bursts             errors come in clusters of geometric size, 3 on average
    betabinomial       each pod's errors of an interval vary `phi` times as much as independent ones
    podnoise           the error rate of each pod wanders by itself: exp(AR(1)), sd `noise`, `correlation`
                       over 10 s; with one pod per version it is the version's own
    seasonal           the error rate of all pods swings by 60 % in ten minutes
    incident           the error rate of all pods is ten times as high for two minutes, from `onset` on
    seasonal+incident  both
    late               the candidate is as good as the control until `onset`
    ramp               the effect grows evenly, from none at the start to all of it at `onset`

Whatever makes errors f times as frequent makes requests f^0.15 times as slow (1.4 times in an incident).
Metrics of one run share its requests; given the rates, their events are drawn independently.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.special import ndtr

from analysis.design import Interval
from analysis.draws import beta_binomial, bursts, exceedances, split
from analysis.tables import Arm, MeanArm, MeanTable, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from analysis.design import Design, MetricDesign
    from analysis.hypergeometric import Floats, Ints

Scenario = Literal[
    "iid", "bursts", "betabinomial", "podnoise", "seasonal", "incident", "seasonal+incident", "late", "ramp"
]
Harm = Literal["errors", "shift", "tail"]

CLUSTER = 3
"""Mean number of errors in a burst."""
CORRELATION_SECONDS = 10.0
"""After so many seconds `Behaviour.correlation` is left of a pod's noise."""
SWING, PERIOD = 0.6, 600.0
INCIDENT, INCIDENT_SECONDS = 10.0, 120.0
TAIL_SECONDS = 1.0
"""How much longer a request of the slow tail takes."""
SLOWING = 0.15
"""Times go with this power of what the error rate is multiplied by."""
LARGEST_RATE = 0.95
_PER_SECOND = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6}
_MANY = 400
"""Runs from which a variance is taken."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How both versions behave. Raises ValueError when a number makes no sense.

    `rps`: requests per second in all; `baseline`: the control's share of errors; `median` (seconds) and
    `sigma`: its log-normal times. `effect` is how much worse the candidate is, 1 for not at all; `harm` says
    in what: `errors`, a factor of the odds of an error; `shift`, a factor of all times and values; `tail`,
    `effect` - 1 times `baseline` is the share of requests that take a second longer (values of means do not).
    `onset`: seconds since the start. `noise` is the standard deviation of a pod's log error rate,
    `correlation` what is left of it after 10 s, `phi` the dispersion of beta-binomial errors, `pods` how many
    control and candidate have.
    """

    rps: float = 200.0
    baseline: float = 0.01
    median: float = 0.08
    sigma: float = 0.8
    effect: float = 1.0
    harm: Harm = "errors"
    scenario: Scenario = "iid"
    onset: float = 0.0
    noise: float = 0.3
    correlation: float = 0.8
    phi: float = 4.0
    pods: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        numbers = (self.rps, self.baseline, self.median, self.sigma, self.effect, self.onset, self.noise)
        tail = (self.effect - 1) * self.baseline
        checks = {
            "all numbers must be finite": all(map(math.isfinite, numbers)),
            "there must be more than 0 and at most 1,000,000 requests per second": 0 < self.rps <= 1e6,
            "the baseline must be above 0 and below 50 %": 0 < self.baseline < 0.5,
            "median and sigma of the times must be above 0": self.median > 0 and self.sigma > 0,
            "an effect must be above 0": self.effect > 0,
            "a slow tail needs an effect of at least 1, and has at most all requests": self.harm != "tail"
            or 0 <= tail <= 1,
            "the onset must be at least 0": self.onset >= 0,
            "noise must be from 0 to 5 and its correlation at least 0 and below 1": 0 <= self.noise <= 5
            and 0 <= self.correlation < 1,
            "phi must be from 1 to 1000": 1 <= self.phi <= 1000,
            "each version must have 1 to 1000 pods": all(1 <= pods <= 1000 for pods in self.pods),
        }
        for words, holds in checks.items():
            if not holds:
                raise ValueError(words)


class Streams:
    """The traffic of `runs` runs of one design, interval by interval from 0 seconds on.

    The series of a run are the control's pods, then the candidate's; the pods of a version have equal shares
    of its requests. The same arguments give the same traffic. Raises ValueError when a histogram of the
    design is not one of times.
    """

    def __init__(self, design: Design, behaviour: Behaviour, runs: int, seed: Sequence[int]) -> None:
        for metric in design.metrics:
            if metric.kind == "histogram" and metric.unit not in _PER_SECOND:
                raise ValueError(f"metric {metric.name}: only histograms of times can be simulated")
        self._design, self._behaviour, self._runs = design, behaviour, runs
        self._dice = np.random.default_rng(list(seed))
        self._time = 0.0
        self._wander = self._dice.standard_normal((sum(behaviour.pods), runs))
        self._phase = self._dice.uniform(0, 2 * math.pi, runs)

    def draw(self, share: Floats, seconds: float, end: int) -> list[Interval]:
        """Return the next interval of every run, `seconds` long and labelled as ending at `end`.

        `share`: (runs,), the candidate's share of the requests.
        """
        requests, events = self.counts(share, seconds)
        rows = zip(*(table.tolist() for table in events), strict=True)
        return [
            Interval(end, wanted, self._tables(end, each, row), (each[0], each[1]))
            for wanted, each, row in zip(share.tolist(), requests.tolist(), rows, strict=True)
        ]

    def counts(self, share: Floats, seconds: float) -> tuple[Ints, list[Ints | Floats]]:
        """Return the same as arrays: requests (runs, 2), and per metric its events (runs, 2, lanes).

        Of a mean the sums of its values, (runs, 2, 1).
        """
        requests, events = self.series_counts(share, seconds)
        firsts = [0, self._behaviour.pods[0]]
        return np.add.reduceat(requests, firsts, axis=1), [
            np.add.reduceat(table, firsts, axis=1) for table in events
        ]

    def series_counts(self, share: Floats, seconds: float) -> tuple[Ints, list[Ints | Floats]]:
        """Return the same pod by pod: requests (runs, series), and per metric (runs, series, lanes)."""
        total = self._dice.poisson(self._behaviour.rps * seconds, self._runs)
        candidate = self._dice.binomial(total, share)
        arms = zip((total - candidate, candidate), self._behaviour.pods, strict=True)
        requests = np.concatenate([split(self._dice, arm, [1 / pods] * pods) for arm, pods in arms])
        harmed = slice(self._behaviour.pods[0], None)
        trouble, self._wander = self._trouble(seconds, self._wander)
        events = self._all_events(requests, trouble, harmed, self._effect(seconds))
        self._time += seconds
        return requests.T, events

    def history(
        self, seconds: float, step: float, shares: Sequence[float] = ()
    ) -> tuple[Ints, list[Ints | Floats]]:
        """Return what the control did by itself before the run, in whole intervals of `step` seconds.

        Totals (runs, intervals, series), and per metric its events (runs, intervals, series, lanes). The
        series are the control's pods, whose noise goes on into the run; or, given `shares`, that many series
        with these shares of the requests, each as noisy as a pod: with the shares of control and candidate
        they are two placebo arms. Call it before the first interval is drawn; else ValueError.
        """
        if self._time > 0:
            raise ValueError("the history comes before the run")
        pods, looks = self._behaviour.pods[0], int(seconds / step)
        self._time = -looks * step
        wander = self._dice.standard_normal((len(shares), self._runs)) if shares else self._wander[:pods]
        totals, events = [], []
        for _ in range(looks):
            every = self._dice.poisson(self._behaviour.rps * step, self._runs)
            requests = split(self._dice, every, shares or [1 / pods] * pods)
            trouble, wander = self._trouble(step, wander)
            totals.append(requests.T)
            events.append(self._all_events(requests, trouble, slice(0, 0), 1.0))
            self._time += step
        if not shares:
            self._wander[:pods] = wander
        self._time = 0.0
        return np.stack(totals, axis=1), [np.stack(metric, axis=1) for metric in zip(*events, strict=True)]

    def _tables(
        self, end: int, requests: list[int], events: Iterable[list[list[Any]]]
    ) -> dict[str, Table | MeanTable | None]:
        return {
            metric.name: MeanTable(end, *(MeanArm(n, k) for n, (k,) in zip(requests, arms, strict=True)))
            if metric.kind == "mean"
            else Table(end, *(Arm(n, tuple(k)) for n, k in zip(requests, arms, strict=True)))
            for metric, arms in zip(self._design.metrics, events, strict=True)
        }

    def _trouble(self, seconds: float, wander: Floats) -> tuple[Floats, Floats]:
        """Return what error rates are multiplied by in this interval, (series, runs), and the next noise."""
        factor, kind = np.ones(wander.shape), self._behaviour.scenario
        if kind in {"seasonal", "seasonal+incident"}:
            middle = self._time + seconds / 2
            factor *= 1 + SWING * np.sin(2 * math.pi * middle / PERIOD + self._phase)
        if kind in {"incident", "seasonal+incident"}:
            factor *= 1 + (INCIDENT - 1) * self._overlap(seconds, INCIDENT_SECONDS)
        if kind == "podnoise":
            noise = self._behaviour.noise
            factor *= np.exp(noise * wander - noise**2 / 2)
            kept = self._behaviour.correlation ** (seconds / CORRELATION_SECONDS)
            fresh = self._dice.standard_normal(wander.shape)
            wander = kept * wander + math.sqrt(1 - kept**2) * fresh
        return factor, wander

    def _effect(self, seconds: float) -> float:
        """Return the effect in this interval; while it changes, its average."""
        reached = {"late": self._overlap(seconds, math.inf), "ramp": self._climbed(seconds)}
        return 1 + (self._behaviour.effect - 1) * reached.get(self._behaviour.scenario, 1.0)

    def _climbed(self, seconds: float) -> float:
        """Return the average of min(1, time / onset) over this interval."""
        onset, begin, end = self._behaviour.onset, self._time, self._time + seconds
        if begin >= onset:
            return 1.0
        until = min(end, onset)
        return ((until**2 - begin**2) / (2 * onset) + end - until) / seconds

    def _overlap(self, seconds: float, length: float) -> float:
        """Return the part of this interval that lies within `length` seconds from the onset on."""
        begin, end = self._behaviour.onset, self._behaviour.onset + length
        return max(0.0, min(end, self._time + seconds) - max(begin, self._time)) / seconds

    def _all_events(
        self, requests: Ints, trouble: Floats, harmed: slice, effect: float
    ) -> list[Ints | Floats]:
        """Return per metric its events, (runs, series, lanes); `harmed` are the candidate's series."""
        return [self._events(metric, requests, trouble, harmed, effect) for metric in self._design.metrics]

    def _events(
        self, metric: MetricDesign, requests: Ints, trouble: Floats, harmed: slice, effect: float
    ) -> Ints | Floats:
        """Return one metric's events, or the sums of its values: (runs, series, lanes)."""
        if metric.kind == "histogram":
            return exceedances(self._dice, requests, self._share_above(metric, trouble, harmed, effect))
        if metric.kind == "mean":
            return self._sums(metric, requests, trouble, harmed, effect).T[..., None]
        errors = self._errors(requests, trouble, harmed, effect)
        return (requests - errors if metric.higher_is_better else errors).T[..., None]

    def _sums(
        self, metric: MetricDesign, requests: Ints, trouble: Floats, harmed: slice, effect: float
    ) -> Floats:
        """Return what the values of a mean add up to, (series, runs): sums of gammas are gamma."""
        sigma = self._behaviour.sigma
        shape = 1 / math.expm1(sigma**2)
        level = self._behaviour.median * math.exp(sigma**2 / 2) * _PER_SECOND.get(metric.unit, 1.0)
        values = level * trouble ** (-SLOWING if metric.higher_is_better else SLOWING)
        if self._behaviour.harm == "shift":
            values[harmed] *= max(0.0, 2 - effect) if metric.higher_is_better else effect
        return np.asarray(self._dice.gamma(shape * requests, values / shape))

    def _errors(self, requests: Ints, trouble: Floats, harmed: slice, effect: float) -> Ints:
        """Return the errors of one metric, (series, runs)."""
        rate = np.minimum(self._behaviour.baseline * trouble, LARGEST_RATE)
        if self._behaviour.harm == "errors":
            odds = effect * rate[harmed] / (1 - rate[harmed])
            rate[harmed] = odds / (1 + odds)
        match self._behaviour.scenario:
            case "bursts":
                return bursts(self._dice, requests, rate, CLUSTER)
            case "betabinomial":
                return beta_binomial(self._dice, requests, rate, self._behaviour.phi)
        return np.asarray(self._dice.binomial(requests, rate))

    def _share_above(self, metric: MetricDesign, trouble: Floats, harmed: slice, effect: float) -> Floats:
        """Return the share of requests slower than each edge, (edges, series, runs)."""
        edges = np.array(metric.edges)[:, None, None] / _PER_SECOND[metric.unit]
        median = self._behaviour.median * trouble**SLOWING
        if self._behaviour.harm == "shift":
            median[harmed] *= effect
        above = self._tail(edges, median)
        if self._behaviour.harm == "tail":
            share = (effect - 1) * self._behaviour.baseline
            delayed = self._tail(edges - TAIL_SECONDS, median)[:, harmed]
            above[:, harmed] += share * (delayed - above[:, harmed])
        return above

    def _tail(self, edges: Floats, median: Floats) -> Floats:
        """Return the share of log-normal times above the edges (seconds); all are above 0 and below."""
        log_edges = np.log(np.maximum(edges, 1e-300))
        return np.asarray(ndtr((np.log(median) - log_edges) / self._behaviour.sigma))


def clustering(
    design: Design, behaviour: Behaviour, *, share: float, seconds: float, looks: int
) -> list[float]:
    """Return per metric how many times as much its counts vary as those of independent requests would.

    Of runs with an identical candidate: the candidate's events less those that the margins of the tables let
    expect, summed over the looks (noise may last), squared, over the variance of that sum (the terms of the
    Cochran-Mantel-Haenszel statistic); the largest of a histogram's edges. It is about the dispersion that
    such traffic asks for. For a mean it is 1: what it varies is measured from interval to interval.
    """
    streams = Streams(design, replace(behaviour, effect=1.0), _MANY, (0,))
    sums = [np.zeros((2, _MANY, metric.layout.lanes)) for metric in design.metrics]
    means = [metric.kind == "mean" for metric in design.metrics]
    for _ in range(looks):
        requests, events = streams.counts(np.full(_MANY, share), seconds)
        sums = [
            old if mean else old + _excess(requests, table)
            for old, table, mean in zip(sums, events, means, strict=True)
        ]
    return [float(_ratio((excess**2).mean(axis=0), variance.mean(axis=0)).max()) for excess, variance in sums]


def _excess(requests: Ints, events: Ints | Floats) -> Floats:
    """Return the candidate's events less the expected ones, and the variance: (2, runs, lanes)."""
    n_b, n_c = requests.astype(float).T[..., None]
    every, n = events.sum(axis=1), np.maximum(n_b + n_c, 2.0)
    variance = n_c * n_b * every * (n - every) / (n**2 * (n - 1))
    return np.stack([events[:, 1] - n_c * every / n, variance])


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.ones_like(above), where=below > 0)
