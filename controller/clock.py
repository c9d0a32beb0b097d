"""The system's clock behind `controller.ports.Clock`."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Unix time, and sleep on the running event loop."""

    def now(self) -> float:
        """Return unix time in seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
