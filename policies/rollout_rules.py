"""The rules of a rollout policy, as one table: code, scope, words, CEL for the API server and the check.

A canary's last step may have weight 100 and no earlier one can, since weights rise strictly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from policies.model import Canary, Decision, Metric, RolloutSpec, Strategy, Variant, VirtualServiceRef, Watch
from policies.rule import RISING_EDGES, Rule, falling, once, percent, repeated, rising_edges, when
from policies.units import Duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.rule import Breach
    from policies.units import Percent


def _rate(field: str, value: Percent) -> Iterator[Breach]:
    return when(not 0 < value.value < 50, field, value)


def _destination(variant: Variant) -> str:
    return f"subset {variant.subset}" if variant.subset else f"host {variant.host}"


def _short_deadline(spec: RolloutSpec) -> Iterator[Breach]:
    steps = spec.strategy.canary.steps if spec.strategy.canary else ()
    holds = Duration(sum(step.hold.milliseconds for step in steps))
    found = f"{spec.decision.deadline}, and {holds} of holds"
    return when(spec.decision.deadline < holds, "decision.deadline", found)


ROLLOUT_RULES: tuple[Rule[Any], ...] = (
    Rule(
        "PS020",
        RolloutSpec,
        "exactly one of virtualService and virtualServices must be set",
        "has(self.virtualService) != (has(self.virtualServices) && self.virtualServices.size() > 0)",
        lambda spec: when(bool(spec.virtual_service) == bool(spec.virtual_services), "virtualService"),
        field="virtualService",
    ),
    Rule(
        "PS021",
        Strategy,
        "exactly one strategy must be set: canary",
        "has(self.canary)",
        lambda strategy: when(strategy.canary is None, "canary"),
        field="canary",
    ),
    Rule(
        "PS022",
        Variant,
        "exactly one of subset and host must be set",
        "has(self.subset) != has(self.host)",
        lambda variant: when((variant.subset is None) == (variant.host is None), "subset"),
        field="subset",
    ),
    Rule(
        "PS023",
        RolloutSpec,
        "names of variants must be unique",
        once("self.variants", "@.name"),
        lambda spec: repeated([variant.name for variant in spec.variants], "variants[{}].name"),
        field="variants",
    ),
    Rule(
        "PS024",
        RolloutSpec,
        "each variant must have a destination of its own",
        once("self.variants", "(has(@.subset) ? 'subset ' + @.subset : has(@.host) ? 'host ' + @.host : '')"),
        lambda spec: repeated([_destination(variant) for variant in spec.variants], "variants[{}]"),
        field="variants",
    ),
    Rule(
        "PS025",
        RolloutSpec,
        "a canary must have exactly two variants: the control, then the candidate",
        "!has(self.strategy.canary) || self.variants.size() == 2",
        lambda spec: when(
            spec.strategy.canary is not None and len(spec.variants) != 2, "variants", len(spec.variants)
        ),
        field="variants",
    ),
    Rule(
        "PS026",
        Canary,
        "weights must rise from step to step",
        "self.steps.map(s, s.weight).isSorted() && " + once("self.steps", "@.weight"),
        lambda canary: falling([step.weight for step in canary.steps], "steps[{}].weight"),
        field="steps",
    ),
    Rule(
        "PS027",
        RolloutSpec,
        "at least one metric must have a margin, or nothing could ever be promoted",
        "self.metrics.exists(m, has(m.margin) || has(m.marginPoints))",
        lambda spec: when(
            all(metric.margin is None and metric.margin_points is None for metric in spec.metrics), "metrics"
        ),
        field="metrics",
    ),
    Rule(
        "PS028",
        RolloutSpec,
        "names of metrics must be unique (without a name, the template's is taken)",
        once("self.metrics", "(has(@.name) ? @.name : @.template)"),
        lambda spec: repeated([metric.name or metric.template for metric in spec.metrics], "metrics[{}]"),
        field="metrics",
    ),
    Rule(
        "PS029",
        Decision,
        "falseRollback must be more than 0% and less than 50%",
        f"{percent('falseRollback')} > 0.0 && {percent('falseRollback')} < 50.0",
        lambda decision: _rate("falseRollback", decision.false_rollback),
        field="falseRollback",
    ),
    Rule(
        "PS030",
        Decision,
        "falsePromote must be more than 0% and less than 50%",
        f"{percent('falsePromote')} > 0.0 && {percent('falsePromote')} < 50.0",
        lambda decision: _rate("falsePromote", decision.false_promote),
        field="falsePromote",
    ),
    Rule(
        "PS031",
        Decision,
        "interval must be whole seconds, from 1s to 1h",
        "duration(self.interval) >= duration('1s') && duration(self.interval) <= duration('1h') && "
        "duration(self.interval).getMilliseconds() % 1000 == 0",
        lambda decision: when(
            decision.interval.milliseconds % 1000 != 0
            or not 1_000 <= decision.interval.milliseconds <= 3_600_000,
            "interval",
            decision.interval,
        ),
        field="interval",
    ),
    Rule(
        "PS032",
        Decision,
        "deadline must be at least one interval",
        "duration(self.deadline) >= duration(self.interval)",
        lambda decision: when(decision.deadline < decision.interval, "deadline", decision.deadline),
        field="deadline",
    ),
    Rule(
        "PS033",
        Metric,
        "margin must be more than 0% and at most 1000%",
        f"!has(self.margin) || ({percent('margin')} > 0.0 && {percent('margin')} <= 1000.0)",
        lambda metric: when(
            metric.margin is not None and not 0 < metric.margin.value <= 1000, "margin", metric.margin
        ),
        field="margin",
    ),
    Rule(
        "PS034",
        Metric,
        "dispersion must be auto, or from 1 to 1000",
        "self.dispersion == 'auto' || (double(self.dispersion) >= 1.0 && double(self.dispersion) <= 1000.0)",
        lambda metric: when(
            metric.dispersion.value is not None and not 1 <= metric.dispersion.value <= 1000,
            "dispersion",
            metric.dispersion,
        ),
        field="dispersion",
    ),
    Rule(
        "PS035",
        Metric,
        "edges must be positive and rise",
        RISING_EDGES,
        lambda metric: rising_edges(metric.edges),
        field="edges",
    ),
    Rule(
        "PS036",
        RolloutSpec,
        "a VirtualService must be listed once, with all its routes",
        f"!has(self.virtualServices) || {once('self.virtualServices', '@.name')}",
        lambda spec: repeated([ref.name for ref in spec.virtual_services], "virtualServices[{}].name"),
        field="virtualServices",
    ),
    Rule(
        "PS037",
        Decision,
        "noDataTimeout must be at least one interval",
        "duration(self.noDataTimeout) >= duration(self.interval)",
        lambda decision: when(
            decision.no_data_timeout < decision.interval, "noDataTimeout", decision.no_data_timeout
        ),
        field="noDataTimeout",
    ),
    Rule(
        "PS038",
        Metric,
        "tolerance must be at most 1000%",
        f"{percent('tolerance')} <= 1000.0",
        lambda metric: when(metric.tolerance.value > 1000, "tolerance", metric.tolerance),
        field="tolerance",
    ),
    Rule(
        "PS039",
        VirtualServiceRef,
        "a route must be listed once",
        f"!has(self.routes) || {once('self.routes', '@')}",
        lambda ref: repeated(ref.routes, "routes[{}]"),
        field="routes",
    ),
    Rule(
        "PS041",
        Metric,
        "assume must be from 1 to 1000",
        "double(self.assume) >= 1.0 && double(self.assume) <= 1000.0",
        lambda metric: when(not 1 <= metric.assume.value <= 1000, "assume", metric.assume),
        field="assume",
    ),
    Rule(
        "PS042",
        Metric,
        "a metric must have one of margin and marginPoints, not both",
        "!(has(self.margin) && has(self.marginPoints))",
        lambda metric: when(metric.margin is not None and metric.margin_points is not None, "marginPoints"),
        field="margin",
    ),
    Rule(
        "PS043",
        Metric,
        "marginPoints must be more than 0% and at most 100%",
        f"!has(self.marginPoints) || ({percent('marginPoints')} > 0.0 && {percent('marginPoints')} <= 100.0)",
        lambda metric: when(
            metric.margin_points is not None and not 0 < metric.margin_points.value <= 100,
            "marginPoints",
            metric.margin_points,
        ),
        field="marginPoints",
    ),
    Rule(
        "PS044",
        Metric,
        "tail must be more than 0% and less than 50%",
        f"{percent('tail')} > 0.0 && {percent('tail')} < 50.0",
        lambda metric: when(not 0 < metric.tail.value < 50, "tail", metric.tail),
        field="tail",
    ),
    Rule(
        "PS045",
        Watch,
        "falseAlarmEvery must be more than 0s, and tolerance at most 1000%",
        f"duration(self.falseAlarmEvery) > duration('0s') && {percent('tolerance')} <= 1000.0",
        lambda watch: when(
            watch.false_alarm_every.milliseconds == 0 or watch.tolerance.value > 1000, "falseAlarmEvery"
        ),
        field="falseAlarmEvery",
    ),
    Rule(
        "PS040",
        RolloutSpec,
        "the deadline should leave time for the holds of all steps",
        None,
        _short_deadline,
        severity="warning",
    ),
)
