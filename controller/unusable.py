"""Tells of objects that cannot be used: in the log, and on the policies themselves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from controller.abreast import abreast
from controller.carrying import AT_ONCE
from controller.ports import ConflictError, NotFoundError

if TYPE_CHECKING:
    from controller.inventory import Inventory
    from controller.ports import Ref
    from controller.record import Recorder
    from controller.writer import Writer


class Unusable:
    """Tells of each object once, and again when its trouble is another or over."""

    def __init__(self, inventory: Inventory, writer: Writer, recorder: Recorder) -> None:
        self._inventory, self._writer, self._recorder = inventory, writer, recorder
        self._told: dict[str, str] = {}
        """Objects that could not be used at the last pass, and why."""

    async def tell(self, now: float) -> None:
        """Tell of all that cannot be used now; a policy of which nothing can be used says so itself."""
        problems = {str(ref): problem for ref, problem in self._inventory.problems.items()}
        for about in self._told.keys() - problems.keys():
            self._recorder.recovered("internal", about)
        for about, problem in problems.items() - self._told.items():
            self._recorder.failure("internal", problem, about)
        self._told = problems
        await abreast(partial(self._mark, now), self._inventory.unusable, limit=AT_ONCE)

    async def _mark(self, now: float, ref: Ref) -> None:
        """Say on a policy why it cannot be used; let it go if it is being deleted."""
        obj, problem = self._inventory.stored(ref), self._inventory.problems[ref]
        try:
            await self._writer.refuse(ref, obj, problem, now)
            await self._writer.release(ref, obj)
        except (ConflictError, NotFoundError):
            return  # it has changed already, and will be read again
        except Exception as error:
            self._recorder.internal(str(ref), error)
