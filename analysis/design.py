"""What is to be judged: the metrics of a rollout, its error rates, and what one interval showed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from analysis.confidence import COARSE_NODES, NODES
from analysis.eprocess import safe_odds_ratios
from analysis.stakes import Stakes, harm_stakes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.hypergeometric import Floats
    from analysis.tables import MeanTable, Table


MEAN_MOMENTS = 24
"""Sums kept of a mean (`analysis.mean_guardrail`)."""
POINTS_MOMENTS = 12
"""Sums kept for a margin in points (`analysis.points`)."""


@dataclass(frozen=True, slots=True)
class MetricDesign:
    """One guardrail. Raises ValueError when its numbers make no sense.

    `margin` and `tolerance` are fractions (0.25 is 25 %), of the odds; the margin of a histogram is a
    fraction of the time itself, both of a mean are fractions of the control's. A proportion may have
    `margin_points` instead, a difference of the shares (0.005 is half a percentage point). With
    `higher_is_better` the events of a proportion are the good outcome, and odds are those of its absence.
    `edges` (rising, in `unit`) belong to a histogram only, as does `tail`: the share of slow requests below
    which the control has too few to compare with (analysis.margin). `dispersion` holds where an interval does
    not bring one.
    """

    name: str
    kind: Literal["proportion", "histogram", "mean"]
    edges: tuple[float, ...] = ()
    margin: float | None = None
    tolerance: float = 0.0
    dispersion: float = 1.0
    unit: str = "requests"
    tail: float = 0.01
    margin_points: float | None = None
    higher_is_better: bool = False

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise(self.edges))
        checks = {
            "edges must rise, and belong to a histogram": rising
            and bool(self.edges) == (self.kind == "histogram"),
            "margin must be above 0": self.margin is None or self.margin > 0,
            "a margin in points is above 0, at most 1, the only margin, and one of a proportion": (
                self.margin_points is None
                or (0 < self.margin_points <= 1 and self.margin is None and self.kind == "proportion")
            ),
            "of a histogram, lower is better": not (self.higher_is_better and self.kind == "histogram"),
            "tolerance must be at least 0": self.tolerance >= 0,
            "dispersion must be at least 1": self.dispersion >= 1,
            "tail must lie between 0 and 0.5": 0 < self.tail < 0.5,
        }
        for words, holds in checks.items():
            if not holds:
                raise ValueError(f"metric {self.name}: {words}")

    @property
    def needs_proof(self) -> bool:
        """Whether promotion needs the proof that it is within its margin."""
        return self.margin is not None or self.margin_points is not None

    @property
    def layout(self) -> Layout:
        """How its evidence is laid out."""
        if self.kind == "mean":
            return _mean_layout(self.margin, self.tolerance, self.higher_is_better)
        form = _Form(self.margin_points, self.higher_is_better)
        return _layout(self.edges, self.margin, self.tolerance, self.tail, form)


@dataclass(frozen=True, slots=True)
class Design:
    """How a rollout is judged. More intervals than `planned_looks` are no error, only judged less sharply."""

    metrics: tuple[MetricDesign, ...]
    false_rollback: float
    false_promote: float
    planned_looks: int
    min_samples: int
    srm_alpha: float = 0.001
    engine: str = "sequential"
    """Who judges proportions: this judge, or one of `analysis.engines.registry`."""

    def __post_init__(self) -> None:
        if not self.metrics or len({metric.name for metric in self.metrics}) < len(self.metrics):
            raise ValueError("a design needs at least one metric, and each name once")
        if not all(0 < alpha < 1 for alpha in (self.false_rollback, self.false_promote, self.srm_alpha)):
            raise ValueError("error rates lie between 0 and 1")
        if self.planned_looks < 1:
            raise ValueError("at least one look is planned")


@dataclass(frozen=True, slots=True)
class Interval:
    """What one closed interval showed. It ended at `end` (unix seconds).

    `tables` has a table per metric by name, or None where there is none. `intended` is the candidate's share
    of the traffic, set before the interval began; `requests` are those of control and candidate, for the test
    of that share: None when the share changed within the interval. `inconsistent` says in words what cannot
    be counted; a metric's name in front, as in `errors: ...`, makes that metric invalid.
    """

    end: int
    intended: float
    tables: Mapping[str, Table | MeanTable | None]
    requests: tuple[int, int] | None = None
    inconsistent: tuple[str, ...] = ()
    dispersion: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Per metric the dispersion of each lane, known before the interval began; else the design's."""
    resets: Mapping[str, int] = field(default_factory=dict)
    """Per metric how many processes began to count from 0 again; to be told, not judged."""


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """Which odds ratios a metric needs the likelihood of. Equal metrics share one layout object.

    A lane is one 2x2 table per interval: the only one of a proportion, or one per edge. A pair (j, k)
    compares the control above edge j with the candidate above edge k, the smallest that is at least (1 +
    margin) times as large; the largest edges have no partner and are left out.

    A mean has one lane too, and no odds ratios: `mean` says what is asked instead. `moments` is how many
    sums are kept in double precision, for a mean and for a margin in `points`. `mirrored`: what is judged is
    the absence of the events that are counted.
    """

    lanes: int
    nodes: int
    null: float
    stakes: Stakes
    safe_null: float | None
    tail: float
    pairs: tuple[tuple[int, int], ...]
    odds_ratios: Floats
    harm: slice
    safe: slice
    pair_odds_ratios: Floats
    points: float | None = None
    mirrored: bool = False
    mean: MeanQuestion | None = None
    moments: int = 0


