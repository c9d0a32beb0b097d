"""Pictures over kinds of traffic: dispersion, the size of the harm, and the edges of a latency."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import ndtr

from analysis.draws import exceedances
from analysis.engines.engine import Rates
from analysis.engines.oracle import OracleSprt
from analysis.eprocess import log_sum_exp
from analysis.judge import Design, Interval, MetricDesign, advance, fresh
from analysis.quantiles import quantile_intervals
from analysis.simulate import Behaviour
from analysis.stakes import START
from analysis.tables import Arm, Table
from bench.pictures.damage import PODS
from bench.pictures.frame import Marked, Panel, picture
from bench.pictures.laboratory import ALPHA, LOOKS, SHARE, counts, first, judge, measured, seconds, streams
from controller.api.plots import Band, Line, Plot, Rule
from controller.api.scales import Linear

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats, Ints

_PHIS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_EFFECTS = (1.3, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0)
_EDGES = (25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)
"""Milliseconds."""


def dispersion(runs: int, seed: int) -> str:
    """Draw the false alarms against how clustered errors are, with dispersion taken as 1 and measured."""
    taken, known = [], []
    for phi in _PHIS:
        source = streams(Behaviour(scenario="betabinomial", phi=phi, pods=PODS), runs, seed)
        phis = measured(source)
        tables = counts(source, runs)
        taken.append((phi, 100 * float((judge(tables).harmful < LOOKS).mean())))
        known.append((phi, 100 * float((judge(tables, phis).harmful < LOOKS).mean())))
    plot = Plot(
        title="Identical candidates rolled back, when errors come in clusters",
        description="Taken as independent, most are rolled back; with measured dispersion at most 5 %.",
        x=Linear(1, max(_PHIS)),
        y=Linear(0, 100, "%"),
        lines=[Line("taken as 1", taken, "bad"), Line("measured, 6 h", known, "good")],
        rules=[Rule(100 * ALPHA, "asked for", "quiet")],
    )
    up = f"share of {runs} runs of 30 minutes, beta-binomial errors"
    across = "how much more counts vary than those of independent requests"
    return picture(plot.title, [Panel(plot, up, across)])


def time_to_decision(runs: int, seed: int) -> str:
    """Draw the median time to proven harm by its size: the judge, and a test that knows the size."""
    ours, oracle = [], []
    for effect in _EFFECTS:
        tables = counts(streams(Behaviour(effect=effect), runs, seed), runs)
        knows = first(OracleSprt(effect).looks(tables, Rates(ALPHA, ALPHA)).harmful)
        ours.append((effect, float(np.median(seconds(judge(tables).harmful)))))
        oracle.append((effect, float(np.median(seconds(knows)))))
    plot = Plot(
        title="Median time until harm is proven, by its size",
        description="The judge needs little longer than a test that is told the size of the harm.",
        x=Marked(1.25, 5.2, (1.5, 2, 3, 4, 5)),
        y=Marked(8, 700, (10, 20, 50, 100, 200, 500)),
        lines=[Line("Penstock", ours, "bad"), Line("told the size", oracle, "quiet")],
    )
    up = f"seconds; {runs} runs each, 200 rps, 10 % to the candidate, 1 % errors, a look every 10 s"
    return picture(plot.title, [Panel(plot, up, "times as many errors as the control's")])


def latency(runs: int, seed: int) -> str:
    """Draw what quantiles and single edges show of a shift and of a tail, after two minutes."""
    del runs
    slower = [each for each in _VERSIONS if each is not _CONTROL]
    quantiles = Plot(
        title="Time that one request in so many exceeds",
        description="A shift moves the whole curve a little, a tail lifts the slowest 2 % far away.",
        x=Marked(2, 150, (2, 5, 10, 20, 50, 100)),
        y=Marked(60, 4000, (100, 250, 500, 1000, 2500)),
        lines=[Line(each.words, _middle(each, seed), each.style) for each in _VERSIONS],
        bands=[Band(_brackets(each, seed), each.style) for each in _VERSIONS],
    )
    edges = Plot(
        title="E-value at each edge",
        description="The shift shows most in the middle, the tail above it.",
        x=Marked(20, 3000, _EDGES),
        y=Marked(0.1, 1e12, (1, 1e3, 1e6, 1e9, 1e12)),
        lines=[Line(each.words, _at_edges(each, seed), each.style) for each in slower],
        rules=[Rule(len(_EDGES) / ALPHA, "enough at one", "quiet")],
    )
    title = "Two slower candidates after two minutes"
    bands = "time in ms, with bands that hold at all looks together (95 %)"
    across = "one request in so many takes longer"
    return picture(
        title, [Panel(quantiles, bands, across), Panel(edges, "e-value for harm at each edge", "edge, ms")]
    )


class _Version(NamedTuple):
    """A version's times: log-normal, median 80 ms and sigma 0.8, times `factor`; `tail` of them + 1 s."""

    words: str
    style: str
    requests: int
    factor: float = 1.0
    tail: float = 0.0


