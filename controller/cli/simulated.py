"""What `penstock simulate` found, as text and as data, and whether the policy keeps its word. Pure."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis import simulate as traffic
from analysis.simulate import clustering
from controller import numbers
from controller.cli.outcomes import HEADER, row, share_words
from controller.cli.render import table
from controller.prior import HISTORY_SECONDS, measured_metrics
from controller.simulate import looks

if TYPE_CHECKING:
    from analysis.design import Design, MetricDesign
    from analysis.simulate import Behaviour
    from controller.endings import Result, Share
    from policies.model import RolloutPolicy

_EARLIER = " What it did before the harm counts too: hold the last step longer."
_LATE = {"late": _EARLIER, "ramp": _EARLIER}


@dataclass(frozen=True, slots=True)
class Simulation:
    """A policy, what was simulated, and what came of it: one result per effect, 1 among them.

    `at_margin` is the result of candidates exactly at the margin; None when no metric they harm has one.
    """

    policy: RolloutPolicy
    design: Design
    behaviour: Behaviour
    runs: int
    seed: int
    results: tuple[Result, ...]
    at_margin: Result | None = None

    @property
    def false_rollback(self) -> Share:
        """The runs in which an identical candidate was rolled back for harm."""
        identical = next(result for result in self.results if result.effect == 1)
        return identical.share("rolledBack", "Harmful")

    @property
    def beyond_margin(self) -> list[Result]:
        """The results whose effect is at least the margin of a metric that it makes worse."""
        least = margin_effect(self.design, self.behaviour)
        own = [self.at_margin] if self.at_margin else []
        others = [each for each in self.results if not own or each.effect != own[0].effect]
        return [each for each in (*own, *others) if least is not None and each.effect >= least]


def margin_effect(design: Design, behaviour: Behaviour) -> float | None:
    """Return the effect that is exactly the smallest margin of the metrics made worse by this harm."""
    kinds = {"errors": {"proportion"}, "shift": {"histogram", "mean"}}.get(behaviour.harm, set())
    found = [_margin_effect(metric, behaviour.baseline) for metric in design.metrics if metric.kind in kinds]
    return min((effect for effect in found if effect is not None), default=None)


def _margin_effect(metric: MetricDesign, baseline: float) -> float | None:
    """Return the effect of one metric's margin: points are worth what they make of the odds at `baseline`."""
    if metric.margin is not None:
        return round(1 + metric.margin, 6)
    worse = baseline + (metric.margin_points or 0.0)
    if metric.margin_points is None or worse >= 1:
        return None
    return round(worse * (1 - baseline) / ((1 - worse) * baseline), 6)


def text(found: Simulation) -> str:
    """Return the simulation for people: what was assumed, a table, and whether the error rates hold."""
    seen = f"{share_words(found.false_rollback)} of identical candidates were rolled back for harm"
    lines = [
        f"{found.policy.key}: {found.runs} simulated runs for each candidate, seed {found.seed}",
        "",
        *assumptions(found),
        "",
        *table(HEADER, [row(result) for result in found.results]),
        "",
        *_at_margin(found),
        f"{seen}; the policy asks for at most {numbers.percent(found.design.false_rollback)}.",
        *(f"WARNING: {words}" for words in warnings(found)),
    ]
    return "\n".join(lines)


def _at_margin(found: Simulation) -> list[str]:
    if found.at_margin is None:
        return []
    share, asked = found.at_margin.share("promoted", "Safe"), numbers.percent(found.design.false_promote)
    words = f"{share_words(share)} of candidates exactly at the margin (x{found.at_margin.effect:g})"
    return [f"{words} were promoted as safe; the policy asks for at most {asked}."]


def data(found: Simulation) -> dict[str, Any]:
    """Return the simulation as JSON values."""
    behaviour, share = found.behaviour, found.false_rollback
    return {
        "policy": found.policy.key,
        "runs": found.runs,
        "seed": found.seed,
        "scenario": behaviour.scenario,
        "harm": behaviour.harm,
        "traffic": asdict(behaviour),
        "assumptions": assumptions(found),
        "results": [result.as_dict() for result in found.results],
        "falseRollback": {
            "asked": found.design.false_rollback,
            "share": share.share,
            "error": share.error,
            "exceeded": share.exceeds(found.design.false_rollback),
        },
        "falsePromotion": _false_promotion(found),
        "warnings": warnings(found),
    }


def _false_promotion(found: Simulation) -> dict[str, Any] | None:
    if found.at_margin is None:
        return None
    share, asked = found.at_margin.share("promoted", "Safe"), found.design.false_promote
    return {
        "effect": found.at_margin.effect,
        "asked": asked,
        "share": share.share,
        "error": share.error,
        "exceeded": share.exceeds(asked),
    }


