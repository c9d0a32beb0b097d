"""The quantiles of a report: between bucket edges, wider than the estimate, honest where edges end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.figures import quantile_figures
from controller.api.page import page
from controller.api.quantiles import QUANTILES, ROLES, quantile_rows
from controller.api.report import report
from tests.support.fake_run import fake_run

EDGES = [10.0, 100.0, 1000.0, 5000.0]


def rows(control, candidate=(0, 0, 0, 0, 0), dispersion=1.0):
    """The quantiles from counts: all requests, then those above each edge."""
    latency = {"edges": EDGES, "control": list(control), "candidate": list(candidate)}
    return quantile_rows(latency, alpha=0.01, dispersion=dispersion)


def test_a_quantile_lies_between_the_edges_where_the_counts_pass_it():
    median, p95, p99 = rows((100_000, 90_000, 20_000, 2_000, 100))
    assert [each.quantile for each in (median, p95, p99)] == list(QUANTILES)
    assert (median.estimate, p95.estimate, p99.estimate) == ((10, 100), (100, 1000), (1000, 5000))
    assert (median.low, median.high) == (10, 100)
    assert (p99.low, p99.high) == (1000, 5000)


def test_an_edge_at_the_quantile_itself_is_at_or_above_it():
    median, p95, p99 = rows((1000, 500, 50, 10, 0))
    assert (median.estimate, p95.estimate, p99.estimate) == ((0, 10), (10, 100), (100, 1000))


def test_above_the_last_edge_there_is_no_upper_end():
    p99 = rows((1000, 900, 800, 700, 600))[-1]
    assert (p99.estimate, p99.high) == ((5000, None), None)


def test_few_requests_leave_the_interval_open():
    median = rows((4, 4, 2, 0, 0))[0]
    assert median.estimate == (10, 100)
    assert (median.low, median.high) == (0.0, None)


def test_a_version_without_requests_has_no_quantiles():
    assert {each.role for each in rows((10, 5, 1, 0, 0))} == {"control"}
    assert rows((0, 0, 0, 0, 0)) == ()


@given(st.lists(st.integers(0, 3000), min_size=5, max_size=5), st.sampled_from([1.0, 3.0, 20.0]))
def test_intervals_hold_the_estimate_and_grow_with_the_dispersion(parts, dispersion):
    counts = [sum(parts[lane:]) for lane in range(5)]
    plain, wide = rows(counts), rows(counts, dispersion=dispersion)
    for narrow, broad in zip(plain, wide, strict=True):
        low, high = narrow.estimate
        assert broad.low <= narrow.low <= low
        assert narrow.high is None or (high is not None and high <= narrow.high)
        assert broad.high is None or (narrow.high is not None and narrow.high <= broad.high)


@pytest.fixture(scope="module")
def measured():
    run = fake_run(looks=20)
    counts = {"control": [20_000, 18_000, 3_000, 300, 10], "candidate": [500, 450, 100, 20, 9]}
    return run | {"latencies": {"latency": {"unit": "milliseconds", "edges": EDGES, **counts}}}


def test_a_report_has_the_quantiles_of_latencies_only(measured):
    errors, latency = report(measured).metrics
    assert (errors.unit, errors.quantiles) == (None, ())
    assert latency.unit == "milliseconds"
    assert [(each.role, each.quantile) for each in latency.quantiles] == [
        (role, quantile) for role in ROLES for quantile in QUANTILES
    ]


def test_the_dispersion_of_the_verdict_widens_them(measured):
    wide = measured | {"ticks": [*measured["ticks"]]}
    last = wide["ticks"][-1]
    metrics = [{**each, "dispersion": 400.0} for each in last["verdict"]["metrics"]]
    wide["ticks"][-1] = last | {"verdict": last["verdict"] | {"metrics": metrics}}
    narrow, broad = (report(run).metrics[1].quantiles for run in (measured, wide))
    assert narrow[0].high == 100
    assert broad[0].high is None or broad[0].high > 100


def test_the_picture_names_both_versions_and_says_that_it_decides_nothing(measured):
    html = page(report(measured))
    assert "Quantiles of latency" in html
    assert "A picture that decides nothing" in html
    (figure,) = quantile_figures(report(measured))
    for words in (">p50<", ">p95<", ">p99<", "stable", "candidate", "milliseconds", "99% confidence"):
        assert words in figure
    assert figure.count("<polygon") == 6
    assert "nan" not in figure


def test_a_report_without_counts_has_no_such_picture():
    assert "Latency of the whole run" not in page(report(fake_run(looks=5)))
