"""The cases: which traffic, how it is looked at, and what is counted.

All have 200 requests per second (the default of `Behaviour`), alpha = 5 % and 30 minutes. A case is named
`group / column`, or `group / variant / column`: a group is a table of docs/decision-quality.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from analysis.simulate import Behaviour

if TYPE_CHECKING:
    from collections.abc import Iterator

Measure = Literal["false rollback", "detection", "promotion", "false promotion"]
RPS, ALPHA, HORIZON = 200.0, 0.05, 1800
EFFECTS = (1.5, 2.0, 3.0, 5.0)
ONSET = 900.0
MARGINS, CANARIES = (1.25, 1.5, 2.0, 3.0), (0.05, 0.10, 0.25, 0.50)
HISTORY_SECONDS = {"6 h": 21600, "1 h": 3600}
"""How much of the control's past the dispersion is calibrated from; the longest is drawn."""


@dataclass(frozen=True, slots=True)
class Slowness:
    """What is wrong with the candidate's times: all `factor` times as long, or a `share` `seconds` longer."""

    factor: float = 1.0
    share: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """One column of a table: a look every `seconds`, `share` of the requests to the candidate.

    `calibrated`: Penstock also judges with dispersions measured on a history without a candidate, drawn with
    the same law. `margin` is the odds ratio that a proof of safety has to exclude.
    """

    group: str
    column: str
    measure: Measure
    traffic: Behaviour | Slowness
    share: float = 0.10
    seconds: int = 10
    calibrated: bool = False
    margin: float | None = None
    variant: str = ""

    @property
    def name(self) -> str:
        """Its name in the results."""
        return " / ".join(part for part in (self.group, self.variant, self.column) if part)

    @property
    def looks(self) -> int:
        """How many looks there are until the end."""
        return HORIZON // self.seconds

    @property
    def onset(self) -> int:
        """The number of looks before the harm begins."""
        late = isinstance(self.traffic, Behaviour) and self.traffic.scenario == "late"
        return int(ONSET) // self.seconds if late else 0

    @property
    def about_chance(self) -> bool:
        """Whether a small chance is to be measured, which takes many runs."""
        return self.measure.startswith("false")


def all_cases() -> list[Case]:
    """Return every case, in the order of the page."""
    return [*_errors(), *_latency(), *_robustness(), *_cost(), *_onset(), *_promotion()]


def error_group(seconds: int, share: float, baseline: float) -> str:
    """Return the name of a table of error rates."""
    return f"Errors: looks every {seconds} s, canary {share:.0%}, {baseline:.1%} errors"


def _errors() -> Iterator[Case]:
    for seconds, share, baseline in (
        (10, 0.05, 0.005),
        (10, 0.10, 0.01),
        (30, 0.10, 0.005),
        (60, 0.05, 0.01),
    ):
        traffic = Behaviour(baseline=baseline)
        group = error_group(seconds, share, baseline)
        yield Case(group, "A/A", "false rollback", traffic, share, seconds)
        for effect in EFFECTS:
            worse = replace(traffic, effect=effect)
            yield Case(group, f"x{effect:g}", "detection", worse, share, seconds)


LATENCY = "Latency: log-normal, median 80 ms, sigma 0.8"


def _latency() -> Iterator[Case]:
    yield Case(LATENCY, "A/A", "false rollback", Slowness())
    harms = {
        "+10 %": Slowness(factor=1.1),
        "+20 %": Slowness(factor=1.2),
        "+50 %": Slowness(factor=1.5),
        "2 % of requests +1 s": Slowness(share=0.02, seconds=1.0),
        "1 % time out after 10 s": Slowness(share=0.01, seconds=10.0),
    }
    for column, harm in harms.items():
        yield Case(LATENCY, column, "detection", harm)


CLUSTERS = "Identical candidates, 1 % errors: shared trouble, and clusters"
WANDERING = "Identical candidates, 1 % errors: each version's rate wanders by itself"
COST = "What caution costs: detection with the dispersion calibrated"
COST_WANDERING = f"{COST}, rates that wander"

_DIFFICULT = {
    "independent": Behaviour(),
    "sinusoid": Behaviour(scenario="seasonal"),
    "sinusoid + x10 incident": Behaviour(scenario="seasonal+incident", onset=ONSET),
    "bursts, mean 3": Behaviour(scenario="bursts"),
    "beta-binomial phi 2": Behaviour(scenario="betabinomial", phi=2.0),
    "beta-binomial phi 4": Behaviour(scenario="betabinomial", phi=4.0),
}
"""What real traffic does to a judge."""
_WANDERING = {
    f"sd {noise:g}, AR(1) {kept:g}": Behaviour(scenario="podnoise", noise=noise, correlation=kept)
    for noise, kept in ((0.3, 0.0), (0.3, 0.8), (0.3, 0.95), (0.6, 0.8), (0.6, 0.95))
}
_COSTS = {
    "independent": (1.5, 2.0, 3.0),
    "bursts, mean 3": (2.0, 3.0, 5.0),
    "beta-binomial phi 4": (3.0, 5.0),
}


def _robustness() -> Iterator[Case]:
    for group, kinds in ((CLUSTERS, _DIFFICULT), (WANDERING, _WANDERING)):
        for column, traffic in kinds.items():
            yield Case(group, column, "false rollback", traffic, calibrated=True)


def _cost() -> Iterator[Case]:
    for column, effects in _COSTS.items():
        for effect in effects:
            harmful = replace(_DIFFICULT[column], effect=effect)
            yield Case(COST, f"{column}, x{effect:g}", "detection", harmful, calibrated=True)
    for column, traffic in _WANDERING.items():
        harmful = replace(traffic, effect=3.0)
        yield Case(COST_WANDERING, f"{column}, x3", "detection", harmful, calibrated=True)


LATE = "Late onset: harm begins after 15 of 30 minutes, 1 % errors"


def _onset() -> Iterator[Case]:
    for effect in EFFECTS:
        late = Behaviour(effect=effect, scenario="late", onset=ONSET)
        yield Case(LATE, f"x{effect:g}", "detection", late)


PROMOTION = "Promotion: 1 % errors"


def _promotion() -> Iterator[Case]:
    for margin in MARGINS:
        name = f"margin {margin:g}"
        for share in CANARIES:
            column = f"harmless, canary {share:.0%}"
            yield Case(PROMOTION, column, "promotion", Behaviour(), share, margin=margin, variant=name)
        worse = Behaviour(effect=margin)
        column = "as bad as the margin, canary 10%"
        yield Case(PROMOTION, column, "false promotion", worse, margin=margin, variant=name)
