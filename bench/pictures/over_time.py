"""Pictures of runs as they go on: e-values, false alarms by peeking, and the sequence of the odds ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.confidence import confidence_bounds, mantel_haenszel
from analysis.engines.engine import Rates
from analysis.engines.z_test import FixedHorizonZ
from analysis.judge import Interval, advance, fresh
from analysis.simulate import Behaviour
from analysis.tables import Arm, Table
from bench.pictures.frame import Marked, Panel, picture
from bench.pictures.laboratory import (
    ALPHA,
    LOOKS,
    SHARE,
    counts,
    errors_design,
    first,
    judge,
    seconds,
    streams,
)
from controller.api.plots import Band, Line, Plot, Rule
from controller.api.scales import Linear, Log, Time

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats, Ints

_MINUTES = "time since the start"
_FEW = 5


def e_values(runs: int, seed: int) -> str:
    """Draw the e-values of some identical candidates, and of one with 1.5 times the errors."""
    del runs  # a few paths, whatever the number of runs elsewhere
    alpha, looks = 0.01, 60
    good = judge(counts(streams(Behaviour(), _FEW, seed), _FEW, looks), alpha=alpha).log_e
    bad = judge(counts(streams(Behaviour(effect=1.5), 1, seed), 1, looks), alpha=alpha).log_e
    lines = [_path("" if at else "identical", good[:, at], "good") for at in range(_FEW)]
    lines.append(_path("errors x1.5", bad[:, 0], "bad"))
    plot = Plot(
        title="E-values of five identical candidates and of a bad one",
        description="Those of the identical candidates stay low; the other reaches the bound of 100.",
        x=Time(looks * 10.0),
        y=Marked(0.05, 3000, (0.1, 1, 10, 100, 1000)),
        lines=lines,
        rules=[Rule(1 / alpha, "harm is proven", "bad")],
    )
    up = "what 1 staked on harm has become (200 rps, 10 % to the candidate, 1 % errors)"
    return picture(plot.title, [Panel(plot, up, _MINUTES)])


def _path(label: str, log_e: Floats, style: str) -> Line:
    points = zip(seconds(np.arange(len(log_e))).tolist(), np.exp(log_e).tolist(), strict=True)
    return Line(label, [(0.0, 1.0), *points], style)


def peeking(runs: int, seed: int) -> str:
    """Draw the share of identical candidates rolled back so far: a z-test at every look, and the judge."""
    tables = counts(streams(Behaviour(), runs, seed), runs)
    z_test = first(FixedHorizonZ().looks(tables, Rates(ALPHA, ALPHA)).harmful)
    lines = [
        _share_so_far("z-test at 5 %", z_test, "bad"),
        _share_so_far("Penstock at 5 %", judge(tables).harmful, "good"),
    ]
    plot = Plot(
        title="Identical candidates that were rolled back so far",
        description="The share grows with every look of a z-test, and stays below 5 % with e-values.",
        x=Time(LOOKS * 10.0),
        y=Linear(0, 50, "%"),
        lines=lines,
        rules=[Rule(100 * ALPHA, "asked for", "quiet")],
    )
    up = f"share of {runs} runs on the same counts, looked at every 10 s"
    return picture(plot.title, [Panel(plot, up, _MINUTES)])


def _share_so_far(label: str, stopped: Ints, style: str) -> Line:
    shares = [(float(seconds(look)), 100 * float((stopped <= look).mean())) for look in range(LOOKS)]
    return Line(label, [(0.0, 0.0), *shares], style, step=True)


def sequence(runs: int, seed: int) -> str:
    """Draw the estimate of an odds ratio of 1.5 and its 95 % confidence sequence as they go on."""
    del runs
    table = counts(streams(Behaviour(effect=1.5), 1, seed), 1)[:, 0].tolist()
    design = errors_design()
    state, estimate, band = fresh(design), [], []
    for look, (n_b, k_b, n_c, k_c) in enumerate(table):
        interval = Interval(look, SHARE, {"errors": Table(look, Arm(n_b, (k_b,)), Arm(n_c, (k_c,)))})
        [state] = advance([(design, state, [interval])])
        own, at = state.metrics[0], float(seconds(look))
        low, high = confidence_bounds(own.likelihood[0].astype(np.float64), ALPHA)
        estimate.append((at, mantel_haenszel(*own.mantel_haenszel[0].tolist())))
        band.append((at, low or None, high))
    plot = Plot(
        title="The odds ratio and its 95 % confidence sequence",
        description="The band narrows around the true value of 1.5 and leaves 1 behind.",
        x=Time(LOOKS * 10.0),
        y=Log(0.4, 6),
        lines=[Line("estimate", estimate, "bad")],
        bands=[Band(band, "bad")],
        rules=[Rule(1.5, "the truth", "quiet"), Rule(1.0, "no difference", "good")],
    )
    up = "odds of an error, candidate against control; the band holds at all looks together"
    return picture(plot.title, [Panel(plot, up, _MINUTES)])
