"""`penstock replay POLICY`: how often the policy would have been wrong about its own control."""

from __future__ import annotations

from functools import partial
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controller.cli import prometheus
from controller.cli.one_policy import load
from controller.cli.options import fail
from controller.cli.simulate import Picture, draw, factors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.design import Design
    from controller.cli.one_policy import Loaded
    from controller.endings import Result
    from controller.past import Past, Question
    from controller.placebo import Windows
    from controller.prometheus_access import Access

SETTLE_SECONDS = 60
"""What is younger may not be in Prometheus yet."""
TIMEOUT_SECONDS = 60.0


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("replay")(replay)


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="POLICY", help="File or folder with one RolloutPolicy; - is stdin.")
    ],
    prometheus_url: Annotated[
        str,
        typer.Option(
            "--prometheus",
            "--prometheus-url",
            metavar="URL",
            help="Address of the Prometheus.",
            envvar="PENSTOCK_PROMETHEUS_URL",
        ),
    ],
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help="RFC 3339, unix seconds, or how long ago: 6h.")
    ],
    prometheus_token_file: prometheus.TokenFile = None,
    prometheus_header: prometheus.Headers = None,
    prometheus_ca_file: prometheus.CaFile = None,
    prometheus_cert_file: prometheus.CertFile = None,
    prometheus_key_file: prometheus.KeyFile = None,
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="As --from; default: now.")] = "0s",
    version: Annotated[
        str | None, typer.Option(help="The control's version label, if it is not that of the first variant.")
    ] = None,
    effect: Annotated[
        str, typer.Option(metavar="FACTORS", help="Odds ratios to inject, to see if they would be found.")
    ] = "1",
    metric: Annotated[
        str | None, typer.Option(help="Which metric the effect is injected into; default: the first.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Length of a placebo run; default: the deadline.")
    ] = None,
    runs: Annotated[int, typer.Option(min=2, max=100_000, help="Placebo runs for each effect.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")] = 1,
    picture: Picture = None,
    output: Annotated[
        Literal["text", "json"], typer.Option("--output", "-o", help="For people, or for scripts.")
    ] = "text",
) -> None:
    """Try a policy on the control's own history in Prometheus.

    Parts of it play the candidate, so every rollback is a mistake. Every decision is taken by the code that
    decides on real traffic.
    """
    from controller.cli.replayed import Replayed, data, text
    from controller.dossier import design_of

    access = prometheus.access(
        prometheus_url, prometheus_token_file, prometheus_header, prometheus_ca_file, prometheus_cert_file,
        prometheus_key_file,
    )  # fmt: skip
    loaded = load(file, "a replay")
    design = design_of(loaded.policy, loaded.templates)
    try:
        effects = factors(effect, "--effect")
        harmed = _harmed(design, metric)
        question = _question(loaded, design, version, since, until)
        past = _read(prometheus_url, access, question)
        windows = _windows(loaded, past, window)
        results = _run(loaded, design, past, windows, effects, harmed, runs, seed)
    except ValueError as error:
        fail(str(error), 2)
    found = Replayed(loaded.policy, design, past, windows, harmed, seed, tuple(results))
    if picture:
        draw(picture, f"{loaded.policy.key}: {runs} placebo runs for each effect", results)
    if output == "json":
        from controller.cli.show import emit

        emit(data(found), "json")
    else:
        typer.echo(text(found))


def _harmed(design: Design, wanted: str | None) -> str:
    """Return the metric that effects are injected into. ValueError when the policy does not judge it."""
    names = [metric.name for metric in design.metrics]
    if wanted is not None and wanted not in names:
        raise ValueError(f"--metric must be one of {', '.join(names)}, not {wanted}")
    return wanted or names[0]


def _question(loaded: Loaded, design: Design, version: str | None, since: str, until: str) -> Question:
    """Return what is to be read. ValueError when the times make no sense."""
    import time
    from dataclasses import replace

    from controller.past import Question, control_arm

    now = time.time()
    step = int(loaded.policy.spec.decision.interval.seconds)
    start = -int(-moment(since, now, "--from") // step) * step
    end = int(min(moment(until, now, "--to"), now - SETTLE_SECONDS) // step) * step
    if end <= start:
        raise ValueError("--from must lie before --to, by at least one interval, and in the past")
    arm = control_arm(loaded.policy, loaded.objects)
    read_by = {each.name or each.template: each.template for each in loaded.policy.spec.metrics}
    return Question(
        design=design,
        read_by={each.name: loaded.templates[read_by[each.name]] for each in design.metrics},
        arm=replace(arm, version=version) if version else arm,
        start=start,
        end=end,
        step=step,
    )


def moment(text: str, now: float, option: str) -> float:
    """Return unix seconds of a time: RFC 3339 (UTC without a zone), unix seconds, or how long ago."""
    from datetime import UTC, datetime

    from policies.units import Duration

    try:
        return now - Duration.parse(text).seconds
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        pass
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e11:
        raise ValueError(
            f"{option} must be a time such as 2026-11-22T09:00:00Z, or how long ago: 6h; not {text}"
        )
    return seconds


def _read(url: str, access: Access, question: Question) -> Past:
    """Read the history, with a progress bar on a terminal; ends the command when Prometheus cannot answer."""
    import asyncio

    from controller.cli.progress import progress
    from controller.past import read_past
    from controller.ports import UnavailableError
    from controller.prometheus import PrometheusMetrics

    async def read() -> Past:
        metrics = PrometheusMetrics(url, access=access, timeout=TIMEOUT_SECONDS)
        try:
            with progress() as shown:
                task = shown.add_task("history", total=len(question.parts))
                return await read_past(metrics, question, done=partial(shown.advance, task))
        finally:
            await metrics.close()

    try:
        return asyncio.run(read())
    except UnavailableError as error:
        fail(str(error))


def _windows(loaded: Loaded, past: Past, wanted: str | None) -> Windows:
    """Return the windows: as long as asked, or as the deadline, or all there is if that is shorter.

    Ends the command when there is no history to speak of.
    """
    from controller.placebo import windows_of
    from policies.units import Duration

    length = min(int(loaded.policy.spec.decision.deadline.seconds // past.step), past.intervals)
    if wanted is not None:
        try:
            length = int(Duration.parse(wanted).seconds // past.step)
        except ValueError as error:
            raise ValueError(f"--window {error}, not {wanted}") from None
    try:
        return windows_of(past, length)
    except ValueError as error:
        version = f" version {past.arm.version}" if past.arm.version else ""
        fail(f"{past.arm.service}.{past.arm.namespace}{version}: {error}")


def _run(
    loaded: Loaded,
    design: Design,
    past: Past,
    windows: Windows,
    effects: Sequence[float],
    harmed: str,
    runs: int,
    seed: int,
) -> list[Result]:
    """Replay every effect, with a progress bar on a terminal."""
    from controller.cli.progress import progress
    from controller.placebo import Placebos
    from controller.placebo import replay as replayed

    with progress() as shown:
        results = []
        for effect in effects:
            task = shown.add_task(f"x{effect:g}", total=windows.length)
            placebos = Placebos(past, windows, runs, seed, effect, harmed)
            results.append(replayed(loaded.policy, design, placebos, looked=partial(shown.advance, task)))
            shown.update(task, completed=windows.length)
    return results
