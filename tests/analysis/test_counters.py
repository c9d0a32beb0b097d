import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.counters import Count, MeanCount, histogram, mean, proportion
from analysis.tables import Arm, MeanArm, Table
from tests.support.counters import Counter, increases, one_by_one

INF = math.inf


def counter(values, instance="pod-1", step=10):
    """A counter read every 10 s; None where nothing was read."""
    points = tuple((step * i, float(v)) for i, v in enumerate(values) if v is not None)
    return Counter(instance, points)


def growth(*counters, looks=None):
    last = max((at for c in counters for at, _ in c.points), default=0)
    instants = [10 * i for i in range(looks or last // 10 + 1)]
    return increases(counters, instants)


def instances(counters):
    return [each.instance for each in counters]


def deltas(*counters, row=0, looks=None):
    return growth(*counters, looks=looks).values[row].tolist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5, 7, 7, 12], [2, 0, 5]),
        ([5, 5, 5, 5], [0, 0, 0]),
        ([5, 9, 2, 3], [4, 2, 1]),
        ([5, 0, 0, 4], [0, 0, 4]),
        ([5, 9, None, None], [4, 0, 0]),
        ([None, 9, 12, 12], [0, 3, 0]),
        ([5 + 1e-12, 7 - 1e-12, 8, 8], [2, 1, 0]),
    ],
    ids=["growth", "no scrape between", "reset", "reset to 0", "vanished", "new process", "float noise"],
)
def test_the_increase_of_a_process_with_one_series(values, expected):
    assert deltas(counter(values), looks=4) == expected


def test_a_series_born_in_a_known_process_counts_from_zero():
    """The first error creates its series: it must not be lost."""
    assert deltas(counter([100, 150, 200]), counter([None, 3, 4]), row=1) == [3, 1]


def test_a_series_born_with_its_process_is_where_counting_starts():
    first, second = counter([None, 90, 95], "new"), counter([None, None, 4], "new")
    assert deltas(counter([1, 2, 3]), first, second, row=1) == [0, 5]
    assert deltas(counter([1, 2, 3]), first, second, row=2) == [0, 4]


def test_a_series_that_misses_an_instant_goes_on_from_where_it_was():
    assert deltas(counter([1, 2, 3]), counter([5, None, 7]), row=1) == [0, 2]


def test_a_process_that_was_away_starts_anew():
    assert deltas(counter([5, None, 50, 51]), row=0) == [0, 0, 1]


def test_what_a_process_counted_before_it_was_away_is_forgotten():
    other = counter([1, None, 2, 3])
    assert deltas(other, counter([5, None, None, 7]), row=1) == [0, 0, 7]


@pytest.mark.parametrize("bad", [math.nan, -1.0, 3.5, INF, 1e17])
def test_a_value_that_is_no_count_breaks_the_intervals_it_touches(bad):
    found = growth(counter([1, 2, bad, 4, 5]))
    assert found.broken[0].tolist() == [False, True, True, False]
    assert found.values[0].tolist() == [1, 0, 0, 1]


def test_points_between_the_instants_are_ignored():
    points = ((0, 1.0), (5, math.nan), (10, 3.0))
    assert increases([Counter("pod", points)], [0, 10]).values.tolist() == [[2]]


def test_no_counters_and_no_intervals_are_fine():
    assert increases([], [0, 10]).values.shape == (0, 1)
    assert increases([counter([1])], [0]).values.shape == (1, 0)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), st.data())
def test_increases_add_up_over_intervals(steps, data):
    values = [sum(steps[: i + 1]) for i in range(len(steps))]
    cuts = data.draw(st.sets(st.integers(1, max(1, len(steps) - 2))))
    instants = [10 * i for i in range(len(steps)) if i in {0, len(steps) - 1} | cuts]
    parts = increases([counter(values)], instants).values[0]
    assert parts.sum() == values[-1] - values[0]


@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=5))
def test_how_requests_spread_over_processes_does_not_matter(per_process):
    paths = [[sum(steps[: i + 1]) for i in range(4)] for steps in per_process]
    whole = [sum(path[i] for path in paths) for i in range(4)]
    split = growth(*(counter(path, f"pod-{i}") for i, path in enumerate(paths)), looks=4)
    assert split.values.sum(axis=0).tolist() == deltas(counter(whole), looks=4)


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=2, max_size=8),
    st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=2, max_size=8),
)
def test_no_increase_is_ever_negative(first, second):
    found = growth(counter(first), counter(second), looks=8)
    assert (found.values >= 0).all()
    assert not found.broken.any()


def test_a_proportion_counts_events_among_all_requests():
    found = growth(counter([10, 30, 35]), counter([None, 2, 2]))
    assert proportion(found, [0, 1], [1]) == [Count(Arm(22, (2,))), Count(Arm(5, (0,)))]


def test_a_proportion_with_a_broken_series_is_inconsistent_and_counts_nothing():
    first, second = proportion(growth(counter([1, 2, 3]), counter([1, math.nan, 2])), [0, 1], [1])
    assert "not a number" in first.inconsistent
    assert first.arm == second.arm == Arm(0, (0,))


def test_an_arm_without_series_did_nothing():
    found = growth(counter([1, 2]))
    assert proportion(found, [], []) == [Count(Arm(0, (0,)))]
    assert histogram(found, {}, (100.0, 500.0)) == [Count(Arm(0, (0, 0)))]


