"""The benchmark behind README's table: the rules see the same counts, and the order of things is as told."""

from __future__ import annotations

import numpy as np

from bench.false_alarms import LOOKS, counts, penstock, repeated_z, threshold


def test_an_identical_candidate_fares_as_the_readme_says() -> None:
    table = counts(np.random.default_rng(3), 60, effect=1.0)
    rolled_back = {rule.__name__: (rule(table) < LOOKS).mean() for rule in (threshold, repeated_z, penstock)}
    assert rolled_back["threshold"] == 1.0
    assert rolled_back["repeated_z"] > 0.15
    assert rolled_back["penstock"] <= 0.1


def test_tripled_errors_are_found_by_all() -> None:
    table = counts(np.random.default_rng(4), 20, effect=3.0)
    for rule in (threshold, repeated_z, penstock):
        assert (rule(table) < LOOKS).all()
