from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from analysis.engines.bayes import BayesBetaBinomial, probability_worse
from analysis.engines.engine import Counts, Rates

CASES = [
    (1800, 18, 200, 5),
    (1800, 0, 200, 0),
    (1800, 1, 200, 0),
    (10, 9, 10, 2),
    (10**6, 9900, 10**6, 10_100),
]


@pytest.mark.parametrize("ratio", [1.0, 1.5])
@pytest.mark.parametrize("counts", CASES)
def test_the_posterior_chance_agrees_with_direct_integration(counts, ratio):
    n_b, k_b, n_c, k_c = counts
    control, candidate = beta(k_b + 1, n_b - k_b + 1), beta(k_c + 1, n_c - k_c + 1)
    places = control.ppf([1e-12, 0.01, 0.5, 0.99, 1 - 1e-12])
    expected = sum(
        quad(lambda p: control.pdf(p) * candidate.sf(min(ratio * p, 1)), low, high, epsabs=1e-10)[0]
        for low, high in pairwise(places)
    )
    found = probability_worse(Counts(*(np.array([[float(x)]]) for x in counts)), ratio)
    assert found[0, 0] == pytest.approx(expected, abs=2e-5)


def test_a_candidate_that_has_shown_nothing_is_not_condemned_by_its_prior():
    tables = np.array([[[1800, 1, 1, 0]]])
    readings = BayesBetaBinomial().looks(tables, Rates(0.05, 0.05))
    assert readings.statistic[0, 0] > 0.95
    assert not readings.harmful[0, 0]
