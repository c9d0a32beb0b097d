"""What the watch after a promotion found, as the report shows it. Pure; times are unix seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controller import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class WatchRow:
    """One watched metric; for latency at the edge with most evidence."""

    name: str
    edge: float | None
    requests: int
    events: int
    share: float | None
    """Of the requests since the promotion."""
    rollout: float
    """The share in the rollout."""
    limit: float
    """The largest share that is no alarm, however long it lasts."""
    evidence: float
    bound: float
    """What the evidence has to reach: as many looks go by on average before a false alarm."""
    alarm: str | None
    """The alarm in words."""
    alarm_at: float | None


@dataclass(frozen=True, slots=True)
class WatchReport:
    """The watch over a promoted version."""

    since: float | None
    looked_until: float | None
    over: str
    """Why it ended; empty while it goes on."""
    false_alarm_every: str
    tolerance: str
    metrics: tuple[WatchRow, ...]
    left_out: tuple[str, ...]
    """Metrics that are not watched, and why."""

    @property
    def sentence(self) -> str:
        """Return what it is and what came of it."""
        surges = [row.name for row in self.metrics if row.alarm]
        found = f"surge of {', '.join(surges)}" if surges else "no surge"
        until = "" if self.looked_until is None else f" until {numbers.instant(self.looked_until)}"
        return (
            f"Watched{until}: {found}. An alarm says that something happens more often than the rollout "
            f"leaves possible, by more than {self.tolerance} of its odds; a false one comes once in "
            f"{self.false_alarm_every} per metric on average. The traffic is left as it is."
        )


def watch_report(facts: Mapping[str, Any] | None) -> WatchReport | None:
    """Return the watch of a run as its facts keep it (`controller.watching`), or None when there is none."""
    if not facts:
        return None
    return WatchReport(
        since=numbers.unix(facts.get("since")),
        looked_until=facts.get("lookedUntil"),
        over=facts.get("over") or "",
        false_alarm_every=facts["falseAlarmEvery"],
        tolerance=facts["tolerance"],
        metrics=tuple(_row(metric) for metric in facts["metrics"]),
        left_out=tuple(facts["leftOut"]),
    )


def _row(metric: Mapping[str, Any]) -> WatchRow:
    alarm = metric["alarm"] or {}
    rest = {key: value for key, value in metric.items() if key != "alarm"}
    return WatchRow(**rest, alarm=alarm.get("sentence"), alarm_at=alarm.get("at"))
