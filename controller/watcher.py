"""Reads what promoted versions do and feeds their watches: one query per template for all of them.

A watch is owed every closed interval that lies wholly after the proxies confirmed the promotion and before
its end. It is read by the templates that the rollout was judged by. One watch's trouble stays its own: it is
told and tried again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.evidence import AT_ONCE, MAX_INTERVALS
from controller.filing import ArmKey
from controller.observe import Target, intervals_for
from controller.ports import UnavailableError
from controller.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.evidence import Collector
    from controller.ports import History
    from controller.record import Recorder
    from controller.rollout import Rollout
    from controller.scene import Arm
    from controller.status import Run
    from policies.model import RolloutPolicy

log = logging.getLogger("penstock")


@dataclass(frozen=True, slots=True)
class Watched:
    """A promoted version under watch, `until` unix seconds."""

    policy: RolloutPolicy
    run: Run
    arm: Arm
    watch: Watch
    until: float

    def templates(self, collector: Collector) -> dict[str, str]:
        """Return the key of each watched metric's template; those that the policy has dropped are missing."""
        names = {metric.name for metric in self.watch.metrics}
        asked = {metric.name or metric.template: metric.template for metric in self.policy.spec.metrics}
        return {name: collector.key(self.policy, asked[name]) for name in asked if name in names}


class Watcher:
    """Keeps the watches of all promoted versions."""

    def __init__(self, collector: Collector, history: History, recorder: Recorder) -> None:
        self._collector, self._history, self._recorder = collector, history, recorder
        self._watches: dict[str, Watch] = {}

    async def look_after(self, rollouts: Sequence[Rollout], now: float) -> None:
        """Give each rollout whose promoted version is watched its watch, brought up to date."""
        watched = [(rollout, each) for rollout in rollouts if (each := await self._watched(rollout))]
        try:
            problems = await self._collect([each for _, each in watched], now)
        except Exception as error:
            self._recorder.internal("watch", error)
            problems = dict.fromkeys((each.run.id for _, each in watched), f"unforeseen: {error!r}")
        for rollout, each in watched:
            rollout.error = problems.get(each.run.id, "")
            if rollout.error:
                each.watch.behind = False  # no hurry: what is behind cannot be read now
                self._recorder.failure("prometheus", rollout.error, rollout.key)
            else:
                self._recorder.recovered("prometheus", rollout.key)

    async def _watched(self, rollout: Rollout) -> Watched | None:
        """Return what is to be watched of a rollout now."""
        run, wanted = rollout.run, rollout.entry.policy.spec.watch
        if run is None or not run.watched or run.ended_at is None or wanted is None:
            return None
        try:
            rollout.watch = await self._open(run.id)
        except UnavailableError as error:
            self._recorder.failure("history", str(error), rollout.key)
            return None
        except Exception as error:
            self._recorder.internal(rollout.key, error)
            return None
        if rollout.watch is None:
            rollout.unwatchable = "nothing is known of the rollout to compare with"
        elif not rollout.watch.metrics:
            rollout.unwatchable = "; ".join(rollout.watch.left_out)
        arm = rollout.scene.arms.get(run.carrier)
        if rollout.watch is None or rollout.unwatchable or arm is None:
            return None
        return Watched(rollout.entry.policy, run, arm, rollout.watch, run.ended_at + wanted.duration.seconds)

    async def _open(self, run: str) -> Watch | None:
        """Return a run's watch, from memory or from the history; None when none was laid down."""
        if run not in self._watches:
            stored = await self._history.evidence(run)
            watch = Watch.restored(stored[1]) if stored else None
            if watch is None:
                return None
            self._watches[run] = watch
        return self._watches[run]

    def drop(self, run: str) -> None:
        """Forget what is in memory of a watch: the next time it comes from the history."""
        self._watches.pop(run, None)

    def keep(self, runs: Iterable[str]) -> None:
        """Forget all watches but these."""
        self._watches = {run: self._watches[run] for run in runs if run in self._watches}

    async def _collect(self, watched: Sequence[Watched], now: float) -> dict[str, str]:
        """Take in everything that is owed; return why a watch could not be read, by run.

        What could not be read is read at a later look.
        """
        together: dict[tuple[int, int, int], list[Watched]] = defaultdict(list)
        for each in watched:
            each.watch.advanced = False
            start, end = self._window(each, now)
            if end > start:
                together[each.watch.step, start, end].append(each)
        problems: dict[str, str] = {}
        for (step, start, end), members in together.items():
            problems |= await self._read(members, start, end, step)
        return problems

    def _window(self, each: Watched, now: float) -> tuple[int, int]:
        """Return start and end of the next intervals, at most `AT_ONCE`; none if end <= start."""
        step, began = each.watch.step, each.run.step_started_at or now
        newest = int(min(now - self._collector.settle, each.until) // step * step)
        earliest = max(each.watch.cursor, began + step / 2, newest - MAX_INTERVALS * step)
        start = int(-(-earliest // step) * step)
        end = min(newest, start + AT_ONCE * step)
        each.watch.behind = end < newest
        return start, end

    async def _read(self, members: Sequence[Watched], start: int, end: int, step: int) -> dict[str, str]:
        known = self._collector.templates
        wanted = {each.run.id: each.templates(self._collector) for each in members}
        names = sorted({key for keys in wanted.values() for key in keys.values() if key in known})
        index, failed = await self._collector.read_all(names, start, end, step)
        problems: dict[str, str] = {}
        for each in members:
            keys = {name: key for name, key in wanted[each.run.id].items() if key in known}
            broken = [failed[key] for key in keys.values() if key in failed]
            try:
                if broken:
                    problems[each.run.id] = broken[0]
                else:
                    each.watch.take(intervals_for(_target(each, keys), index, start, end, step))
            except Exception as error:  # whatever it is, it is this watch's
                log.exception("%s: its watch cannot be read", each.policy.key)
                problems[each.run.id] = f"the watch cannot be read: {error!r}"
        return problems


def _target(each: Watched, templates: Mapping[str, str]) -> Target:
    """Return what is observed: the promoted version stands on both sides, since there is no control."""
    arm = ArmKey(each.arm.namespace, each.arm.service, each.arm.version)
    edges = {metric.name: metric.edges for metric in each.watch.metrics}
    return Target(arm, arm, templates, edges, share="", intended=1.0)
