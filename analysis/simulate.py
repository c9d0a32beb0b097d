"""Made-up traffic with a known truth: interval tables of many runs at once, repeatable from a seed.

In every interval the requests of a run are Poisson, each goes to the candidate with the share of that moment,
errors are binomial and times are log-normal. The candidate's odds of an error, or its times, are worse by
`Behaviour.effect`. A scenario adds what real traffic does to a judge (docs/statistics.md):

    iid        nothing: requests are independent
    bursts     errors come in clusters of geometric size, 3 on average
    podnoise   the error rate of each arm wanders by itself: exp(AR(1)), sd 0.3, correlation 0.8 over 10 s
    seasonal   the error rate of both arms swings by 60 % in ten minutes
    incident   the error rate of both arms is ten times as high for two minutes, from `onset` on
    late       the candidate is as good as the control until `onset`

Whatever makes errors f times as frequent makes requests f^0.15 times as slow (1.4 times in an incident).
Metrics of one run share its requests; given the rates, their events are drawn independently.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import ndtr

from analysis.design import Interval
from analysis.tables import Arm, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from analysis.design import Design, MetricDesign
    from analysis.hypergeometric import Floats, Ints

Scenario = Literal["iid", "bursts", "podnoise", "seasonal", "incident", "late"]
Harm = Literal["errors", "shift", "tail"]

CLUSTER = 3
"""Mean number of errors in a burst."""
NOISE, CORRELATION, CORRELATION_SECONDS = 0.3, 0.8, 10.0
"""Standard deviation of an arm's log error rate, and how much of it is left after so many seconds."""
SWING, PERIOD = 0.6, 600.0
INCIDENT, INCIDENT_SECONDS = 10.0, 120.0
TAIL_SECONDS = 1.0
"""How much longer a request of the slow tail takes."""
SLOWING = 0.15
"""Times go with this power of what the error rate is multiplied by."""
LARGEST_RATE = 0.95
_PER_SECOND = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6}
_CANDIDATE = 1
_MANY = 400
"""Runs from which a variance is taken."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How both versions behave. Raises ValueError when a number makes no sense.

    `rps`: requests per second in all; `baseline`: the control's share of errors; `median` (seconds) and
    `sigma`: its log-normal times. `effect` is how much worse the candidate is, 1 for not at all; `harm` says
    in what: `errors`, a factor of the odds of an error; `shift`, a factor of all times; `tail`, `effect` - 1
    times `baseline` is the share of requests that take a second longer. `onset`: seconds since the start.
    """

    rps: float = 200.0
    baseline: float = 0.01
    median: float = 0.08
    sigma: float = 0.8
    effect: float = 1.0
    harm: Harm = "errors"
    scenario: Scenario = "iid"
    onset: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.rps, self.baseline, self.median, self.sigma, self.effect, self.onset)
        tail = (self.effect - 1) * self.baseline
        checks = {
            "all numbers must be finite": all(map(math.isfinite, numbers)),
            "there must be more than 0 and at most 1,000,000 requests per second": 0 < self.rps <= 1e6,
            "the baseline must be above 0 and below 50 %": 0 < self.baseline < 0.5,
            "median and sigma of the times must be above 0": self.median > 0 and self.sigma > 0,
            "an effect must be above 0": self.effect > 0,
            "a slow tail needs an effect of at least 1, and has at most all requests": self.harm != "tail"
            or 0 <= tail <= 1,
        }
        for words, holds in checks.items():
            if not holds:
                raise ValueError(words)


