"""What the journal leaves in memory when it is interrupted: nothing that is ahead of the history."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from controller.journal import Journal
from controller.ports import Tick


def tick(name: str) -> Tick:
    return Tick(name, f"default/{name}", 0.0, 0, {}, (), {}, {})


class Poisoned:
    """A history that cannot write some looks, and that never answers for others."""

    def __init__(self, *, bad: str, hangs: str = "") -> None:
        self._bad, self._hangs = bad, hangs
        self.written: list[str] = []
        self.waited_for = asyncio.Event()

    async def record(self, *ticks: Tick) -> None:
        runs = {tick.run for tick in ticks}
        if self._bad in runs:
            raise ValueError("a look that nobody thought of")
        if self._hangs in runs:
            self.waited_for.set()
            await asyncio.Event().wait()
        self.written += sorted(runs)


def journal(history: Poisoned) -> tuple[Journal, list[str]]:
    """Return a journal, and the runs that are forgotten because of it."""
    dropped: list[str] = []
    return Journal(history, Mock(drop=dropped.append), Mock()), dropped  # type: ignore[arg-type]


async def test_a_look_that_cannot_be_written_is_found_and_the_others_are_recorded() -> None:
    history = Poisoned(bad="b")
    kept, dropped = journal(history)
    assert await kept.record_holds([tick("a"), tick("b"), tick("c")]) == {"default/b"}
    assert (history.written, dropped) == (["a", "c"], ["b"])


async def test_who_is_cancelled_while_it_finds_that_look_forgets_all_that_is_not_recorded() -> None:
    history = Poisoned(bad="d", hangs="b")
    kept, dropped = journal(history)
    recording = asyncio.create_task(kept.record_holds([tick(name) for name in "abcd"]))
    async with asyncio.timeout(30):
        await history.waited_for.wait()
    recording.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recording
    assert history.written == ["a"]
    assert set(dropped) == {"b", "c", "d"}
