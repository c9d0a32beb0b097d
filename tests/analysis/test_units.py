"""Rows of units: reading, equal ages, gathering, the regression and its t-mixture, and the verdict."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nct
from scipy.stats import t as student

from analysis.means import NOTHING, Allowance
from analysis.regression import difference, log_e_harm, log_e_no_difference, regress, relative_difference
from analysis.t_mixture import best_phi, log_one_sided_t_mixture, log_t_mixture, squared_t_width
from analysis.table_text import TableError
from analysis.unit_rows import UnitRows, at_equal_age, by_unit, from_columns, is_header, parse
from analysis.units import UnitSettings, compare


def rows_of(variants, values, covariates=None):
    extra = None if covariates is None else np.array(covariates)
    return UnitRows(np.array(variants), np.array(values, dtype=float), extra)


def experiment(n=1000, effect=0.0, seed=1, share=0.5, slope=1.0, noise=1.0):
    rng = np.random.default_rng(seed)
    treated, x = rng.random(n) < share, rng.normal(size=n)
    y = 10 + effect * treated + slope * x + noise * rng.normal(size=n)
    return treated, y, x


def test_phi_is_the_one_that_pyfixest_publishes():
    assert best_phi(8000, 2, 0.05) == pytest.approx(973.6263, rel=1e-6)


@given(st.integers(20, 10**6), st.integers(2, 3), st.sampled_from([0.001, 0.01, 0.05, 0.2]))
def test_no_other_phi_is_narrower_at_the_planned_number(n, p, alpha):
    phi = best_phi(n, p, alpha)
    widths = [squared_t_width(n, p, factor * phi, alpha) for factor in (0.8, 1, 1.25)]
    assert min(widths) == widths[1] < math.inf


@pytest.mark.parametrize(("n", "p", "phi", "t"), [(12, 2, 3.0, 1.4), (40, 3, 20.0, -0.7), (90, 2, 30.0, 3.0)])
def test_mixtures_are_averages_of_likelihood_ratios_of_t(n, p, phi, t):
    """Over effects drawn from N(0, 1 / phi), in standard deviations of one unit, the ratio of the densities
    of t, noncentral to central, integrates to the two-sided mixture; twice the upper half to the other."""
    nu = n - p
    effects = np.linspace(-8, 8, 4001) / math.sqrt(phi)
    prior = math.sqrt(phi / (2 * math.pi)) * np.exp(-phi * effects**2 / 2)
    weighted = prior * nct.pdf(t, nu, effects * math.sqrt(n)) / student.pdf(t, nu)
    both, upper = (np.trapezoid(weighted[half], effects[half]) for half in (slice(None), slice(2000, None)))
    assert math.exp(log_t_mixture(t, n, p, phi)) == pytest.approx(both, rel=1e-5)
    assert math.exp(log_one_sided_t_mixture(t, n, p, phi)) == pytest.approx(2 * upper, rel=1e-5)


@given(st.integers(10, 10**7), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_one_sided_evidence_grows_with_the_effect_and_is_always_a_number(n, one, two):
    low, high = (log_one_sided_t_mixture(t, n, 2, 50.0) for t in sorted((one, two)))
    assert -math.inf < low <= high + 1e-5 < math.inf


def test_evidence_against_harm_is_none_for_it_however_strong():
    assert log_one_sided_t_mixture(-300.0, 10**6, 2, 50.0) < math.log(0.01)


def test_the_sequence_ends_where_the_e_value_is_one_over_alpha():
    treated, y, x = experiment(effect=0.4)
    found = regress(treated, y, x)
    low, high = difference(found, 200.0, 0.05)[1:]
    for end in (low, high):
        t = (found.difference - end) / math.sqrt(found.v_difference)
        assert log_t_mixture(t, found.n, found.p, 200.0) == pytest.approx(math.log(20))


def test_the_regression_is_least_squares_with_hc1_errors():
    treated, y, x = experiment(300, effect=0.5, share=0.3)
    design = np.column_stack([np.ones(300), treated, x])
    solution = np.linalg.lstsq(design, y)[0]
    errors = y - design @ solution
    bread = np.linalg.inv(design.T @ design)
    hc1 = bread @ (design.T * errors**2 @ design) @ bread * 300 / 297
    found = regress(treated, y, x)
    assert (found.n, found.p) == (300, 3)
    assert found.difference == pytest.approx(solution[1])
    assert found.control == pytest.approx(solution[0] + solution[2] * x.mean())
    assert found.v_difference == pytest.approx(hc1[1, 1])


def test_without_a_covariate_it_is_the_difference_of_means_with_welchs_errors():
    treated, y, _ = experiment(400, share=0.2)
    found = regress(treated, y)
    arms = y[treated], y[~treated]
    assert found.difference == pytest.approx(arms[0].mean() - arms[1].mean())
    assert found.v_difference == pytest.approx(sum(a.var() / a.size for a in arms) * 400 / 398)


def test_a_covariate_narrows_the_sequence():
    treated, y, x = experiment(2000, slope=2.0)
    ends = (difference(regress(treated, y, z), 500, 0.05) for z in (x, None))
    with_it, without = (found.upper - found.lower for found in ends)
    assert with_it / without == pytest.approx(1 / math.sqrt(5), rel=0.1)


def test_a_covariate_that_does_not_vary_is_none_and_one_that_tells_the_arms_apart_says_nothing():
    treated, y, _ = experiment(200)
    assert regress(treated, y, np.full(200, 0.1)) == regress(treated, y)
    assert regress(treated, y, 3.0 * treated) is None


@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_units_of_values_and_covariates_do_not_matter(scale, shift, stretch):
    treated, y, x = experiment(200, effect=0.3)
    plain, other = regress(treated, y, x), regress(treated, scale * y + shift, stretch * x - shift)
    one, two = (log_e_no_difference(found, 100.0) for found in (plain, other))
    assert one == pytest.approx(two, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("events", [(0, 0), (3, 4), (0, 7)])
def test_too_few_events_say_nothing(events):
    treated = np.repeat([False, True], 500)
    y = np.zeros(1000)
    y[: events[0]] = 1
    y[500 : 500 + events[1]] = 1
    assert regress(treated, y) is None


def test_an_arm_without_variance_gets_the_pooled_one():
    """Nobody was served right by the candidate: its own variance is 0, which is no certainty."""
    treated = np.repeat([False, True], [500, 30])
    y = np.where(treated, 0.0, 1.0) * (np.arange(530) % 10 > 0)
    found = regress(treated, y)
    own = y[~treated].var() / 500
    assert found.v_difference > 5 * own
    assert log_e_harm(found, 500.0, NOTHING, higher_is_better=True) > math.log(100)


def test_relative_differences_are_of_the_controls_mean():
    treated, y, _ = experiment(5000, effect=1.0)
    found = relative_difference(regress(treated, y), 500, 0.05)
    assert found.lower < found.estimate < found.upper
    assert found.estimate == pytest.approx(0.1, abs=0.01)
    assert relative_difference(regress(treated, -y), 500, 0.05) is None


CASES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.lognormal(0, 1.5, n),
    "binary": lambda rng, n: (rng.random(n) < 0.05).astype(float),
    "mostly zero": lambda rng, n: (rng.random(n) < 0.1) * rng.lognormal(0, 1, n),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_identical_variants_cross_with_a_chance_of_at_most_alpha(case, share):
    """Looks at 30, 60, .. units: both directions, and the sequence, stay silent together."""
    rng, phi, runs = np.random.default_rng(8), best_phi(1000, 2, 0.05), 150
    crossed = np.zeros(3)
    for _ in range(runs):
        treated, y = rng.random(1500) < share, CASES[case](rng, 1500)
        fits = [found for n in range(30, 1501, 70) if (found := regress(treated[:n], y[:n]))]
        for side, higher in enumerate((False, True)):
            log_e = (log_e_harm(found, phi, NOTHING, higher_is_better=higher) for found in fits)
            crossed[side] += any(each >= math.log(20) for each in log_e)
        crossed[2] += any(log_e_no_difference(found, phi) >= math.log(20) for found in fits)
    assert (crossed / runs <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)).all()


@pytest.mark.parametrize(
    ("effect", "settings", "verdict"),
    [
        (0.5, {}, "Harmful"),
        (0.5, {"higher_is_better": True}, "Undecided"),
        (-0.5, {"higher_is_better": True}, "Harmful"),
        (0.5, {"tolerance": Allowance(1.0)}, "Undecided"),
        (0.5, {"tolerance": Allowance(0.1, relative=True)}, "Undecided"),
        (0.5, {"tolerance": Allowance(0.01, relative=True)}, "Harmful"),
        (0.0, {"margin": Allowance(0.3)}, "Safe"),
        (0.0, {"margin": Allowance(0.03, relative=True)}, "Safe"),
        (0.0, {"margin": Allowance(0.03, relative=True), "higher_is_better": True}, "Safe"),
        (0.0, {"margin": Allowance(0.001)}, "Undecided"),
        (0.0, {}, "Undecided"),
    ],
)
def test_verdicts(effect, settings, verdict):
    treated, y, x = experiment(3000, effect=effect)
    found = compare(rows_of(np.where(treated, "new", "control"), y, x), UnitSettings(**settings))
    assert found.verdict == found.comparisons[0].verdict == verdict


def test_several_candidates_share_one_alpha():
    treated, y, _ = experiment(3000, effect=0.8)
    names = np.where(treated, np.where(np.arange(3000) % 2, "a", "b"), "control")
    found = compare(rows_of(names, y), UnitSettings(alpha=0.02))
    assert [each.candidate for each in found.comparisons] == ["a", "b"]
    assert found.bound == pytest.approx(100)
    assert found.level == pytest.approx(0.99)
    alone = compare(rows_of(names[names != "b"], y[names != "b"]), UnitSettings(alpha=0.01))
    assert alone.comparisons[0] == found.comparisons[0]


def test_the_order_of_rows_does_not_matter():
    treated, y, x = experiment(200)
    names, order = np.where(treated, "new", "control"), np.random.default_rng(0).permutation(200)
    shuffled = rows_of(names[order], y[order], x[order])
    one, two = (compare(rows, UnitSettings()) for rows in (rows_of(names, y, x), shuffled))
    assert one.comparisons[0].adjusted.log_e == pytest.approx(two.comparisons[0].adjusted.log_e)


def test_no_candidate_is_no_data_and_no_control_is_an_error():
    assert compare(rows_of(["control"] * 3, [1, 2, 3]), UnitSettings()).verdict == "NoData"
    assert compare(rows_of([], []), UnitSettings()).verdict == "NoData"
    with pytest.raises(ValueError, match="no row has the variant 'control'"):
        compare(rows_of(["a", "b"], [1, 2]), UnitSettings())


def test_values_of_zero_and_one_are_proportions():
    assert compare(rows_of(["control", "new"], [0, 1]), UnitSettings()).is_proportion
    assert not compare(rows_of(["control", "new"], [0, 0.5]), UnitSettings()).is_proportion


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alpha": 1.0}, "alpha"),
        ({"alpha": math.nan}, "alpha"),
        ({"planned_units": 3}, "planned units"),
        ({"tolerance": Allowance(-1.0)}, "tolerance"),
        ({"margin": Allowance(0.0)}, "margin"),
        ({"label_age": 0.0}, "label age"),
        ({"unlabelled": math.inf}, "unlabelled"),
        ({"per_unit": "median"}, "median"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        UnitSettings(**settings)


AGED = """variant,value,exposed_at,labelled_at
control,1,0,50
control,0,0,150
control,,0,
control,1,100,200
new,1,150,160
new,1,120,180
new,1,101,102
control,0,10,200
"""


def test_labels_are_compared_at_equal_age():
    """The data end at 200: with an age of 100, rows exposed after 100 are too young."""
    kept, left_out = at_equal_age(parse(AGED), 100.0)
    assert kept.values.tolist() == [1, 1]
    assert kept.exposed_at.tolist() == [0, 100]
    assert left_out == {
        "exposed too late to be of that age": {"new": 3},
        "labelled later than that age": {"control": 2},
        "without a label": {"control": 1},
    }


def test_what_did_not_happen_in_time_may_count_as_a_value():
    kept, left_out = at_equal_age(parse(AGED), 100.0, unlabelled=0.0)
    assert kept.values.tolist() == [1, 0, 0, 1, 0]
    assert list(left_out) == ["exposed too late to be of that age"]


def test_without_an_age_all_labels_count_but_no_missing_one():
    kept, left_out = at_equal_age(parse(AGED), None)
    assert len(kept) == 7
    assert left_out == {"without a label": {"control": 1}}


def test_slow_labels_of_a_late_variant_mislead_unless_ages_are_equal():
    """Bad outcomes are labelled late; the candidate began later, so few of its own are there yet."""
    rng, n = np.random.default_rng(2), 4000
    new = rng.random(n) < 0.5
    exposed = np.where(new, rng.uniform(500, 1000, n), rng.uniform(0, 1000, n))
    bad = rng.random(n) < 0.3
    labelled = exposed + np.where(bad, 300, 10)
    labelled[labelled > 1000] = math.nan
    values = np.where(np.isnan(labelled), math.nan, bad)
    rows = UnitRows(np.where(new, "new", "control"), values, None, None, exposed, labelled)
    misled = compare(rows, UnitSettings(higher_is_better=True))
    fair = compare(rows, UnitSettings(higher_is_better=True, label_age=310.0))
    assert (misled.verdict, fair.verdict) == ("Harmful", "Undecided")
    assert sum(fair.left_out["exposed too late to be of that age"].values()) > 1000


def test_rows_of_a_unit_are_gathered_first():
    text = "variant,value,covariate,unit\ncontrol,1,2,u\ncontrol,2,4,u\nnew,5,1,v\n"
    for how, expected in (("mean", [1.5, 5]), ("sum", [3, 5])):
        gathered, left_out = by_unit(parse(text), how)
        assert gathered.values.tolist() == expected
        assert gathered.covariates.tolist() == [3, 1]
        assert left_out == {}


def test_units_that_saw_several_variants_are_left_out_and_counted():
    text = "variant,value,unit\ncontrol,1,u\nnew,2,u\nnew,2,u\nnew,5,v\ncontrol,1,w\nold,1,w\n"
    gathered, left_out = by_unit(parse(text), "mean")
    assert gathered.units.tolist() == ["v"]
    assert left_out == {"seen in several variants": {"control": 2, "new": 1, "old": 1}}


def test_rows_of_one_unit_do_not_look_like_evidence():
    rng = np.random.default_rng(3)
    once, names = rng.normal(size=100), np.repeat(["control", "new"], 50)
    units = np.array([f"u{i}" for i in range(100)])
    single = compare(rows_of(names, once), UnitSettings())
    repeated = UnitRows(np.repeat(names, 20), np.repeat(once, 20), None, np.repeat(units, 20))
    together = compare(repeated, UnitSettings())
    assert together.comparisons[0].units == (50, 50)
    assert together.comparisons[0].unadjusted.log_e == pytest.approx(single.comparisons[0].unadjusted.log_e)


def test_headers_of_rows_are_told_from_tables_of_counts():
    assert is_header(["value", "variant", "unit"])
    assert not is_header(["interval", "variant", "series", "total", "events"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "row 1: the header must be variant,value and perhaps covariate,.* found nothing"),
        ("variant,score\n", "row 1: the header must be"),
        ("variant,value,extra\n", "row 1: the header must be .* found 'variant,value,extra'"),
        ("variant,value,value\n", "row 1: the header must be"),
        ("variant,value,exposed_at\n", "row 1: exposed_at and labelled_at need each other"),
        ("variant,value\ncontrol\n", "row 2: 1 columns instead of 2"),
        ("variant,value\ncontrol,1\n\nnew,x\n", "row 4: value must be a finite number, not 'x'"),
        ("variant,value\ncontrol,\n", "row 2: value must be a finite number, not ''"),
        ("variant,value\ncontrol,nan\n", "row 2: value must be a finite number, not 'nan'"),
        ("variant,value\ncontrol,1e400\n", "row 2: value must be a finite number"),
        ("variant,value\ncontrol,1_0\n", "row 2: value must be a finite number"),
        ("variant,value\n,1\n", "row 2: variant must be a name of 1 to 253 characters, not ''"),
        ("variant,value,unit\na,1,\n", "row 2: unit must be a name"),
        ("variant,value,covariate\na,1,\n", "row 2: covariate must be a finite number, not ''"),
        ("variant,value,exposed_at,labelled_at\na,1,,5\n", "row 2: exposed_at must be a finite number"),
        ("variant,value,exposed_at,labelled_at\na,1,9,5\n", "labelled_at must be at or after exposed_at"),
        ("variant,value,exposed_at,labelled_at\na,,1,5\n", "row 2: value must be a finite number where"),
        ('variant,value\n"a,1\n', "row 2: unexpected end of data"),
    ],
)
def test_bad_rows_are_named_with_row_column_and_what_is_allowed(text, words):
    with pytest.raises(TableError, match=words):
        parse(text)


@given(st.text(st.sampled_from(',\n"1.e-+ na\r\u2028\x00'), max_size=60))
def test_any_text_below_a_header_is_rows_of_numbers_or_an_error_with_its_row(text):
    message, values = "row", np.zeros(0)
    try:
        values = parse(f"variant,value\n{text}").values
    except TableError as error:
        message = str(error)
    assert message.startswith("row")
    assert np.isfinite(values).all()


def test_columns_of_numbers_are_taken_as_they_are():
    rows = from_columns(
        {"variant": ["a", "b"], "value": [True, 2], "exposed_at": [1, 2], "labelled_at": [3.0, None]}
    )
    assert rows.values.tolist() == [1, 2]
    assert math.isnan(rows.labelled_at[1])