class MeanQuestion(NamedTuple):
    """How much worse the mean may be, as fractions of the control's: for no harm, and for safety."""

    tolerance: float
    margin: float | None
    higher_is_better: bool


class _Form(NamedTuple):
    """Which margin in points a proportion has, and whether what is counted is the good outcome."""

    points: float | None
    mirrored: bool


@lru_cache(maxsize=4096)
def _mean_layout(margin: float | None, tolerance: float, higher_is_better: bool) -> Layout:
    """Return the layout of a mean."""
    nothing = np.zeros(0)
    return Layout(
        lanes=1,
        nodes=0,
        null=1.0,
        stakes=Stakes((), nothing, nothing),
        safe_null=None,
        tail=0.01,
        pairs=(),
        odds_ratios=nothing,
        harm=slice(0, 0),
        safe=slice(0, 0),
        pair_odds_ratios=nothing,
        mean=MeanQuestion(tolerance, margin, higher_is_better),
        moments=MEAN_MOMENTS,
    )


@lru_cache(maxsize=4096)
def _layout(
    edges: tuple[float, ...], margin: float | None, tolerance: float, tail: float, form: _Form
) -> Layout:
    """Return the layout; `odds_ratios` are nodes, null, alternatives, then the same for the margin."""
    null = 1 + tolerance
    stakes = harm_stakes(null, latency=bool(edges))
    nodes = COARSE_NODES if edges else NODES
    safe_null = 1 + margin if margin is not None and not edges else None
    safe = () if safe_null is None else (safe_null, *safe_odds_ratios(safe_null))
    first = nodes.size + 1
    last = first + len(stakes.odds_ratios)
    return Layout(
        lanes=max(1, len(edges)),
        nodes=nodes.size,
        null=null,
        stakes=stakes,
        safe_null=safe_null,
        tail=tail,
        pairs=() if margin is None else _pairs(edges, margin),
        odds_ratios=np.concatenate([np.exp(nodes), [null], stakes.odds_ratios, safe]),
        harm=slice(first, last),
        safe=slice(last + bool(safe), last + len(safe)),
        pair_odds_ratios=np.array(safe_odds_ratios(1.0)),
        points=form.points,
        mirrored=form.mirrored,
        moments=0 if form.points is None else POINTS_MOMENTS,
    )


def _pairs(edges: tuple[float, ...], margin: float) -> tuple[tuple[int, int], ...]:
    """Return the edges to compare for a margin, by position."""
    partners = (
        (j, next((k for k, far in enumerate(edges) if far >= (1 + margin) * near * (1 - 1e-12)), None))
        for j, near in enumerate(edges)
    )
    return tuple((j, k) for j, k in partners if k is not None)
