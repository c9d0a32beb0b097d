import math

import pytest

from analysis.power import HARMS, Traffic, growth, time_to_promote, time_to_rollback


def test_the_growth_is_the_closed_form_of_the_plan():
    w, rho = 2.0, 0.05
    g = 200 * 0.005 * (w * rho * math.log(w) - (w * rho + 1 - rho) * math.log(w * rho + 1 - rho))
    assert growth(Traffic(200, rho, 0.005), w, 1.0) == pytest.approx(g)


@pytest.mark.parametrize(
    ("share", "baseline", "odds_ratio", "median"),
    [(0.05, 0.005, 2.0, 220), (0.05, 0.005, 3.0, 80), (0.1, 0.01, 1.5, 230), (0.1, 0.01, 2.0, 70)],
)
def test_simulated_medians_lie_in_the_range(share, baseline, odds_ratio, median):
    """Medians of the restart mixture, 200 rps, alpha 5 %, looks of 10 s (one look may come on top)."""
    expected = time_to_rollback(Traffic(200, share, baseline), odds_ratio, 0.05)
    assert expected.shortest <= median <= expected.longest + 10


@pytest.mark.parametrize(("margin", "median"), [(0.5, 180), (1.0, 60)])
def test_simulated_medians_to_promote_lie_in_the_range(margin, median):
    expected = time_to_promote(Traffic(200, 0.1, 0.01), margin, 0.05)
    assert expected.shortest - 10 <= median <= expected.longest + 10


def test_more_harm_is_found_sooner_and_clustering_costs_its_factor():
    plain, clustered = Traffic(200, 0.1, 0.01), Traffic(200, 0.1, 0.01, dispersion=3.0)
    times = [time_to_rollback(plain, harm, 0.01).longest for harm in HARMS]
    assert times == sorted(times, reverse=True)
    assert time_to_rollback(clustered, 2.0, 0.01).shortest == pytest.approx(
        3 * time_to_rollback(plain, 2.0, 0.01).shortest
    )


def test_what_is_tolerated_is_never_found():
    with pytest.raises(ValueError, match="tolerated"):
        time_to_rollback(Traffic(200, 0.1, 0.01), 1.5, 0.05, tolerance=0.5)
    with pytest.raises(ValueError, match="margin"):
        time_to_promote(Traffic(200, 0.1, 0.01), 0.0, 0.05)


def test_the_growth_falls_with_the_square_of_a_small_margin_down_to_the_smallest():
    traffic = Traffic(100, 0.25, 0.01)
    for margin in (1e-3, 2e-4, 1e-4, 5e-5, 1e-7, 1e-11):
        expected = 100 * 0.01 * 0.25 * 0.75 * margin**2 / 2
        assert growth(traffic, 1.0, 1 + margin) == pytest.approx(expected, rel=max(2 * margin, 1e-5))


@pytest.mark.parametrize(
    "numbers",
    [
        (0, 0.1, 0.01, 1),
        (math.inf, 0.1, 0.01, 1),
        (1e-300, 0.1, 0.01, 1),
        (9, 1, 0.01, 1),
        (9, 0.1, 0, 1),
        (9, 0.1, 0.01, 0.5),
    ],
)
def test_traffic_out_of_range_is_refused(numbers):
    with pytest.raises(ValueError, match="rps"):
        Traffic(*numbers)
