"""A policy as a plan in plain words: what will happen, when at the earliest, and what decides.

Pure text from the policy and its templates; expected times need traffic and statistics and are found in
`analysis.power`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from policies.edges import advice, coarse
from policies.units import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from policies.model import Metric, MetricTemplate, RolloutPolicy, RolloutSpec, Variant, VirtualServiceRef


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the plan."""

    step: int
    """Its number, from 1."""
    weight: int
    """Per cent of requests for the candidate."""
    hold: Duration
    """The least time at this weight; never less than one interval, since somebody has to look."""
    pause: bool
    """Whether a person has to approve the next step."""
    require: Literal["noHarm", "safe"]
    """What the evidence must say before the next step."""
    earliest: Duration
    """The earliest start, after the start of the run."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rollout will do."""

    sentences: tuple[str, ...]
    steps: tuple[Stage, ...]
    earliest_promotion: Duration
    """The earliest full promotion, after the start of the run."""
    guarantees: tuple[str, ...] = ()
    """What holds however often one looks, and what it rests on."""
    warnings: tuple[str, ...] = ()
    """Where the policy asks for more than can be shown."""


def explain(policy: RolloutPolicy, templates: Mapping[str, MetricTemplate]) -> Plan:
    """Return the plan of a valid policy; `templates` holds those that its metrics use, by name (KeyError)."""
    spec = policy.spec
    steps, end = _stages(spec)
    sentences = (
        _movement(policy, steps),
        _routes(spec),
        *_approvals(policy, steps),
        _harm(spec, templates),
        _promotion(spec, templates),
        _looks(spec),
        f"Without a decision after {spec.decision.deadline} {_AT_DEADLINE[spec.decision.on_deadline]}.",
        f"Without data for {spec.decision.no_data_timeout} {_NO_DATA[spec.decision.on_no_data]}.",
        f"If somebody else changes the weights meanwhile, {_DRIFT[spec.decision.on_drift]}.",
        f"If the policy is deleted during a run, {_DELETION[spec.on_deletion]}.",
        *_afterwards(spec),
        *_watch(spec),
    )
    return Plan(sentences, steps, end, _guarantees(spec, templates), _coarse(spec, templates))


_AT_DEADLINE = {
    "hold": "it stays where it is and says so",
    "rollback": "it rolls back",
    "promote": "it promotes, although safety is not shown",
}
_NO_DATA = {"hold": "it stays where it is and says so", "rollback": "it rolls back"}
_DELETION = {"rollback": "all traffic goes to the control", "keep": "the traffic stays as it is"}
_DRIFT = {
    "correct": "it writes its own again",
    "adopt": "it goes on with theirs",
    "hold": "it stops and waits for a person",
}


def _stages(spec: RolloutSpec) -> tuple[tuple[Stage, ...], Duration]:
    start = Duration(0)
    stages = []
    for number, step in enumerate(spec.strategy.canary.steps if spec.strategy.canary else (), start=1):
        hold = max(step.hold, spec.decision.interval)
        stages.append(Stage(number, step.weight, hold, step.pause, step.require, start))
        start = Duration(start.milliseconds + hold.milliseconds)
    return tuple(stages), start


def _movement(policy: RolloutPolicy, steps: Sequence[Stage]) -> str:
    control, candidate = policy.spec.variants[0], policy.spec.variants[-1]
    weights = ", ".join(f"{stage.weight}%" for stage in steps)
    last = "" if steps[-1].weight == 100 else ", then 100%"
    return (
        f"{policy.key} shifts requests for {policy.spec.service.host} from {_variant(control)} to "
        f"{_variant(candidate)} in {_count(len(steps), 'step')}: {weights}{last}."
    )


def _variant(variant: Variant) -> str:
    return f"{variant.name} ({f'subset {variant.subset}' if variant.subset else f'host {variant.host}'})"


def _routes(spec: RolloutSpec) -> str:
    weights = f"It writes the weights of {_listed([_route(ref) for ref in spec.routes])}"
    copies, scales = spec.promotion.mode == "copy", spec.promotion.scale_down_after is not None
    if not copies and not scales:
        return f"{weights} and nothing else."
    more = ["the control's pod template"] * copies + ["the replicas of the version without traffic"] * scales
    return f"{weights}, and after a run {_listed(more)}."


def _afterwards(spec: RolloutSpec) -> list[str]:
    """Return what becomes of the two versions after a run."""
    control, candidate, after = spec.variants[0], spec.variants[-1], spec.promotion.scale_down_after
    sentences = []
    if spec.promotion.mode == "copy":
        sentences.append(
            f"After promotion the Deployment or StatefulSet of {control.name} takes the pod template of "
            f"{candidate.name} (environment and arguments too, all but the labels that tell the two apart); "
            f"once it is ready, all traffic goes back to {control.name}."
        )
    if after is not None:
        sentences.append(
            f"{after} after the end of a run the version without traffic is scaled to zero, unless something "
            f"else uses it; it is scaled up again before it gets traffic."
        )
    return sentences


