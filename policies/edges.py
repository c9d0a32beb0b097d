"""Which margin of time the bucket edges of a histogram can prove.

Safety compares the candidate above an edge with the control above a smaller one that is at least (1 + margin)
times smaller (`analysis.design`). Where no edge lies that close, only a larger margin is proven.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.model import Metric, MetricTemplate

_NOISE = 1e-9


class Proven(NamedTuple):
    """The margins that neighbouring comparisons prove (0.25: 25 %): the smallest and the largest.

    `near` and `far` are the edges of the largest.
    """

    smallest: float
    largest: float
    near: float
    far: float


def coarse(metric: Metric, template: MetricTemplate) -> Proven | None:
    """Return what the edges can prove if the margin of a metric is finer than all of that, else None.

    Where some edges lie close enough and others do not, the verdict names the margin that is proven.
    """
    if template.spec.kind != "histogram" or metric.margin is None:
        return None
    edges = [float(edge) for edge in metric.edges or template.spec.edges]
    proven = proven_margins(edges, metric.margin.fraction)
    return proven if proven and proven.smallest > metric.margin.fraction + _NOISE else None


def proven_margins(edges: Sequence[float], margin: float) -> Proven | None:
    """Return what rising edges prove of a margin; None when no two of them are far enough apart."""
    pairs = []
    for near in edges:
        far = next((edge for edge in edges if edge >= (1 + margin) * near * (1 - _NOISE)), None)
        if far is not None:
            pairs.append((far / near - 1, near, far))
    if not pairs:
        return None
    largest, near, far = max(pairs, key=lambda pair: pair[0])
    return Proven(min(pairs)[0], largest, near, far)


def advice(proven: Proven) -> str:
    """Return in words what the edges can prove, and what would help."""
    low, high = (f"{100 * margin:.4g}%" for margin in (proven.smallest, proven.largest))
    widest = f"{high} where {proven.near:g} has {proven.far:g} next"
    reach = low if low == high else f"{low} at best, and {widest}"
    return f"is finer than the edges, which can prove {reach}: add edges, or ask for {low}"