class Streams:
    """The traffic of `runs` runs of one design, interval by interval from 0 seconds on.

    The same arguments give the same traffic. Raises ValueError when a histogram of the design is not one of
    times.
    """

    def __init__(self, design: Design, behaviour: Behaviour, runs: int, seed: Sequence[int]) -> None:
        for metric in design.metrics:
            if metric.kind == "histogram" and metric.unit not in _PER_SECOND:
                raise ValueError(f"metric {metric.name}: only histograms of times can be simulated")
        self._design, self._behaviour, self._runs = design, behaviour, runs
        self._dice = np.random.default_rng(list(seed))
        self._time = 0.0
        self._wander = self._dice.standard_normal((2, runs))
        self._phase = self._dice.uniform(0, 2 * math.pi, runs)

    def draw(self, share: Floats, seconds: float, end: int) -> list[Interval]:
        """Return the next interval of every run, `seconds` long and labelled as ending at `end`.

        `share`: (runs,), the candidate's share of the requests.
        """
        requests, events = self.counts(share, seconds)
        rows = zip(*(table.tolist() for table in events), strict=True)
        return [
            Interval(end, wanted, self._tables(end, split, row), (split[0], split[1]))
            for wanted, split, row in zip(share.tolist(), requests.tolist(), rows, strict=True)
        ]

    def counts(self, share: Floats, seconds: float) -> tuple[Ints, list[Ints]]:
        """Return the same as arrays: requests (runs, 2), and per metric its events (runs, 2, lanes)."""
        total = self._dice.poisson(self._behaviour.rps * seconds, self._runs)
        candidate = self._dice.binomial(total, share)
        requests = np.stack([total - candidate, candidate])
        trouble, effect = self._trouble(seconds), self._effect(seconds)
        events = [self._events(metric, requests, trouble, effect) for metric in self._design.metrics]
        self._time += seconds
        return requests.T, events

    def _tables(
        self, end: int, requests: list[int], events: Iterable[list[list[int]]]
    ) -> dict[str, Table | None]:
        return {
            metric.name: Table(end, *(Arm(n, tuple(k)) for n, k in zip(requests, arms, strict=True)))
            for metric, arms in zip(self._design.metrics, events, strict=True)
        }

    def _trouble(self, seconds: float) -> Floats:
        """Return what error rates are multiplied by in this interval, (2, runs)."""
        factor = np.ones((2, self._runs))
        match self._behaviour.scenario:
            case "seasonal":
                middle = self._time + seconds / 2
                factor *= 1 + SWING * np.sin(2 * math.pi * middle / PERIOD + self._phase)
            case "incident":
                factor *= 1 + (INCIDENT - 1) * self._overlap(seconds, INCIDENT_SECONDS)
            case "podnoise":
                factor *= np.exp(NOISE * self._wander - NOISE**2 / 2)
                kept = CORRELATION ** (seconds / CORRELATION_SECONDS)
                fresh = self._dice.standard_normal((2, self._runs))
                self._wander = kept * self._wander + math.sqrt(1 - kept**2) * fresh
        return factor

    def _effect(self, seconds: float) -> float:
        """Return the effect in this interval; in the one in which it begins, its average."""
        late = self._behaviour.scenario == "late"
        return 1 + (self._behaviour.effect - 1) * (self._overlap(seconds, math.inf) if late else 1.0)

    def _overlap(self, seconds: float, length: float) -> float:
        """Return the part of this interval that lies within `length` seconds from the onset on."""
        begin, end = self._behaviour.onset, self._behaviour.onset + length
        return max(0.0, min(end, self._time + seconds) - max(begin, self._time)) / seconds

    def _events(self, metric: MetricDesign, requests: Ints, trouble: Floats, effect: float) -> Ints:
        """Return the events of one metric, (runs, 2, lanes)."""
        if metric.kind == "histogram":
            return self._slow(metric, requests, trouble, effect)
        rate = np.minimum(self._behaviour.baseline * trouble, LARGEST_RATE)
        if self._behaviour.harm == "errors":
            odds = effect * rate[_CANDIDATE] / (1 - rate[_CANDIDATE])
            rate[_CANDIDATE] = odds / (1 + odds)
        if self._behaviour.scenario == "bursts":
            return self._bursts(requests, rate).T[..., None]
        return self._dice.binomial(requests, rate).T[..., None]

    def _bursts(self, requests: Ints, rate: Floats) -> Ints:
        """Return errors in clusters with the same mean as without; never more than requests."""
        clusters = self._dice.binomial(requests, rate / CLUSTER)
        more = self._dice.negative_binomial(np.maximum(clusters, 1), 1 / CLUSTER)
        return np.minimum(clusters + np.where(clusters > 0, more, 0), requests)

    def _slow(self, metric: MetricDesign, requests: Ints, trouble: Floats, effect: float) -> Ints:
        """Return the requests slower than each edge, (runs, 2, edges)."""
        above = self._share_above(metric, trouble, effect)
        bins = np.concatenate([1 - above[:1], above[:-1] - above[1:], above[-1:]])
        counts = self._dice.multinomial(requests.T, np.maximum(bins, 0.0).T)
        return counts[..., ::-1].cumsum(axis=-1)[..., -2::-1]

    def _share_above(self, metric: MetricDesign, trouble: Floats, effect: float) -> Floats:
        """Return the share of requests slower than each edge, (edges, 2, runs)."""
        edges = np.array(metric.edges)[:, None, None] / _PER_SECOND[metric.unit]
        median = self._behaviour.median * trouble**SLOWING
        if self._behaviour.harm == "shift":
            median[_CANDIDATE] *= effect
        above = self._tail(edges, median)
        if self._behaviour.harm == "tail":
            share = (effect - 1) * self._behaviour.baseline
            delayed = self._tail(edges - TAIL_SECONDS, median)[:, _CANDIDATE]
            above[:, _CANDIDATE] += share * (delayed - above[:, _CANDIDATE])
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
    such traffic asks for.
    """
    streams = Streams(design, replace(behaviour, effect=1.0), _MANY, (0,))
    sums = [np.zeros((2, _MANY, metric.layout.lanes)) for metric in design.metrics]
    for _ in range(looks):
        requests, events = streams.counts(np.full(_MANY, share), seconds)
        sums = [old + _excess(requests, table) for old, table in zip(sums, events, strict=True)]
    return [float(_ratio((excess**2).mean(axis=0), variance.mean(axis=0)).max()) for excess, variance in sums]


def _excess(requests: Ints, events: Ints) -> Floats:
    """Return the candidate's events less the expected ones, and the variance: (2, runs, lanes)."""
    n_b, n_c = requests.astype(float).T[..., None]
    every, n = events.sum(axis=1), np.maximum(n_b + n_c, 2.0)
    variance = n_c * n_b * every * (n - every) / (n**2 * (n - 1))
    return np.stack([events[:, 1] - n_c * every / n, variance])


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.ones_like(above), where=below > 0)
