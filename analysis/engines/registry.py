"""The engines by the names that a policy may use."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from analysis.engines.bayes import BayesBetaBinomial
from analysis.engines.lindon_malek import LindonMalek
from analysis.engines.mann_whitney import MannWhitney
from analysis.engines.robust import RobustDifferences
from analysis.engines.threshold import Threshold
from analysis.engines.two_by_two import Turner
from analysis.engines.welch import Welch
from analysis.engines.z_test import FixedHorizonZ

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.engines.engine import Engine

_ALL: tuple[Engine, ...] = (
    FixedHorizonZ(),
    Welch(),
    MannWhitney(),
    BayesBetaBinomial(),
    Threshold(),
    Threshold(name="thresholdInARow", consecutive=True),
    LindonMalek(),
    Turner(),
    RobustDifferences(),
)
engines: Mapping[str, Engine] = MappingProxyType({engine.name: engine for engine in _ALL})
"""Threshold engines have the usual limit of 1 %; with another one, make your own `Threshold`. The oracle
(`analysis.engines.oracle`) is not here: nobody knows the truth in production."""
