"""What is to be judged: the metrics of a rollout, its error rates, and what one interval showed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from analysis.confidence import COARSE_NODES, NODES
from analysis.eprocess import safe_odds_ratios
from analysis.stakes import harm_stakes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.hypergeometric import Floats
    from analysis.stakes import Stakes
    from analysis.tables import Table


@dataclass(frozen=True, slots=True)
class MetricDesign:
    """One guardrail. Raises ValueError when its numbers make no sense.

    `margin` and `tolerance` are fractions (0.25 is 25 %), of the odds; the margin of a histogram is a
    fraction of the time itself. `edges` (rising, in `unit`) belong to a histogram only, as does `tail`: the
    share of slow requests below which the control has too few to compare with (analysis.margin). `dispersion`
    holds where an interval does not bring one.
    """

    name: str
    kind: Literal["proportion", "histogram"]
    edges: tuple[float, ...] = ()
    margin: float | None = None
    tolerance: float = 0.0
    dispersion: float = 1.0
    unit: str = "requests"
    tail: float = 0.01

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise(self.edges))
        checks = {
            "edges must rise, and belong to a histogram": rising
            and bool(self.edges) == (self.kind == "histogram"),
            "margin must be above 0": self.margin is None or self.margin > 0,
            "tolerance must be at least 0": self.tolerance >= 0,
            "dispersion must be at least 1": self.dispersion >= 1,
            "tail must lie between 0 and 0.5": 0 < self.tail < 0.5,
        }
        for words, holds in checks.items():
            if not holds:
                raise ValueError(f"metric {self.name}: {words}")

    @property
    def layout(self) -> Layout:
        """How its evidence is laid out."""
        return _layout(self.edges, self.margin, self.tolerance, self.tail)


@dataclass(frozen=True, slots=True)
class Design:
    """How a rollout is judged. More intervals than `planned_looks` are no error, only judged less sharply."""

    metrics: tuple[MetricDesign, ...]
    false_rollback: float
    false_promote: float
    planned_looks: int
    min_samples: int
    srm_alpha: float = 0.001

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
    tables: Mapping[str, Table | None]
    requests: tuple[int, int] | None = None
    inconsistent: tuple[str, ...] = ()
    dispersion: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Per metric the dispersion of each lane, known before the interval began; else the design's."""


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """Which odds ratios a metric needs the likelihood of. Equal metrics share one layout object.

    A lane is one 2x2 table per interval: the only one of a proportion, or one per edge. A pair (j, k)
    compares the control above edge j with the candidate above edge k, the smallest that is at least (1 +
    margin) times as large; the largest edges have no partner and are left out.
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


@lru_cache(maxsize=4096)
def _layout(edges: tuple[float, ...], margin: float | None, tolerance: float, tail: float) -> Layout:
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
    )


def _pairs(edges: tuple[float, ...], margin: float) -> tuple[tuple[int, int], ...]:
    """Return the edges to compare for a margin, by position."""
    partners = (
        (j, next((k for k, far in enumerate(edges) if far >= (1 + margin) * near * (1 - 1e-12)), None))
        for j, near in enumerate(edges)
    )
    return tuple((j, k) for j, k in partners if k is not None)
