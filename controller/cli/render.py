"""Views as text: aligned tables, and the tree of one rollout. Pure: time comes in, text goes out.

Names and messages come from others, so control characters never reach the terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from controller import numbers
from controller.cli.line import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.metric_view import MetricView
    from controller.view import (
        EventView,
        RolloutView,
        RunSummary,
        RunView,
        StepView,
        VariantView,
        WatchView,
    )

STATE_STYLES = {
    "Promoted": "bold green",
    "RolledBack": "bold red",
    "Stalled": "bold red",
    "Paused": "bold yellow",
    "Waiting": "bold yellow",
    "Progressing": "bold blue",
    "RollingOut": "bold blue",
}
VERDICT_STYLES = {"Harmful": "red", "Invalid": "red", "Safe": "green", "NoData": "yellow"}
STEP_SIGNS = {"done": ("✔", "green"), "current": ("▶", "bold blue"), "next": ("·", "dim")}
BAR = 20
EVENTS = 6


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned lines, two spaces between columns."""
    cells = [list(header), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def rollouts(views: Sequence[RolloutView], *, wide: bool, now: float) -> list[str]:
    """Return a table of rollouts."""
    header = ["NAMESPACE", "NAME", "STATE", "STEP", "WEIGHTS", "VERDICT", "HARM", "AGE"]
    rows = [
        [
            view.namespace,
            view.name,
            view.state,
            _step(view.run),
            "/".join(numbers.MISSING if v.weight is None else str(v.weight) for v in view.variants),
            view.verdict or numbers.MISSING,
            _evidence(view.e_rollback, view.bound_rollback),
            age(view.created_at, now),
        ]
        for view in views
    ]
    if not wide:
        return table(header, rows)
    more = [[view.run.id if view.run else numbers.MISSING, view.summary] for view in views]
    return table([*header, "RUN", "SUMMARY"], [[*row, *rest] for row, rest in zip(rows, more, strict=True)])


def runs(summaries: Sequence[RunSummary], *, wide: bool, now: float) -> list[str]:
    """Return a table of runs."""
    header = ["RUN", "ROLLOUT", "CANDIDATE", "OUTCOME", "REASON", "STARTED", "TOOK"]
    rows = [
        [
            run.id,
            run.policy,
            run.candidate,
            run.outcome or "In progress",
            run.reason or numbers.MISSING,
            f"{age(run.started_at, now)} ago",
            _took(run.started_at, run.ended_at, now),
        ]
        for run in summaries
    ]
    if not wide:
        return table(header, rows)
    return table(
        [*header, "MESSAGE"],
        [[*row, run.message or numbers.MISSING] for row, run in zip(rows, summaries, strict=True)],
    )


def events(views: Sequence[EventView], *, wide: bool, now: float) -> list[str]:
    """Return a table of events."""
    header = ["LAST", "TYPE", "REASON", "ROLLOUT", "MESSAGE"]
    rows = [[f"{age(e.last_seen, now)} ago", e.type, e.reason, e.object, e.message] for e in views]
    if not wide:
        return table(header, rows)
    counts = [[str(event.count), f"{age(event.first_seen, now)} ago"] for event in views]
    return table(["COUNT", "FIRST", *header], [[*c, *row] for c, row in zip(counts, rows, strict=True)])


def tree(view: RolloutView, *, now: float) -> Tree:
    """Return the whole rollout: variants, steps, evidence and the last events."""
    head = Text.assemble(
        (clean(view.key), "bold"),
        "  ",
        (view.state, STATE_STYLES.get(view.state, "bold")),
        "  ",
        clean(view.summary),
    )
    root = Tree(head)
    width = max((len(clean(variant.name)) for variant in view.variants), default=0)
    for variant in view.variants:
        root.add(_variant(variant, width))
    if view.run:
        _add_steps(root.add(_run(view.run, now)), view.steps)
        if view.run.watch:
            _add_watch(root, view.run.watch)
    if view.metrics:
        _add_metrics(root.add(_judgement(view)), view.metrics)
    if view.events:
        branch = root.add(Text("events"))
        for event in view.events[:EVENTS]:
            branch.add(_event(event, now))
    return root


def age(value: str | float | None, now: float) -> str:
    """Return how long ago a time is."""
    seconds = numbers.unix(value)
    return numbers.MISSING if seconds is None else numbers.length(now - seconds)


def _variant(variant: VariantView, width: int) -> Text:
    weight = variant.weight or 0
    filled = round(BAR * weight / 100)
    colour = "blue" if variant.role == "candidate" else "default"
    share = numbers.MISSING if variant.weight is None else f"{weight}%"
    return Text.assemble(
        clean(variant.name).ljust(width), "  ", (variant.role.ljust(9), "dim"), f"  {share:>4}  ",
        ("█" * filled, colour), ("░" * (BAR - filled), "dim"), "  ", (clean(variant.destination), "dim"),
    )  # fmt: skip


def _run(run: RunView, now: float) -> Text:
    took = _took(run.started_at, run.ended_at, now)
    ended = f"{run.outcome} after {took}: {clean(run.message or '')}" if run.outcome else f"for {took}"
    waiting = "" if run.applied else "  (the proxies have not confirmed the weights yet)"
    return Text.assemble(f"run {run.number}  {ended}", (waiting, "yellow"))


def _add_steps(branch: Tree, steps: Sequence[StepView]) -> None:
    for step in steps:
        sign, style = STEP_SIGNS[step.state]
        hold = "" if step.hold == "0s" else f"  at least {clean(step.hold)}"
        approval = "  then approval" if step.pause else ""
        branch.add(Text.assemble((sign, style), f" step {step.number}  {step.weight:>3}%{hold}{approval}"))


def _add_watch(root: Tree, watch: WatchView) -> None:
    branch = root.add(Text(f"watch  {clean(watch.over) or 'goes on'}"))
    for words in watch.surges.values():
        branch.add(Text(clean(words), "red"))


def _judgement(view: RolloutView) -> Text:
    return Text.assemble(
        (view.verdict or "", VERDICT_STYLES.get(view.verdict or "", "bold")),
        f"  harm {_evidence(view.e_rollback, view.bound_rollback)}  ",
        clean(view.sentence),
    )


def _add_metrics(branch: Tree, metrics: Sequence[MetricView]) -> None:
    width = max(len(clean(metric.name)) for metric in metrics)
    for metric in metrics:
        harm, safe = (
            f"  {word} {_evidence(value, bound)}" if value is not None else ""
            for word, value, bound in (
                ("harm", metric.e_harm, metric.bound_harm),
                ("safe", metric.e_safe, metric.bound_safe),
            )
        )
        verdict = (metric.verdict.ljust(9), VERDICT_STYLES.get(metric.verdict, "default"))
        name, sentence = (clean(metric.name).ljust(width), "bold"), ("\n" + clean(metric.sentence), "dim")
        lost = clean(metric.coverage.words) if metric.coverage else ""
        gaps = (f"\n{lost}" if lost else "", "yellow")
        branch.add(Text.assemble(name, "  ", verdict, harm, safe, sentence, _dispersion(metric), gaps))


def _dispersion(metric: MetricView) -> tuple[str, str]:
    """Return by what the evidence is divided and why, as a line; nothing where it was not measured."""
    rests_on = clean(metric.dispersion_rests_on)
    return (f"\ndispersion {numbers.number(metric.dispersion)}: {rests_on}" if rests_on else "", "dim")


def _event(event: EventView, now: float) -> Text:
    style = "yellow" if event.type == "Warning" else "default"
    times = f" (x{event.count})" if event.count > 1 else ""
    return Text.assemble(
        (f"{age(event.last_seen, now):>6} ago  ", "dim"),
        (clean(event.reason), style),
        f"{times}: ",
        clean(event.message),
    )


def _step(run: RunView | None) -> str:
    return numbers.MISSING if run is None else f"{run.step}/{run.steps}"


def _evidence(value: float | None, bound: float | None) -> str:
    return numbers.MISSING if value is None else f"{numbers.number(value)} of {numbers.number(bound)}"


def _took(started: str | None, ended: str | None, now: float) -> str:
    start, end = numbers.unix(started), numbers.unix(ended)
    return numbers.MISSING if start is None else numbers.length((now if end is None else end) - start)