_CONTROL = _Version("control", "control", 21_600)
_VERSIONS = (
    _CONTROL,
    _Version("all +10 %", "bad", 2_400, factor=1.1),
    _Version("2 % +1 s", "third", 2_400, tail=0.02),
)
_FINE = np.geomspace(20, 8000, 240)
"""Edges of a fine histogram, as native ones are, in milliseconds."""
_ONE_IN = np.geomspace(2, 150, 24)


def _counts_above(version: _Version, edges: Floats, seed: int) -> Ints:
    """Return how many of a version's requests take longer than each edge."""

    def share_above(milliseconds: Floats) -> Floats:
        return np.asarray(ndtr((np.log(80 * version.factor) - np.log(np.maximum(milliseconds, 1e-9))) / 0.8))

    above = (1 - version.tail) * share_above(edges) + version.tail * share_above(edges - 1000)
    dice = np.random.default_rng([seed, version.requests, round(100 * version.tail)])
    return np.asarray(exceedances(dice, np.array([[version.requests]]), above[:, None, None])[0, 0])


def _brackets(version: _Version, seed: int) -> list[tuple[float, float | None, float | None]]:
    """Return the bracket of every quantile, by one in how many requests takes longer."""
    above, quantiles = _counts_above(version, _FINE, seed), (1 - 1 / _ONE_IN).tolist()
    found = quantile_intervals(_FINE, above, version.requests, ALPHA, quantiles, t_opt=version.requests)
    return [(one_in, *bracket) for one_in, bracket in zip(_ONE_IN.tolist(), found, strict=True)]


def _middle(version: _Version, seed: int) -> list[tuple[float, float | None]]:
    """Return the quantiles themselves, read between the edges of the fine histogram."""
    share_below = 1 - _counts_above(version, _FINE, seed) / version.requests
    times = np.interp(1 - 1 / _ONE_IN, share_below, _FINE)
    return list(zip(_ONE_IN.tolist(), times.tolist(), strict=True))


def _at_edges(version: _Version, seed: int) -> list[tuple[float, float | None]]:
    """Return the e-value for harm from the start at each edge, as if all of the bet were on that edge."""
    metric = MetricDesign("latency", "histogram", tuple(_EDGES), unit="milliseconds")
    design = Design((metric,), ALPHA, ALPHA, planned_looks=LOOKS, min_samples=0)
    fine = np.array(_EDGES)
    control, own = (tuple(_counts_above(each, fine, seed).tolist()) for each in (_CONTROL, version))
    table = Table(1, Arm(_CONTROL.requests, control), Arm(version.requests, own))
    [state] = advance([(design, fresh(design), [Interval(1, SHARE, {"latency": table})])])
    bets = state.metrics[0].start.astype(np.float64) + metric.layout.stakes.start - np.log(START)
    return list(zip(_EDGES, np.exp(log_sum_exp(bets)).tolist(), strict=True))
