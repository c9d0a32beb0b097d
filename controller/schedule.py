"""When each rollout wants to be looked at again, and the wait for whatever comes first."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from controller.idle import due

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.decision import Decision
    from controller.ports import Clock
    from controller.rollout import Rollout

SOON = 0.1
"""Seconds until a rollout with unfinished business is looked at again."""
RETRY = 1.0
"""Seconds until the next try after the store or the history failed; also the longest between two looks at
unfinished business, unless it is known when it is over."""
REREAD = 5.0
"""Seconds until the metrics are tried again after they could not be read."""
REST = 3600.0
"""Seconds between looks at a rollout that waits for nothing."""
ITSELF = ""
"""Due when the loop has business that is no rollout's; no policy has this key."""


class Schedule:
    """Times at which rollouts are due, by policy key; one that has no time is due at once."""

    def __init__(self, clock: Clock, settle: float) -> None:
        """`settle`: seconds from an interval's end until its scrapes are stored."""
        self._clock, self._settle = clock, settle
        self._due: dict[str, float] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """End the present wait, or the next one."""
        self._wake.set()

    async def wait(self, until: float = math.inf) -> None:
        """Wait for the first time at which anything is due, at most until `until`, or to be woken."""
        await asyncio.sleep(0)  # whatever is due, the rest of the process gets its turn
        now = self._clock.now()
        pause = max(0.0, min(until, now + REST, *self._due.values()) - now)
        if not self._wake.is_set() and pause:
            sleeper = asyncio.ensure_future(self._clock.sleep(pause))
            waker = asyncio.ensure_future(self._wake.wait())
            try:
                await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
            finally:  # also when the wait itself is cancelled
                sleeper.cancel()
                waker.cancel()
        self._wake.clear()

    def is_due(self, key: str, now: float) -> bool:
        """Tell whether a rollout is due."""
        return self._due.get(key, 0.0) <= now

    def put(self, key: str, at: float) -> None:
        """Have a rollout due at some time."""
        self._due[key] = at

    def forget(self, key: str) -> None:
        """Have a rollout due at once; or it is gone, or nobody looks at it here."""
        self._due.pop(key, None)

    def forget_all(self, *, but: Callable[[str], bool] = lambda _: False) -> None:
        """Have all rollouts due at once, but those."""
        self._due = {key: at for key, at in self._due.items() if but(key)}

    def put_off(self, until: float) -> None:
        """Let nothing be due before: a pass that failed as a whole has left what was due as it was."""
        self._due = {key: max(at, until) for key, at in self._due.items()}

    def soon(self, seconds: float) -> float:
        """Return a time that is so many seconds from now."""
        return self._clock.now() + seconds

    def next_look(self, rollout: Rollout, decision: Decision, now: float) -> float:
        """Return when a rollout should be looked at again, having been decided on at `now`.

        The end of an interval is one moment for all rollouts, however long each took: one pass serves all.
        """
        run, dossier = decision.status.run, rollout.dossier
        if run is not None and not run.applied:
            return self.soon(_until_confirmed(rollout, now - run.weights_changed_at))
        step = rollout.entry.policy.spec.decision.interval.seconds
        if (
            decision.notable
            or decision.chores
            or any(known.behind for known in (dossier, rollout.watch) if known)
        ):
            return self.soon(SOON)
        if run is None or not (run.active or run.watched or run.copies):
            at = due(rollout.entry.policy, decision.status) or 0.0
            rest = step if rollout.coming else REST  # its pods say more than their workload
            return min(at, now + rest) if at > now else now + rest
        next_end = ((now - self._settle) // step + 1) * step + self._settle
        return min(next_end, self.soon(REREAD)) if dossier and dossier.error else next_end


def _until_confirmed(rollout: Rollout, waited: float) -> float:
    """Return the seconds until the proxies are asked again about weights that they do not confirm yet."""
    known = rollout.case.world.applied.retry_after if rollout.case else None
    return min(max(SOON, waited / 10), RETRY) if known is None else max(SOON, known)
