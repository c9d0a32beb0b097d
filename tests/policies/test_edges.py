"""Which margin edges can prove, against the judge's own pairs of edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.design import MetricDesign
from policies.catalog import templates
from policies.edges import Proven, advice, coarse, proven_margins
from policies.parse import policy_from_object
from tests.support.policies import changed, policy


@pytest.mark.parametrize(("edges", "margin", "expected"), [
    ((100, 250, 500), 0.25, Proven(1.0, 1.5, 100, 250)),
    ((100, 125, 156.25), 0.25, Proven(0.25, 0.25, 100, 125)),
    ((100, 112, 125, 175), 0.25, Proven(0.25, 0.5625, 112, 175)),  # from 112 on, 125 is too close
    ((100, 110), 0.25, None),
    ((100,), 0.25, None),
])  # fmt: skip
def test_the_nearest_edge_that_is_far_enough_counts(edges, margin, expected):
    found = proven_margins(edges, margin)
    assert found == expected


@given(
    st.lists(st.floats(1, 1e4), min_size=2, max_size=10, unique=True).map(sorted),
    st.sampled_from([0.1, 0.25, 1.0]),
)
def test_the_pairs_are_those_of_the_judge(edges, margin):
    layout = MetricDesign("times", "histogram", tuple(edges), margin, unit="milliseconds").layout
    found = proven_margins(edges, margin)
    ratios = [edges[far] / edges[near] - 1 for near, far in layout.pairs]
    assert (found.smallest, found.largest) == (min(ratios), max(ratios)) if ratios else found is None


@pytest.mark.parametrize(("metric", "told"), [
    ({"template": "istio-latency", "margin": "25%"}, "100% at best, and 150% where 10 has 25 next: "),
    ({"template": "istio-latency", "margin": "100%"}, None),
    ({"template": "istio-latency", "margin": "25%", "edges": ["100", "125"]}, None),
    ({"template": "istio-latency", "margin": "25%", "edges": ["100", "150"]}, "can prove 50%: add edges"),
    ({"template": "istio-latency"}, None),
    ({"template": "istio-error-rate", "margin": "1%"}, None),
])  # fmt: skip
def test_a_margin_that_is_finer_than_the_edges_is_told_with_what_they_can_prove(metric, told):
    obj = changed(
        policy(), "spec.metrics", [metric, {"template": "istio-error-rate", "margin": "50%", "name": "e"}]
    )
    [own, _] = policy_from_object(obj).spec.metrics
    found = coarse(own, templates()[own.template])
    assert (found is not None) == (told is not None)
    if found:
        assert told in advice(found)
