"""A history for those who keep none (`--history-url none`): in memory, bounded, gone with the process.

Decisions go on from the status after a restart all the same: no step is repeated or skipped. What is lost is
evidence. The new process reads again what Prometheus has of the present step; what earlier steps had shown no
longer counts, and an event says so (EvidenceDropped). For the error rates this means: every loss begins a
test of its own, at its full alpha. A run whose evidence was lost k times is rolled back by mistake with a
probability of at most (k + 1) x `falseRollback`, and promoted by mistake with at most (k + 1) x
`falsePromote`. The same holds if replicas lead in turn: each knows only what it has measured itself.

Kept are the RUNS runs that were recorded last, with what they are decided on, and of all of them together the
newest ROWS rows to be shown. Looks must come in the order of time.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from controller.dossier import in_full
from controller.ports import Look
from controller.retaken import IDENTITY, identity, takes_the_place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.ports import Tick

ROWS = 50_000
"""Looks, intervals and decisions; some 30 MiB."""
RUNS = 2_000

Rows = deque[str]
"""Rows as JSON, as a database would have them, and a fifth of the size."""


@dataclass
class _Run:
    """What is kept of a run."""

    policy: str
    started: float
    at: float = 0.0
    cursor: int = 0
    looked: int = -1
    """Cursor of the last look."""
    decided: Mapping[str, Any] = field(default_factory=dict)
    """The identity of the last decision."""
    decided_at: int = -1
    """Cursor of its look."""
    weights: Mapping[str, int] = field(default_factory=dict)
    verdict: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    evidence: str = "{}"
    ticks: Rows = field(default_factory=deque)
    intervals: Rows = field(default_factory=deque)
    decisions: Rows = field(default_factory=deque)


class MemoryHistory:
    """`controller.ports.History` without a database."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._oldest: deque[Rows] = deque()
        """For each row that is kept, oldest first, where it is."""
        self._terms = 0

    async def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    async def claim(self, scope: str, holder: str, at: float) -> int:  # noqa: ARG002 - nobody else is here
        """Begin a term and return its number."""
        self._terms += 1
        return self._terms

    async def record(self, *ticks: Tick) -> None:
        """Keep looks of different runs; one that is there already changes nothing."""
        for tick in ticks:
            run = self._runs.pop(tick.run, None) or _Run(tick.policy, tick.at)
            self._runs[tick.run] = run  # the one that was recorded last is the last
            self._keep_rows(run, tick)
            _keep_latest(run, tick)
        while len(self._oldest) > ROWS:
            self._oldest.popleft().popleft()
        while len(self._runs) > RUNS:
            del self._runs[next(iter(self._runs))]

    def _keep_rows(self, run: _Run, tick: Tick) -> None:
        last = Look(tick.at, tick.cursor, tick.intervals, tick.verdict)
        for look in (*tick.earlier, last):
            self._keep_look(run, look, tick.weights, is_look=look is not last or tick.is_look)
        if tick.decision is not None:
            self._keep_decision(run, {**tick.decision, "cursor": tick.cursor, "at": tick.at})

    def _keep_look(self, run: _Run, look: Look, weights: Mapping[str, int], *, is_look: bool) -> None:
        for interval in look.intervals:
            if interval["end"] > run.looked:
                self._append(run.intervals, interval)
        if is_look and look.cursor > run.looked:
            row = {"cursor": look.cursor, "at": look.at, "weights": weights, "verdict": look.verdict}
            self._append(run.ticks, row)
            run.looked = look.cursor

    def _keep_decision(self, run: _Run, decision: Mapping[str, Any]) -> None:
        """Keep a decision, unless its look is being recorded again."""
        last, cursor = run.decided, decision["cursor"]
        if cursor == run.decided_at and identity(decision) == identity(last):
            return
        run.decided, run.decided_at = {field: decision.get(field) for field in IDENTITY}, cursor
        if run.decisions and takes_the_place(decision, last):
            run.decisions[-1] = _packed(decision)
        else:
            self._append(run.decisions, decision)

    def _append(self, rows: Rows, row: Mapping[str, Any]) -> None:
        rows.append(_packed(row))
        self._oldest.append(rows)

    def hurry(self) -> None:
        """Nothing is ever waited for."""

    async def evidence(self, run: str) -> tuple[int, Mapping[str, Any]] | None:
        """Return (cursor, evidence) of the last look of a run, or None."""
        kept = self._runs.get(run)
        return (kept.cursor, json.loads(kept.evidence)) if kept else None

    async def intervals(self, run: str) -> Sequence[Mapping[str, Any]]:
        """Return a run's newest intervals, oldest first."""
        kept = self._runs.get(run)
        return _read(kept.intervals) if kept else []

    async def runs(self, policy: str | None = None, limit: int = 100) -> list[Mapping[str, Any]]:
        """Return runs, newest first: {id, policy, **run_facts, cursor, weights, verdict}."""
        found = [(id_, run) for id_, run in self._runs.items() if policy in {None, run.policy}]
        found.sort(key=lambda each: (each[1].started, each[0]), reverse=True)
        return [_summary(id_, run) for id_, run in found[:limit]]

    async def run(self, run: str) -> Mapping[str, Any] | None:
        """Return one run with `latencies`, `ticks`, `intervals` and `decisions`, oldest first, or None."""
        kept = self._runs.get(run)
        if kept is None:
            return None
        stored = json.loads(kept.evidence)
        found = _summary(run, kept) | {
            "latencies": stored.get("latencies", {}),
            "ticks": _read(kept.ticks),
            "intervals": _read(kept.intervals),
            "decisions": _read(kept.decisions),
        }
        return in_full(found, stored)


def _keep_latest(run: _Run, tick: Tick) -> None:
    """Keep what is latest: evidence by its cursor, the rest by time, since a decision may need no data."""
    if tick.cursor >= run.cursor:
        run.cursor, run.evidence = tick.cursor, json.dumps(tick.evidence, separators=(",", ":"))
    if tick.at >= run.at:
        run.at, run.weights, run.facts = tick.at, tick.weights, tick.run_facts
        run.verdict = tick.verdict or run.verdict


def _summary(id_: str, run: _Run) -> dict[str, Any]:
    found = {"id": id_, "policy": run.policy, **run.facts}
    return {**found, "cursor": run.cursor, "weights": run.weights, "verdict": run.verdict}


def _read(rows: Rows) -> list[dict[str, Any]]:
    return [json.loads(row) for row in rows]


def _packed(row: Mapping[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":"))
