"""`penstock simulate POLICY`: what the policy would do to good and bad candidates, on made-up traffic."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from controller.cli.line import one_line
from controller.cli.options import fail
from controller.cli.sources import manifests, name, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.design import Design
    from analysis.simulate import Behaviour, Harm, Scenario
    from controller.simulate import Result
    from policies.model import MetricTemplate, RolloutPolicy
    from policies.units import Quantity

Q = TypeVar("Q", bound="Quantity")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("simulate")(simulate)


def simulate(
    file: Annotated[
        Path, typer.Argument(metavar="POLICY", help="File or folder with one RolloutPolicy; - is stdin.")
    ],
    rps: Annotated[float, typer.Option(help="Requests per second in all.")] = 200.0,
    baseline: Annotated[str, typer.Option(metavar="PERCENT", help="Errors of the control.")] = "1%",
    latency_median: Annotated[str, typer.Option(metavar="DURATION", help="Half take longer.")] = "80ms",
    latency_sigma: Annotated[float, typer.Option(help="Spread of the logarithm of the times.")] = 0.8,
    effects: Annotated[
        str, typer.Option(metavar="FACTORS", help="How much worse candidates are; 1 is always among them.")
    ] = "1,1.5,2,3",
    harm: Annotated[
        Literal["errors", "shift", "tail"] | None,
        typer.Option(help="Worse in what: odds of errors, all times, or some requests a second longer."),
    ] = None,
    scenario: Annotated[
        Literal["iid", "bursts", "podnoise", "seasonal", "incident", "late"],
        typer.Option(help="What else happens."),
    ] = "iid",
    runs: Annotated[int, typer.Option(min=2, max=100_000, help="Runs for each effect.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")] = 1,
    output: Annotated[
        Literal["text", "json"], typer.Option("--output", "-o", help="For people, or for scripts.")
    ] = "text",
) -> None:
    """Try a policy on made-up traffic: how often and how fast it rolls back and promotes.

    Every decision is taken by the code that decides on real traffic.
    """
    from analysis.simulate import Behaviour
    from controller.cli.simulated import Simulation, data, text
    from controller.dossier import design_of
    from controller.simulate import onset
    from policies.units import Duration, Percent

    policy, templates = _load(file)
    design = design_of(policy, templates)
    try:
        behaviour = Behaviour(
            rps=rps,
            baseline=_quantity(Percent, baseline, "--baseline").fraction,
            median=_quantity(Duration, latency_median, "--latency-median").seconds,
            sigma=latency_sigma,
            harm=_harm(design, harm, scenario),
            scenario=scenario,
            onset=onset(policy, templates),
        )
        chosen = [replace(behaviour, effect=effect) for effect in _factors(effects)]
        results = _run(policy, design, chosen, runs, seed)
    except ValueError as error:
        fail(str(error), 2)
    found = Simulation(policy, design, behaviour, runs, seed, tuple(results))
    if output == "json":
        from controller.cli.show import emit

        emit(data(found), "json")
    else:
        typer.echo(text(found))


def _load(file: Path) -> tuple[RolloutPolicy, dict[str, MetricTemplate]]:
    """Return the one policy of a file or folder and its templates; ends the command when there is none."""
    from policies.findings import errors
    from policies.parse import parse
    from policies.rules import check_all, template_for

    parsed = parse([(name(each), read(each)) for each in manifests([file])])
    wrong = errors([*parsed.findings, *check_all(parsed.policies, parsed.templates)])
    for finding in wrong:
        typer.echo(one_line(str(finding)), err=True)
    if wrong:
        raise typer.Exit(1)
    if len(parsed.policies) != 1:
        fail(f"a simulation takes one RolloutPolicy; {name(file)} has {len(parsed.policies)}", 2)
    policy, own = parsed.policies[0].value, [loaded.value for loaded in parsed.templates]
    used = {metric.template for metric in policy.spec.metrics}
    found = {each: template_for(policy.metadata.namespace, each, own) for each in used}
    return policy, {each: template for each, template in found.items() if template is not None}


def _quantity(kind: type[Q], text: str, option: str) -> Q:
    """Return a quantity of the language. ValueError names the option."""
    try:
        return kind.parse(text)
    except ValueError as error:
        raise ValueError(f"{option} {error}, not {text}") from None


def _factors(text: str) -> list[float]:
    """Return the effects in order, 1 among them. ValueError when one is not a number."""
    try:
        return sorted({1.0, *(round(float(part), 6) for part in text.split(","))})
    except (ValueError, OverflowError):
        raise ValueError(f"--effects must be numbers with commas between, not {text}") from None


def _harm(design: Design, wanted: Harm | None, scenario: Scenario) -> Harm:
    """Return what effects make worse. ValueError when no metric of the policy could see it."""
    kinds = {metric.kind for metric in design.metrics}
    harm = wanted or ("errors" if "proportion" in kinds else "shift")
    if (harm == "errors" or scenario == "bursts") and "proportion" not in kinds:
        raise ValueError("the policy judges no errors, so harm in errors and bursts would change nothing")
    if harm != "errors" and "histogram" not in kinds:
        raise ValueError(f"the policy judges no times, so --harm {harm} would change nothing")
    return harm


def _run(
    policy: RolloutPolicy, design: Design, chosen: Sequence[Behaviour], runs: int, seed: int
) -> list[Result]:
    """Simulate every candidate, with a progress bar on stderr when that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    from controller.simulate import looks, simulate

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        results = []
        for behaviour in chosen:
            task = progress.add_task(f"x{behaviour.effect:g}", total=looks(policy))
            results.append(
                simulate(
                    policy, design, behaviour, runs=runs, seed=seed, looked=partial(progress.advance, task)
                )
            )
            progress.update(task, completed=looks(policy))
    return results