def test_a_histogram_counts_what_is_above_each_edge():
    found = growth(counter([0, 6]), counter([0, 9]), counter([0, 10]))
    buckets = {100.0: [0], 500.0: [1], INF: [2]}
    assert histogram(found, buckets, (100.0, 500.0)) == [Count(Arm(10, (4, 1)))]


def test_buckets_that_are_not_cumulative_are_inconsistent_not_clamped():
    found = growth(counter([0, 9]), counter([0, 6]), counter([0, 10]))
    [count] = histogram(found, {100.0: [0], 500.0: [1], INF: [2]}, (500.0,))
    assert count == Count(Arm(0, (0,)), "buckets are not cumulative")


def test_an_edge_without_a_bucket_is_named():
    found = growth(counter([0, 9]), counter([0, 10]))
    [count] = histogram(found, {100.0: [0], INF: [1]}, (250.0,))
    assert count.inconsistent == "no bucket le=250"
    [count] = histogram(found, {100.0: [0]}, (100.0,))
    assert count.inconsistent == "no bucket le=+Inf"


def test_tables_add_up():
    one = Table(10, Arm(5, (1, 0)), Arm(3, (2, 1)))
    two = Table(20, Arm(7, (3, 3)), Arm(1, (0, 0)))
    assert one + two == Table(20, Arm(12, (4, 3)), Arm(4, (2, 1)))


@pytest.mark.parametrize(("total", "events"), [(5, (6,)), (5, (-1,)), (-1, ()), (5, (1, 7))])
def test_counts_that_cannot_be_are_refused(total, events):
    with pytest.raises(ValueError, match="total"):
        Arm(total, events)


def test_arms_with_other_edges_do_not_add_up():
    with pytest.raises(ValueError, match="zip"):
        Arm(5, (1,)) + Arm(5, (1, 0))


def observed(*pairs):
    """The counts of one arm from (counts, sums) of its processes."""
    counters = [
        Counter(f"pod-{pod}", tuple((10 * i, float(v)) for i, v in enumerate(values) if v is not None), whole)
        for pod, pair in enumerate(pairs)
        for whole, values in zip((True, False), pair, strict=True)
    ]
    rows = range(len(counters))
    return mean(growth(*counters), instances(counters), rows[::2], rows[1::2])


@pytest.mark.parametrize(
    ("counts", "sums", "expected"),
    [
        ([5, 7, 7], [2.5, 3.75, 3.75], [(2, 1.25), (0, 0.0)]),
        ([5, 2, 4], [2.5, 1.5, 2.0], [(2, 1.5), (2, 0.5)]),
        ([5, 2, 4], [0.0, 0.0, 0.5], [(2, 0.0), (2, 0.5)]),
        ([None, 8, 9], [None, 4.0, 4.5], [(0, 0.0), (1, 0.5)]),
    ],
    ids=["growth", "restart", "restart of a sum of zeros", "new process"],
)
def test_a_mean_has_the_increases_of_its_count_and_of_its_sum(counts, sums, expected):
    others = ([1, 1, 1], [1.0, 1.0, 1.0])  # another process of the same version, idle
    assert observed((counts, sums), others) == [MeanCount(MeanArm(*each)) for each in expected]


def test_the_processes_of_a_version_add_up():
    assert observed(([0, 2], [0.0, 1.0]), ([0, 3], [0.0, 0.25])) == [MeanCount(MeanArm(5, 1.25))]


def test_a_version_without_series_observed_nothing():
    counters = [Counter("other", ((0, 1.0), (10, 2.0)))]
    assert mean(growth(*counters), instances(counters), [], []) == [MeanCount(MeanArm(0, 0.0))]


@pytest.mark.parametrize(
    ("counts", "sums", "words"),
    [
        ([5, 7], [2.5, 1.5], "did not restart together"),
        ([5, 2], [2.5, 3.5], "did not restart together"),
        ([5, 7], [2.5, -1.0], "negative"),
        ([5, 7], [2.5, INF], "not finite"),
        ([5, 7.5], [2.5, 3.0], "negative, not finite or not a number"),
    ],
)
def test_what_is_no_sum_of_positive_values_is_inconsistent(counts, sums, words):
    (found,) = observed((counts, sums))
    assert words in found.inconsistent
    assert found.arm == MeanArm(0, 0.0)


def test_a_sum_without_its_count_is_inconsistent():
    counters = [Counter("pod-1", ((0, 1.0), (10, 2.0)), whole=False)]
    (found,) = mean(growth(*counters), instances(counters), [], [0])
    assert found.inconsistent == "pod-1 has a sum without its count, or a count alone"


AWKWARD = st.sampled_from([None, None, 0, 1, 2, 3, 10, 10 + 1e-12, 2.5, -1, math.nan, INF, 2.0**53, 2.0**54])
SERIES = st.builds(
    lambda values, pod, whole: counter(values, f"pod-{pod}")._replace(whole=whole),
    st.lists(AWKWARD | st.integers(0, 30), min_size=5, max_size=5), st.integers(0, 2), st.booleans(),
)  # fmt: skip


@given(st.lists(SERIES, max_size=6))
def test_all_series_at_once_are_counted_as_each_would_be_alone(counters):
    found, expected = increases(counters, range(0, 50, 10)), one_by_one(counters, range(0, 50, 10))
    assert found.values.dtype == expected.values.dtype
    for field in ("values", "broken", "sums", "fell"):
        assert getattr(found, field).tolist() == getattr(expected, field).tolist(), field
