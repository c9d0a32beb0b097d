"""A controller that is killed at one of its writes; a story that is told once for each of them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


class Crash(BaseException):
    """The process was killed here."""


class Killed:
    """Wraps a port: the n-th write kills the process, before or after it took effect."""

    def __init__(self, inner: Any, fuse: list[int], *, after: bool) -> None:
        self._inner, self._fuse, self._after = inner, fuse, after

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if name not in {"patch", "patch_status", "record", "event"}:
            return attribute

        async def write(*args: Any, **kwargs: Any) -> Any:
            self._fuse[0] -= 1
            if self._fuse[0] == 0 and not self._after:
                raise Crash
            result = await attribute(*args, **kwargs)
            if self._fuse[0] == 0:
                raise Crash
            return result

        return write


class Fuse:
    """Kills a rig's controller at its n-th write, once."""

    def __init__(self, rig: Rig, kill_at: int, *, late: bool) -> None:
        self._rig, self._left, self._late = rig, [kill_at], late

    @property
    def unfired(self) -> bool:
        """Whether the controller did not write that often."""
        return self._left[0] > 0

    def light(self) -> None:
        """Start a controller that is killed at a write; what the rig itself writes does not count."""
        rig = self._rig
        store, history = rig.store, rig.history
        rig.store = Killed(store, self._left, after=self._late)  # type: ignore[assignment]
        rig.history = Killed(history, self._left, after=self._late)  # type: ignore[assignment]
        rig.crash()
        rig.store, rig.history = store, history

    async def survive(self, step: Awaitable[object]) -> None:
        """Let a step of the story happen; if the controller was killed in it, start the next one."""
        with suppress(Crash):
            await step
        if self._left[0] == 0:
            self._left[0] = -1
            self._rig.crash()


async def killed_at_each_write(
    folder: Path, story: Callable[[Rig, Fuse], Awaitable[Any]], *, late: bool, most: int = 40
) -> list[Any]:
    """Tell a story killed at its first write, then at its second and so on; return what came of each.

    The last was not killed: it has no such write. `late`: killed after the write took effect.
    """
    found = []
    for kill_at in range(1, most):
        home = folder / str(kill_at)
        home.mkdir()
        rig = Rig(home)
        fuse = Fuse(rig, kill_at, late=late)
        try:
            found.append(await story(rig, fuse))
        except AssertionError as error:
            error.add_note(f"killed at write {kill_at}")
            raise
        finally:
            await rig.close()
        if fuse.unfired:
            return found
    pytest.fail(f"the story has more than {most} writes")
