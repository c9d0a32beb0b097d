"""Watch the demo's rollouts through the API, as any client would, and tell what was decided and why."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from controller.cli.render import tree
from controller.view import rollout_view

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DECISIONS = {"Promoted": "promoted", "RolledBack": "rolled-back"}
POLL_SECONDS = 1.0


class Watcher:
    """Follows some rollouts of one controller."""

    def __init__(self, url: str, names: Sequence[str]) -> None:
        self.url, self.names = url, tuple(names)
        self.console = Console()
        self._said: dict[str, str] = {}

    async def until_decided(self, timeout: float) -> dict[str, dict[str, Any]]:  # noqa: ASYNC109 - a user's bound
        """Show the rollouts until each is decided and its traffic moved, or the time is up; return them."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        found: dict[str, dict[str, Any]] = {}
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            while loop.time() < end and not (found and all(map(_decided, found.values()))):
                found = await self._rollouts()
                if self.console.is_terminal:
                    now = time.time()
                    trees = [tree(rollout_view(found[name]), now=now) for name in self.names]
                    live.update(Group(*trees), refresh=True)
                else:
                    self._say_changes(found)
                await asyncio.sleep(POLL_SECONDS)
        return found

    async def _rollouts(self) -> dict[str, dict[str, Any]]:
        answer = await self._get("/v1/rollouts?objects=true")
        by_name = {each["name"]: each["object"] for each in answer["items"]}
        return {name: by_name[name] for name in self.names}

    async def _get(self, path: str) -> Any:
        async with (
            aiohttp.ClientSession(self.url, raise_for_status=True) as session,
            session.get(path) as answer,
        ):
            return await answer.json()

    def _say_changes(self, found: dict[str, dict[str, Any]]) -> None:
        """Without a terminal: a line for each change."""
        for name, rollout in found.items():
            summary = (rollout.get("status") or {}).get("summary", "")
            if summary and self._said.get(name) != summary:
                self._said[name] = summary
                print(f"{name:10} {summary}", file=sys.stderr, flush=True)

    def summarise(self, rollout: dict[str, Any]) -> dict[str, Any]:
        """Return one row of demo-summary.json."""
        run = (rollout.get("status") or {}).get("run") or {}
        decided = run.get("decidedAt")
        metrics = [metric.get("name") or metric["template"] for metric in rollout["spec"]["metrics"]]
        return {
            "name": rollout["metadata"]["name"],
            "decision": DECISIONS.get(run.get("outcome", ""), "held"),
            "seconds_to_decision": _seconds(run["startedAt"], decided) if decided else None,
            "metric": run.get("blame") or ", ".join(metrics),
            "evidence": run.get("message") or (rollout.get("status") or {}).get("summary", ""),
            "report": f"{self.url}/v1/runs/{run.get('id', '')}/report.html",
        }

    async def save_reports(self, rows: Sequence[dict[str, Any]], folder: Path) -> None:
        """Keep the reports as files, since the address ends with the demo."""
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            for row in rows:
                async with session.get(row["report"]) as answer:
                    (folder / f"{row['name']}.html").write_text(await answer.text())

    def show_result(
        self, rows: Sequence[dict[str, Any]], *, right: bool, seconds: float, reports: Path
    ) -> None:
        """Print the table of decisions."""
        table = Table(title="Decisions", title_justify="left", expand=False)
        for column in ("rollout", "decision", "after", "metric", "evidence"):
            table.add_column(column, overflow="fold")
        for row in rows:
            after = "–" if row["seconds_to_decision"] is None else f"{row['seconds_to_decision']:.0f} s"
            table.add_row(row["name"], row["decision"], after, row["metric"], row["evidence"])
        self.console.print(table)
        for row in rows:
            self.console.print(f"report of {row['name']}: {row['report']}", soft_wrap=True)
        verdict = "all decisions are right" if right else "NOT all decisions are right"
        self.console.print(f"{verdict}; {seconds:.0f} s in all; reports kept in {reports.name}/")


def _decided(rollout: dict[str, Any]) -> bool:
    run = (rollout.get("status") or {}).get("run") or {}
    return bool(run.get("outcome") and run.get("applied"))


def _seconds(start: str, end: str) -> float:
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 1)
