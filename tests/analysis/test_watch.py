"""The watch after promotion: how often it is wrong, how soon it is right, and what it starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.watch import WORSE, advance, limits, log_evidence, start

if TYPE_CHECKING:
    from analysis.hypergeometric import Floats

INDEPENDENT = np.ones(1)


def run_lengths(
    share: float, *, p0: float, bound: float, requests: int, clusters: int = 1, phi: float = 1.0
) -> Floats:
    """Looks until the alarm in 300 watches; those that are silent for 20 times the bound count with that."""
    rng = np.random.default_rng(4)
    runs, most = 300, int(20 * bound)
    log_m = np.broadcast_to(start(1), (runs, 1, WORSE.size))
    lengths = np.full(runs, most)
    for look in range(1, most + 1):
        events = clusters * rng.binomial(requests // clusters, share, runs)
        log_m = advance(log_m, np.full(runs, requests), events[:, None], np.array([p0]), np.array([phi]))
        lengths = np.where((lengths == most) & (log_evidence(log_m) >= np.log(bound)), look, lengths)
        if (lengths < most).all():
            break
    return lengths


@pytest.mark.parametrize("requests", [20, 200])
@pytest.mark.parametrize("share", [0.01, 0.02])
def test_false_alarms_are_at_least_as_far_apart_as_was_asked(share: float, requests: int) -> None:
    """Also at the border of the null, where the share is p0 itself."""
    lengths = run_lengths(share, p0=0.02, bound=100, requests=requests)
    assert lengths.mean() >= 100


def test_errors_in_clusters_need_the_dispersion() -> None:
    divided = run_lengths(0.02, p0=0.02, bound=100, requests=200, clusters=5, phi=5.0)
    plain = run_lengths(0.02, p0=0.02, bound=100, requests=200, clusters=5)
    assert plain.mean() < 100 <= divided.mean()


def test_a_surge_is_found_within_some_looks_and_a_larger_one_sooner() -> None:
    """The bound is one false alarm in 30 days of looks every 10 s."""
    twice, five = (
        np.median(run_lengths(share, p0=0.01, bound=259_200, requests=200)[:100]) for share in (0.02, 0.05)
    )
    assert five <= 5
    assert five < twice <= 60


def test_the_limit_leaves_room_for_chance_and_for_the_tolerance() -> None:
    [much], [little] = limits(100_000, (1000,), (1.0,), 0.0), limits(1000, (10,), (1.0,), 0.0)
    assert 0.01 < much < 0.0115 < little < 0.03
    [worse] = limits(100_000, (1000,), (1.0,), 0.5)
    assert worse / (1 - worse) == pytest.approx(1.5 * much / (1 - much))


def test_clustered_events_make_the_limit_wider() -> None:
    [plain], [clustered] = limits(10_000, (100,), (1.0,), 0.0), limits(10_000, (100,), (5.0,), 0.0)
    assert clustered > plain


@pytest.mark.parametrize("events", [0, 50])
def test_a_lane_of_nothing_or_of_all_can_be_watched(events: int) -> None:
    limit = limits(50, (events,), (1.0,), 0.5)
    assert 0 < limit[0] < 1
    log_m = advance(start(1), np.array(50), np.array([events]), limit, INDEPENDENT)
    assert np.isfinite(log_m).all()


def test_no_requests_in_the_rollout_are_no_baseline() -> None:
    with pytest.raises(ValueError, match="0 trials"):
        limits(0, (0,), (1.0,), 0.0)


@given(
    rounds=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20),
    p0=st.floats(0.001, 0.9),
)
def test_many_watches_at_once_are_each_alone(rounds: list[tuple[int, int]], p0: float) -> None:
    limit = np.array([p0])
    together = np.broadcast_to(start(1), (2, 1, WORSE.size))
    alone = start(1)
    for more, events in rounds:
        requests = events + more
        both = np.array([[events], [0]])
        together = advance(together, np.array([requests, requests]), both, limit, INDEPENDENT)
        alone = advance(alone, np.array(requests), np.array([events]), limit, INDEPENDENT)
    np.testing.assert_array_equal(together[0], alone)
    assert log_evidence(together)[0] >= log_evidence(together)[1]
