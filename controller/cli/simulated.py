"""What `penstock simulate` found, as text and as data, and whether the policy keeps its word. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis import simulate as traffic
from analysis.simulate import clustering
from controller import numbers
from controller.cli.render import table
from controller.simulate import looks

if TYPE_CHECKING:
    from analysis.design import Design, MetricDesign
    from analysis.simulate import Behaviour
    from controller.simulate import Result, Share
    from policies.model import RolloutPolicy

HEADER = ("CANDIDATE", "ROLLED BACK", "PROMOTED", "HELD", "TO ROLLBACK", "TO PROMOTION")
_LATE = {"late": " What it did before the harm counts too: hold the last step longer."}


@dataclass(frozen=True, slots=True)
class Simulation:
    """A policy, what was simulated, and what came of it: one result per effect, 1 among them."""

    policy: RolloutPolicy
    design: Design
    behaviour: Behaviour
    runs: int
    seed: int
    results: tuple[Result, ...]

    @property
    def false_rollback(self) -> Share:
        """The runs in which an identical candidate was rolled back for harm."""
        identical = next(result for result in self.results if result.effect == 1)
        return identical.share("rolledBack", "Harmful")

    @property
    def beyond_margin(self) -> list[Result]:
        """The results whose effect is at least the margin of a metric that it makes worse."""
        kind = {"errors": "proportion", "shift": "histogram"}.get(self.behaviour.harm)
        margins = [m.margin for m in self.design.metrics if m.kind == kind and m.margin is not None]
        return [result for result in self.results if margins and result.effect >= 1 + min(margins)]


def text(found: Simulation) -> str:
    """Return the simulation for people: what was assumed, a table, and whether the error rates hold."""
    seen = f"{_share(found.false_rollback)} of identical candidates were rolled back for harm"
    lines = [
        f"{found.policy.key}: {found.runs} simulated runs for each candidate, seed {found.seed}",
        "",
        *assumptions(found),
        "",
        *table(HEADER, [_row(result) for result in found.results]),
        "",
        f"{seen}; the policy asks for at most {numbers.percent(found.design.false_rollback)}.",
        *(f"WARNING: {words}" for words in warnings(found)),
    ]
    return "\n".join(lines)


def data(found: Simulation) -> dict[str, Any]:
    """Return the simulation as JSON values."""
    behaviour, share = found.behaviour, found.false_rollback
    return {
        "policy": found.policy.key,
        "runs": found.runs,
        "seed": found.seed,
        "scenario": behaviour.scenario,
        "harm": behaviour.harm,
        "assumptions": assumptions(found),
        "results": [result.as_dict() for result in found.results],
        "falseRollback": {
            "asked": found.design.false_rollback,
            "share": share.share,
            "error": share.error,
            "exceeded": share.exceeds(found.design.false_rollback),
        },
        "warnings": warnings(found),
    }


def assumptions(found: Simulation) -> list[str]:
    """Return what was simulated, in sentences."""
    kinds, behaviour = {metric.kind for metric in found.design.metrics}, found.behaviour
    sentences = [f"Traffic: {behaviour.rps:g} requests per second in all."]
    if "proportion" in kinds:
        sentences.append(f"Errors: {numbers.percent(behaviour.baseline)} of the control's requests.")
    if "histogram" in kinds:
        median = numbers.number(behaviour.median * 1000)
        sentences.append(f"Times: log-normal, median {median} ms, sigma {behaviour.sigma:g}.")
    sentences += [
        f"Scenario {behaviour.scenario}: {_scenario(behaviour)}.",
        f"Effects: {_effect(behaviour)}.",
    ]
    canary = found.policy.spec.strategy.canary
    if canary and any(step.pause for step in canary.steps):
        sentences.append("Approvals are given at once.")
    return sentences


def warnings(found: Simulation) -> list[str]:
    """Return where error rates are above what the policy asks for, by more than two Monte Carlo errors."""
    rule, late = found.policy.spec.decision, _LATE.get(found.behaviour.scenario, "")
    words = []
    if found.false_rollback.exceeds(found.design.false_rollback):
        words.append(
            f"identical candidates are rolled back more often than falseRollback: {rule.false_rollback} "
            f"allows. {_remedy(found)}"
        )
    for result in found.beyond_margin:
        share = result.share("promoted", "Safe")
        if share.exceeds(found.design.false_promote):
            words.append(
                f"{_share(share)} of the candidates with x{result.effect:g}, which is not within the margin, "
                f"were promoted; falsePromote is {rule.false_promote}.{late}"
            )
    return words


def _remedy(found: Simulation) -> str:
    """Return the dispersion that such traffic asks for, per metric whose present one is smaller."""
    needed = _needed(found)
    if not needed:
        return "Raise `dispersion` and try again."
    values = ", ".join(f'{metric.name}: "{value}"' for metric, value in needed)
    return f"Counts vary more than with independent requests: raise `dispersion` ({values}) and try again."


def _needed(found: Simulation) -> list[tuple[MetricDesign, int]]:
    """Return whole dispersions above the present ones, from the step at which clusters weigh most."""
    canary, seconds = found.policy.spec.strategy.canary, found.policy.spec.decision.interval.seconds
    shares = [step.weight / 100 for step in canary.steps if step.weight < 100] if canary else []
    view = partial(
        clustering, found.design, found.behaviour, seconds=seconds, looks=min(looks(found.policy), 60)
    )
    seen = [view(share=share) for share in shares]
    worst = [math.ceil(max(values)) for values in zip(*seen, strict=True)]
    return [
        (metric, value)
        for metric, value in zip(found.design.metrics, worst, strict=bool(shares))
        if value > max(metric.dispersion, 2)
    ]


def _row(result: Result) -> list[str]:
    rolled_back, promoted, held = (result.share(o) for o in ("rolledBack", "promoted", "held"))
    return [
        "identical" if result.effect == 1 else f"x{result.effect:g}",
        *(_share(share) for share in (rolled_back, promoted, held)),
        *(numbers.length(share.median) for share in (rolled_back, promoted)),
    ]


def _share(share: Share) -> str:
    return f"{100 * share.share:.1f}% ±{100 * share.error:.1f}%"


def _scenario(behaviour: Behaviour) -> str:
    after, period, length = map(numbers.length, (behaviour.onset, traffic.PERIOD, traffic.INCIDENT_SECONDS))
    return {
        "iid": "requests are independent of each other",
        "bursts": f"errors come in clusters of geometric size, {traffic.CLUSTER} on average",
        "podnoise": (
            f"each version's error rate wanders by itself (log-normal AR(1), sd {traffic.NOISE:g}, "
            f"correlation {traffic.CORRELATION:g} over {traffic.CORRELATION_SECONDS:g} s)"
        ),
        "seasonal": f"both error rates swing by {100 * traffic.SWING:g}% with a period of {period}",
        "incident": f"{after} in, both error rates are {traffic.INCIDENT:g} times as high for {length}",
        "late": f"the candidate is as good as the control for {after}, and worse from then on",
    }[behaviour.scenario]


def _effect(behaviour: Behaviour) -> str:
    extra = numbers.percent(behaviour.baseline)
    return {
        "errors": "x2 is twice the odds of an error; times stay as they are",
        "shift": "x2 is twice the time for every request; errors stay as they are",
        "tail": f"x2 is {extra} of the requests one second longer, x3 twice as many; errors stay as they are",
    }[behaviour.harm]
