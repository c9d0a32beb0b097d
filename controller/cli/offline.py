"""Commands that need no controller: plan, crd, version."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from controller.cli.line import one_line
from controller.cli.options import fail
from controller.cli.sources import manifests, name, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.explain import Plan, Stage
    from policies.model import MetricTemplate, RolloutPolicy
    from policies.parse import Parsed


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (plan, crd, version):
        app.command()(command)


def plan(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files or folders; - is stdin.")],
    rps: Annotated[
        float | None, typer.Option(help="Requests per second in all: also tell how long decisions will take.")
    ] = None,
    baseline: Annotated[
        str, typer.Option(metavar="PERCENT", help="Events of the control, for --rps.")
    ] = "1%",
    output: Annotated[
        Literal["text", "json", "yaml"], typer.Option("--output", "-o", help="How to print it.")
    ] = "text",
) -> None:
    """Tell what a policy will do, in words, before it does anything."""
    expectation = None if rps is None else (rps, _share(baseline))
    plans = _plans(_parsed(files), expectation)
    if output == "text":
        typer.echo("\n\n".join(_text(found) for found in plans))
        return
    from controller.cli.show import emit

    emit({"items": [_data(found) for found in plans]}, output)


def crd() -> None:
    """Print the CustomResourceDefinitions, for `kubectl apply -f -`."""
    import yaml

    from policies.crd import definitions

    typer.echo(yaml.safe_dump_all(definitions().values(), sort_keys=False, explicit_start=True), nl=False)


def version() -> None:
    """Print the version."""
    from importlib import metadata

    typer.echo(f"penstock {metadata.version('penstock')}")


def _parsed(files: Sequence[Path]) -> Parsed:
    """Return the documents of the files; ends the command when there is an error in them."""
    from policies.findings import errors
    from policies.parse import parse
    from policies.rules import check_all

    parsed = parse([(name(file), read(file)) for file in manifests(files)])
    wrong = errors([*parsed.findings, *check_all(parsed.policies, parsed.templates)])
    if wrong:
        for finding in wrong:
            typer.echo(one_line(str(finding)), err=True)
        raise typer.Exit(1)
    if not parsed.policies:
        fail("there is no RolloutPolicy in " + ", ".join(map(name, files)))
    return parsed


class _Planned(NamedTuple):
    """A policy, what it will do, and how long its decisions take (rows; none without traffic)."""

    policy: RolloutPolicy
    plan: Plan
    times: list[list[str]]


def _share(percent: str) -> float:
    from policies.units import Percent

    try:
        return Percent.parse(percent).fraction
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--baseline") from error


def _plans(parsed: Parsed, expectation: tuple[float, float] | None) -> list[_Planned]:
    from controller.cli.forecast import forecast
    from policies.explain import explain

    result = []
    for policy in (loaded.value for loaded in parsed.policies):
        templates = _templates(policy, parsed)
        try:
            rps, baseline = expectation or (0.0, 0.0)
            times = forecast(policy, templates, rps=rps, baseline=baseline) if expectation else []
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--rps, --baseline") from error
        result.append(_Planned(policy, explain(policy, templates), times))
    return result


def _templates(policy: RolloutPolicy, parsed: Parsed) -> dict[str, MetricTemplate]:
    """Return the templates of a policy's metrics, which are known to be there."""
    from policies.rules import template_for

    own = [loaded.value for loaded in parsed.templates]
    found = {
        metric.template: template_for(policy.metadata.namespace, metric.template, own)
        for metric in policy.spec.metrics
    }
    return {name: template for name, template in found.items() if template is not None}


def _text(found: _Planned) -> str:
    from controller.cli.forecast import HEADER
    from controller.cli.render import table

    plan = found.plan
    rows = [
        [str(stage.step), f"{stage.weight}%", str(stage.hold), f"after {stage.earliest}", _until(stage)]
        for stage in plan.steps
    ]
    rows.append(["", "100%", "", f"after {plan.earliest_promotion}", "every metric with a margin is safe"])
    lines = [found.policy.key, "", *plan.sentences, ""]
    lines += table(("STEP", "WEIGHT", "HOLD", "EARLIEST", "UNTIL"), rows)
    lines += ["", "What holds, and what it rests on:", "", *plan.guarantees]
    if lacks := _lacks(found.policy):
        lines += ["", f"What {found.policy.spec.decision.engine} does not guarantee:", "", *lacks]
    lines += [f"WARNING: {words}" for words in plan.warnings]
    if found.times:
        lines += ["", "Expected times until harm of that odds ratio, or safety, is proven:", ""]
        lines += table(HEADER, found.times)
    return "\n".join(lines)


def _lacks(policy: RolloutPolicy) -> list[str]:
    """Return what the engine that a policy names does not guarantee; nothing of the judge itself."""
    from analysis.engines.registry import engines

    engine = engines.get(policy.spec.decision.engine)
    return list(engine.lacks) if engine else []


def _until(stage: Stage) -> str:
    needed = {"noHarm": "no harm is shown", "safe": "safety is shown"}[stage.require]
    return f"{needed}, then approval" if stage.pause else needed


def _data(found: _Planned) -> dict[str, Any]:
    from controller.cli.forecast import HEADER

    return {
        "policy": found.policy.key,
        "sentences": list(found.plan.sentences),
        "steps": [
            {
                "step": stage.step,
                "weight": stage.weight,
                "hold": str(stage.hold),
                "pause": stage.pause,
                "require": stage.require,
                "earliest": str(stage.earliest),
            }
            for stage in found.plan.steps
        ],
        "earliestPromotion": str(found.plan.earliest_promotion),
        "expected": [dict(zip(HEADER, row, strict=True)) for row in found.times],
        "guarantees": list(found.plan.guarantees),
        "lacks": _lacks(found.policy),
        "warnings": list(found.plan.warnings),
    }