def assumptions(found: Simulation) -> list[str]:
    """Return what was simulated, in sentences."""
    kinds, behaviour = {metric.kind for metric in found.design.metrics}, found.behaviour
    sentences = [f"Traffic: {behaviour.rps:g} requests per second in all."]
    if behaviour.pods != (1, 1):
        control, candidate = behaviour.pods
        sentences.append(f"Pods: {control} of the control, {candidate} of the candidate.")
    if "proportion" in kinds:
        sentences.append(f"Errors: {numbers.percent(behaviour.baseline)} of the control's requests.")
    if "histogram" in kinds:
        median = numbers.number(behaviour.median * 1000)
        sentences.append(f"Times: log-normal, median {median} ms, sigma {behaviour.sigma:g}.")
    if "mean" in kinds:
        like = f"log-normal ones with median {behaviour.median:g} (seconds) and sigma {behaviour.sigma:g}"
        sentences.append(f"Values of means: gamma-distributed, with mean and variance of {like}.")
    auto = measured_metrics(found.policy, found.design)
    if auto:
        past, names = numbers.length(HISTORY_SECONDS), ", ".join(metric.name for metric in auto)
        sentences.append(f"Dispersion of {names}: measured in each run on {past} of the control before it.")
    sentences += [
        f"Scenario {behaviour.scenario}: {_scenario(behaviour)}.",
        f"Effects: {_effect(behaviour, values='mean' in kinds)}.",
    ]
    canary = found.policy.spec.strategy.canary
    if canary and any(step.pause for step in canary.steps):
        sentences.append("Approvals are given at once.")
    return sentences


def warnings(found: Simulation) -> list[str]:
    """Return where error rates are above what the policy asks for, by more than two Monte Carlo errors."""
    words, told = [], None
    if found.false_rollback.exceeds(found.design.false_rollback):
        rule = found.policy.spec.decision
        also = ""
        if found.at_margin and _is_promoted_too_often(found, found.at_margin):
            told = found.at_margin.effect
            also = f", and those at the margin promoted more often than falsePromote: {rule.false_promote}"
        words.append(
            f"identical candidates are rolled back more often than falseRollback: {rule.false_rollback} "
            f"allows{also}. {_remedy(found)}"
        )
    words += [
        _beyond(found, result)
        for result in found.beyond_margin
        if result.effect != told and _is_promoted_too_often(found, result)
    ]
    return words


def _is_promoted_too_often(found: Simulation, result: Result) -> bool:
    return result.share("promoted", "Safe").exceeds(found.design.false_promote)


def _beyond(found: Simulation, result: Result) -> str:
    share, asked = result.share("promoted", "Safe"), found.policy.spec.decision.false_promote
    return (
        f"{share_words(share)} of the candidates with x{result.effect:g}, which is not within the margin, "
        f"were promoted; falsePromote is {asked}.{_LATE.get(found.behaviour.scenario, '')}"
    )


def _remedy(found: Simulation) -> str:
    """Return the dispersion that such traffic asks for, per metric whose present one is smaller."""
    auto = measured_metrics(found.policy, found.design)
    needed = [each for each in _needed(found) if each[0] not in auto]
    if auto and not needed:
        return (
            "What the control's past shows is too little here: set `dispersion` to a number, and try again."
        )
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


def _scenario(behaviour: Behaviour) -> str:
    after, period, length = map(numbers.length, (behaviour.onset, traffic.PERIOD, traffic.INCIDENT_SECONDS))
    season = f"both error rates swing by {100 * traffic.SWING:g}% with a period of {period}"
    incident = f"{after} in, both error rates are {traffic.INCIDENT:g} times as high for {length}"
    return {
        "iid": "requests are independent of each other",
        "bursts": f"errors come in clusters of geometric size, {traffic.CLUSTER} on average",
        "betabinomial": f"errors of an interval vary {behaviour.phi:g} times as much as independent ones",
        "podnoise": _noise(behaviour),
        "seasonal": season,
        "incident": incident,
        "seasonal+incident": f"{season}; {incident}",
        "late": f"the candidate is as good as the control for {after}, and worse from then on",
        "ramp": f"the candidate gets worse evenly and has the whole effect after {after}",
    }[behaviour.scenario]


def _noise(behaviour: Behaviour) -> str:
    pods = "version's" if behaviour.pods == (1, 1) else "pod's"
    return (
        f"each {pods} error rate wanders by itself (log-normal AR(1), sd {behaviour.noise:g}, "
        f"correlation {behaviour.correlation:g} over {traffic.CORRELATION_SECONDS:g} s)"
    )


def _effect(behaviour: Behaviour, *, values: bool) -> str:
    if values and behaviour.harm == "shift":
        return "x1.1 makes every time and value worse by 10%; errors stay as they are"
    extra = numbers.percent(behaviour.baseline)
    return {
        "errors": "x2 is twice the odds of an error; times stay as they are",
        "shift": "x2 is twice the time for every request; errors stay as they are",
        "tail": f"x2 is {extra} of the requests one second longer, x3 twice as many; errors stay as they are",
    }[behaviour.harm]