def _route(ref: VirtualServiceRef) -> str:
    if not ref.routes:
        return f"the only route of VirtualService {ref.name}"
    return f"route{'s' if len(ref.routes) > 1 else ''} {_listed(ref.routes)} of VirtualService {ref.name}"


def _approvals(policy: RolloutPolicy, steps: Sequence[Stage]) -> list[str]:
    paused = [f"{stage.weight}%" for stage in steps if stage.pause]
    if not paused:
        return []
    return [f"After {_listed(paused)} it waits for a person: `penstock promote {policy.metadata.name}`."]


def _looks(spec: RolloutSpec) -> str:
    return (
        f"It looks every {spec.decision.interval} and concludes nothing before the control and the candidate "
        f"have had {spec.decision.min_samples} requests each."
    )


def _harm(spec: RolloutSpec, templates: Mapping[str, MetricTemplate]) -> str:
    judged = [_harmful(metric) for metric in spec.metrics if _kind(metric, templates) != "share"]
    what = f"It rolls back at once when harm is shown by {_listed(judged, 'or')}"
    if engine_of(spec):
        return f"{what}; error rates are judged by the engine {engine_of(spec)}."
    return (
        f"{what}; the chance that this hits a harmless candidate is at most {spec.decision.false_rollback}, "
        f"over all metrics and looks together."
    )


def engine_of(spec: RolloutSpec) -> str | None:
    """Return the engine that judges error rates instead of the sequential judge, if the policy names one."""
    return None if spec.decision.engine == "sequential" else spec.decision.engine


def _harmful(metric: Metric) -> str:
    beyond = f" (beyond {metric.tolerance})" if metric.tolerance.value else ""
    return (metric.name or metric.template) + beyond


def _promotion(spec: RolloutSpec, templates: Mapping[str, MetricTemplate]) -> str:
    safe = [
        f"{metric.name or metric.template} is at most {_margin(metric, _kind(metric, templates))}"
        for metric in spec.metrics
        if metric.margin is not None or metric.margin_points is not None
    ]
    what = f"After the last step it promotes fully once it is shown that {_listed(safe)}"
    if engine_of(spec):
        return f"{what}."
    return (
        f"{what}; the chance that this promotes a candidate that is worse than a margin is at most "
        f"{spec.decision.false_promote}."
    )


def _margin(metric: Metric, kind: str) -> str:
    if metric.margin_points is not None:
        return f"{str(metric.margin_points).removesuffix('%')} percentage points worse"
    return f"{metric.margin} worse in {_MEASURES.get(kind, 'odds')}"


_MEASURES = {"histogram": "time", "mean": "its mean"}


def _watch(spec: RolloutSpec) -> list[str]:
    """Return what comes after promotion."""
    if spec.watch is None:
        return []
    candidate, watch = spec.variants[-1].name, spec.watch
    words = (
        f"After promotion it watches {candidate} for {watch.duration} and tells when the odds of events are "
        f"more than {watch.tolerance} above what the rollout showed; there is one false alarm in "
        f"{watch.false_alarm_every} per metric on average, and the traffic is left as it is."
    )
    return [words]


def _guarantees(spec: RolloutSpec, templates: Mapping[str, MetricTemplate]) -> tuple[str, ...]:
    """Return the promises of the error rates, and what each metric assumes for them."""
    judged = [metric for metric in spec.metrics if _kind(metric, templates) != "share"]
    rates = (
        f"at most {spec.decision.false_rollback} of harmless candidates are rolled back, and at most "
        f"{spec.decision.false_promote} of those beyond a margin are promoted"
    )
    engine = engine_of(spec)
    of = f"Except for error rates, which {engine} judges: whenever" if engine else "Whenever"
    return (
        f"{of} one looks, however weights change and whatever both versions share, {rates}.",
        *(_assumed(metric, _kind(metric, templates)) for metric in judged),
        "Whether that is so for your traffic: `penstock replay` (on its history) and `penstock simulate`.",
    )


def _assumed(metric: Metric, kind: str) -> str:
    name, assumed = metric.name or metric.template, str(metric.dispersion)
    if kind == "mean":
        factor = f"{metric.assumed_dispersion:g}"
        return (
            f"{name}: how much it varies is measured from interval to interval; for noise that lasts longer, "
            f"its variance is taken {factor} times ({'assume' if assumed == 'auto' else 'dispersion'})."
        )
    if assumed == "auto":
        return f"{name}: how much events cluster is measured from the control (dispersion auto)."
    if assumed == "1":
        return f"{name}: requests are assumed to be independent of each other (dispersion 1)."
    return f"{name}: events are assumed to vary {assumed} times as much as independent ones (dispersion)."


def _coarse(spec: RolloutSpec, templates: Mapping[str, MetricTemplate]) -> tuple[str, ...]:
    found = [(metric, coarse(metric, templates[metric.template])) for metric in spec.metrics]
    return tuple(
        f"{metric.name or metric.template}: margin {metric.margin} {advice(proven)}."
        for metric, proven in found
        if proven is not None
    )


def _kind(metric: Metric, templates: Mapping[str, MetricTemplate]) -> str:
    return templates[metric.template].spec.kind


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(items: Sequence[str], last: str = "and") -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"
