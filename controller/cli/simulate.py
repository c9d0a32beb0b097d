"""`penstock simulate POLICY`: what the policy would do to good and bad candidates, on made-up traffic."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from controller.cli.one_policy import load
from controller.cli.options import fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.design import Design
    from analysis.simulate import Behaviour, Harm, Scenario
    from controller.endings import Result
    from policies.model import RolloutPolicy
    from policies.units import Quantity

Q = TypeVar("Q", bound="Quantity")

Picture = Annotated[
    Path | None, typer.Option(metavar="FILE.svg", help="Also draw shares and times into this file.")
]


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
        Literal[
            "iid", "bursts", "betabinomial", "podnoise", "seasonal", "incident", "seasonal+incident",
            "late", "ramp",
        ],
        typer.Option(help="What else happens."),
    ] = "iid",
    onset: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="When incident and late harm begin, and a ramp is complete."),
    ] = None,
    phi: Annotated[float, typer.Option(help="Dispersion of betabinomial errors.")] = 4.0,
    noise: Annotated[float, typer.Option(help="podnoise: standard deviation of the log error rate.")] = 0.3,
    correlation: Annotated[float, typer.Option(help="podnoise: what is left of it after 10 s.")] = 0.8,
    pods: Annotated[
        str, typer.Option(metavar="N[,N]", help="Pods of the control and of the candidate.")
    ] = "1",
    runs: Annotated[int, typer.Option(min=2, max=100_000, help="Runs for each effect.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")] = 1,
    picture: Picture = None,
    output: Annotated[
        Literal["text", "json"], typer.Option("--output", "-o", help="For people, or for scripts.")
    ] = "text",
) -> None:  # fmt: skip
    """Try a policy on made-up traffic, before it meets real traffic.

    Tells how often and how fast it rolls back and promotes. Every decision is taken by the code that decides
    on real traffic.
    """
    from analysis.simulate import Behaviour
    from controller.cli.simulated import Simulation, data, margin_effect, text
    from controller.dossier import design_of
    from controller.simulate import onset as middle
    from policies.units import Duration, Percent

    policy, templates, _ = load(file, "a simulation")
    design = design_of(policy, templates)
    try:
        behaviour = Behaviour(
            rps=rps,
            baseline=_quantity(Percent, baseline, "--baseline").fraction,
            median=_quantity(Duration, latency_median, "--latency-median").seconds,
            sigma=latency_sigma,
            harm=_harm(design, harm, scenario),
            scenario=scenario,
            onset=_quantity(Duration, onset, "--onset").seconds if onset else middle(policy, templates),
            noise=noise,
            correlation=correlation,
            phi=phi,
            pods=_pods(pods),
        )
        asked, margin = factors(effects, "--effects"), margin_effect(design, behaviour)
        tried = sorted({*asked, *([margin] if margin else [])})
        results = _run(policy, design, [replace(behaviour, effect=effect) for effect in tried], runs, seed)
    except ValueError as error:
        fail(str(error), 2)
    by_effect = dict(zip(tried, results, strict=True))
    chosen = tuple(by_effect[effect] for effect in asked)
    at_margin = by_effect[margin] if margin else None
    found = Simulation(policy, design, behaviour, runs, seed, chosen, at_margin)
    if picture:
        draw(picture, f"{policy.key}: {runs} simulated runs for each candidate", results)
    if output == "json":
        from controller.cli.show import emit

        emit(data(found), "json")
    else:
        typer.echo(text(found))


def draw(file: Path, title: str, results: Sequence[Result]) -> None:
    """Write the picture; ends the command when it cannot be written."""
    from controller.cli.picture import picture

    try:
        file.write_text(picture(title, results), encoding="utf-8")
    except OSError as error:
        fail(f"{file}: {error.strerror}")


def _quantity(kind: type[Q], text: str, option: str) -> Q:
    """Return a quantity of the language. ValueError names the option."""
    try:
        return kind.parse(text)
    except ValueError as error:
        raise ValueError(f"{option} {error}, not {text}") from None


def _pods(text: str) -> tuple[int, int]:
    """Return the pods of control and candidate; one number is for both. ValueError when it is none."""
    try:
        numbers = [int(part) for part in text.split(",")]
        control, candidate = numbers * 2 if len(numbers) == 1 else numbers
    except ValueError:
        raise ValueError(
            f"--pods must be one or two whole numbers with a comma between, not {text}"
        ) from None
    return control, candidate


def factors(text: str, option: str) -> list[float]:
    """Return the effects of an option in order, 1 among them. ValueError when one is not a number."""
    try:
        return sorted({1.0, *(round(float(part), 6) for part in text.split(","))})
    except (ValueError, OverflowError):
        raise ValueError(f"{option} must be numbers with commas between, not {text}") from None


def _harm(design: Design, wanted: Harm | None, scenario: Scenario) -> Harm:
    """Return what effects make worse. ValueError when no metric of the policy could see it."""
    kinds = {metric.kind for metric in design.metrics}
    harm = wanted or ("errors" if "proportion" in kinds else "shift")
    if (harm == "errors" or scenario in {"bursts", "betabinomial"}) and "proportion" not in kinds:
        raise ValueError("the policy judges no errors, so harm in errors and bursts would change nothing")
    if harm != "errors" and not kinds & ({"histogram", "mean"} if harm == "shift" else {"histogram"}):
        raise ValueError(f"the policy judges no times, so --harm {harm} would change nothing")
    return harm


def _run(
    policy: RolloutPolicy, design: Design, chosen: Sequence[Behaviour], runs: int, seed: int
) -> list[Result]:
    """Simulate every candidate, with a progress bar on stderr when that is a terminal."""
    from controller.cli.progress import progress
    from controller.simulate import looks, simulate

    with progress() as shown:
        results = []
        for behaviour in chosen:
            task = shown.add_task(f"x{behaviour.effect:g}", total=looks(policy))
            results.append(
                simulate(policy, design, behaviour, runs=runs, seed=seed, looked=partial(shown.advance, task))
            )
            shown.update(task, completed=looks(policy))
    return results
