"""Commands that need no controller: plan, crd, version."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from controller.cli.options import fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.explain import Plan
    from policies.model import MetricTemplate, RolloutPolicy
    from policies.parse import Parsed

STDIN = Path("-")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (plan, crd, version):
        app.command()(command)


def plan(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files or folders; - is stdin.")],
    output: Annotated[
        Literal["text", "json", "yaml"], typer.Option("--output", "-o", help="How to print it.")
    ] = "text",
) -> None:
    """Tell what a policy will do, in words, before it does anything."""
    parsed = _parsed(files)
    plans = _plans(parsed)
    if output == "text":
        typer.echo("\n\n".join(_text(policy, steps) for policy, steps in plans))
        return
    from controller.cli.show import emit

    emit({"items": [_data(policy, steps) for policy, steps in plans]}, output)


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

    parsed = parse([(str(file), _read(file)) for file in _manifests(files)])
    wrong = errors([*parsed.findings, *check_all(parsed.policies, parsed.templates)])
    if wrong:
        for finding in wrong:
            typer.echo(str(finding), err=True)
        raise typer.Exit(1)
    if not parsed.policies:
        fail("there is no RolloutPolicy in " + ", ".join(map(str, files)))
    return parsed


def _manifests(files: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for file in files:
        inside = sorted(path for path in file.rglob("*") if path.suffix in {".yaml", ".yml", ".json"})
        found += inside if file.is_dir() else [file]
    return found


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if file == STDIN else file.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"{file}: {error.strerror}", 2)
    except UnicodeDecodeError:
        fail(f"{file}: is not UTF-8 text", 2)


def _plans(parsed: Parsed) -> list[tuple[RolloutPolicy, Plan]]:
    from policies.explain import explain

    policies = [loaded.value for loaded in parsed.policies]
    return [(policy, explain(policy, _templates(policy, parsed))) for policy in policies]


def _templates(policy: RolloutPolicy, parsed: Parsed) -> dict[str, MetricTemplate]:
    """Return the templates of a policy's metrics, which are known to be there."""
    from policies.rules import template_for

    own = [loaded.value for loaded in parsed.templates]
    found = {
        metric.template: template_for(policy.metadata.namespace, metric.template, own)
        for metric in policy.spec.metrics
    }
    return {name: template for name, template in found.items() if template is not None}


def _text(policy: RolloutPolicy, plan: Plan) -> str:
    from controller.cli.render import table

    rows = [
        [
            str(stage.step),
            f"{stage.weight}%",
            str(stage.hold),
            f"after {stage.earliest}",
            {"noHarm": "no harm shown", "safe": "safety shown"}[stage.require]
            + (", approval" if stage.pause else ""),
        ]
        for stage in plan.steps
    ]
    rows.append(["", "100%", "", f"after {plan.earliest_promotion}", "every metric with a margin safe"])
    steps = table(("STEP", "WEIGHT", "HOLD", "EARLIEST", "UNTIL"), rows)
    return "\n".join([policy.key, "", *plan.sentences, "", *steps])


def _data(policy: RolloutPolicy, plan: Plan) -> dict[str, Any]:
    return {
        "policy": policy.key,
        "sentences": list(plan.sentences),
        "steps": [
            {
                "step": stage.step,
                "weight": stage.weight,
                "hold": str(stage.hold),
                "pause": stage.pause,
                "require": stage.require,
                "earliest": str(stage.earliest),
            }
            for stage in plan.steps
        ],
        "earliestPromotion": str(plan.earliest_promotion),
    }
