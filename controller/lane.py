"""The lane: runs that merely hold are looked at together, as arrays, and no decision is made for each.

Most looks hold on, and nobody reads them before the next decision. A run enters the lane after an ordinary
look (`controller.held`). At each interval's end its counts are then picked from the readings
(`controller.picking`) and its evidence is advanced (`analysis.herd`), for all runs of the lane at once. It
leaves as soon as anything could come to another decision: its objects changed, its counts are not ordinary,
its verdict turned, its time has come. Then its dossier is as after ordinary looks, and an ordinary look
follows, in the same pass.

The tests hold that a run comes to the same decisions, statuses, evidence and records, bit for bit, with and
without the lane.

What is looked at in the lane is recorded together (`controller.group`), about once a minute, and before
whatever is decided next. A process that is killed in between reads those intervals again from Prometheus.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from typing import TYPE_CHECKING

from controller.group import Group

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Any

    from analysis.design import Layout
    from controller.evidence import Owed
    from controller.held import Held
    from controller.inventory import Entry
    from controller.observe import IndexedReading
    from controller.ports import Tick

log = logging.getLogger("penstock")


class Due(dict[int, list[Group]]):
    """Groups whose next interval is over, by its length."""

    def __init__(self, groups: Iterable[Group]) -> None:
        super().__init__()
        for group in groups:
            self.setdefault(group.step, []).append(group)

    @property
    def total(self) -> int:
        """How many runs they have."""
        return len(self.entries)

    @property
    def entries(self) -> list[Entry]:
        """Their policies."""
        return [each.entry for groups in self.values() for group in groups for each in group.held]


class Lane:
    """All runs that merely hold."""

    def __init__(self) -> None:
        self._groups: dict[tuple[int, tuple[Layout, ...]], Group] = {}
        self._group_of: dict[str, Group] = {}
        self._departed: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._group_of

    def enter(self, runs: Sequence[Held]) -> list[str]:
        """Take in runs that hold, and return them; one that is not as far as others like it stays outside."""
        together: dict[tuple[int, tuple[Layout, ...]], list[Held]] = defaultdict(list)
        for each in runs:
            together[each.owed.step, each.layouts].append(each)
        entered = []
        for (step, layouts), members in together.items():
            group = self._groups.get((step, layouts)) or Group(step, layouts, members[0].owed.dossier.cursor)
            fitting = [each for each in members if each.owed.dossier.cursor == group.end]
            if fitting and _has_entered(group, fitting):
                self._groups[step, layouts] = group
                self._group_of |= {each.key: group for each in fitting}
                entered += [each.key for each in fitting]
        return entered

    def leave(self, keys: Collection[str] | None = None) -> list[str]:
        """Let runs go, or all; return those of them that were here."""
        mine = [*self._group_of] if keys is None else [key for key in keys if key in self._group_of]
        going = set(mine)
        for group in {self._group_of[key] for key in mine}:
            self._forget(group.leave([row for row, each in enumerate(group.held) if each.key in going]))
        return mine

    def changed(
        self, policies: Mapping[str, Entry], stirred: Collection[str], newest: Callable[[int], int]
    ) -> list[str]:
        """Return the runs that need an ordinary look, whatever their next interval shows.

        `newest` gives the end of the last closed interval by its length: who missed one catches up elsewhere.
        """
        in_time = {group: group.waits_for(newest(group.step)) for group in self._groups.values()}
        return [
            each.key
            for group, waits in in_time.items()
            for each in group.held
            if waits not in {0, 1} or each.key in stirred or policies.get(each.key) is not each.entry
        ]

    def is_orphaned(self, policies: Mapping[str, Entry]) -> bool:
        """Tell whether a run here is no longer that of its policy: no later look would record what it has."""
        everyone = (each for group in self._groups.values() for each in group.held)
        return any(_is_over(each, policies.get(each.key)) for each in everyone)

    def due(self, newest: Callable[[int], int]) -> Due:
        """Return the groups whose next interval is over."""
        return Due(group for group in self._groups.values() if group.waits_for(newest(group.step)) == 1)

    def next_look(self, settle: float) -> float:
        """Return when the next interval of a run here is over and scraped, unix seconds."""
        ends = (group.end + group.step for group in self._groups.values())
        return min(ends, default=math.inf) + settle

    def look(self, group: Group, index: Mapping[str, IndexedReading], now: float) -> list[Owed]:
        """Take in the next interval of a group; return the runs for which it is not ordinary.

        These, and those for which the look may bring another decision, have left (`departed`).
        """
        everyone = [*group.held]
        try:
            left = group.look(index, now)
        except Exception:  # whatever it is, each run is looked at by itself then
            log.exception("the runs of the lane cannot be looked at together")
            group.leave(range(len(group.held)))  # some may have left already
            left = everyone
        turned = group.leave(group.turned(now), looked=True)
        self._forget([*left, *turned])
        self._departed += [each.key for each in (*left, *turned)]
        return [each.owed for each in left]

    def departed(self) -> list[str]:
        """Return the runs that have left since this was asked last, because of what was looked at."""
        departed, self._departed = self._departed, []
        return departed

    def record(self, now: float, *, everything: bool = False) -> list[Tick]:
        """Return what is to be recorded now; it counts as recorded from then on."""
        groups = [each for each in self._groups.values() if everything or each.must_be_recorded(now)]
        return [tick for group in groups for tick in group.record()]

    def verdict(self, key: str) -> Mapping[str, Any]:
        """Return the verdict of a run's last look, with all numbers; KeyError."""
        return self._group_of[key].verdict(key)

    def _forget(self, left: Collection[Held]) -> None:
        for each in left:
            del self._group_of[each.key]
        if left:
            self._groups = {kind: group for kind, group in self._groups.items() if group.held}


def _is_over(held: Held, entry: Entry | None) -> bool:
    """Tell whether a run is no longer the open one of its policy."""
    if entry is held.entry:
        return False
    run = entry.status.run if entry else None
    return run is None or not run.active or run.id != held.owed.run.id


def _has_entered(group: Group, runs: Sequence[Held]) -> bool:
    """Have runs enter a group, and tell whether they did; those that cannot are looked at as ever."""
    try:
        group.enter(runs)
    except Exception:
        log.exception("runs cannot enter the lane")
        return False
    return True
