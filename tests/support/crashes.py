"""A controller that is killed at one of its writes."""

from __future__ import annotations

from typing import Any


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
