"""The figures as a table, for the terminal and for docs/cluster-figures.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.cluster.figures import Figure

HEAD = ("figure", "Penstock", "goal", "", "Argo Rollouts", "Flagger")
TEXT = """\
# What many rollouts cost

{rollouts} rollouts with two metrics each (`istio-error-rate`, `istio-latency` with Istio's edges), an
interval of {interval} s, all holding at a step; Services, two Deployments each, routes and subsets on a
real API server; one `penstock run` with the rights of the Helm chart and its history in SQLite. A process
of its own plays Prometheus. Written by `python -m bench.cluster`, over {minutes:g} min for each row
that is counted per check, on a machine with {cpus} cores that ran the API server, etcd and the rest too.

{table}

A check is one look at one rollout in one interval. The peers were measured on the same API server with
500 rollouts and two metrics (Argo Rollouts 1.10-rc1 holding at a pause with background analysis; Flagger
1.44 moving its weight at each check); in brackets, how many times as much they take.

- **API requests** are counted by the API server's audit log ({audited}; the controller itself counts
  {told}). {leases} of them renew the lease, which does not grow with the number of rollouts; the others
  open watches anew.
- **A change of weight** is one write of the VirtualService. Besides it: {change}.
- **Restart**: the controller is away for {down:.0f} s, in which one candidate of {rollouts} starts to
  fail half of its requests. Counted from the start of the new process until the API server has the
  rollback. Ended by SIGTERM, as Kubernetes does, the old process gives its lease back, and the new one
  led after {restart_led} s: Python's imports and the first lists, {restart_cpu} s of CPU up to the
  decision. Killed, it is started again in its pod, takes the lease of its dead predecessor at once,
  and decides {killed_then} s later; another pod would wait for the lease to run out (15 s).
- **Idle**: all {rollouts} runs have ended. What is left is the renewing of the lease: a controller without
  any policy took {bare:g} ms per interval at the same time.
"""


def table(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Return the cells of each figure."""
    return [_row(figure) for figure in figures]


def _row(figure: Figure) -> tuple[str, ...]:
    verdict = {None: "", True: "ok", False: "missed"}[figure.met]
    goal = "" if figure.goal is None else f"≤ {figure.goal:g}"
    peers = (_peer(peer, figure.value) for peer in (figure.argo, figure.flagger))
    return figure.name, f"{figure.value:g} {figure.unit}".strip(), goal, verdict, *peers


def _peer(peer: float | None, value: float) -> str:
    if peer is None:
        return ""
    if not value:
        return f"{peer:g}"
    ratio = peer / value
    return f"{peer:g} ({ratio:.{0 if ratio >= 10 else 1}f})"


def terminal(figures: Sequence[Figure]) -> str:
    """Return the table for people at a terminal."""
    rows = [HEAD, *table(figures)]
    wide = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip() for row in rows
    )


def markdown(figures: Sequence[Figure], found: Mapping[str, Any]) -> str:
    """Return the page."""
    rows = [HEAD, ("---",) * len(HEAD), *table(figures)]
    held, restart, killed = found["holding"], found["restart"], found["killed"]
    others = {what: count for what, count in found["change"].items() if what != "virtualservices"}
    return TEXT.format(
        table="\n".join(f"| {' | '.join(row)} |" for row in rows),
        rollouts=found["rollouts"], interval=found["interval"], cpus=found["cpus"],
        minutes=held["intervals"] * found["interval"] / 60, audited=held["api_requests"],
        told=held["api_requests_by_its_own_count"], leases=held["api_requests_for_the_lease"],
        change=", ".join(f"{count} of {what}" for what, count in others.items()), down=found["down"],
        restart_led=restart["seconds_until_it_led"], restart_cpu=restart["cpu_seconds"],
        killed_then=killed["seconds_from_then"], bare=found["bare_cpu_ms"],
    )  # fmt: skip
